"""What every world promises in which something can be done."""

import importlib.util
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.gym import Gym, GymConfig
from foretell.worlds.policies import policy
from foretell.worlds.pusht import PushT, PushTConfig
from foretell.worlds.rooms import Rooms, RoomsConfig
from foretell.worlds.world import ActWorld, Restorable

makers: list[Callable[[], ActWorld]] = [
    Rooms,
    lambda: Rooms(RoomsConfig(size=48, hazards=2, radius="large")),
    lambda: Rooms(RoomsConfig(layout="four", hazards=4, ground="dark", fps=20)),
    lambda: Rooms(RoomsConfig(varied=True, hazards=3)),
    PushT,
    lambda: PushT(PushTConfig(size=96, judge="pose")),
]
if all(importlib.util.find_spec(name) for name in ("gymnasium", "pygame")):
    makers += [
        lambda: Gym(GymConfig(env="Pendulum-v1", size=32, spread=(0.7, 0.7, 3.0))),
        lambda: Gym(GymConfig(env="CartPole-v1", spread=(1.0,) * 4)),
    ]
worlds = pytest.mark.parametrize("make", makers, ids=lambda make: repr(make()))
restorable = [make for make in makers if hasattr(make(), "restore")]


def play(world: ActWorld, seed: int, steps: int = 12, acting: int = 0) -> tuple[list[bytes], list[np.ndarray]]:
    """Frames and states of an episode with smooth actions."""
    world.reset(seed)
    act = policy("smooth", world, np.random.default_rng(acting))
    frames, states = [world.render().tobytes()], [world.state()]
    while len(frames) <= steps and not world.over:
        world.step(act())
        frames.append(world.render().tobytes())
        states.append(world.state())
    return frames, states


@worlds
def test_the_same_seed_and_actions_give_the_same_bytes(make):
    world = make()
    frames, states = play(world, 3)
    play(world, 4, acting=1)
    copy = pickle.loads(pickle.dumps(world))
    assert repr(copy) == repr(world) == repr(make())
    for again in (world, copy, make()):
        frames_again, states_again = play(again, 3)
        assert frames_again == frames
        np.testing.assert_array_equal(states_again, states)


@worlds
def test_seeds_differ_and_may_be_huge(make):
    assert len({play(make(), seed)[0][0] for seed in (0, 1, 2, 2**128 - 1)}) >= 3


@worlds
def test_what_is_done_makes_a_difference(make):
    world = make()
    (one, states), (other, _) = play(world, 5, acting=0), play(world, 5, acting=1)
    assert one[0] == other[0]
    assert one[-1] != other[-1]
    assert not np.array_equal(states[0], states[-1])


@worlds
def test_frames_are_pictures_and_states_are_numbers_with_names(make):
    world = make()
    world.reset(1)
    first = world.render()
    assert (first.dtype, first.ndim, first.shape[2]) == (np.uint8, 3, 3)
    assert np.ptp(first) > 20
    assert first.flags.c_contiguous
    assert world.fps > 0
    assert world.over is False
    act = policy("random", world, np.random.default_rng(0))
    for _ in range(5):
        world.step(act())
        assert world.render().shape == first.shape
        state = world.state()
        assert (state.dtype, state.shape) == (np.float64, (len(world.quantities),))
        assert np.isfinite(state).all()
    assert len(set(world.quantities)) == len(world.quantities)
    assert not np.shares_memory(world.state(), world.state())
    assert not np.shares_memory(world.render(), world.render())


@worlds
def test_limits_are_enforced_and_nothing_is_clipped(make):
    world = make()
    world.reset(1)
    space = world.actions
    low, high = np.array(space.low), np.array(space.high)
    before = world.state()
    wrong = [high + 0.01, low - 0.01, np.full(space.width, np.nan), np.full(space.width, np.inf)]
    wrong += [np.zeros(space.width + 1), np.zeros((1, space.width)), np.where(np.arange(space.width) == 0, np.nan, low)]
    for action in wrong:
        with pytest.raises(ConfigError, match="got the action"):
            world.step(action)
        np.testing.assert_array_equal(world.state(), before)
    if space.discrete:
        for action in (high, low, np.full(space.width, 1 / space.width)):
            with pytest.raises(ConfigError, match="expected one 1, all else 0"):
                world.step(action)
    else:
        world.step(high)
        world.step(low.astype(np.float32))


@worlds
def test_its_own_state_is_a_success(make):
    world = make()
    _, states = play(world, 2)
    assert world.success(world.state()) is True
    assert world.success(states[-1])


@pytest.mark.parametrize("make", restorable, ids=lambda make: repr(make()))
def test_a_restored_state_goes_on_to_the_same_bytes(make):
    world: Restorable = make()
    for at in (0, 7):
        world.reset(6)
        act = policy("smooth", world, np.random.default_rng(2))
        actions = [act() for _ in range(20)]
        for action in actions[:at]:
            world.step(action)
        middle, frame = world.state(), world.render()
        truth = []
        for action in actions[at:]:
            world.step(action)
            truth.append((world.render().tobytes(), world.state().tobytes()))
        fresh = make()
        fresh.reset(99)
        for restored in (world, fresh):
            restored.restore(middle)
            assert restored.render().tobytes() == frame.tobytes()
            np.testing.assert_array_equal(restored.state(), middle)
            for action, (picture, state) in zip(actions[at:], truth, strict=True):
                restored.step(action)
                assert restored.render().tobytes() == picture
                assert restored.state().tobytes() == state
        for broken in (middle[:-1], np.full_like(middle, np.nan)):
            with pytest.raises(ConfigError, match="got the state"):
                world.restore(broken)


def test_repr_tells_worlds_apart():
    assert len({repr(make()) for make in makers}) == len(makers)
