"""The verbs of acting: evaluate planning, plan, audit."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from foretell.errors import ConfigError
from foretell.model.mind import Mind, load_mind
from foretell.plan.actors import AgentActor
from foretell.plan.agent import AgentConfig
from foretell.plan.costs import Over
from foretell.plan.decisions import Audit
from foretell.plan.decisions import audit as audit_log
from foretell.plan.episodes import TaskConfig, draw_tasks
from foretell.plan.guarded import GuardedActor, guarded
from foretell.plan.guardrails import Guardrails
from foretell.plan.margin import Margin
from foretell.plan.planners import PlannerConfig
from foretell.plan.refine import CategoricalConfig, CEMConfig, GradientConfig, ICEMConfig, MPPIConfig
from foretell.plan.rehearse import rehearsed_margin
from foretell.plan.set_points import SetPoints, read_set_points
from foretell.plan.two_levels import UpperPlanConfig
from foretell.planning import PlanningConfig, PlanningSummary, check_fits, evaluate_in, one_agent
from foretell.serve.witness import RunSummary, carry_out
from foretell.verbs import one_thread
from foretell.worlds.named import acted_world
from foretell.worlds.rooms import SHIFTS
from foretell.worlds.world import ActWorld

PlannerName = Literal["cem", "icem", "mppi", "gradient", "categorical"]
PLANNERS: dict[str, PlannerConfig] = {
    "cem": CEMConfig(),
    "icem": ICEMConfig(),
    "mppi": MPPIConfig(),
    "gradient": GradientConfig(),
}
TASKS, REHEARSALS = 91_000_001, 92_000_001
"""Seeds of the recordings that tasks of `plan` and its rehearsals come from; those of `evaluate planning` come from another."""


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
    over: Over = "sum",
    planner_seeds: int = 1,
    two_levels: bool = False,
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
        over: Which imagined steps should be at the goal: the last one, all of them (sum), or the best one (least), where the
            goal need only be passed and the way there leads away from it first.
        planner_seeds: How often all that is drawn is drawn anew.
        two_levels: The same agent also acts with sub-goals of the upper level; the model needs one (train --two-levels).
        changed_looks: Rooms: also in colours and sizes that the model has not seen.
        guardrails: A toml file: the agent also acts behind these, in the usual looks and in the changed ones.
        size: Pixels of a side.
        layout: Rooms: how many of them.
        hazards: Rooms: discs that must not be entered.
        varied: Rooms: wall, doors (one or two) and hazards lie elsewhere in each episode.
    """
    one_thread()
    mind = load_mind(Path(model))
    acted = _world(mind, world, size, layout, hazards, varied)
    looks = {
        name: _world(mind, world, size, layout, hazards, varied, **shift)
        for name, shift in (SHIFTS.items() if changed_looks else ())
    }
    agent = AgentConfig(mode=mode, planner=_planner(planner, acted))
    rails = None if guardrails is None else Guardrails.load(Path(guardrails))

    def behind(actor: AgentActor) -> GuardedActor:
        assert rails is not None
        return guarded(mind, acted, rails, actor)

    config = PlanningConfig(
        tasks=TaskConfig(episodes=episodes, goal_ahead=goal_ahead, budget=budget, frames=_frames(goal_ahead)),
        agent=agent,
        over=over,
        planner_seeds=planner_seeds,
        two_levels=UpperPlanConfig() if two_levels else None,
    )
    guard = None if rails is None else behind
    return evaluate_in(acted, mind, Path(out), config, command=_command(), changed=looks, behind=guard)


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
    to: tuple[str, ...] = (),
    within: float | None = None,
    effort: float = 0.0,
    planner: PlannerName = "cem",
    mode: Literal["fast", "slow", "both"] | None = None,
    over: Over = "sum",
    margin: Path | None = None,
    rehearse: int = 0,
    size: int = 64,
    layout: Literal["two", "four"] = "two",
    hazards: int = 0,
    varied: bool = False,
) -> RunSummary:
    """Plan and act in a world, inside guardrails: a film, a page, and a log of every decision that can be audited.

    Without guardrails nothing is done. Margins for constraints come from clips set aside in training, unless given.

    Args:
        model: The folder of a model that acts.
        out: Folder to write: decisions.jsonl, run.mp4, report.html, margin.json.
        guardrails: A toml file, such as examples/guardrails.toml; docs/guardrails.md explains it.
        world: rooms, pusht or gym:ENV_ID.
        episodes: Tasks, one after the other.
        seed: Of tasks and planner.
        goal_ahead: Frames from start to goal in the episode that a task comes from.
        budget: Steps in which the goal must be reached.
        to: In place of goal images: NAME=VALUE or a region NAME=LOW..HIGH, one or more, of quantities that the model's probe
            reads, such as x=40 y=20..30.
        within: How far each quantity of --to may truly be from its value to count as there, in its own units; a quarter of
            its deviation in the recording unless given.
        effort: With --to: what a step at full action costs, beside 1 for being a deviation away; 0 is for free.
        planner: How it searches; categorical for discrete actions.
        mode: fast: what the inverse model says; slow: search; both: search from there. Unless given both, and slow for --to.
        over: Which imagined steps should look like the goal image, as for `evaluate planning`.
        margin: margin.json of an earlier run, whose margins to keep to.
        rehearse: So many plans are first carried out in the simulator, and the margins calibrated on them: planners seek
            what a model gets wrong.
        size: Pixels of a side.
        layout: Rooms: how many of them.
        hazards: Rooms: discs that must not be entered.
        varied: Rooms: wall, doors (one or two) and hazards lie elsewhere in each episode.
    """
    one_thread()
    mind, rails = load_mind(Path(model)), Guardrails.load(Path(guardrails))
    acted = _world(mind, world, size, layout, hazards, varied)
    check_fits(mind.model, acted)
    wanted = _wanted(mind, to, within, effort)
    agent = AgentConfig(mode=mode or ("slow" if wanted else "both"), planner=_planner(planner, acted))
    acts, probe, cost = mind.model.config.actions, mind.heads.probe, None
    if wanted and probe and acts:
        cost = wanted.cost(probe, effort, tuple(acts.low.abs().maximum(acts.high.abs()).tolist()))
    inner = AgentActor(one_agent(mind, agent, seed), "blend", over, cost)
    actor = guarded(mind, acted, rails, inner, Margin.load(Path(margin)) if margin else None)
    there = None if wanted is None else wanted.hold
    tasks = TaskConfig(
        episodes=episodes, goal_ahead=goal_ahead, budget=budget, frames=_frames(goal_ahead), seed=TASKS + seed
    )
    if rehearse:
        aside = draw_tasks(acted, replace(tasks, episodes=rehearse, seed=REHEARSALS + seed), there).tasks
        actor = guarded(mind, acted, rails, inner, rehearsed_margin(actor, acted, aside))
    drawn = draw_tasks(acted, tasks, there).tasks
    return carry_out(mind, acted, actor, drawn, budget, Path(out), command=_command(), to=wanted)


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


