"""What `evaluate planning` does: a model that acts among random and scripted floors and an oracle, on tasks it has never seen."""

from __future__ import annotations

import copy
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from foretell import log
from foretell.errors import ConfigError
from foretell.evals.intervals import Figure, share
from foretell.evals.planning import ahead_of, no_silent_failure, steps_taken, success
from foretell.model.folder import read_config
from foretell.model.mind import Mind
from foretell.model.upper import Upper
from foretell.model.world_model import WorldModel
from foretell.plan.actors import AgentActor, Aim, OracleActor, PolicyActor, difference, image_cost, way_length
from foretell.plan.agent import Agent, AgentConfig
from foretell.plan.costs import Over
from foretell.plan.episodes import Actor, Task, TaskConfig, Tasks, draw_tasks, run_tasks
from foretell.plan.two_levels import TwoLevelsActor, UpperPlanConfig, UpperPlanner
from foretell.worlds.policies import is_scripted
from foretell.worlds.pusht import PushT
from foretell.worlds.rooms import Rooms
from foretell.worlds.world import ActWorld

MODES: tuple[Literal["fast", "slow", "both"], ...] = ("fast", "slow", "both")
TWO_LEVELS = "two levels"
TIMED = 9
"""Plans of one environment that are timed; the median counts."""


@dataclass(frozen=True, kw_only=True)
class PlanningConfig:
    """How much is asked of a model that acts."""

    tasks: TaskConfig = field(default_factory=TaskConfig)
    """Which tasks."""
    agent: AgentConfig = field(default_factory=AgentConfig)
    """How the model's agent makes up its mind; all three modes stand in the table, this one leads it."""
    aim: Aim = "blend"
    """What the goal image asks for: latent, reach or blend."""
    over: Over = "sum"
    """Which imagined steps should be at the goal: last, sum or least."""
    planner_seeds: int = 1
    """How often everything by chance is done anew; for claims 3, with models of 3 training seeds."""
    samples: tuple[int, ...] = (8, 32)
    """Candidates in a round of search, beside those of `agent`: success against compute; none leaves it out."""
    two_levels: UpperPlanConfig | None = None
    """How the upper level of a model that has one searches; its row is of the same agent, after sub-goals. None leaves it out."""
    ceiling: int | None = None
    """Tasks that the oracle gets. Unless given all of them in rooms, and none elsewhere, where each try costs a simulation."""

    def __post_init__(self) -> None:
        if self.planner_seeds < 1 or any(count < 2 for count in self.samples):
            got = f"{self.planner_seeds} planner seeds, samples {self.samples}"
            raise ConfigError(f"evaluate planning: got {got}; expected 1 or more, samples of 2 or more")


@dataclass(frozen=True, kw_only=True)
class PlanningSummary:
    """What was found, as the command line prints it."""

    out: Path
    """The result file."""
    figures: Mapping[str, Figure]
    """Of the model."""
    floors: Mapping[str, Figure]
    """Of whoever else acted."""
    tasks: Tasks
    """What was set."""

    def __str__(self) -> str:
        """A line for each figure."""
        rows = [f"{len(self.tasks.tasks)} tasks; left out: {self.tasks.solved} starts that were solved already"]
        for name, figure in (*self.figures.items(), *self.floors.items()):
            rows.append(
                f"{name:<48} {figure['value']:8.4f}  [{figure['low']:.4f}, {figure['high']:.4f}]  n {figure['n']}"
            )
        return "\n".join([*rows, str(self.out)])


class Runs(dict[str, np.ndarray]):
    """Steps until success (R, N) of each who acted; `seconds` and `alarmed` beside them."""

    def __init__(self, tasks: Sequence[Task], budget: int) -> None:
        super().__init__()
        self.tasks, self.budget = tasks, budget
        self.seconds: dict[str, float] = {}
        self.alarmed: dict[str, np.ndarray] = {}

    def add(self, name: str, world: ActWorld, actors: Sequence[Actor], tasks: Sequence[Task] | None = None) -> None:
        """Let each of R actors act in all tasks."""
        found = [run_tasks(world, self.tasks if tasks is None else tasks, actor, self.budget) for actor in actors]
        self[name] = np.stack([outcomes.reached for outcomes in found])
        self.alarmed[name] = np.stack([outcomes.alarmed for outcomes in found])
        self.seconds[name] = sum(o.seconds for o in found) / sum(o.decisions for o in found)


