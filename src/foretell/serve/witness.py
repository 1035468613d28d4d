"""A guarded run from its first task to its page: somebody stands beside the actor, and keeps what it saw, foresaw and decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foretell.model.folder import read_config
from foretell.model.mind import Mind
from foretell.plan.decisions import Audit, Decision, DecisionLog, audit
from foretell.plan.episodes import Acts, Task, run_tasks
from foretell.plan.guard import Guard
from foretell.plan.guarded import GuardedActor
from foretell.plan.set_points import SetPoints
from foretell.serve.fitted import fitted_decoder
from foretell.serve.run_report import Episode, Step, goals_reached, write_run
from foretell.worlds.world import ActWorld

LOG, MARGIN = "decisions.jsonl", "margin.json"
"""In a run's folder: every decision, and the margins that it kept to."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A guarded run, as the command line prints it."""

    page: Path
    """The report."""
    reached: Sequence[int | None]
    """Frames until the goal was reached, of each task; 0: it was not; None: nobody can say."""
    audit: Audit
    """What the log says."""
    notes: Sequence[str]
    """What must be known."""

    def __str__(self) -> str:
        """In words."""
        return "\n".join(
            [f"-> {self.page}", goals_reached(self.reached), str(self.audit), *(f"note: {note}" for note in self.notes)]
        )


class Witness:
    """Stands beside a guarded actor in one environment at a time, and remembers what it saw, foresaw and decided."""

    def __init__(self, actor: GuardedActor) -> None:
        self.actor, self.skip = actor, actor.skip
        self.seen: list[list[np.ndarray]] = []
        self.foreseen: list[list[Tensor]] = []
        self.decided: list[list[Decision]] = []
        self.goals: list[np.ndarray] = []

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """The next task begins."""
        self.actor.begin(worlds, tasks)
        self.goals.append(tasks[0].goal_frame)
        self.seen.append([])
        self.foreseen.append([])
        self.decided.append([])

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """As the actor does."""
        acts = self.actor.act(live, frames)
        assert self.actor.foreseen is not None
        self.seen[-1].append(frames[0].copy())
        self.foreseen[-1].append(self.actor.foreseen[0])
        self.decided[-1].append(self.actor.decisions[0])
        return acts

    def shown(self, task: int, decode: Callable[[Tensor], Tensor], *, goal: bool) -> list[Step]:
        """The steps of a task, with the goal's picture or without; `decode`: latents (B, T, P, D) -> uint8 (B, T, 3, H, W)."""
        pictures = decode(torch.stack(self.foreseen[task])[None])[0].permute(0, 2, 3, 1).numpy()
        before = [None, *pictures[:-1]]
        rows = zip(self.seen[task], before, self.decided[task], strict=True)
        wanted = self.goals[task] if goal else None
        return [Step(seen=s, foreseen=f, goal=wanted, decision=d) for s, f, d in rows]


def carry_out(
    mind: Mind,
    world: ActWorld,
    actor: GuardedActor,
    tasks: Sequence[Task],
    budget: int,
    out: Path,
    *,
    command: str,
    to: SetPoints | None = None,
) -> RunSummary:
    """Act in the tasks one after another; write the log, the margins, the film and the page into `out`.

    to: what the actor is after, if that is not the tasks' goal images. Raises DataError if there is a log already, or if
    nothing can be written.
    """
    witness, guard = Witness(actor), actor.guard
    header = guard.stated | {"model": read_config(mind.folder)["sha256"], "world": repr(world), "command": command}
    header |= {} if to is None else {"to": str(to)}
    with DecisionLog(out / LOG, header) as log:
        guard.log = log
        reached: list[int | None] = [int(run_tasks(world, [task], witness, budget).reached[0]) for task in tasks]
    if guard.margin is not None:
        guard.margin.save(out / MARGIN)
    notes = _errors_noted(witness.decided)
    if unknown := to.unknown_in(world) if to else []:
        reached = [None] * len(tasks)
        notes.append(f"the world does not tell {', '.join(unknown)}: each task was carried on to the end of its budget")
    kept = fitted_decoder(mind.folder, mind.model, tasks[0].seen, None, notes)
    shown = [
        Episode(steps=witness.shown(n, kept.decoder.decode, goal=to is None), reached=when)
        for n, when in enumerate(reached)
    ]
    facts = {
        "Model": str(mind.folder),
        "World": repr(world),
        "Goal": "a picture, and the state that it shows" if to is None else f"{to}, by the true state",
        "Margins": _margins(guard),
        "Decoder": f"fitted on {kept.fitted_on}",
    }
    found = audit(out / LOG)
    page = write_run(out, shown, guard.quantities, found, facts, world.fps / actor.skip)
    return RunSummary(page=page, reached=reached, audit=found, notes=notes)


def _errors_noted(decided: Sequence[Sequence[Decision]]) -> list[str]:
    """What must be said if the planner failed with an error: the fallback then looks like caution, and is a fault."""
    every = [decision for of_task in decided for decision in of_task]
    failed = [reason.words for decision in every for reason in decision.vetoes if reason.kind == "no plan"]
    if not failed:
        return []
    return [f"{len(failed)} of {len(every)} decisions fell back on an error, not on a doubt; the first: {failed[0]}"]


def _margins(guard: Guard) -> str:
    margin = guard.margin
    return "no constraints" if margin is None else f"{margin.plans} {margin.source} plans, delta {margin.delta:g}"