def _wanted(mind: Mind, to: tuple[str, ...], within: float | None, effort: float) -> SetPoints | None:
    """What --to and --within ask for; None where goals are images. Raises ConfigError."""
    if effort and not to:
        raise ConfigError(f"--effort {effort:g}: it is about --to, which is not there; add it, or leave --effort out")
    if to:
        return read_set_points(to, within, mind.heads.probe)
    if within is not None:
        raise ConfigError(f"--within {within:g}: it is about --to, which is not there; add it, or leave --within out")
    return None


def _frames(goal_ahead: int) -> int:
    """Frames of the episodes that tasks come from."""
    return max(100, 2 * goal_ahead + 40)


def _world(mind: Mind, name: str, size: int, layout: str, hazards: int, varied: bool, **more: Any) -> ActWorld:
    """A world by name; options that it does not read are an error where they were set. Raises ConfigError."""
    of_rooms = {"layout": layout, "hazards": hazards, "varied": varied} | more
    if name == "rooms":
        return acted_world(name, {"size": size} | of_rooms)
    if more or of_rooms != {"layout": "two", "hazards": 0, "varied": False}:
        raise ConfigError(f"{name}: it does not read --layout, --hazards, --varied or --changed-looks; leave them out")
    if name == "pusht":
        return acted_world(name, {"size": size, "judge": "pose"})  # what is asked for in the field
    if name.startswith("gym:"):
        probe = mind.heads.probe
        if probe is None:
            raise ConfigError(
                f"{name}: nobody told this model true states, so success cannot be judged: record it again"
            )
        return acted_world(name, {"size": size, "spread": tuple(probe.std.tolist())})
    return acted_world(name, {"size": size})


def _command() -> str:
    return shlex.join(["foretell", *sys.argv[1:]])
