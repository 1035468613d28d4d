import av
import numpy as np
import pytest

from foretell.errors import DataError, ShapeError
from foretell.serve.pictures import (
    enlarge,
    film_strip,
    heat_colours,
    heat_overlay,
    jpeg_bytes,
    png_bytes,
    upsample,
    write_png,
)


def decode(path):
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_heat_glows_where_it_sits_and_only_there():
    frames = np.full((3, 24, 40, 3), 100, np.uint8)
    heat = np.zeros((3, 3, 5), np.float32)
    heat[1, 2, 4] = 9.0
    painted = heat_overlay(frames, heat, (1.0, 9.0))
    assert painted.shape == frames.shape
    assert painted.dtype == np.uint8
    assert (painted[[0, 2]] == 75).all()  # dimmed grey
    coloured = np.ptp(painted[1].astype(int), axis=-1) > 20
    assert coloured[20, 36]
    assert not coloured[:12].any()
    assert not coloured[:, :24].any()


def test_heat_not_scored_is_no_heat():
    frames = np.random.default_rng(0).integers(0, 255, (2, 16, 24, 3), np.uint8)
    nothing = heat_overlay(frames, np.zeros((2, 2, 3)), (0.0, 1.0))
    assert (heat_overlay(frames, np.full((2, 2, 3), np.nan), (0.0, 1.0)) == nothing).all()


def test_heat_wants_one_map_a_frame_and_a_scale_that_rises():
    frames = np.zeros((2, 16, 24, 3), np.uint8)
    with pytest.raises(ShapeError, match="2 frames but heat of 3 steps"):
        heat_overlay(frames, np.zeros((3, 2, 3)), (0.0, 1.0))
    with pytest.raises(ShapeError, match="cold below hot"):
        heat_overlay(frames, np.zeros((2, 2, 3)), (1.0, 1.0))


def test_heat_colours_get_lighter_all_the_way():
    lightness = heat_colours(np.linspace(0, 1, 100)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def test_upsample_keeps_a_slope_and_puts_tokens_at_their_centres():
    fine = upsample(np.arange(5.0)[None] + 10 * np.arange(3.0)[:, None], 24, 40)
    assert fine.shape == (24, 40)
    assert np.allclose(np.diff(fine[:, 4:36], axis=1), 1 / 8)
    assert np.allclose(np.diff(fine[4:20], axis=0), 10 / 8)
    assert fine[0, 0] == 0
    assert fine[-1, -1] == 24


def test_enlarge_is_smooth_and_keeps_the_picture():
    frames = np.random.default_rng(0).integers(0, 255, (2, 16, 24, 3), np.uint8)
    large = list(enlarge(frames, 3))
    assert [frame.shape for frame in large] == [(48, 72, 3)] * 2
    small = large[0].reshape(16, 3, 24, 3, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), frames[0].ravel())[0, 1] > 0.9


def test_film_strip_puts_each_frame_in_its_column_and_marks_where_seeing_ends():
    rows = {name: np.zeros((4, 16, 24, 3), np.uint8) for name in ("true", "imagined", "difference")}
    rows["imagined"][2] = (0, 200, 0)
    strip = film_strip(rows, marks=[2])
    green = np.argwhere((strip == (0, 200, 0)).all(-1))
    assert len(green) == 16 * 24
    red = np.argwhere((strip == (214, 58, 47)).all(-1))
    assert len(np.unique(red[:, 0])) == len(strip)  # from top to bottom
    assert red[:, 1].max() == green[:, 1].min() - 1  # right before the frame
    assert green[:, 0].min() > strip.shape[0] / 3 - 2


def test_film_strip_writes_the_names():
    frames = np.full((2, 32, 24, 3), 250, np.uint8)
    plain, named = film_strip({"": frames}), film_strip({"true 3+4": frames})
    assert named.shape[1] > plain.shape[1] + 40
    assert ((named == (40, 40, 44)).all(-1)).sum() > 40
    assert not (plain == (40, 40, 44)).all(-1).any()


def test_film_strip_refuses_rows_of_two_lengths():
    with pytest.raises(ShapeError, match="rows of one shape"):
        film_strip({"true": np.zeros((4, 16, 24, 3), np.uint8), "imagined": np.zeros((3, 16, 24, 3), np.uint8)})


def test_png_gives_back_every_pixel(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (17, 31, 3), np.uint8)
    write_png(tmp_path / "bild ä.png", image)
    assert (decode(tmp_path / "bild ä.png") == image).all()
    assert [path.name for path in tmp_path.iterdir()] == ["bild ä.png"]
    assert png_bytes(image).startswith(b"\x89PNG")


def test_jpeg_is_small_and_near_enough(tmp_path):
    image = heat_colours(np.linspace(0, 1, 96)[None] * np.linspace(0, 1, 64)[:, None]).astype(np.uint8)
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes(image))
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - image).mean() < 4
    assert len(jpeg_bytes(image)) < 6000


def test_png_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="cannot write this picture"):
        write_png(tmp_path / "no folder" / "a.png", np.zeros((4, 6, 3), np.uint8))
    assert not list(tmp_path.iterdir())
