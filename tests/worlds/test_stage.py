"""Staged scenes unfold as their property says: what is in the way stops, what has no ground falls."""

import numpy as np
import pytest

from foretell.worlds.dynamics import simulate
from foretell.worlds.stage import EXTRAS, PROPERTIES, draw_pair, mirrored


def courses(kind: str, seed: int) -> list[dict[str, np.ndarray]]:
    """Both scenes of a pair in motion, from left to right: name -> (T, N)."""
    pair = draw_pair(np.random.default_rng(seed), kind, "train")
    return [simulate(s if pair[0].things[0].vx > 0 else mirrored(s), 24, 10) for s in pair]


@pytest.mark.parametrize("seed", range(5))
def test_a_wall_sends_a_ball_back(seed):
    wall, none = courses("solidity", seed)
    assert wall["x"][:, 0].max() < 36
    assert (
        wall["vx"][-1, 0] == pytest.approx(-0.9 * wall["vx"][0, 0], rel=0.02) or wall["vx"][-1, 0] > 0
    )  # the frame's edge
    assert none["x"][20, 0] > 45


@pytest.mark.parametrize("seed", range(5))
def test_a_ball_in_the_way_takes_over_motion(seed):
    hit, miss = courses("collision", seed)
    assert hit["vx"][14, 0] < 0 < hit["vx"][14, 1]
    assert miss["vx"][14, 0] == pytest.approx(miss["vx"][0, 0])
    assert np.ptp(miss["x"][:, 1]) < 1e-6
    np.testing.assert_array_equal(hit["x"][:3, 0], miss["x"][:3, 0])


@pytest.mark.parametrize("seed", range(5))
def test_without_a_ledge_a_ball_falls(seed):
    long, short = courses("support", seed)
    at = 16
    assert long["y"][at, 0] == pytest.approx(long["y"][0, 0], abs=0.2)
    assert short["y"][at, 0] > long["y"][at, 0] + 4


@pytest.mark.parametrize("seed", range(5))
def test_what_falls_into_a_container_stays(seed):
    pair = draw_pair(np.random.default_rng(seed), "container", "train")
    path, corners = simulate(pair[0], 32, 10), np.array([block.corners for block in pair[0].blocks])
    assert corners[..., 0].min() < path["x"][-1, 0] < corners[..., 0].max()
    assert path["y"][-1, 0] > corners[..., 1].min()


@pytest.mark.parametrize("kind", [*PROPERTIES, *EXTRAS])
def test_a_mirrored_scene_moves_alike(kind):
    scene = draw_pair(np.random.default_rng(2), kind, "train")[0]
    path, other = (simulate(s, 24, 10) for s in (scene, mirrored(scene)))
    np.testing.assert_allclose(path["x"], 64 - other["x"], atol=1e-6)
    np.testing.assert_allclose(path["y"], other["y"], atol=1e-6)
