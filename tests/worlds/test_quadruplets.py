"""Quadruplets: made of shared frames, so that whoever compares neighbouring frames sees nothing; and yet impossible."""

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.physics import Physics
from foretell.worlds.quadruplets import HIDDEN, quadruplet, shared_runs
from foretell.worlds.stage import PROPERTIES

PLAIN = Physics(scenario="staged", part="test", frames=24)
SHAKY = Physics(scenario="staged", part="development", frames=24, size=48, shadows=0.5, noise=0.05, jitter=1.0)


@pytest.mark.parametrize("world", [PLAIN, SHAKY], ids=["plain", "shaky"])
@pytest.mark.parametrize("kind", PROPERTIES)
def test_a_pixel_copy_is_exactly_at_chance(kind, world):
    for seed in range(5):
        four = quadruplet(world, kind, seed)
        possible, impossible = [clip.frames for clip in four.possible], four.impossible
        surprises = [np.abs(np.diff(frames.astype(int), axis=0)).sum() for frames in (*possible, *impossible)]
        assert surprises[0] + surprises[1] == surprises[2] + surprises[3]  # to the last grey level: a tie, half right


@pytest.mark.parametrize("kind", PROPERTIES)
def test_impossible_clips_hold_the_frames_of_the_possible_ones_in_another_order(kind):
    four = quadruplet(PLAIN, kind, 3)
    first, second = (clip.frames for clip in four.possible)
    one, other = four.impossible
    for t in range(PLAIN.frames):
        assert {first[t].tobytes(), second[t].tobytes()} == {one[t].tobytes(), other[t].tobytes()}
    assert all((one != frames).any() for frames in (first, second))
    assert (one[: four.shows] == first[: four.shows]).all()
    assert (one[four.shows] != first[four.shows]).any()


@pytest.mark.parametrize("kind", [kind for kind in PROPERTIES if kind != "gravity"])
def test_they_go_over_while_all_that_differs_is_hidden(kind):
    four = quadruplet(PLAIN, kind, 11)
    same = (four.possible[0].frames == four.possible[1].frames).all((1, 2, 3))
    for swap in four.swaps:
        run = next(run for run in shared_runs(same) if swap in run)
        assert len(run) >= HIDDEN
        assert swap - 1 in run


def test_gravity_goes_over_where_place_and_speed_agree():
    four = quadruplet(PLAIN, "gravity", 5)
    up, down = (clip.states for clip in four.possible)
    (swap,) = four.swaps
    for name in ("x", "y", "vx", "vy"):
        assert up[name][swap, 0] == pytest.approx(down[name][swap, 0], abs=1e-9)
    bend = [np.diff(states["y"][:, 0], 2) for states in (up, down)]
    np.testing.assert_allclose(bend[0], -bend[1], atol=1e-9)
    assert abs(bend[0]).min() > 0.1


def test_parts_share_no_parameter():
    hues = {}
    for part in ("train", "development", "test"):
        world = Physics(scenario="staged", part=part, frames=24)
        radii = [quadruplet(world, "permanence", seed).possible[0].states["radius"][0, 0] for seed in range(40)]
        hues[part] = (np.array(radii) - 4.5) / 2
    assert ((hues["development"] >= 0.4) & (hues["development"] < 0.5)).all()
    assert ((hues["test"] >= 0.5) & (hues["test"] < 0.6)).all()
    assert ((hues["train"] < 0.4) | (hues["train"] >= 0.6)).all()
    assert np.ptp(hues["train"]) > 0.8


def test_seeds_differ_and_repeat():
    first, again, other = (quadruplet(PLAIN, "colour", seed).possible[0].frames for seed in (4, 4, 5))
    assert (first == again).all()
    assert (first != other).any()


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="permanence, continuity"):
        quadruplet(PLAIN, "magic", 0)
    with pytest.raises(ConfigError, match="shares a moment"):
        quadruplet(Physics(scenario="staged", frames=24, fps=80), "continuity", 0)


def test_shared_runs_lie_inside():
    assert shared_runs(np.array([1, 1, 0, 1, 1, 0, 0, 1, 0, 1], bool)) == [range(3, 5), range(7, 8)]
