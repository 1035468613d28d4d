"""The model's agent behind a guard: it sees, proposes, and does what the guard decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from foretell.errors import ConfigError
from foretell.model.mind import Mind
from foretell.plan.actors import AgentActor
from foretell.plan.constraints import Constraints
from foretell.plan.decisions import Decision
from foretell.plan.episodes import Acts, Task
from foretell.plan.guard import Guard, Proposal
from foretell.plan.guardrails import Guardrails
from foretell.plan.margin import Margin, calibrate_margin
from foretell.plan.watchdog import Seen
from foretell.worlds.world import ActWorld


class GuardedActor:
    """An agent in many environments, each guarded by itself."""

    def __init__(
        self,
        inner: AgentActor,
        guard: Guard,
        strangeness: Callable[[Tensor | None, Tensor], Tensor],
        taken: Callable[[], float] | None = None,
    ) -> None:
        """strangeness: of latents beside what was foreseen (Errors). taken: when a frame was taken, on the guard's clock; now
        unless given.

        Raises ConfigError if the guard watches other quantities than the agent's probe reads.
        """
        heads = inner.agent.heads
        read = () if heads is None else heads.quantities
        if guard.quantities != read:
            raise ConfigError(f"guard: watches {guard.quantities}, the probe reads {read}: build it with the probe's")
        self.inner, self.agent, self.guard, self.strangeness = inner, inner.agent, guard, strangeness
        self.agent.low, self.agent.high = guard.block_limits  # what would be vetoed is not even tried
        self.agent.follow = guard.follow
        self.taken = taken or guard.clock
        self.skip = inner.skip
        self.decisions: list[Decision] = []
        """Of the last step."""

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """Encode goals, take in what was seen and done before the start; the last of it is where rates begin."""
        self.inner.begin(worlds, tasks)
        known = all(len(task.done) for task in tasks)
        self.guard.begin(len(tasks), np.stack([task.done[-1] for task in tasks]) if known else None)
        self.rows = np.arange(len(tasks))
        self.foreseen: Tensor | None = None

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """See, let the guard decide, and do that."""
        kept = np.searchsorted(self.rows, live)
        self.rows = live
        self.agent.keep(kept)
        self.guard.keep(kept)
        before = None if self.foreseen is None else self.foreseen[torch.from_numpy(kept)]
        self.agent.see(frames)
        seen = self._seen(frames, before)
        self._forget_what_is_not_finite()
        self.decisions = self.guard.decide(seen, self._propose)
        actions = np.stack([decision.action for decision in self.decisions])
        blocks = torch.from_numpy(actions).flatten(1)
        self.foreseen = self.agent.imagine(blocks[:, None, None])[:, 0, 0]
        self.agent.did(blocks)
        return Acts(actions, np.array([decision.status == "fallback" for decision in self.decisions]))

    @torch.no_grad()
    def _seen(self, frames: np.ndarray, foreseen: Tensor | None) -> Seen:
        latents = self.agent.latents
        assert latents is not None
        return Seen(frames, self.taken(), latents, self._read(latents), self.strangeness(foreseen, latents))

    @torch.no_grad()
    def _propose(self) -> Proposal:
        plan = self.inner.propose(self.rows, self.guard.excess(self._read))
        imagined = self.agent.imagine(plan.actions[:, None])[:, 0]
        return Proposal(plan.actions, plan.cost, plan.excess, self._read(imagined))

    def _read(self, latents: Tensor) -> Tensor:
        heads = self.agent.heads
        return (
            latents.new_zeros((*latents.shape[:-2], 0))
            if heads is None or heads.probe is None
            else heads.probe(latents)
        )

    def _forget_what_is_not_finite(self) -> None:
        """Where something is not finite, the guard does not plan; but neither may it spoil the plans for the others."""
        latents, memory = self.agent.latents, self.agent.memory
        assert latents is not None
        bad = ~(latents.flatten(1).isfinite().all(1) & memory.flatten(1).isfinite().all(1))
        self.agent.latents = latents.masked_fill(bad[:, None, None], 0)
        self.agent.memory = memory.masked_fill(bad.view(-1, *[1] * (memory.ndim - 1)), 0)


def guarded(
    mind: Mind, world: ActWorld, rails: Guardrails, inner: AgentActor, margin: Margin | None = None
) -> GuardedActor:
    """An agent of this mind behind guardrails. Margins come from clips set aside in training unless given.

    Raises ConfigError if world, model and guardrails do not fit each other, CalibrationError for too few clips.
    """
    errors, quantities = mind.errors, mind.heads.quantities
    if rails.delta is not None and margin is None:
        asked = Constraints(rails, quantities)
        margin = calibrate_margin(asked, errors.now, errors.foretold, errors.between, rails.delta, "recorded")
    acts, surprises = inner.agent.actions, errors.surprises.numpy()
    guard = Guard(rails, acts, world.actions, quantities, surprises=surprises, margin=margin)
    return GuardedActor(inner, guard, errors.strangeness)
