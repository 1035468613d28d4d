"""Guardrails for tests, and a guard with a clock and things to be seen, all in order until someone breaks them."""

from __future__ import annotations

import math

import numpy as np
import torch

from foretell.data.actions import ActionSpace
from foretell.model.actions import ActionConfig
from foretell.plan.guard import Guard, Proposal
from foretell.plan.guardrails import ActionLimits, Avoid, Fallback, Guardrails, Keep, SurpriseGate, Watchdog
from foretell.plan.margin import Margin
from foretell.plan.watchdog import Seen

SPACE = ActionSpace(low=(-2.0, -2.0), high=(2.0, 2.0))
NAMES = ("x", "y")
SKIP, STEPS = 3, 4


def rails(**changes) -> Guardrails:
    """Those of the Stage."""
    parts = {
        "limits": ActionLimits(low=(-2.0, -2.0), high=(2.0, 2.0), rate=(math.inf, math.inf)),
        "surprise": SurpriseGate(alpha=0.05),
        "watchdog": Watchdog(plan_seconds=0.5, frame_seconds=0.2, frozen_frames=2),
        "fallback": Fallback(kind="hold"),
        "keep": (Keep(quantity="x", max=50.0),),
        "avoid": (Avoid(quantities=("x", "y"), centre=(20.0, 20.0), radius=5.0),),
        "delta": 0.1,
    }
    return Guardrails(**(parts | changes))


def margin_for(rails: Guardrails, room: float = 1.0) -> Margin:
    names = ("x at most 50", "(x, y) 5 or more from (20, 20)")
    return Margin(room=((room, room),) * STEPS, delta=0.1, plans=40, source="planned", constraints=names)


class Stage:
    """A guard with a clock, and things to be seen that are all in order until someone breaks them."""

    def __init__(self, batch: int = 2, **changes) -> None:
        self.time, self.batch, self.asked = 100.0, batch, 0
        rails_now = rails(**changes)
        actions = ActionConfig(space=SPACE, skip=SKIP, mean=(0.0, 0.0), std=(1.0, 1.0))
        self.guard = Guard(
            rails_now,
            actions,
            SPACE,
            NAMES,
            surprises=np.arange(1.0, 40.0),
            margin=margin_for(rails_now) if rails_now.delta else None,
            clock=lambda: self.time,
        )
        self.guard.begin(batch)
        self.random = np.random.default_rng(0)
        self.torch_random = torch.Generator().manual_seed(0)

    def seen(self, **changes) -> Seen:
        self.time += 1.0
        batch = self.batch
        fine = Seen(
            frames=self.random.integers(0, 256, (batch, 8, 12, 3), np.uint8),
            time=self.time - 0.05,
            latents=torch.randn(batch, 1, 5, generator=self.torch_random),
            quantities=torch.tensor([[10.0, 40.0]] * batch),
            surprise=torch.full((batch,), 3.0),
        )
        return fine._replace(**changes)

    def proposal(self, **changes) -> Proposal:
        batch = self.batch
        fine = Proposal(
            actions=torch.rand(batch, STEPS, SKIP * 2, generator=self.torch_random) * 4 - 2,
            cost=torch.ones(batch),
            excess=torch.zeros(batch),
            quantities=torch.tensor([[[12.0, 40.0], [14.0, 40.0], [16.0, 40.0], [18.0, 40.0]]] * batch),
        )
        return fine._replace(**changes)

    def step(self, seen: Seen | None = None, propose=None):
        def ask() -> Proposal:
            self.asked += 1
            return self.proposal() if propose is None else propose()

        return self.guard.decide(seen or self.seen(), ask)


def guardrails(**changes) -> Guardrails:
    """With one of everything that a file may say."""
    parts = {
        "limits": ActionLimits(low=(-2.0, -1.0), high=(2.0, 1.0), rate=(0.5, math.inf)),
        "surprise": SurpriseGate(alpha=0.05),
        "watchdog": Watchdog(plan_seconds=0.5, frame_seconds=0.2, frozen_frames=2),
        "fallback": Fallback(kind="hold"),
        "keep": (Keep(quantity="x", min=4.0, max=60.0), Keep(quantity="clearance", min=0.0)),
        "avoid": (Avoid(quantities=("x", "y"), centre=(20.0, 30.0), radius=6.0),),
        "delta": 0.1,
    }
    return Guardrails(**(parts | changes))
