"""A world that is acted in, together with who acts: a maker of episodes that can be recorded like any other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foretell.data.actions import ActionSpace
from foretell.data.clip import Clip
from foretell.errors import ConfigError
from foretell.worlds.policies import POLICIES, PolicyName, is_scripted, policy
from foretell.worlds.world import ActWorld


@dataclass(frozen=True)
class Played:
    """A World in which a policy acts."""

    world: ActWorld
    """Where."""
    policy: PolicyName = "mixed"
    """Who acts; see policies.py."""
    frames: int = 100
    """Frames of an episode; fewer where the world ends it by itself."""

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ConfigError(f"played frames: got {self.frames}, expected at least 2")
        if self.policy not in POLICIES:
            raise ConfigError(f"played policy: got {self.policy!r}, expected one of {', '.join(POLICIES)}")
        if self.policy == "scripted" and not is_scripted(self.world):
            raise ConfigError(f"policy scripted: nothing is scripted for {self.world!r}; use random, smooth or mixed")

    @property
    def actions(self) -> ActionSpace:
        """What may be done."""
        return self.world.actions

    def episode(self, seed: int) -> Clip:
        """The episode of `seed`: frames, actions float32 (T, A), and a state (T,) for each of the world's quantities.

        Every action is done, the last one, too; what it leads to is not shown.
        """
        self.world.reset(seed)
        act = policy(self.policy, self.world, np.random.default_rng([seed, 1]))  # chance of its own, not the world's
        frames: list[np.ndarray] = []
        actions: list[np.ndarray] = []
        states: list[np.ndarray] = []
        while len(frames) < self.frames and not self.world.over:
            action = act()
            frames.append(self.world.render())
            states.append(self.world.state())
            actions.append(action)
            self.world.step(action)
        named = dict(zip(self.world.quantities, np.stack(states, axis=1), strict=True))
        name = f"{type(self.world).__name__.lower()}-{seed}"
        return Clip(name=name, frames=np.stack(frames), fps=self.world.fps, states=named, actions=np.stack(actions))
