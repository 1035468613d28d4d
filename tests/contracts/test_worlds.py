"""What every world promises, whatever it shows."""

import pickle

import numpy as np
import pytest

from foretell.worlds.buoy import Buoy
from foretell.worlds.chance import Chance
from foretell.worlds.physics import Physics
from foretell.worlds.world import World

worlds: list[World] = [
    Buoy(size=48, frames=12, gusts=(1.0, 1.5)),
    Buoy(size=32, shape="square", sky="striped", hues=(0.6, 0.9)),
    Physics(size=48, frames=23),
    Physics(size=32, frames=25, fps=20, scenario="colliding"),
    Physics(size=40, frames=27, fps=8, violation="jump"),
    Physics(size=40, frames=24, scenario="staged", part="test"),
    Physics(size=48, frames=24, scenario="staged", texture=0.1, shadows=0.5, noise=0.05, jitter=1.0),
    Chance(size=48, frames=23),
]


@pytest.mark.parametrize("world", worlds, ids=repr)
def test_episode_has_the_promised_form(world):
    clip = world.episode(7)
    steps, height, width, channels = clip.frames.shape
    assert clip.frames.dtype == np.uint8
    assert channels == 3
    assert height >= 16
    assert width >= 16
    assert clip.fps > 0
    assert clip.frames.flags.c_contiguous
    shape = clip.states["shape"]
    assert shape.ndim == 2
    for name, values in clip.states.items():
        assert values.shape[:1] == (steps,), name
        assert values.ndim == 1 or values.shape[:2] == shape.shape, name


@pytest.mark.parametrize("world", worlds, ids=repr)
def test_a_seed_gives_the_same_bytes_in_any_order(world):
    first = world.episode(3)
    world.episode(4)
    again = pickle.loads(pickle.dumps(world)).episode(3)
    assert first.name == again.name
    assert first.frames.tobytes() == again.frames.tobytes()
    for name, values in first.states.items():
        np.testing.assert_array_equal(values, again.states[name])


@pytest.mark.parametrize("world", worlds, ids=repr)
def test_seeds_differ_and_may_be_huge(world):
    frames = {world.episode(seed).frames.tobytes() for seed in (0, 1, 2, 2**128 - 1)}
    assert len(frames) == 4


@pytest.mark.parametrize("world", worlds, ids=repr)
def test_something_moves(world):
    frames = world.episode(5).frames.astype(int)
    assert np.abs(np.diff(frames, axis=0)).max() > 20


def test_repr_tells_worlds_apart():
    assert len({repr(world) for world in worlds}) == len(worlds)