def evaluate_in(
    world: ActWorld,
    mind: Mind,
    out: Path,
    config: PlanningConfig,
    *,
    command: str,
    changed: Mapping[str, ActWorld] | None = None,
    behind: Callable[[AgentActor], Actor] | None = None,
) -> PlanningSummary:
    """Evaluate a model that acts in `world` and write the result file `out`.

    `changed` are the same world in other looks, name -> world; start and goal of the same tasks are shown in these. `behind`
    puts an agent behind guardrails, all doubts forgotten: it then acts so, too, in the usual looks and in the others. One
    thread. Raises ConfigError if the world's actions or pictures are not those of the model, or if it has no upper level and
    two are asked for; DataError for too few tasks.
    """
    check_fits(mind.model, world)
    upper = None if config.two_levels is None else upper_of(mind)
    tasks = draw_tasks(world, config.tasks)
    runs = Runs(tasks.tasks, config.tasks.budget)
    seeds = range(config.planner_seeds)

    def agents(agent: AgentConfig) -> list[AgentActor]:
        return [AgentActor(one_agent(mind, agent, seed), config.aim, config.over) for seed in seeds]

    for mode in MODES:
        runs.add(mode, world, agents(replace(config.agent, mode=mode)))
    for samples in config.samples:
        runs.add(f"{samples} samples", world, agents(fewer(config.agent, samples)))
    if config.two_levels is not None and upper is not None:
        planners = [UpperPlanner(upper, config.two_levels, torch.Generator().manual_seed(seed)) for seed in seeds]
        both = zip(agents(config.agent), planners, strict=True)
        runs.add(TWO_LEVELS, world, [TwoLevelsActor(lower, above) for lower, above in both])
    for name, other in (changed or {}).items():
        shown = draw_tasks(other, config.tasks).tasks
        assert all(np.array_equal(a.goal, b.goal) for a, b in zip(shown, tasks.tasks, strict=True)), "looks change more"
        runs.add(f"changed {name}", other, agents(config.agent), shown)
        if behind is not None:
            runs.add(f"guarded, changed {name}", other, [behind(actor) for actor in agents(config.agent)], shown)
    if behind is not None:
        runs.add("guarded", world, [behind(actor) for actor in agents(config.agent)])
    add_floors(runs, world, config, mind.model)
    lead = config.agent.mode
    metrics = model_figures(runs, lead) | {
        f"seconds of one plan, {mode}": seconds_of_one_plan(mind, replace(config.agent, mode=mode), config, tasks)
        for mode in MODES
    }
    floors = floor_figures(runs)
    log.write_result(
        out,
        command=command,
        protocol=protocol(mind.folder, world, config, tasks, changed or {}),
        seeds=list(seeds),
        metrics=metrics,
        baselines=floors,
    )
    return PlanningSummary(out=out, figures=metrics, floors=floors, tasks=tasks)


def check_fits(model: WorldModel, world: ActWorld) -> None:
    """Raise ConfigError if a world's actions, pictures or rate are not those that the model was trained with."""
    if model.config.actions is None:
        raise ConfigError("evaluate planning: this model only watches: train one that acts, with --preset act")
    model.config.actions.must_match(world.actions, repr(world))
    view = model.config.view
    begun = copy.deepcopy(world)
    begun.reset(0)
    height, width, _ = begun.render().shape
    if (height, width, world.fps) != (view.height, view.width, view.fps):
        got = f"{height}x{width} at {world.fps:g} fps"
        raise ConfigError(
            f"{world!r}: shows {got}, the model was trained at {view.height}x{view.width}, {view.fps:g} fps"
        )


def upper_of(mind: Mind) -> Upper:
    """The upper level of a mind. Raises ConfigError if it has none."""
    if mind.upper is None:
        raise ConfigError(
            f"{mind.folder}: has no upper level: train it with --two-levels (a finished run gets one by its own command "
            "with that flag), or leave --two-levels out here"
        )
    return mind.upper


def one_agent(mind: Mind, config: AgentConfig, seed: int) -> Agent:
    """An agent with chance of its own."""
    return Agent(mind.model, config, torch.Generator().manual_seed(seed), mind.heads)


def fewer(config: AgentConfig, samples: int) -> AgentConfig:
    """The same search with so many candidates in a round, and as large a share of elites."""
    planner = config.planner
    changes: dict[str, Any] = {"samples": samples}
    elites = getattr(planner, "elites", None)
    if elites is not None:
        changes["elites"] = max(2, min(samples, round(samples * elites / planner.samples)))
    return replace(config, planner=replace(planner, **changes), mode="slow" if config.mode == "fast" else config.mode)


