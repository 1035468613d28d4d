"""Who acts while a recording is made: within the limits, by the seed alone, and each as it says."""

from collections.abc import Iterator

import numpy as np
import pytest

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError
from foretell.worlds.played import Played
from foretell.worlds.policies import CORRELATION, policy
from foretell.worlds.rooms import Rooms, RoomsConfig


class Choices:
    """A world of three buttons: nothing but an action space."""

    actions = ActionSpace(low=(0.0,) * 3, high=(1.0,) * 3, discrete=True)
    fps, quantities, over = 10.0, ("pressed",), False

    def __repr__(self) -> str:
        return "Choices()"

    def reset(self, seed: int) -> None:
        self._pressed = 0

    def step(self, action: np.ndarray) -> None:
        self._pressed = int(np.argmax(action))
        self.over = False

    def render(self) -> np.ndarray:
        return np.full((16, 16, 3), 80 * self._pressed, np.uint8)

    def state(self) -> np.ndarray:
        return np.array([float(self._pressed)])

    def success(self, goal: np.ndarray) -> bool:
        return bool(goal[0] == self._pressed)


def done(name: str, world, steps: int, seed: int = 0) -> np.ndarray:
    world.reset(seed)
    act = policy(name, world, np.random.default_rng(seed))

    def actions() -> Iterator[np.ndarray]:
        for _ in range(steps):
            action = act()
            world.step(action)
            yield action

    return np.stack(list(actions()))


@pytest.mark.parametrize("name", ["random", "smooth", "scripted", "mixed"])
def test_actions_are_float32_within_the_limits_and_follow_from_the_seed(name):
    for seed in range(6):
        world = Rooms(RoomsConfig(layout="four"))
        actions = done(name, world, 60, seed)
        assert actions.dtype == np.float32
        assert (np.abs(actions) <= np.float32(1.0)).all()
        np.testing.assert_array_equal(actions, done(name, world, 60, seed))
    assert not np.array_equal(done(name, world, 60, 0), done(name, world, 60, 1))


def test_random_is_even_and_smooth_is_correlated_as_stated():
    world = Rooms()
    even = done("random", world, 4000)
    assert np.abs(np.histogram(even[:, 0], 10, (-2, 2))[0] - 400).max() < 90
    for name, correlation in (("random", 0.0), ("smooth", CORRELATION)):
        actions = done(name, world, 6000)
        found = [np.corrcoef(actions[:-1, k], actions[1:, k])[0, 1] for k in range(2)]
        np.testing.assert_allclose(found, correlation, atol=0.05)
        assert abs(np.corrcoef(actions.T)[0, 1]) < 0.2  # one axis knows nothing of the other


def test_the_script_goes_through_the_door_again_and_again():
    world = Rooms()
    world.reset(0)
    act = policy("scripted", world, np.random.default_rng(0))
    side = []
    for _ in range(600):
        world.step(act())
        side.append(world.state()[0] > 32)
    assert np.abs(np.diff(np.array(side, int))).sum() >= 6


def test_mixed_is_sometimes_each():
    world = Rooms()
    correlations = []
    for seed in range(30):
        actions = done("mixed", world, 200, seed)
        correlations.append(np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1])
    assert min(correlations) < 0.2 < 0.75 < max(correlations)
    assert len({round(correlation, 6) for correlation in correlations}) == 30


@pytest.mark.parametrize("name", ["random", "smooth", "mixed"])
def test_choices_are_one_hot(name):
    actions = done(name, Choices(), 300)
    assert set(np.unique(actions)) == {0.0, 1.0}
    assert (actions.sum(1) == 1).all()
    assert actions.mean(0).min() > 0.1
    changed = (np.diff(actions.argmax(1)) != 0).mean()
    assert changed > 0.5 if name == "random" else changed < 0.75


def test_what_is_not_scripted_says_so():
    with pytest.raises(ConfigError, match=r"nothing is scripted for Choices\(\); use random, smooth or mixed"):
        policy("scripted", Choices(), np.random.default_rng(0))
    with pytest.raises(ConfigError, match="nothing is scripted"):
        Played(Choices(), "scripted")
    with pytest.raises(ConfigError, match="one of random, smooth, scripted, mixed"):
        policy("wild", Rooms(), np.random.default_rng(0))


def test_a_played_episode_is_what_happens_when_its_actions_are_done():
    played = Played(Rooms(RoomsConfig(hazards=1)), "mixed", 25)
    clip = played.episode(11)
    assert clip.frames.shape == (25, 64, 64, 3)
    assert (clip.actions.shape, clip.actions.dtype) == ((25, 2), np.float32)
    assert list(clip.states) == ["x", "y", "clearance"]
    world = Rooms(RoomsConfig(hazards=1))
    world.reset(11)
    for t in range(25):
        np.testing.assert_array_equal(world.render(), clip.frames[t])
        np.testing.assert_array_equal(world.state(), [clip.states[name][t] for name in clip.states])
        world.step(clip.actions[t])


def test_an_episode_that_ends_by_itself_is_shorter():
    class Short(Choices):
        def step(self, action: np.ndarray) -> None:
            super().step(action)
            self._left -= 1
            self.over = self._left == 0

        def reset(self, seed: int) -> None:
            super().reset(seed)
            self.over, self._left = False, 7

    clip = Played(Short(), "random", 30).episode(0)
    assert len(clip.frames) == len(clip.actions) == len(clip.states["pressed"]) == 7


@pytest.mark.parametrize(("change", "words"), [({"frames": 1}, "at least 2"), ({"policy": "wild"}, "one of random")])
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        Played(Rooms(), **{"policy": "random", **change})
