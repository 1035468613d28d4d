"""An agent: sees, imagines, proposes, and hears what was really done. Many environments in step, one planner call for all.

Fast is a reaction, the inverse model's; slow is a search; both is a search that begins at the reaction. All three answer
with a Plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from foretell.errors import ConfigError, PlanError, ShapeError
from foretell.model.heads import Heads
from foretell.model.world_model import WorldModel
from foretell.plan.candidates import Judged, order
from foretell.plan.costs import Cost
from foretell.plan.planners import CEMConfig, Judge, Plan, PlannerConfig, make_plan, shifted

Excess = Callable[[Tensor, Tensor], Tensor]
"""Latents (B, S, T, P, D), actions (B, S, T, A') -> by how much constraints are broken (B, S), 0: not at all."""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """How an agent makes up its mind."""

    mode: Literal["fast", "slow", "both"] = "both"
    """fast: what the inverse model says. slow: search. both: search from what the inverse model says."""
    planner: PlannerConfig = field(default_factory=CEMConfig)
    """How it searches."""
    horizon: int = 5
    """Steps of the model that a plan looks ahead."""
    every: int = 1
    """Steps of a plan that are done before the next one is made; what is done of it is never more than the horizon."""

    def __post_init__(self) -> None:
        if not 1 <= self.every <= self.horizon:
            got = f"got a plan of {self.horizon} steps, made every {self.every}"
            raise ConfigError(f"agent: {got}; expected 1 or more, and no fewer steps than are done")


class Agent:
    """Acts in B environments at once. In every step of the model: `see`, `propose`, then `did`, whoever decided.

    Where a past is known, it is told the same way, without `propose`. Every frame is encoded once.
    """

    def __init__(
        self, model: WorldModel, config: AgentConfig, generator: torch.Generator, heads: Heads | None = None
    ) -> None:
        """Raises ConfigError if the model only watches, or if a reaction is asked for and there are no heads."""
        if model.config.actions is None:
            raise ConfigError("agent: this model only watches: train one that acts, with --preset act")
        if config.mode != "slow" and heads is None:
            raise ConfigError(f"agent: mode {config.mode} needs the model's inverse model, got no heads; use mode slow")
        self.model, self.config, self.generator, self.heads = model.eval(), config, generator, heads
        self.actions = model.config.actions
        self.low, self.high = self.actions.low, self.actions.high
        """Least and greatest values of a block (A',); a guard may narrow them."""
        self.follow: Callable[[Tensor], Tensor] = _as_it_is
        """What is done if blocks (B, S, T, A') are asked for; a guard may slow them. Plans are judged and given so."""
        self.begin(0)

    def begin(self, batch: int) -> None:
        """Forget everything: `batch` environments begin."""
        self.memory = self.model.predictor.start(batch)
        self.latents: Tensor | None = None
        self.plan: Plan | None = None
        self.done = 0  # steps of the plan that were done

    @torch.no_grad()
    def encode(self, frames: np.ndarray) -> Tensor:
        """Frames uint8 (B, H, W, 3) -> latents (B, P, D). Raises ShapeError if the size is not the view's."""
        batch = torch.from_numpy(np.ascontiguousarray(frames))
        return self.model.encode(rearrange(batch, "b h w c -> b 1 c h w"))[:, 0].float()

    def see(self, frames: np.ndarray) -> None:
        """What all environments look like now, uint8 (B, H, W, 3). Raises ShapeError."""
        if len(frames) != len(self.memory):
            raise ShapeError(f"agent: got frames of {len(frames)} environments, expected {len(self.memory)}")
        self.latents = self.encode(frames)

    @torch.no_grad()
    def propose(self, cost: Cost, goal: Tensor | None = None, excess: Excess | None = None) -> Plan:
        """What to do from here on: blocks (B, T, A'), the first of which comes next.

        cost: of what is imagined. goal (B, P, D): latents to react towards; mode slow needs none. excess: constraints.
        While the last plan has steps left to do, it is the answer, and nothing is evaluated. Raises PlanError if nothing
        finite can be said.
        """
        if self.plan is not None and 0 < self.done < self.config.every:
            return Plan(shifted(self.plan.actions, self.done), self.plan.cost, self.plan.excess, 0)
        warm = None if self.plan is None else shifted(self.plan.actions, self.done)
        judge = self.judge(cost, excess)
        if self.config.mode == "slow":
            self.plan = self._search(judge, warm)
        else:
            reaction = self.reaction(goal)
            proposals = [reaction] if warm is None or self.config.mode == "fast" else [reaction, warm]
            self.plan = _best_of(torch.stack(proposals, 1), judge)
            if self.config.mode == "both":
                found = self._search(judge, self.plan.actions)
                self.plan = found._replace(evaluated=found.evaluated + self.plan.evaluated)
        self.plan = self.plan._replace(actions=self.follow(self.plan.actions[:, None])[:, 0])
        self.done = 0
        return self.plan

    @torch.no_grad()
    def did(self, blocks: Tensor) -> None:
        """What was really done in this step, (B, A') in the world's units, whether it was proposed or not."""
        assert self.latents is not None, "nothing was seen"
        _, self.memory = self.model.go_on(self.latents[:, None], self.memory, blocks[:, None])
        self.done += 1

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these of the environments alone (indices)."""
        at = torch.from_numpy(rows)
        self.memory = self.memory[at]
        self.latents = None if self.latents is None else self.latents[at]
        if self.plan is not None:
            self.plan = Plan(self.plan.actions[at], self.plan.cost[at], self.plan.excess[at], self.plan.evaluated)

    def imagine(self, actions: Tensor) -> Tensor:
        """What follows from here if this is done: (B, S, T, A') -> latents (B, S, T, P, D)."""
        assert self.latents is not None, "nothing was seen"
        samples = actions.shape[1]
        latents, memory = (repeat(x, "b ... -> (b s) ...", s=samples) for x in (self.latents, self.memory))
        said = self.model.imagine(latents, memory, rearrange(actions, "b s t a -> (b s) t a"))
        return rearrange(said, "(b s) t p d -> b s t p d", s=samples)

    def judge(self, cost: Cost, excess: Excess | None = None) -> Judge:
        """Judges candidates by what is imagined from here of what is done if they are asked for."""

        def judged(asked: Tensor) -> Judged:
            actions = self.follow(asked)
            imagined = self.imagine(actions)
            price = cost(imagined, actions)
            return Judged(price, torch.zeros_like(price) if excess is None else excess(imagined, actions))

        return judged

    @torch.no_grad()
    def reaction(self, goal: Tensor | None) -> Tensor:
        """What the inverse model would do, rolled in imagination: (B, T, A').

        How far the goal is, is asked anew at each step. Raises ConfigError without heads or a goal.
        """
        if goal is None or self.heads is None:
            raise ConfigError("agent: a reaction needs heads and the latents of a goal (B, P, D); use mode slow")
        assert self.latents is not None, "nothing was seen"
        now, memory, blocks = self.latents, self.memory, []
        for _ in range(self.config.horizon):
            left = self.heads.reach(now, goal).round().clamp_min(1)
            blocks.append(self._possible(self.heads.inverse(now, goal, left)))
            foretold, memory = self.model.go_on(now[:, None], memory, blocks[-1][:, None])
            now = foretold.next[:, 0]
        return torch.stack(blocks, 1)

    def _search(self, judge: Judge, warm: Tensor | None) -> Plan:
        return make_plan(
            self.config.planner,
            judge,
            self.low,
            self.high,
            batch=len(self.memory),
            horizon=self.config.horizon,
            generator=self.generator,
            warm=warm,
        )

    def _possible(self, blocks: Tensor) -> Tensor:
        """Blocks (B, A') within the limits; of a discrete space, the choice that was meant most."""
        if not self.actions.space.discrete:
            return blocks.clamp(self.low, self.high)
        choices = rearrange(blocks, "b (k a) -> b k a", k=self.actions.skip)
        chosen = torch.nn.functional.one_hot(choices.argmax(-1), choices.shape[-1])
        return rearrange(chosen.to(blocks.dtype), "b k a -> b (k a)")


def _as_it_is(blocks: Tensor) -> Tensor:
    return blocks


def _best_of(proposals: Tensor, judge: Judge) -> Plan:
    """The best of a few proposals (B, S, T, A'), as a plan. Raises PlanError if none has a finite cost."""
    judged = judge(proposals)
    bad = ~(judged.cost.isfinite() & judged.excess.isfinite() & proposals.isfinite().all(-1).all(-1))
    cost, excess = judged.cost.masked_fill(bad, torch.inf), judged.excess.masked_fill(bad, torch.inf)
    rows, first = torch.arange(len(cost)), order(Judged(cost, excess))[:, 0]
    plan = Plan(proposals[rows, first], cost[rows, first], excess[rows, first], proposals.shape[1])
    if not plan.cost.isfinite().all():
        lost = (~plan.cost.isfinite()).nonzero().flatten().tolist()
        raise PlanError(
            f"agent: no reaction has a finite cost, in environments {lost[:8]}: look for NaN in what was seen"
        )
    return plan
