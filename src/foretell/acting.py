"""The verbs of acting: evaluate planning, plan, what-if, audit."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tyro.conf import Positional

from foretell.errors import ConfigError
from foretell.model.folder import load_model, read_config
from foretell.model.heads import load_heads
from foretell.plan.actors import AgentActor
from foretell.plan.agent import AgentConfig
from foretell.plan.constraints import Constraints
from foretell.plan.decisions import Audit, DecisionLog
from foretell.plan.decisions import audit as audit_log
from foretell.plan.episodes import Acts, Task, TaskConfig, draw_tasks, run_tasks
from foretell.plan.guard import Guard
from foretell.plan.guarded import GuardedActor
from foretell.plan.guardrails import Guardrails
from foretell.plan.margin import Margin, calibrate_margin
from foretell.plan.planners import PlannerConfig
from foretell.plan.refine import CategoricalConfig, CEMConfig, GradientConfig, ICEMConfig, MPPIConfig
from foretell.planning import PlanningConfig, PlanningSummary, check_fits, evaluate_in, one_agent
from foretell.serve.fitted import fitted_decoder
from foretell.serve.run_report import Episode, Step, write_run
from foretell.serve.what_if import what_if
from foretell.verbs import one_thread
from foretell.worlds.named import acted_world
from foretell.worlds.rooms import SHIFTS
from foretell.worlds.world import ActWorld

__all__ = ["audit", "evaluate_planning", "plan", "what_if"]

PlannerName = Literal["cem", "icem", "mppi", "gradient", "categorical"]
PLANNERS: dict[str, PlannerConfig] = {
    "cem": CEMConfig(),
    "icem": ICEMConfig(),
    "mppi": MPPIConfig(),
    "gradient": GradientConfig(),
    "categorical": CategoricalConfig(),
}
MARGIN = "margin.json"
"""In a run's folder: the margins that it kept to."""


