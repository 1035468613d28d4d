"""Ways to act while a recording is made: at random, smoothly at random, on purpose, or one of these an episode."""

from __future__ import annotations

from typing import Literal

import numpy as np

from foretell.errors import ConfigError
from foretell.worlds.pusht import PushT
from foretell.worlds.rooms import Rooms
from foretell.worlds.scripts import Policy, pushes, walks
from foretell.worlds.world import ActWorld

PolicyName = Literal["random", "smooth", "scripted", "mixed"]
POLICIES = ("random", "smooth", "scripted", "mixed")

CORRELATION, SPREAD = 0.9, 0.7
"""Of smooth actions: from one to the next, and their deviation as a share of half the range before they are clipped."""
SHARES = {"random": 0.2, "smooth": 0.3, "scripted": 0.5}
"""Of mixed: how often an episode is acted in each way; where nothing is scripted, its share goes to smooth."""
NOISE, SLIP = 0.2, 0.1
"""Of mixed, on top of scripted: deviation as a share of half the range; with discrete actions, how often chance decides."""


def policy(name: str, world: ActWorld, rng: np.random.Generator) -> Policy:
    """A policy for the episode that `world` has just begun; all that is random in it comes from `rng`.

    random: every action evenly drawn. smooth: first-order autoregressive (CORRELATION), so that the world is carried
    somewhere. scripted: what the world is for, done on purpose. mixed: one of the three, drawn now, and a scripted one
    with noise. Raises ConfigError for an unknown name, and for scripted where nothing is scripted.
    """
    if name == "random":
        return _random(world, rng)
    if name == "smooth":
        return _smooth(world, rng)
    if name == "scripted":
        return _scripted(world, rng)
    if name == "mixed":
        drawn = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        if drawn != "scripted":
            return policy(drawn, world, rng)
        return _noisy(world, _scripted(world, rng), rng) if is_scripted(world) else _smooth(world, rng)
    raise ConfigError(f"policy: got {name!r}, expected one of {', '.join(POLICIES)}")


def is_scripted(world: ActWorld) -> bool:
    """Whether there is a scripted policy for the world."""
    return isinstance(world, Rooms | PushT)


def _scripted(world: ActWorld, rng: np.random.Generator) -> Policy:
    if isinstance(world, Rooms):
        return walks(world, rng)
    if isinstance(world, PushT):
        return pushes(world, rng)
    raise ConfigError(f"policy scripted: nothing is scripted for {world!r}; use random, smooth or mixed")


def _random(world: ActWorld, rng: np.random.Generator) -> Policy:
    space = world.actions
    if space.discrete:
        return lambda: _one_hot(int(rng.integers(space.width)), space.width)
    return lambda: space.clip(rng.uniform(space.low, space.high))


def _smooth(world: ActWorld, rng: np.random.Generator) -> Policy:
    """Autoregressive actions; a discrete choice is kept with probability CORRELATION."""
    space = world.actions
    if space.discrete:
        choice = int(rng.integers(space.width))

        def choose() -> np.ndarray:
            nonlocal choice
            if rng.random() > CORRELATION:
                choice = int(rng.integers(space.width))
            return _one_hot(choice, space.width)

        return choose
    middle, half = np.add(space.low, space.high) / 2, np.subtract(space.high, space.low) / 2
    now = rng.standard_normal(space.width)

    def act() -> np.ndarray:
        nonlocal now
        now = CORRELATION * now + np.sqrt(1 - CORRELATION**2) * rng.standard_normal(space.width)
        return space.clip(middle + SPREAD * half * now)

    return act


def _noisy(world: ActWorld, inner: Policy, rng: np.random.Generator) -> Policy:
    """A policy that does not always do what it means to."""
    space = world.actions
    half = np.subtract(space.high, space.low) / 2
    if space.discrete:
        chance = _random(world, rng)
        return lambda: chance() if rng.random() < SLIP else inner()
    return lambda: space.clip(inner() + NOISE * half * rng.standard_normal(space.width))


def _one_hot(choice: int, width: int) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[choice]
