"""The guard stands between a planner and the world. What it sends is the plan, or, at any doubt, the fallback.

In this order: what is seen (watchdog.py); then the planner, timed; then its plan: whole, finite, feasible, limits,
constraints with their margin; last of all, hard limits again on the very numbers that are sent. A plan is carried out as it
is or not at all: nothing is clipped, and no infeasible plan is ever the best of a bad lot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.actions import ActionSpace
from foretell.errors import CalibrationError, PlanError, ShapeError
from foretell.model.actions import ActionConfig
from foretell.plan.constraints import SAFER, Constraints, allowed, rate_excess, state_excess, within_rate
from foretell.plan.costs import Read
from foretell.plan.decisions import Decision, DecisionLog, Reason
from foretell.plan.guardrails import Guardrails
from foretell.plan.limits import Actions, HardLimits
from foretell.plan.margin import Margin
from foretell.plan.watchdog import Seen, Watch


class Proposal(NamedTuple):
    """What a planner says to do in B environments."""

    actions: Tensor  # (B, T, skip * A), blocks
    cost: Tensor  # (B,)
    excess: Tensor  # (B,) by how much it breaks constraints, as the planner knows
    quantities: Tensor  # (B, T, Q) as probed from what is imagined after each step of it


class Guard:
    """Guards B environments in step. `begin`, then `decide` in every step of the model; what it decides is what is done."""

    def __init__(
        self,
        guardrails: Guardrails,
        actions: ActionConfig,
        world: ActionSpace,
        quantities: tuple[str, ...],
        *,
        surprises: np.ndarray,
        margin: Margin | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """actions: the model's; world: of the world it acts in; quantities: names of what the probe reads.

        surprises (N,): largest strangeness in each calibration episode. margin: for guardrails that have constraints.
        Raises ConfigError or CalibrationError if any of these do not fit each other: then nothing is done.
        """
        actions.must_match(world, "guardrails")
        self.guardrails, self.actions, self.clock = guardrails, actions, clock
        self.limits = HardLimits(guardrails, world)
        self.constraints = Constraints(guardrails, quantities)
        self.quantities, self.watch = quantities, Watch(guardrails, surprises)
        self.margin = _fitting_margin(guardrails, self.constraints, margin)
        self.log: DecisionLog | None = None
        """Where every decision goes; give it `stated` and the sums of model and heads as header."""
        self.begin(0)

    @property
    def block_limits(self) -> tuple[Tensor, Tensor]:
        """Least and greatest values of a block, (skip * A) each, for the planner; float32 rounded inwards."""
        low, high = torch.from_numpy(self.limits.low), torch.from_numpy(self.limits.high)
        return low.repeat(self.actions.skip), high.repeat(self.actions.skip)

    @property
    def stated(self) -> dict[str, Any]:
        """What decisions rest on, for the header of a log."""
        return {
            "guardrails": self.guardrails.settings,
            "guardrails_sum": self.guardrails.sum,
            "margin": None if self.margin is None else asdict(self.margin),
            "quantities": list(self.quantities),
            "skip": self.actions.skip,
        }

    def begin(self, batch: int, last: np.ndarray | None = None) -> None:
        """`batch` environments begin, all doubts forgotten. last (B, A): what was done just before; at rest unless given.

        Raises ConfigError if that breaks the limits: from there no way back is known.
        """
        self.last: Actions = np.tile(self.limits.rest, (batch, 1)) if last is None else np.array(last, np.float32)
        self.limits.check_last(self.last, batch)
        self.watch.begin(batch)
        self.step, self.rows, self.stopped = 0, np.arange(batch), np.zeros(batch, bool)
        self._done, self._deadline = np.zeros(batch), np.inf
        self._now = torch.zeros(batch, len(self.quantities), dtype=torch.float64)

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these of the environments alone (indices)."""
        self.watch.keep(rows)
        self.last, self.rows, self.stopped, self._done = (
            x[rows] for x in (self.last, self.rows, self.stopped, self._done)
        )
        self._now = self._now[torch.from_numpy(rows)]

    def excess(self, read: Read) -> Callable[[Tensor, Tensor], Tensor]:
        """For the planner, inside `decide`: latents (B, S, T, P, D), blocks (B, S, T, skip * A) -> excess (B, S), 0 or more.

        read: the probe. It raises PlanError once the time for a plan is over, so that a slow search ends within a round.
        """
        last, rate = torch.from_numpy(self.last.copy()), torch.from_numpy(self.limits.rate)

        def broken(latents: Tensor, blocks: Tensor) -> Tensor:
            if self.clock() > self._deadline:
                raise PlanError(f"plan: took more than {self.guardrails.watchdog.plan_seconds:g} s, and was ended")
            too_fast = rate_excess(blocks, last.to(blocks.device), rate)
            if not self.constraints.names:
                return too_fast
            said = read(latents)
            now = self._now.to(said)[:, None].expand(-1, said.shape[1], -1)
            g = self.constraints.between(now, said, self.actions.skip)
            return too_fast + state_excess(g, self._most(self._now, SAFER * self._room(g.shape[-2])).to(g))

        return broken

    def follow(self, blocks: Tensor) -> Tensor:
        """Blocks (B, S, T, skip * A) or (B, T, skip * A) as slow as rates ask for, nearest to these: for the planner."""
        last = torch.from_numpy(self.last.reshape(len(self.last), *[1] * (blocks.ndim - 3), -1).copy()).to(blocks)
        low, high, rate = (torch.from_numpy(x) for x in (self.limits.low, self.limits.high, self.limits.rate))
        return within_rate(blocks, last, rate.to(blocks.device), low.to(blocks), high.to(blocks))

    def decide(self, seen: Seen, propose: Callable[[], Proposal]) -> list[Decision]:
        """What to do in each environment now. `propose` is not asked if all are in doubt.

        Raises ShapeError if what is seen is not of B environments, DataError if the log cannot be written, in which case
        nothing may be done.
        """
        start, expected = self.clock(), (len(self.rows), len(self.quantities))
        if seen.quantities.shape != expected:
            raise ShapeError(f"guard: got quantities {tuple(seen.quantities.shape)}, expected (B, Q), here {expected}")
        self._now = seen.quantities.detach().cpu().double().clone()
        doubts = self.watch.doubts(seen, start, self._done)
        for row in np.flatnonzero(self.stopped):
            doubts[row].append(Reason("stopped", "a doubt stopped this run: begin anew when it is understood"))
        asked = not all(doubts)
        proposal, vetoes = self._asked(propose, start) if asked else (None, [[] for _ in doubts])
        seconds = self.clock() - start if asked else 0.0
        decisions = [
            self._decided(row, proposal, doubts[row], vetoes[row], seconds, start) for row in range(len(doubts))
        ]
        if self.log is not None:
            for decision in decisions:
                self.log.write(decision)
        self.step += 1
        return decisions

    def _asked(self, propose: Callable[[], Proposal], start: float) -> tuple[Proposal | None, list[list[Reason]]]:
        """A proposal that can be read, and what is against it in each environment."""
        batch, allowed = len(self.rows), self.guardrails.watchdog.plan_seconds
        self._deadline = start + allowed
        try:
            proposal = propose()
            vetoes = self._vetoes(proposal)
        except Exception as error:  # whatever a planner dies of, the world goes on
            kind = "late plan" if self.clock() > self._deadline else "no plan"
            against = Reason(kind, f"the planner gave none ({type(error).__name__}: {error})")
            return None, [[against] for _ in range(batch)]
        finally:
            late = self.clock() - start
            self._deadline = np.inf
        if late > allowed:
            for reasons in vetoes:
                reasons.append(Reason("late plan", f"the plan took {late:.3g} s, at most {allowed:g} s are allowed"))
        return proposal, vetoes

    def _vetoes(self, proposal: Proposal) -> list[list[Reason]]:
        """What is against each of B plans."""
        batch, steps = len(self.rows), proposal.actions.shape[1]
        expected = ((batch, steps, self.actions.width), (batch,), (batch,), (batch, steps, len(self.quantities)))
        got = tuple(tuple(part.shape) for part in proposal)
        if got != expected or not steps:
            raise ShapeError(f"guard: got actions, cost, excess and quantities {got}, expected {expected}")
        self._room(steps)
        return [self._against(_row(proposal, row), row) for row in range(batch)]

    def _against(self, plan: Proposal, row: int) -> list[Reason]:
        """What is against the plan of one environment."""
        last = self.last[row]
        lost = [name for name, numbers in plan._asdict().items() if not numbers.isfinite().all()]
        if lost:
            return [Reason("not finite", f"{' and '.join(lost)} of the plan are not finite")]
        found = self.limits.against(_actions_of(plan.actions, len(last)), last)
        if plan.excess > 0:
            words = f"the best that was found breaks constraints by {float(plan.excess):.3g}"
            found.append(Reason("no feasible plan", words))
        for name, worst, at in self._too_near(self._short(row, plan.quantities)):
            found.append(Reason("constraint", f"{name}: short by {worst:.3g} in step {at + 1}, margin counted"))
        return found

    def _too_near(self, short: Tensor) -> list[tuple[str, float, int]]:
        """Constraints that come too near, from what `_short` says: name, by how much, at which step."""
        worst, at = short.max(0) if short.numel() else (short.new_zeros(0), short.new_zeros(0))
        return [
            (name, float(most), int(step))
            for name, most, step in zip(self.constraints.names, worst, at, strict=True)
            if not most <= 0
        ]

    def _short(self, row: int, quantities: Tensor) -> Tensor:
        """Quantities (T, Q) foretold -> how much nearer each step comes than is allowed (T, K): above 0 is too near."""
        g = self.constraints.between(self._now[row], quantities.double(), self.actions.skip)
        return g - self._most(self._now[row], self._room(len(quantities)))

    def _most(self, now: Tensor, room: Tensor) -> Tensor:
        """Greatest g that is allowed of each step, from quantities now (..., Q) and room (T, K): (..., T, K)."""
        return allowed(self.constraints.g(now), room, self.guardrails.fallback.retreat)

    def _room(self, steps: int) -> Tensor:
        """Margins of so many steps (T, K). Raises CalibrationError if they are not known for so many."""
        if self.margin is None:
            return torch.zeros(steps, 0, dtype=torch.float64)
        if steps > self.margin.steps:
            raise CalibrationError(f"guard: got a plan of {steps} steps, margins are known for {self.margin.steps}")
        return torch.tensor(self.margin.room[:steps], dtype=torch.float64)

    def _decided(
        self,
        row: int,
        proposal: Proposal | None,
        doubts: list[Reason],
        vetoes: list[Reason],
        seconds: float,
        now: float,
    ) -> Decision:
        """Plan or fallback; from here on it counts as done."""
        last, status = self.last[row].copy(), cast(Literal["plan", "fallback"], "fallback")
        if proposal is not None and not doubts and not vetoes:
            action = _actions_of(proposal.actions[row, :1].detach().cpu(), len(last))
            vetoes = self.limits.against(action, last)
            status = "fallback" if vetoes else "plan"
        if status == "fallback":
            action = self.limits.fallback(last, self.actions.skip)
            self.stopped[row] |= self.guardrails.fallback.kind == "stop"
            if self.limits.against(action, last):
                raise PlanError("guard: the fallback itself breaks the limits, nothing may be done")
        self._done[row], self.last[row] = self.limits.share(action), action[-1]
        foreseen = proposal.quantities[row].detach().cpu().double() if proposal is not None else torch.zeros(0, 0)
        g = self.constraints.g(self._now[row])
        short = self._short(row, foreseen) if len(foreseen) else foreseen
        near = g + self._room(1)[0] > 0
        return Decision(
            step=self.step,
            environment=int(self.rows[row]),
            time=now,
            action=action,
            status=status,
            doubts=tuple(doubts),
            vetoes=tuple(vetoes),
            seen=tuple(self._now[row].tolist()),
            broken=tuple(name for name, excess in zip(self.constraints.names, g.tolist(), strict=True) if excess > 0),
            foreseen=tuple(map(tuple, foreseen.tolist())),
            room=-float(short.max()) if short.numel() else None,
            retreat=status == "plan" and bool(near.any()),
            seconds=seconds,
        )


def _row(proposal: Proposal, row: int) -> Proposal:
    """The proposal for one environment, without B."""
    return Proposal(*(part[row].detach().cpu() for part in proposal))


def _actions_of(blocks: Tensor, width: int) -> Actions:
    """Blocks (T, skip * A) -> single actions float32 (T * skip, A)."""
    return np.array(rearrange(blocks.float().numpy(), "t (k a) -> (t k) a", a=width))


def _fitting_margin(guardrails: Guardrails, constraints: Constraints, margin: Margin | None) -> Margin | None:
    if guardrails.delta is None:
        return None
    if margin is None:
        raise CalibrationError(
            "guard: constraints and no margins: calibrate them (calibrate_margin) on this model first"
        )
    if margin.constraints != constraints.names or margin.delta > guardrails.delta:
        got = f"margins for delta {margin.delta:g} of {list(margin.constraints)}"
        expected = f"delta {guardrails.delta:g} of {list(constraints.names)}"
        raise CalibrationError(f"guard: got {got}, expected {expected}: calibrate them again with these guardrails")
    return margin
