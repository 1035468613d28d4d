"""Two levels of planning for far goals: the upper one searches macro-actions for a place to go to, the lower one goes there.

A sub-goal is always a place that was really seen and that can be reached: a cached latent to which ways over what was done
lead from here within a stride. What nobody has seen, or no way leads to, is never aimed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from foretell.errors import ConfigError
from foretell.model.upper import Upper
from foretell.plan.actors import AgentActor
from foretell.plan.candidates import Judged
from foretell.plan.episodes import Acts, Task
from foretell.plan.planners import CEMConfig, PlannerConfig, make_plan
from foretell.worlds.world import ActWorld


@dataclass(frozen=True, kw_only=True)
class UpperPlanConfig:
    """How the upper level searches."""

    planner: PlannerConfig = field(default_factory=lambda: CEMConfig(samples=64, iterations=3, elites=8))
    """Over macro-actions."""
    horizon: int = 2
    """Its steps, a stride each."""
    within: float = 2.0
    """Macro-actions are searched within so many deviations of those that were really done."""
    strange: float = 1.0
    """Steps of the model that it costs to be a deviation away from all places that were seen."""

    def __post_init__(self) -> None:
        if self.horizon < 1 or not 0 < self.within < float("inf") or not 0 <= self.strange < float("inf"):
            got = f"horizon {self.horizon}, within {self.within}, strange {self.strange}"
            raise ConfigError(f"upper plan: got {got}; expected 1 or more, above 0, 0 or more")


@dataclass(frozen=True, eq=False)
class Ways:
    """Be where the shortest way over what was seen and done leads to the goal soon: a cost that tells far from farther."""

    upper: Upper
    """Knows the places and the steps between them."""
    goal: Tensor
    """(B, P, D), the latents of the goal image."""
    strange: float
    """What it costs to be a deviation away from all places."""

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, S, T, P, D) -> (B, S), in steps of the model, summed over T."""
        steps = self.upper.apart[:, self.upper.nearest(self.goal)[0]].T  # (B, places)
        place, unlike = self.upper.nearest(latents)
        left = steps.gather(1, place.flatten(1)).view(place.shape)
        return (left + self.strange * unlike).sum(-1)


class UpperPlanner:
    """Chooses sub-goals, for B environments at once."""

    def __init__(self, upper: Upper, config: UpperPlanConfig, generator: torch.Generator) -> None:
        self.upper, self.config, self.generator = upper.eval(), config, generator

    @torch.no_grad()
    def sub_goal(self, now: Tensor, goal: Tensor) -> Tensor:
        """Where to go next from `now` (B, P, D) on the way to `goal` (B, P, D): (B, P, D).

        The goal itself where a stride leads there; else, of the places within a stride, the one most like the first step of
        the best plan of macro-actions.
        """
        here, there = self.upper.nearest(now)[0], self.upper.nearest(goal)[0]
        steps = self.upper.apart[here]
        unlike = self.upper.distances(self.search(now, goal))
        chosen = unlike.masked_fill(steps > self.upper.config.stride, torch.inf).argmin(-1)
        close = steps.gather(1, there[:, None]) <= self.upper.config.stride
        return torch.where(close[..., None], goal, self.upper.places[chosen])

    def search(self, now: Tensor, goal: Tensor) -> Tensor:
        """What is imagined of the first step of the best plan of macro-actions, (B, P, D)."""
        cost = Ways(self.upper, goal, self.config.strange)

        def judge(macros: Tensor) -> Judged:
            begun = now[:, None].expand(-1, macros.shape[1], -1, -1)
            price = cost(self.upper.imagine(begun, macros), macros)
            return Judged(price, torch.zeros_like(price))

        most = now.new_full((self.upper.config.macro,), self.config.within)
        plan = make_plan(
            self.config.planner,
            judge,
            -most,
            most,
            batch=len(now),
            horizon=self.config.horizon,
            generator=self.generator,
        )
        return self.upper.step(now, plan.actions[:, 0])


class TwoLevelsActor:
    """The flat actor, whose goals are set anew before each of its steps. It looks at frames alone."""

    def __init__(self, lower: AgentActor, upper: UpperPlanner) -> None:
        self.lower, self.upper, self.skip = lower, upper, lower.skip

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """Encode the goals, and take in what was seen and done before the start."""
        self.lower.begin(worlds, tasks)
        self.goals = self.lower.goals.clone()

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """See, choose where to go, and let the lower level go there. (It encodes the frames once more: a hundredth of all.)"""
        rows = torch.from_numpy(live)
        self.lower.goals[rows] = self.upper.sub_goal(self.lower.agent.encode(frames), self.goals[rows])
        return self.lower.act(live, frames)
