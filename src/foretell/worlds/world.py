"""What every simulated world is: a maker of episodes."""

from __future__ import annotations

from typing import Protocol

from foretell.data.clip import Clip


class World(Protocol):
    """Makes episodes whose true states are known. Its repr gives all its settings: equal reprs, equal episodes."""

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3), and states (T,), (T, N) or (T, N, K) of N objects.

        One of the states is `shape` str (T, N), "" while an object does not exist. The same seed gives the same bytes
        in any process and any order.
        """
        ...
