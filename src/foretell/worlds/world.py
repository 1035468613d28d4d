"""What every simulated world is: a maker of episodes; and what a world is in which something is done."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from foretell.data.actions import ActionSpace
from foretell.data.clip import Clip
from foretell.errors import ConfigError


class World(Protocol):
    """Makes episodes whose true states are known. Its repr gives all its settings: equal reprs, equal episodes."""

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3), and states (T,), (T, N) or (T, N, K) of N objects.

        A world of objects names one of its states `shape`, str (T, N), "" while an object does not exist. Where no
        state is named so, every state is a number a frame, (T,). The same seed gives the same bytes in any process and
        any order.
        """
        ...


class ActWorld(Protocol):
    """A world that is acted in. Its repr gives all its settings; `reset(seed)` and the same actions give the same bytes.

    `quantities` name the S numbers of a state. `over` says that the episode has ended by itself; after that, and before
    the first reset, nothing may be asked of it.
    """

    @property
    def actions(self) -> ActionSpace: ...

    @property
    def fps(self) -> float: ...

    @property
    def quantities(self) -> tuple[str, ...]: ...

    @property
    def over(self) -> bool: ...

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`, any whole number from 0 up."""
        ...

    def step(self, action: np.ndarray) -> None:
        """Do an action (A,). Raises ConfigError if it is not finite or outside the space; never clips."""
        ...

    def render(self) -> np.ndarray:
        """What is seen: uint8 (H, W, 3)."""
        ...

    def state(self) -> np.ndarray:
        """What is the case: float64 (S,)."""
        ...

    def success(self, goal: np.ndarray) -> bool:
        """Whether the world is as in the state `goal` (S,), near enough."""
        ...


@runtime_checkable
class Restorable(ActWorld, Protocol):
    """A world that can be put into a state: an oracle can look ahead in it, and do() can change one thing."""

    def restore(self, state: np.ndarray) -> None:
        """Bring about a state (S,); from then on the same actions give the same bytes. Raises ConfigError if impossible."""
        ...


def one_action(space: ActionSpace, action: np.ndarray, what: str) -> np.ndarray:
    """An action (A,) as float64. Raises ConfigError if it is another shape, not finite or outside the space."""
    action = np.asarray(action, np.float64)
    if action.ndim != 1:
        raise ConfigError(f"{what}: got the action {action}, expected one row of {space.width} numbers")
    space.check(action, what)
    return action
