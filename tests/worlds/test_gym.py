"""Gymnasium's environments as worlds: what is done, seen and known is what the environment itself says."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.gym import Gym, GymConfig
from foretell.worlds.played import Played
from foretell.worlds.record import record

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("pygame")
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary  # noqa: E402


class Toy(gymnasium.Env):
    """A dot that one steers along a line, in many kinds."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode=None, kind="plain"):
        self.render_mode, self.kind, self.place = render_mode, kind, 0.0
        self.observation_space = Box(-9, 9, (2,))
        self.action_space = Box(-1, 1, (2, 1), np.float32)
        if kind == "picture":
            self.render_mode, self.observation_space = None, Box(0, 255, (40, 80, 3), np.uint8)
        if kind == "grey":
            self.render_mode, self.observation_space = None, Box(0, 255, (40, 80), np.uint8)
        if kind == "dictionary":
            self.observation_space = Dict({"place": Box(-9, 9, (1,)), "mood": Discrete(3)})
        if kind == "blind":
            self.render_mode = None
        if kind == "unbounded":
            self.action_space = Box(-np.inf, 1, (2,))
        if kind == "buttons":
            self.action_space = MultiBinary(4)
        if kind == "start":
            self.action_space = Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-1, 1))
        return self._see(), {}

    def step(self, action):
        self.done = action
        self.place += float(np.ravel(action)[0])
        return self._see(), 0.0, abs(self.place) > 3, False, {}

    def render(self):
        picture = np.zeros((40, 80, 3), np.uint8)
        picture[:, : int(10 + 10 * abs(self.place))] = (255, 128, 0)
        return picture

    def _see(self):
        if self.kind == "picture":
            return self.render()
        if self.kind == "grey":
            return self.render()[..., 1]
        if self.kind == "dictionary":
            return {"place": np.array([self.place], np.float32), "mood": 2}
        return np.array([self.place, 1], np.float32)


for kind in ("plain", "picture", "grey", "dictionary", "blind", "unbounded", "buttons", "start"):
    gymnasium.register(f"foretell/{kind}-v0", Toy, kwargs={"kind": kind}, max_episode_steps=4)


def toy(kind: str, **change) -> Gym:
    return Gym(GymConfig(env=f"foretell/{kind}-v0", size=32, **change))


@pytest.mark.parametrize(("env", "numbers"), [("Pendulum-v1", 3), ("CartPole-v1", 4)])
def test_frames_states_and_actions_are_the_environments_own(env, numbers):
    clip = Played(Gym(GymConfig(env=env)), "random", 12).episode(5)
    assert len(clip.states) == numbers
    world, own = Gym(GymConfig(env=env)), gymnasium.make(env, render_mode="rgb_array")
    world.reset(5)
    short = int(np.random.SeedSequence(5).generate_state(1, np.uint64)[0] >> np.uint64(33))
    seen, _ = own.reset(seed=short)
    for t, action in enumerate(clip.actions):
        np.testing.assert_array_equal([values[t] for values in clip.states.values()], seen)
        seen, *_ = own.step(int(action.argmax()) if world.actions.discrete else action)


def test_the_picture_is_made_smaller_on_black_bars_and_keeps_its_colours():
    world = toy("plain")
    world.reset(0)
    frame = world.render()
    assert frame.shape == (32, 32, 3)
    assert (frame[:8] == 0).all()
    assert (frame[24:] == 0).all()
    assert np.abs(frame[16, 1].astype(int) - (255, 128, 0)).max() <= 3


@pytest.mark.parametrize("kind", ["picture", "grey"])
def test_observations_that_are_pictures_are_what_is_seen(kind):
    world = toy(kind)
    world.reset(0)
    before = world.render()
    assert world.quantities == ()
    assert world.state().shape == (0,)
    assert before.max() > 100
    world.step(np.array([1.0, 0.0]))
    assert (world.render() != before).any()
    if kind == "grey":
        assert np.ptp(before, axis=2).max() <= 1


def test_a_dictionary_of_numbers_is_a_state():
    world = toy("dictionary")
    world.reset(0)
    assert world.quantities == ("obs_0", "obs_1", "obs_2", "obs_3")
    assert sorted(np.round(world.state(), 3).tolist())[-1] == 1  # the mood, one-hot


