"""Film strip and video panels: the right steps in the right places, whatever the shape of the frame."""

import numpy as np
import pytest

from foretell.serve.panels import BLANK, Imagination, panels, strip
from foretell.serve.pictures import MARK


def grey(steps, height, width, first=0):
    """Step t is grey level 10 * (first + t) all over."""
    levels = 10 * np.arange(first, first + steps, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (steps, height, width, 3)).copy()


def imagination(known=10, steps=10, start=4, height=16, width=24):
    return Imagination(true=grey(known, height, width), decoded=grey(steps, height, width), start=start, fps=5)


def test_difference_is_dim_where_all_is_well_and_glows_where_not():
    shown = imagination()
    shown.decoded[7, 3:6, 5:9] = 250
    difference = shown.rows()["difference"]
    assert (difference[:7].max(-1) == difference[:7].min(-1)).all()  # grey
    glowing = difference[7].max(-1).astype(int) - difference[7].min(-1) > 40
    assert glowing[3:6, 5:9].all()
    assert glowing.sum() == 3 * 4


def test_beyond_the_end_of_the_clip_there_is_nothing_true():
    rows = imagination(known=6).rows()
    for name in ("true", "difference"):
        assert rows[name].shape == (10, 16, 24, 3)
        assert (rows[name][6:] == BLANK).all(-1).mean() > 0.8
    assert (rows["imagined"][6:, ..., 0] == 10 * np.arange(6, 10)[:, None, None]).all()


@pytest.mark.parametrize(
    ("start", "horizon", "width", "seen", "imagined"),
    [(8, 16, 16, 4, 8), (2, 5, 16, 2, 5), (3, 40, 16, 1, 8), (20, 1, 16, 4, 1), (8, 16, 24, 2, 4)],
)
def test_strip_has_few_columns_and_a_line_before_the_first_imagined(start, horizon, width, seen, imagined):
    steps = start + horizon
    picture = strip(imagination(known=steps, steps=steps, start=start, height=16, width=width))
    red = np.flatnonzero((picture == MARK).all(-1).all(0))
    assert (np.diff(red) == 1).all()
    frames = (picture == picture[:1, :1]).all(-1)[-40] == 0  # a row through the last row of frames
    cell, gap = 6 * width, 4  # 6 times enlarged
    assert frames[: red[0]].sum() == seen * cell
    assert frames[red[-1] + 1 :].sum() == imagined * cell
    assert picture.shape[1] == red[-1] + 1 + imagined * (cell + gap)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (64, 64), (240, 352), (32, 16), (16, 160)])
def test_video_pages_are_all_of_one_size(height, width):
    pages = list(panels(imagination(known=8, height=height, width=width)))
    assert len(pages) == 10
    assert len({page.shape for page in pages}) == 1
    red = [(page == MARK).all(-1).mean() for page in pages]
    assert max(red[:4]) == 0
    assert min(red[4:]) > 0.02
    assert (np.diff(red[4:]) != 0).all()  # the track fills up
