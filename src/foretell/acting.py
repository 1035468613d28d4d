"""The verbs of acting: evaluate planning, plan, what-if, audit."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from foretell.plan.rehearse import rehearsed_margin
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
    guardrails: Path | None = None,
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
        guardrails: A toml file: the agent also acts behind these, in the usual looks and in the changed ones.
        size: Pixels of a side.
        layout: Rooms: how many of them.
        hazards: Rooms: discs that must not be entered.
        varied: Rooms: wall, door and hazards lie elsewhere in each episode.
    """
    one_thread()
    folder = Path(model)
    acted = _world(world, size, layout, hazards, varied, folder)
    looks = {
        name: _world(world, size, layout, hazards, varied, folder, **shift)
        for name, shift in (SHIFTS.items() if changed_looks else ())
    }
    agent = AgentConfig(mode=mode, planner=_planner(planner, acted))
    rails = None if guardrails is None else Guardrails.load(Path(guardrails))

    def behind(actor: AgentActor) -> GuardedActor:
        assert rails is not None
        return guarded(folder, acted, rails, actor)

    config = PlanningConfig(
        tasks=TaskConfig(episodes=episodes, goal_ahead=goal_ahead, budget=budget, frames=_frames(goal_ahead)),
        agent=agent,
        planner_seeds=planner_seeds,
    )
    guard = None if rails is None else behind
    return evaluate_in(acted, folder, Path(out), config, command=_command(), changed=looks, behind=guard)


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
    rehearse: int = 0,
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
        guardrails: A toml file, such as examples/guardrails.toml; docs/guardrails.md explains it.
        world: rooms, pusht or gym:ENV_ID.
        episodes: Tasks, one after the other.
        seed: Of tasks and planner.
        goal_ahead: Frames from start to goal in the episode that a task comes from.
        budget: Steps in which the goal must be reached.
        planner: How it searches; categorical for discrete actions.
        mode: fast: what the inverse model says; slow: search; both: search from there.
        margin: margin.json of an earlier run, whose margins to keep to.
        rehearse: So many plans are first carried out in the simulator, and the margins calibrated on them: planners seek
            what a model gets wrong.
        size: Pixels of a side.
        layout: Rooms: how many of them.
        hazards: Rooms: discs that must not be entered.
        varied: Rooms: wall, door and hazards lie elsewhere in each episode.
    """
    one_thread()
    acted, folder, out = _world(world, size, layout, hazards, varied, model=Path(model)), Path(model), Path(out)
    agent = AgentConfig(mode=mode, planner=_planner(planner, acted))
    rails = Guardrails.load(Path(guardrails))
    model_of = load_model(folder)
    heads, _ = load_heads(folder, model_of)
    check_fits(model_of, acted)
    inner = AgentActor(one_agent(model_of, heads, agent, seed), "blend", "sum")
    actor = guarded(folder, acted, rails, inner, Margin.load(Path(margin)) if margin else None)
    tasks = TaskConfig(
        episodes=episodes, goal_ahead=goal_ahead, budget=budget, frames=_frames(goal_ahead), seed=TASKS + seed
    )
    if rehearse:
        aside = draw_tasks(acted, replace(tasks, episodes=rehearse, seed=REHEARSALS + seed)).tasks
        actor = guarded(folder, acted, rails, inner, rehearsed_margin(actor, acted, aside))
    return carry_out(folder, acted, actor, draw_tasks(acted, tasks).tasks, budget, out)


def guarded(
    folder: Path, world: ActWorld, rails: Guardrails, inner: AgentActor, margin: Margin | None = None
) -> GuardedActor:
    """A model folder's agent behind guardrails. Margins come from clips set aside in training unless given.

    Raises ConfigError if world, model and guardrails do not fit each other, CalibrationError for too few clips.
    """
    heads, errors = load_heads(folder, inner.agent.model)
    acts = inner.agent.actions
    if rails.delta is not None and margin is None:
        asked = Constraints(rails, heads.quantities)
        margin = calibrate_margin(asked, errors.now, errors.foretold, errors.between, rails.delta, "recorded")
    surprises = errors.surprises.numpy()
    guard = Guard(rails, acts, world.actions, heads.quantities, surprises=surprises, margin=margin)
    return GuardedActor(inner, guard, errors.precision)


def carry_out(
    folder: Path, world: ActWorld, actor: GuardedActor, tasks: Sequence[Task], budget: int, out: Path
) -> RunSummary:
    """Act in the tasks one after another; write the log, the film, the page and the margins."""
    witness, guard = Witness(actor), actor.guard
    header = guard.stated | {"model": read_config(folder)["sha256"], "world": repr(world), "command": _command()}
    with DecisionLog(out / "decisions.jsonl", header) as log:
        guard.log = log
        reached = [int(run_tasks(world, [task], witness, budget).reached[0]) for task in tasks]
    if guard.margin is not None:
        guard.margin.save(out / MARGIN)
    notes: list[str] = []
    kept = fitted_decoder(folder, actor.agent.model, tasks[0].seen, None, notes)
    shown = [Episode(steps=witness.shown(n, kept.decoder.decode), reached=when) for n, when in enumerate(reached)]
    found, margin = audit_log(out / "decisions.jsonl"), guard.margin
    facts = {
        "Model": str(folder),
        "World": repr(world),
        "Margins": "no constraints"
        if margin is None
        else f"{margin.plans} {margin.source} plans, delta {margin.delta:g}",
        "Decoder": f"fitted on {kept.fitted_on}",
    }
    page = write_run(out, shown, guard.quantities, found, facts, world.fps / actor.skip)
    return RunSummary(
        page=page, reached=sum(when > 0 for when in reached), episodes=len(tasks), audit=found, notes=notes
    )


TASKS, REHEARSALS = 91_000_001, 92_000_001
"""Seeds of the recordings that tasks of `plan` and its rehearsals come from; those of `evaluate planning` come from another."""


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


def _planner(name: PlannerName, world: ActWorld) -> PlannerConfig:
    """How to search among a world's actions. Raises ConfigError if they are choices and the planner's are not."""
    if world.actions.discrete != (name == "categorical"):
        kind = "one of several choices" if world.actions.discrete else "numbers"
        raise ConfigError(
            f"planner {name}: the actions of {world!r} are {kind}; categorical is for choices, the rest for numbers"
        )
    return CategoricalConfig(choices=world.actions.width) if world.actions.discrete else PLANNERS[name]


def _frames(goal_ahead: int) -> int:
    """Frames of the episodes that tasks come from."""
    return max(100, 2 * goal_ahead + 40)


def _world(name: str, size: int, layout: str, hazards: int, varied: bool, model: Path, **more: Any) -> ActWorld:
    """A world by name; options that it does not read are an error where they were set. Raises ConfigError."""
    of_rooms = {"layout": layout, "hazards": hazards, "varied": varied} | more
    if name == "rooms":
        return acted_world(name, {"size": size} | of_rooms)
    if more or of_rooms != {"layout": "two", "hazards": 0, "varied": False}:
        raise ConfigError(f"{name}: it does not read --layout, --hazards, --varied or --changed-looks; leave them out")
    if name == "pusht":
        return acted_world(name, {"size": size, "judge": "pose"})  # what is asked for in the field
    if name.startswith("gym:"):
        heads, _ = load_heads(model, load_model(model))
        if heads.probe is None:
            raise ConfigError(
                f"{name}: nobody told this model true states, so success cannot be judged: record it again"
            )
        return acted_world(name, {"size": size, "spread": tuple(heads.probe.std.tolist())})
    return acted_world(name, {"size": size})


def _command() -> str:
    return shlex.join(["foretell", *sys.argv[1:]])