def test_actions_reach_the_environment_in_its_own_shape_and_kind():
    world = toy("plain")
    world.reset(0)
    world.step(np.array([0.5, -0.25]))
    done = world._env.unwrapped.done
    assert (done.shape, done.dtype) == ((2, 1), np.float32)
    assert done.ravel().tolist() == [0.5, -0.25]
    world = toy("start")
    world.reset(0)
    world.step(np.array([1.0, 0, 0]))
    assert world._env.unwrapped.done == -1


def test_an_episode_is_over_when_the_environment_says_so_and_not_by_a_time_limit():
    world = toy("plain")
    world.reset(0)
    for _ in range(9):
        world.step(np.array([0.0, 0.0]))
    assert world.over is False
    for _ in range(4):
        if not world.over:
            world.step(np.array([1.0, 0.0]))
    assert world.over is True
    with pytest.raises(ConfigError, match="the episode is over"):
        world.step(np.array([0.0, 0.0]))
    world.reset(1)
    assert world.over is False


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("blind", "neither renders to rgb_array nor observes pictures"),
        ("unbounded", "without bounds"),
        ("buttons", "expected Discrete, or a Box of real numbers"),
        ("nosuch", "cannot be made"),
    ],
)
def test_what_cannot_be_a_world_says_why(kind, words):
    with pytest.raises(ConfigError, match=words):
        toy(kind)


def test_success_is_near_in_every_number_and_needs_to_know_how_much_they_vary():
    world = toy("plain", spread=(2.0, 1.0), tolerance=0.1)
    world.reset(0)
    state = world.state()
    assert world.success(np.add(state, (0.19, 0.09)))
    assert not world.success(np.add(state, (0.21, 0)))
    assert not world.success(np.add(state, (0, 0.11)))
    bare = toy("plain")
    bare.reset(0)
    with pytest.raises(ConfigError, match=r"success needs GymConfig\.spread"):
        bare.success(state)
    with pytest.raises(ConfigError, match="got 3 numbers, expected one for each of 2"):
        toy("plain", spread=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("change", [{"size": 20}, {"fps": 0.0}, {"tolerance": 0.0}, {"spread": (1.0, -1.0)}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ConfigError, match="expected"):
        GymConfig(env="CartPole-v1", **change)


def test_an_id_may_name_the_module_to_import(tmp_path):
    (tmp_path / "elsewhere.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import PendulumEnv\n"
        "gymnasium.register('Mine-v0', PendulumEnv)\n"
    )
    code = (
        "from foretell.worlds.gym import Gym, GymConfig; world = Gym(GymConfig(env='elsewhere:Mine-v0'));"
        "world.reset(0); print(world.render().shape)"
    )
    environment = {"PYTHONPATH": ":".join([str(tmp_path), *sys.path])}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout.strip() == "(64, 64, 3)"


def test_a_recording_of_choices(tmp_path):
    played = Played(Gym(GymConfig(env="CartPole-v1", size=32)), "mixed", 30)
    summary = record(played, tmp_path, episodes=3, seed=0, workers=2, progress=False)
    assert summary.acted
    assert 0 < summary.frames <= 90
    assert '"discrete": true' in (tmp_path / "recording.json").read_text()


def test_mujoco_is_drawn_without_shadows_and_multisampling():
    if not all(importlib.util.find_spec(name) for name in ("mujoco", "imageio")):
        pytest.skip("needs mujoco and imageio")
    world = Gym(GymConfig(env="Reacher-v5"))
    quality = world._env.unwrapped.model.vis.quality
    assert (quality.shadowsize, quality.offsamples) == (0, 0)
    world.reset(0)
    try:
        first = world.render()
    except Exception as error:
        pytest.skip(f"no OpenGL here: {error}")
    world.step(np.array([1.0, -1.0]))
    assert first.shape == (64, 64, 3)
    assert (world.render() != first).any()


def test_missing_gymnasium_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigError, match=r"foretell\[sim\]"):
        Gym(GymConfig(env="CartPole-v1"))
