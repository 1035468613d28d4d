"""What every simulated world is: a maker of episodes."""

from __future__ import annotations

from typing import Protocol

from foretell.data.clip import Clip


class World(Protocol):
    """Makes episodes whose true states are known. Any frozen config that can draw an episode from a seed is a world."""

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames uint8 (T, H, W, 3), and states whose arrays all begin with T.

        The same seed gives the same bytes, in any process and any order.
        """
        ...
