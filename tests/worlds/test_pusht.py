"""Push-T: the block moves when it is pushed and only then, stays on the table, and is judged by where it lies."""

import sys

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.played import Played
from foretell.worlds.pusht import FRAME, PARTS, PushT, PushTConfig, covered, outline


def lying(world: PushT, agent: tuple[float, float], block: tuple[float, float, float]) -> PushT:
    """The world with agent and block, in pixels, at rest."""
    world.restore(np.array([*agent, *block, *np.zeros(7)]))
    return world


def test_the_agent_goes_where_it_is_sent_and_comes_to_rest():
    world = lying(PushT(), (20, 20), (44, 44, 0))
    block = world.state()[2:5]
    for _ in range(6):
        world.step(np.array([2.0, -1.0]))
    moving = world.state()
    assert moving[0] > 22
    assert moving[1] < 19
    for _ in range(6):
        world.step(np.zeros(2))
    assert np.abs(world.state()[5:7]).max() < 1e-3
    np.testing.assert_array_equal(world.state()[2:5], block)


def test_crossing_the_frame_takes_about_as_long_as_a_goal_is_ahead():
    world, steps = lying(PushT(), (5, 10), (32, 50, 0)), 0
    while world.state()[0] < 59:
        world.step(np.array([6.0, 0.0]))
        steps += 1
    assert 18 <= steps <= 30


def test_a_push_through_the_middle_moves_the_block_along_and_one_beside_it_turns_it():
    world = lying(PushT(), (22, 32), (32, 32, np.pi / 2))
    for _ in range(10):
        world.step(np.array([6.0, 0.0]))
    pushed = world.state()
    assert pushed[2] > 34
    assert abs(pushed[3] - 32) < 0.5
    assert abs(pushed[4] - np.pi / 2) < 0.1
    lying(world, (22, 37), (32, 32, np.pi / 2))
    for _ in range(12):
        world.step(np.array([6.0, 0.0]))
    assert world.state()[4] < np.pi / 2 - 0.2  # turned against the clock, seen on the screen


def test_what_is_not_pushed_any_more_stops_at_once():
    world = lying(PushT(), (20, 32), (30, 32, np.pi / 2))
    for _ in range(8):
        world.step(np.array([6.0, 0.0]))
    for _ in range(5):
        world.step(np.array([-6.0, 0.0]))
    before = world.state()[2:5]
    for _ in range(5):
        world.step(np.array([-6.0, 0.0]))
    np.testing.assert_allclose(world.state()[2:5], before, atol=1e-6)


def test_nothing_is_pushed_off_the_table_or_through_the_block():
    for seed in range(4):
        world = PushT()
        world.reset(seed)
        rng = np.random.default_rng(seed)
        heading = rng.choice([-6.0, 6.0], 2)
        for t in range(80):
            if t % 20 == 0:  # towards the block, and on against whatever wall is behind it
                heading = np.sign(world.state()[2:4] - world.state()[:2]) * 6
            world.step(heading)
            corners = np.concatenate(outline(world.state()[2:5], world.pixel))
            assert corners.min() > -1
            assert corners.max() < 65
            assert ((world.state()[:2] > 1) & (world.state()[:2] < 63)).all()


def test_coverage_against_a_fine_raster():
    rng = np.random.default_rng(0)
    centre = np.arange(512) + 0.5
    grid = np.stack(np.meshgrid(centre, centre), -1)

    def raster(pose: np.ndarray) -> np.ndarray:
        turn = np.array([[np.cos(pose[2]), -np.sin(pose[2])], [np.sin(pose[2]), np.cos(pose[2])]])
        local = (grid - pose[:2]) @ turn
        return np.any([((local > part.min(0)) & (local < part.max(0))).all(-1) for part in PARTS], axis=0)

    for _ in range(8):
        one = np.array([*rng.uniform(220, 290, 2), rng.uniform(-3, 3)])
        other = one + np.append(rng.uniform(-40, 40, 2), rng.uniform(-1, 1))
        expected = (raster(one) & raster(other)).sum() / raster(other).sum()
        assert covered(one, other) == pytest.approx(expected, abs=0.01)
        assert covered(one / [8, 8, 1], other / [8, 8, 1], 8.0) == pytest.approx(covered(one, other))
    assert covered(one, one) == pytest.approx(1)
    assert covered(one, np.add(one, (200, 0, 0))) == 0
    assert covered(one, np.add(one, (0, 0, 2 * np.pi))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "by_coverage", "by_pose"),
    [
        ((0, 0, 0, 0, 0), True, True),
        ((2.4, 0, 0, 0, 0), True, True),  # 19 of the field's 512 units
        ((2.6, 0, 0, 0, 0), False, False),
        ((0, 0, 0.3, 0, 0), True, True),
        ((0, 0, 2, 0, 0), False, True),  # the T is four pixels thick
        ((0, 0, 0, 0, 0.05), True, True),
        ((0, 0, 0, 0, 0.3), False, True),
        ((0, 0, 0, 0, 0.4), False, False),
        ((2, 0, 2, 0, 0), False, False),  # off by 22.6 of 512 together
        ((0, 0, 0, 0, 2 * np.pi), True, True),
    ],
)
def test_success_by_either_judge(change, by_coverage, by_pose):
    goal = np.array([10, 12, 30, 34, 1.0, *np.zeros(7)])
    for judge, expected in (("coverage", by_coverage), ("pose", by_pose)):
        world = PushT(PushTConfig(judge=judge))
        world.restore(goal + np.pad(change, (0, 7)))
        assert world.success(goal) is expected


def test_sizes_show_the_same_world():
    small, large = PushT(PushTConfig(size=64)), PushT(PushTConfig(size=128))
    lying(small, (20, 32), (30, 33, 1.2))
    lying(large, (40, 64), (60, 66, 1.2))
    for _ in range(10):
        small.step(np.array([4.0, 1.0]))
        large.step(np.array([8.0, 2.0]))
    np.testing.assert_allclose(large.state()[:4], 2 * small.state()[:4], atol=1e-6)
    halved = large.render().reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(halved - small.render()).mean() < 0.3


def test_the_block_is_drawn_where_it_lies():
    world = lying(PushT(PushTConfig(size=128)), (8, 120), (64.4, 60.7, 2.2))
    there = (236 - world.render()[..., 0].astype(float)) / (236 - 120)
    there[100:, :30] = 0
    centre = np.arange(128) + 0.5
    assert there.sum() == pytest.approx(6300 / (FRAME / 128) ** 2, rel=0.02)
    seen = np.array([there.sum(0) @ centre, there.sum(1) @ centre]) / there.sum()
    np.testing.assert_allclose(seen, (64.4, 60.7), atol=0.15)


def test_the_script_moves_and_turns_the_block():
    moved, turned = [], []
    for seed in range(4):
        states = Played(PushT(), "scripted", 120).episode(seed).states
        moved.append(np.hypot(np.diff(states["block_x"]), np.diff(states["block_y"])) > 0.05)
        turned.append(np.abs(np.diff(np.unwrap(states["block_angle"]))).sum())
    assert np.mean(moved) > 0.15
    assert max(turned) > 1


def test_restoring_outside_the_frame_and_impossible_settings_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="inside the frame"):
        lying(PushT(), (70, 10), (30, 30, 0))
    with pytest.raises(ConfigError, match="multiple of 8"):
        PushTConfig(size=50)
    with pytest.raises(ConfigError, match="coverage or pose"):
        PushTConfig(judge="fair")
    monkeypatch.setitem(sys.modules, "pymunk", None)
    with pytest.raises(ConfigError, match=r"foretell\[sim\]"):
        PushT()
