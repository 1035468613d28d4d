"""Plans tried out to the end in a simulator: planners seek what a model gets wrong, and margins must know by how much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from foretell.errors import CalibrationError
from foretell.plan.episodes import Task, begin_task
from foretell.plan.guarded import GuardedActor
from foretell.plan.margin import Margin, calibrate_margin
from foretell.worlds.world import ActWorld


def rehearsed_margin(actor: GuardedActor, world: ActWorld, tasks: Sequence[Task]) -> Margin:
    """Margins of the plans that an agent behind a guard makes at the start of each task.

    The guard has margins of recorded plans; those that it allows are carried out for their whole horizon, whatever would
    be seen on the way. Raises CalibrationError if there are no constraints, or if too few plans are allowed for delta.
    """
    delta = actor.guard.guardrails.delta
    if delta is None:
        raise CalibrationError("rehearse: the guardrails have no constraints, so there are no margins to calibrate")
    now, foretold, frames = rehearse(actor, world, tasks)
    skip = actor.guard.actions.skip
    assert frames.shape[1] == skip * foretold.shape[1]
    return calibrate_margin(actor.guard.constraints, now, foretold, frames, delta, "planned")


def rehearse(actor: GuardedActor, world: ActWorld, tasks: Sequence[Task]) -> tuple[Tensor, Tensor, Tensor]:
    """Quantities of M plans: as probed at their start (M, Q), as foretold (M, T, Q), as they truly came (M, T * skip, Q).

    Raises CalibrationError if the world tells other quantities than the probe reads.
    """
    if tuple(world.quantities) != actor.guard.quantities:
        got = f"the world tells {world.quantities}, the probe reads {actor.guard.quantities}"
        raise CalibrationError(f"rehearse: {got}: train on a recording of this world")
    worlds = [begin_task(world, task) for task in tasks]
    actor.begin(worlds, tasks)
    actor.act(np.arange(len(tasks)), np.stack([one.render() for one in worlds]))
    plan = actor.agent.plan
    now, foretold, frames = [], [], []
    for row, decision in enumerate(actor.decisions):
        if decision.status != "plan" or plan is None:
            continue
        actions = plan.actions[row].reshape(-1, world.actions.width).numpy()
        now.append(torch.tensor(decision.seen))
        foretold.append(torch.tensor(decision.foreseen))
        frames.append(torch.from_numpy(_path(worlds[row], actions)))
    if not now:
        raise CalibrationError("rehearse: no plan was allowed: look at the reasons in decisions.jsonl of a run")
    return torch.stack(now), torch.stack(foretold), torch.stack(frames)


def _path(world: ActWorld, actions: np.ndarray) -> np.ndarray:
    """The states (N, Q) after each of N actions."""
    states = []
    for action in actions:
        world.step(action)
        states.append(world.state())
    return np.stack(states)
