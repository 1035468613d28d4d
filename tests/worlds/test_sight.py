"""What the states say is hidden is what cannot be seen in the frames."""

import numpy as np
import pytest

from foretell.worlds.physics import Physics
from foretell.worlds.quadruplets import quadruplet

WORLD = Physics(scenario="staged", part="development", frames=24)


@pytest.mark.parametrize("seed", range(8))
def test_a_covered_object_leaves_no_trace(seed):
    four = quadruplet(WORLD, "permanence", seed)
    ball, none = four.possible
    covered = ball.states["covered"][:, 0]
    same = (ball.frames == none.frames).all((1, 2, 3))
    assert covered.sum() >= 2
    assert same[covered].all()
    assert not same[~covered].all()
    assert not none.states["covered"].any()


def test_a_wall_is_seen_until_the_screen_is_up():
    wall, none = quadruplet(WORLD, "solidity", 3).possible
    left = wall.states["block_left"]
    assert np.isfinite(left[:3]).all()
    assert np.isnan(left[6:]).all()
    assert np.isnan(none.states["block_left"]).all()
    half = Physics(scenario="staged", part="development", frames=24, size=32)
    small = quadruplet(half, "solidity", 3).possible[0].states
    np.testing.assert_allclose(small["block_left"], left / 2)
    np.testing.assert_allclose(small["x"], wall.states["x"] / 2)


def test_thrown_objects_are_never_covered():
    assert not Physics(scenario="thrown").episode(1).states["covered"].any()
