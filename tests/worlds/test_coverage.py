"""The coverage of a recording: measured as defined, and warned of where a model would fail in silence."""

import numpy as np
import pytest

from foretell.data.actions import ActionSpace, read_actions
from foretell.worlds.coverage import Coverage, coverage_of, measure_coverage
from foretell.worlds.played import Played
from foretell.worlds.policies import PolicyName
from foretell.worlds.pusht import PushT
from foretell.worlds.record import record
from foretell.worlds.rooms import Rooms, RoomsConfig
from foretell.worlds.world import ActWorld

space = ActionSpace(low=(-1.0, -1.0), high=(1.0, 1.0))


def played(world: ActWorld, policy: PolicyName, frames: int = 100, episodes: int = 30) -> Coverage:
    world.render = lambda: np.zeros((8, 8, 3), np.uint8)  # nobody looks
    clips = [Played(world, policy, frames).episode(seed) for seed in range(episodes)]
    states = {name: np.concatenate([clip.states[name] for clip in clips]) for name in world.quantities}
    episode = np.repeat(np.arange(episodes), [len(clip.frames) for clip in clips])
    return measure_coverage(episode, np.concatenate([clip.actions for clip in clips]), world.actions, states)


def test_actions_are_measured_as_defined():
    rng = np.random.default_rng(0)
    actions = np.stack([rng.uniform(-1, 1, 5000), rng.uniform(-0.2, 0.2, 5000)], 1)
    found = measure_coverage(np.zeros(5000, int), actions, space)
    assert found.actions == (1.0, 0.2)
    assert found.lasting == pytest.approx(1, abs=0.1)
    assert any("action_1 uses 20%" in warning for warning in found.warnings)
    assert any("cancel out" in warning for warning in found.warnings)
    assert found.motion is None
    for correlation in (0.5, 0.9):
        for k in range(1, 5000):
            actions[k] = correlation * actions[k - 1] + np.sqrt(1 - correlation**2) * 0.4 * rng.standard_normal(2)
        lasting = measure_coverage(np.zeros(5000, int), actions.clip(-1, 1), space).lasting
        assert lasting == pytest.approx(-1 / np.log(correlation), rel=0.25)  # where the correlation is 1/e


def test_episodes_are_not_run_together():
    held = np.repeat([[0.5, 0.5], [-0.5, -0.5]], 3, axis=0)
    actions = np.tile(held, (50, 1))  # the same through an episode of three frames, the opposite in the next
    apart = measure_coverage(np.repeat(np.arange(100), 3), actions, space)
    assert apart.lasting >= 2.5
    assert measure_coverage(np.zeros(300, int), actions, space).lasting < 2
    ticks = np.tile([0.0, 1.0, 2.0], 100)
    assert measure_coverage(np.repeat(np.arange(100), 3), actions, space, {"x": ticks}).travel["x"] == 1


def test_choices_are_counted_and_how_long_they_are_kept():
    buttons = ActionSpace(low=(0.0,) * 4, high=(1.0,) * 4, discrete=True)
    choices = np.repeat(np.tile([0, 1, 2], 100), 5)
    found = measure_coverage(np.zeros(1500, int), np.eye(4, dtype=np.float32)[choices], buttons)
    assert found.actions == (0.75,)
    assert found.lasting == pytest.approx(5, abs=0.1)


def test_places_and_motion_are_measured_as_defined():
    x = np.concatenate([np.linspace(0, 10, 100, endpoint=False), np.zeros(100)])
    y = np.concatenate([np.zeros(100), np.linspace(0, 10, 100, endpoint=False)])
    fixed = np.repeat([1.0, 2.0], 100)  # differs between episodes only: nothing moves it
    found = measure_coverage(np.repeat([0, 1], 100), np.zeros((200, 2)), space, {"x": x, "fixed": fixed, "y": y})
    assert list(found.cells) == [("x", "y")]
    assert found.cells["x", "y"] == 0.19
    assert found.moving == {"x": 0.5, "y": 0.5}
    assert found.motion == 1
    assert found.travel == {"x": pytest.approx(0.5, abs=0.01), "y": pytest.approx(0.5, abs=0.01)}


def test_a_door_that_nobody_passes_is_found():
    rng = np.random.default_rng(0)
    side = np.repeat(np.arange(40) % 2, 200)
    x, y = rng.uniform(0, 4.9, 8000) + 5.1 * side, rng.uniform(0, 10, 8000)
    episode = np.repeat(np.arange(40), 200)
    shut = measure_coverage(episode, np.zeros((8000, 2)), space, {"x": x, "y": y})
    assert shut.passages == 0
    assert any("two parts of the world" in warning for warning in shut.warnings)
    open_floor = measure_coverage(episode, np.zeros((8000, 2)), space, {"x": rng.permutation(x), "y": y})
    assert open_floor.passages > 10


@pytest.mark.parametrize("config", [RoomsConfig(), RoomsConfig(layout="four"), RoomsConfig(varied=True)], ids=repr)
def test_random_walks_in_rooms_are_warned_of_and_mixed_ones_are_not(config):
    poor, good = played(Rooms(config), "random"), played(Rooms(config), "mixed")
    words = " ".join(poor.warnings)
    # Where walls are elsewhere in each episode, no one cut is the door's.
    for part in ("cancel out", "x covers", *([] if config.varied else ["two parts of the world"])):
        assert part in words
    assert good.warnings == ()
    assert good.passages > 3 * poor.passages


def test_a_block_that_is_hardly_touched_is_warned_of():
    poor, good = played(PushT(), "random"), played(PushT(), "mixed")
    assert any(warning.startswith("block_x changes in") for warning in poor.warnings)
    assert good.warnings == ()


def test_a_recording_is_read_back(tmp_path):
    record(Played(Rooms(RoomsConfig(size=32)), "mixed", 40), tmp_path, episodes=12, seed=1, progress=False)
    found = coverage_of(read_actions(tmp_path))
    assert (found.episodes, found.frames) == (12, 480)
    assert list(found.moving) == ["x", "y"]
    assert "12 episodes, 480 frames" in str(found)
    assert "x and y" in str(found)
    (tmp_path / "states.parquet").unlink()
    without = coverage_of(read_actions(tmp_path))
    assert (without.actions, without.lasting, without.motion) == (found.actions, found.lasting, None)