def add_floors(runs: Runs, world: ActWorld, config: PlanningConfig, model: WorldModel) -> None:
    """Who knows no goal, and who knows the world."""
    seeds = range(config.planner_seeds)
    runs.add("random", world, [PolicyActor("random", seed) for seed in seeds])
    if is_scripted(world):
        runs.add("scripted", world, [PolicyActor("scripted", seed) for seed in seeds])
    given = config.ceiling if config.ceiling is not None else len(runs.tasks) if isinstance(world, Rooms) else 0
    if not given:
        return
    assert model.config.actions is not None
    distance = way_length if isinstance(world, Rooms) else difference(*measured(world))
    agent = config.agent
    oracle = OracleActor(model.config.actions, agent.planner, agent.horizon, torch.Generator().manual_seed(0), distance)
    runs.add("oracle", world, [oracle], runs.tasks[:given])


def measured(world: ActWorld) -> tuple[list[int], list[float]]:
    """Which quantities are far from the goal's, and what difference of each matters: for the oracle outside rooms."""
    if isinstance(world, PushT):  # 20 of 512 along each axis, 20 degrees
        units = dict.fromkeys(("agent_x", "agent_y", "block_x", "block_y"), 20 / world.pixel)
        units |= dict.fromkeys(("block_cos", "block_sin"), 0.35)
        return [world.quantities.index(name) for name in units], list(units.values())
    return list(range(len(world.quantities))), [1.0] * len(world.quantities)


def model_figures(runs: Runs, lead: str) -> dict[str, Figure]:
    """Success of all that the model's agent did, what it cost, and how it does beside the floors."""
    figures: dict[str, Figure] = {"success": success(runs[lead]), "steps": steps_taken(runs[lead])}
    for name, reached in runs.items():
        if name in ("random", "scripted", "oracle"):
            if reached.shape[1] == runs[lead].shape[1]:
                figures[f"success beyond {name}"] = ahead_of(runs[lead], reached)
            continue
        figures[f"success, {name}"] = success(reached)
        if name == TWO_LEVELS:
            figures["success, two levels beyond flat"] = ahead_of(reached, runs[lead])
        if "changed " in name:
            figures[f"no silent failure, {name}"] = no_silent_failure(reached, runs.alarmed[name])
        if name.startswith("guarded"):
            figures[f"doubted, {name}"] = share(runs.alarmed[name].mean(0))
        figures[f"seconds a decision, {name}"] = log.spread([runs.seconds[name]])
    return figures


def floor_figures(runs: Runs) -> dict[str, Figure]:
    """Success of the others."""
    return {f"success, {name}": success(runs[name]) for name in ("random", "scripted", "oracle") if name in runs}


def seconds_of_one_plan(mind: Mind, agent: AgentConfig, config: PlanningConfig, tasks: Tasks) -> Figure:
    """Processor seconds from a frame to a plan, for one environment: lowest, median and highest of several."""
    taken = []
    for number in range(TIMED):
        task = tasks.tasks[number % len(tasks.tasks)]
        one = one_agent(mind, agent, number)
        one.begin(1)
        goal = one.encode(task.goal_frame[None])
        before = time.process_time()
        one.see(task.goal_frame[None])
        one.propose(image_cost(config.aim, goal, mind.heads, config.over), goal)
        taken.append(time.process_time() - before)
    return {"value": statistics.median(taken), "low": min(taken), "high": max(taken), "n": TIMED}


def protocol(
    folder: Path, world: ActWorld, config: PlanningConfig, tasks: Tasks, changed: Mapping[str, ActWorld]
) -> dict[str, Any]:
    """Every setting that could change a number, and a sum of the very tasks."""
    facts = read_config(folder)
    digest = hashlib.sha256()
    for task in tasks.tasks:
        digest.update(task.done.tobytes() + task.goal.tobytes() + task.goal_frame.tobytes())
    return {
        "world": repr(world),
        "changed": {name: repr(other) for name, other in changed.items()},
        "config": asdict(config) | {"planner": type(config.agent.planner).__name__},
        "tasks": digest.hexdigest()[:16],
        "solved_starts_removed": tasks.solved,
        "short_episodes_removed": tasks.short,
        "model": facts["sha256"],
        "trained": facts.get("run", {}),
    }