def evaluate_planning(
    model: Positional[Path],
    out: Path = Path("result.json"),
    *,
    world: str = "rooms",
    episodes: int = 100,
    goal_ahead: int = 25,
    budget: int = 50,
    planner: PlannerName = "cem",
    mode: Literal["fast", "slow", "both"] = "both",
    planner_seeds: int = 1,
    changed_looks: bool = False,
    size: int = 64,
    layout: Literal["two", "four"] = "two",
    hazards: int = 0,
    varied: bool = False,
) -> PlanningSummary:
    """Evaluate how a model plans: goals from episodes never seen, solved starts removed, floors and a ceiling beside it.

    Args:
        model: The folder of a model that acts.
        out: The result file to write.
        world: rooms, pusht or gym:ENV_ID.
        episodes: Tasks, each from an episode of its own.
        goal_ahead: Frames from start to goal in that episode.
        budget: Steps in which the goal must be reached.
        planner: How it searches; categorical for discrete actions.
        mode: fast: what the inverse model says; slow: search; both: search from there. All three stand in the table.
        planner_seeds: How often all that is drawn is drawn anew.
        changed_looks: Rooms: also in colours and sizes that the model has not seen.
        size: Pixels of a side.
        layout: Rooms: how many of them.
        hazards: Rooms: discs that must not be entered.
        varied: Rooms: wall, door and hazards lie elsewhere in each episode.
    """
    one_thread()
    acted = _world(world, size, layout, hazards, varied)
    looks = {
        name: _world(world, size, layout, hazards, varied, **shift)
        for name, shift in (SHIFTS.items() if changed_looks else ())
    }
    config = PlanningConfig(
        tasks=TaskConfig(episodes=episodes, goal_ahead=goal_ahead, budget=budget, frames=max(100, 2 * goal_ahead + 40)),
        agent=AgentConfig(mode=mode, planner=PLANNERS[planner]),
        planner_seeds=planner_seeds,
    )
    return evaluate_in(acted, Path(model), Path(out), config, command=_command(), changed=looks)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A guarded run, as the command line prints it."""

    page: Path
    """The report."""
    reached: int
    """Tasks whose goal was reached."""
    episodes: int
    """Tasks."""
    audit: Audit
    """What the log says."""
    notes: Sequence[str]
    """What must be known."""

    def __str__(self) -> str:
        """In words."""
        head = f"-> {self.page}\n{self.reached} of {self.episodes} goals reached"
        return "\n".join([head, str(self.audit), *(f"note: {note}" for note in self.notes)])


def plan(
    model: Positional[Path],
    out: Path = Path("run"),
    *,
    guardrails: Path,
    world: str = "rooms",
    episodes: int = 5,
    seed: int = 0,
    goal_ahead: int = 25,
    budget: int = 50,
    planner: PlannerName = "cem",
    mode: Literal["fast", "slow", "both"] = "both",
    margin: Path | None = None,
    size: int = 64,
    layout: Literal["two", "four"] = "two",
    hazards: int = 0,
    varied: bool = False,
) -> RunSummary:
    """Plan and act in a world, inside guardrails: a film, a page, and a log of every decision that can be audited.

    Without guardrails nothing is done. Margins for constraints come from clips that were set aside in training, unless
    given.

    Args:
        model: The folder of a model that acts.
        out: Folder to write: decisions.jsonl, run.mp4, report.html, margin.json.
        guardrails: A toml file; docs/guardrails.md has an example.
        world: rooms, pusht or gym:ENV_ID.
        episodes: Tasks, one after the other.
        seed: Of tasks and planner.
        goal_ahead: Frames from start to goal in the episode that a task comes from.
        budget: Steps in which the goal must be reached.
        planner: How it searches; categorical for discrete actions.
        mode: fast: what the inverse model says; slow: search; both: search from there.
        margin: Margins calibrated on plans of this planner (see docs/guardrails.md).
        size: Pixels of a side.
        layout: Rooms: how many of them.
        hazards: Rooms: discs that must not be entered.
        varied: Rooms: wall, door and hazards lie elsewhere in each episode.
    """
    one_thread()
    rails = Guardrails.load(Path(guardrails))
    acted, folder, out = _world(world, size, layout, hazards, varied), Path(model), Path(out)
    steered = load_model(folder)
    heads, errors = load_heads(folder, steered)
    check_fits(steered, acted)
    acts = steered.config.actions
    assert acts is not None
    room: Margin | None = None
    if rails.delta is not None:
        asked = Constraints(rails, heads.quantities)
        room = (
            Margin.load(Path(margin))
            if margin
            else calibrate_margin(asked, errors.now, errors.foretold, errors.between, rails.delta, "recorded")
        )
    guard = Guard(rails, acts, acted.actions, heads.quantities, surprises=errors.surprises.numpy(), margin=room)
    agent = one_agent(steered, heads, AgentConfig(mode=mode, planner=PLANNERS[planner]), seed)
    witness = Witness(GuardedActor(AgentActor(agent, "blend", "sum"), guard, errors.precision))
    frames = max(100, 2 * goal_ahead + 40)
    tasks = draw_tasks(
        acted, TaskConfig(episodes=episodes, goal_ahead=goal_ahead, budget=budget, frames=frames, seed=TASKS + seed)
    )
    header = guard.stated | {"model": read_config(folder)["sha256"], "world": repr(acted), "command": _command()}
    notes: list[str] = []
    reached = []
    with DecisionLog(out / "decisions.jsonl", header) as log:
        guard.log = log
        for task in tasks.tasks:
            reached.append(int(run_tasks(acted, [task], witness, budget).reached[0]))
    if room is not None:
        room.save(out / MARGIN)
    kept = fitted_decoder(folder, steered, tasks.tasks[0].seen, None, notes)
    shown = [
        Episode(steps=witness.shown(number, kept.decoder.decode), reached=when) for number, when in enumerate(reached)
    ]
    found = audit_log(out / "decisions.jsonl")
    facts = {
        "Model": str(folder),
        "World": repr(acted),
        "Guardrails": str(guardrails),
        "Margins": "no constraints"
        if room is None
        else f"{room.source} plans, {room.plans} of them, delta {room.delta:g}",
        "Decoder": f"fitted on {kept.fitted_on}",
    }
    page = write_run(out, shown, heads.quantities, found, facts, acted.fps / acts.skip)
    return RunSummary(page=page, reached=sum(when > 0 for when in reached), episodes=episodes, audit=found, notes=notes)


TASKS = 91_000_001
"""Seed of the recording that tasks of `plan` come from; those of `evaluate planning` come from another."""


class Witness:
    """Stands beside a guarded actor in one environment at a time, and remembers what it saw, foresaw and decided."""

    def __init__(self, actor: GuardedActor) -> None:
        self.actor, self.skip = actor, actor.skip
        self.seen: list[list[np.ndarray]] = []
        self.foreseen: list[list[torch.Tensor]] = []
        self.decided: list[list[Any]] = []
        self.goals: list[np.ndarray] = []

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """The next task begins."""
        self.actor.begin(worlds, tasks)
        self.goals.append(tasks[0].goal_frame)
        for kept in (self.seen, self.foreseen, self.decided):
            kept.append([])

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """As the actor does."""
        acts = self.actor.act(live, frames)
        assert self.actor.foreseen is not None
        self.seen[-1].append(frames[0].copy())
        self.foreseen[-1].append(self.actor.foreseen[0])
        self.decided[-1].append(self.actor.decisions[0])
        return acts

    def shown(self, task: int, decode: Any) -> list[Step]:
        """The steps of a task; `decode`: latents (B, T, P, D) -> uint8 (B, T, 3, H, W)."""
        pictures = decode(torch.stack(self.foreseen[task])[None])[0].permute(0, 2, 3, 1).numpy()
        before = [None, *pictures[:-1]]
        rows = zip(self.seen[task], before, self.decided[task], strict=True)
        return [Step(seen=s, foreseen=f, goal=self.goals[task], decision=d) for s, f, d in rows]


def audit(log: Positional[Path], *, expect: str | None = None) -> Audit:
    """Check a decision log from its first line to its last; list fallbacks, doubts and vetoes.

    Args:
        log: decisions.jsonl of a run.
        expect: The closing hash as it was noted elsewhere when the run ended.
    """
    return audit_log(Path(log), expect=expect)


def _world(name: str, size: int, layout: str, hazards: int, varied: bool, **more: Any) -> ActWorld:
    """A world by name; options that it does not read are an error where they were set. Raises ConfigError."""
    of_rooms = {"layout": layout, "hazards": hazards, "varied": varied} | more
    if name == "rooms":
        return acted_world(name, {"size": size} | of_rooms)
    if more or of_rooms != {"layout": "two", "hazards": 0, "varied": False}:
        raise ConfigError(f"{name}: it does not read --layout, --hazards, --varied or --changed-looks; leave them out")
    return acted_world(name, {"size": size})


def _command() -> str:
    return shlex.join(["foretell", *sys.argv[1:]])
