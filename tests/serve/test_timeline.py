import math
import re

import numpy as np
import pytest

from foretell.serve.gallery import Line, Shown
from foretell.serve.summary import FileResult
from foretell.serve.timeline import Ruler, runs, timeline


def shown(surprise, threshold=10.0, controls=None, steps=None, alarms=()):
    surprise = np.array(surprise, float)
    steps = np.arange(len(surprise)) if steps is None else np.array(steps)
    result = FileResult(
        file="a.mp4",
        status="scored",
        note="",
        frames=len(surprise),
        seconds=len(surprise) / 10,
        max_surprise=float(np.nanmax(surprise)),
        max_surprise_s=0.0,
        p_value=None,
        alarm=None,
        first_alarm_s=None,
        first_alarm_frame=None,
        alarms=list(alarms),
        unknown=[],
        controls={},
    )
    return Shown(
        result=result,
        mp4=b"",
        steps=steps,
        heat=np.zeros((len(steps), 2, 3), np.float32),
        peaks=(0,),
        worst_frame=np.zeros((4, 6, 3), np.uint8),
        length=len(surprise),
        surprise=Line(values=surprise, threshold=threshold),
        controls=controls or {},
    )


def draw(video):
    rulers = {"": Ruler.over([video.surprise])} | {name: Ruler.over([line]) for name, line in video.controls.items()}
    return timeline(video, rulers, fps=10.0)


def points(path):
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_the_alarm_line_cuts_the_curve_where_surprise_meets_the_threshold():
    drawn = draw(shown([0, 5, 10, 20, math.nan]))
    heights = [y for _, y in points(drawn.surprise.path)]
    assert heights[2] == drawn.alarm_y
    assert heights[0] == 100
    assert heights[3] < drawn.alarm_y < heights[1]
    assert drawn.values == [0, 0.5, 1, 2, None]
    assert [x for x, _ in points(drawn.surprise.path)] == [100, 300, 500, 700]


def test_the_line_is_broken_where_nothing_was_scored():
    drawn = draw(shown([math.nan, 1, 2, math.nan, 4, 5]))
    assert drawn.surprise.path.count("M") == 2
    assert drawn.area.count("Z") == 2
    assert all(segment.endswith("100Z") for segment in re.findall(r"M[^Z]*Z", drawn.area))


def test_a_control_is_on_its_own_scale_and_never_flattens_the_model():
    quiet = Line(values=np.array([0.0, 0.001, 0.002]), threshold=0.001)
    loud = Line(values=np.array([0.0, 5e6, 1e8]), threshold=1e3)
    drawn = draw(shown([0, 5, 12], controls={"motion": quiet, "untrained network": loud}))
    assert points(drawn.controls[0].path)[1][1] == drawn.alarm_y
    assert points(drawn.controls[1].path)[2][1] == 0  # cut off at the upper edge
    assert points(drawn.surprise.path)[2][1] < 75
    assert [curve.name for curve in drawn.controls] == ["motion", "untrained network"]


def test_a_huge_peak_leaves_the_alarm_line_visible():
    assert draw(shown([0, 5, 1000])).alarm_y < 92


@pytest.mark.parametrize("surprise", [[-9, -6, -3.0], [0, 0, 0.0], [-1e-9, 0, 1e-9], [3, math.inf, 4]])
def test_scores_of_any_kind_can_be_drawn(surprise):
    for threshold in (-4.0, 0.0, 2.0, None):
        drawn = draw(shown(surprise, threshold))
        assert all(0 <= y <= 100 for _, y in points(drawn.surprise.path))
        assert len(points(drawn.surprise.path)) == 3
        assert (drawn.alarm_y is None) == (threshold is None)


def test_what_can_be_played_and_what_alarmed_is_marked():
    drawn = draw(shown([1.0] * 100, steps=[*range(10, 20), *range(50, 60)], alarms=[(1.2, 1.4)]))
    assert drawn.seen == [(100, 100), (500, 100)]
    assert drawn.alarms == [(120, 20)]
    assert draw(shown([1.0] * 10)).seen == []


def test_runs():
    assert runs(np.array([3, 4, 5, 9, 11, 12])) == [(3, 6), (9, 10), (11, 13)]
