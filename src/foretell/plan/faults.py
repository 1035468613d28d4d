"""Faults on purpose: what a camera, a model, a planner or a drive may do wrong, to see that the guard notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from foretell.plan.episodes import Acts, Task
from foretell.plan.guarded import GuardedActor
from foretell.plan.planners import Plan
from foretell.worlds.world import ActWorld

Fault = Literal[
    "none",
    "latents not finite",
    "frozen camera",
    "black camera",
    "late camera",
    "planner late",
    "planner dies",
    "colours swapped",
    "actions reversed",
    "actions shrunk",
    "camera moved",
]
DELAY = 2
"""Steps by which a late camera is behind."""
MOVED = 8
"""Pixels by which a camera is turned aside."""
DRIVES: dict[Fault, float] = {"actions reversed": -1.0, "actions shrunk": 0.1}
"""What a faulty drive makes of what it is told: the other way round, or in a unit ten times smaller."""


class FaultyActor:
    """A guarded agent with which something is wrong from the step `onset` on, in every environment."""

    def __init__(self, actor: GuardedActor, fault: Fault, onset: int, step_seconds: float) -> None:
        """onset: step of the model, from 1. step_seconds: that a late camera takes for each step that it is behind."""
        self.actor, self.fault, self.onset, self.step_seconds = actor, fault, onset, step_seconds
        self.skip, self._taken = actor.skip, actor.taken
        self._agent: Any = actor.agent  # whose methods are tampered with
        self._encode, self._propose = actor.agent.encode, actor.agent.propose

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """All is well yet."""
        self._mend()
        self.step = 0
        self.past: list[dict[int, np.ndarray]] = []
        self.actor.begin(worlds, tasks)
        self.fallback_at: np.ndarray = np.full(len(tasks), -1)
        """(n,) steps from onset to the first fallback, 0: in the very step; -1: none came."""
        self.before: np.ndarray = np.zeros(len(tasks), bool)
        """(n,) whether a fallback came before there was any fault."""
        self.seen_wrong: np.ndarray = np.zeros(len(tasks), bool)
        """(n,) whether the episode was still going at onset."""

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """As the guarded agent acts, with the fault."""
        self.past.append(dict(zip(live.tolist(), frames, strict=True)))
        wrong = self.step >= self.onset
        acts = self._act_wrongly(live, frames) if wrong else self.actor.act(live, frames)
        if wrong:
            self.seen_wrong[live] |= self.step == self.onset
            first = live[acts.alarmed & (self.fallback_at[live] < 0)]
            self.fallback_at[first] = self.step - self.onset
        else:
            self.before[live] |= acts.alarmed
        self.step += 1
        return acts

    def _act_wrongly(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        ways: dict[Fault, Callable[[], None]] = {
            "latents not finite": self._spoil_latents,
            "planner late": self._delay_plans,
            "planner dies": self._kill_planner,
            "late camera": self._delay_stamps,
        }
        ways.get(self.fault, lambda: None)()
        acts = self.actor.act(live, self._shown(live, frames))
        self._mend()
        return acts._replace(actions=acts.actions * DRIVES.get(self.fault, 1.0))

    def _shown(self, live: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """What a faulty camera shows."""
        if self.fault == "black camera":
            return np.zeros_like(frames)
        if self.fault in ("frozen camera", "late camera"):
            at = self.onset - 1 if self.fault == "frozen camera" else max(0, self.step - DELAY)
            return np.stack([self.past[at][i] for i in live.tolist()])
        if self.fault == "colours swapped":
            return np.ascontiguousarray(frames[..., ::-1])
        return np.roll(frames, MOVED, axis=2) if self.fault == "camera moved" else frames

    def _spoil_latents(self) -> None:
        def encode(frames: np.ndarray) -> Tensor:
            return self._encode(frames) * float("nan")

        self._agent.encode = encode

    def _delay_plans(self) -> None:
        def propose(*args: Any) -> Plan:
            plan = self._propose(*args)
            limit = self.actor.guard.clock() + self.actor.guard.guardrails.watchdog.plan_seconds
            while self.actor.guard.clock() <= limit:
                pass
            return plan

        self._agent.propose = propose

    def _kill_planner(self) -> None:
        def propose(*args: Any) -> Plan:
            raise RuntimeError("killed on purpose")

        self._agent.propose = propose

    def _delay_stamps(self) -> None:
        self.actor.taken = lambda: self._taken() - DELAY * self.step_seconds

    def _mend(self) -> None:
        self._agent.encode, self._agent.propose = self._encode, self._propose
        self.actor.taken = self._taken
