"""What may be done, and what was done: the actions that belong to a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foretell.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """What may be done in a world, in its own units. Actions are float32 (..., A)."""

    low: tuple[float, ...]
    """Least value of each of the A numbers."""
    high: tuple[float, ...]
    """Greatest value of each."""
    discrete: bool = False
    """One of A choices, given one-hot; then every low is 0 and every high is 1."""

    def __post_init__(self) -> None:
        if not self.low or len(self.low) != len(self.high):
            raise ConfigError(
                f"actions: got {len(self.low)} lows and {len(self.high)} highs, expected as many, 1 or more"
            )
        if not all(-np.inf < low < high < np.inf for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(
                f"actions: got low {self.low} and high {self.high}, expected finite numbers, low below high"
            )

    @property
    def width(self) -> int:
        """A, numbers of one action."""
        return len(self.low)

    def clip(self, actions: np.ndarray) -> np.ndarray:
        """Actions (..., A), each number brought between low and high; for policies, never to hide a fault."""
        return np.clip(actions, self.low, self.high).astype(np.float32)

    def check(self, action: np.ndarray, what: str) -> None:
        """Raise ConfigError unless an action (..., A) is finite and within the space."""
        lies = action.shape[-1:] == (self.width,) and bool(
            np.all(np.isfinite(action) & (action >= np.subtract(self.low, 1e-6)) & (action <= np.add(self.high, 1e-6)))
        )
        if not lies:
            raise ConfigError(
                f"{what}: got the action {action}, expected {self.width} numbers from {self.low} to {self.high}"
            )
