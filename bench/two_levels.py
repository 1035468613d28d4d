"""Far goals in four rooms: two levels of planning beside a flat planner at equal compute; several training and planner seeds.

    python bench/two_levels.py --work WORK [--seeds 0 1 2] [--steps 2000] [--out bench/results/two_levels.json]

Goals are more than 60 steps away by the shortest way at full speed; the budget is twice that. All planners imagine as many
steps for one decision; of several settings of each kind the one is tested that does best on development goals of the first
training seed. What was found for a seed is kept in WORK, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from result import write_result
from torch.utils.flop_counter import FlopCounterMode

import foretell
from foretell.evals.intervals import bootstrap, share
from foretell.log import Samples, write_whole
from foretell.model.mind import Mind, load_mind
from foretell.model.upper import Upper, UpperConfig
from foretell.plan.actors import AgentActor, Aim, PolicyActor
from foretell.plan.agent import Agent, AgentConfig, Excess
from foretell.plan.costs import Over
from foretell.plan.episodes import Actor, Acts, Task, run_tasks
from foretell.plan.planners import CEMConfig, Plan
from foretell.plan.two_levels import TwoLevelsActor, UpperPlanConfig, UpperPlanner, Ways
from foretell.planning import upper_of
from foretell.train.loop import TrainConfig
from foretell.train.upper import UpperTraining
from foretell.training import train
from foretell.worlds.floorplan import look_up, steps_to, walk
from foretell.worlds.played import Played
from foretell.worlds.record import record
from foretell.worlds.rooms import Rooms, RoomsConfig
from foretell.worlds.world import ActWorld

WORLD = RoomsConfig(layout="four")
RECORDED = {"policy": "mixed", "frames": 200, "episodes": 250, "seed": 11}
NEAREST = 60
"""Steps that every goal is farther away than."""
PLANNERS = (0, 1, 2)
DEVELOPMENT, TEST = (7001, 40), (8001, 100)
"""Seed of the goals, and how many."""
IMAGINED = 2000
"""Steps that are imagined for one decision, at both levels together."""
ROUNDS, UPPER_ROUNDS = 6, 3


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A way to plan. Lower candidates are as many as the compute allows."""

    levels: Literal[1, 2]
    aim: Aim | Literal["ways"] = "reach"
    over: Over = "sum"
    horizon: int = 4
    upper_horizon: int = 2
    upper_samples: int = 64

    @property
    def samples(self) -> int:
        """Candidates of the lower level in a round."""
        above = self.upper_samples * UPPER_ROUNDS * self.upper_horizon if self.levels == 2 else 0
        return (IMAGINED - above) // (ROUNDS * self.horizon)


FLAT = (
    Setting(levels=1, horizon=5),
    Setting(levels=1, horizon=8),
    Setting(levels=1, horizon=12),
    Setting(levels=1, horizon=16),
    Setting(levels=1, horizon=20),
    Setting(levels=1, horizon=12, over="least"),
    Setting(levels=1, horizon=12, aim="latent"),
    Setting(levels=1, horizon=12, aim="blend"),
)
TWO_LEVELS = (
    Setting(levels=2),
    Setting(levels=2, horizon=3),
    Setting(levels=2, aim="latent", over="least"),
    Setting(levels=2, upper_horizon=1),
)
WAYS = Setting(levels=1, aim="ways", horizon=5)
"""The flat planner with the upper level's cost: what of the gain is the cost's, and what the levels'."""


class Goals(NamedTuple):
    """Tasks, and how far each goal is."""

    tasks: tuple[Task, ...]
    steps: np.ndarray  # (n,) of the shortest way at full speed

    @property
    def budgets(self) -> np.ndarray:
        """Steps in which each must be reached, (n,)."""
        return 2 * self.steps


def far_goals(seed: int, count: int) -> Goals:
    """Pairs of places, evenly drawn from all that are far enough apart; none is solved at its start."""
    world, rng, tasks, steps = Rooms(WORLD), np.random.default_rng(seed), [], []
    number = 0
    while len(tasks) < count:
        number += 1
        reset = seed * 1_000_003 + number
        world.reset(reset)
        start, goal = world.state(), world.draw_place(rng)
        if np.abs(goal - start).max() < 30:  # both axes move at once: a way this short has no chance; spares the table
            continue
        far = float(look_up(steps_to(world.layout, goal), start[None])[0])
        if not NEAREST < far < np.inf:
            continue
        world.restore(goal)
        assert not np.hypot(*(goal - start)) <= 4
        nothing = np.zeros((0, world.config.size, world.config.size, 3), np.uint8)
        tasks.append(
            Task(seed=reset, done=np.zeros((0, 2)), seen=nothing, goal_frame=world.render(), goal=world.state())
        )
        steps.append(far)
    return Goals(tuple(tasks), np.array(steps))


class Walker:
    """The scripted floor: walks the shortest way, of which a model knows nothing."""

    skip = 1

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """Work out the ways."""
        self.worlds, self.goals = worlds, [task.goal for task in tasks]
        self.ways = [steps_to(world.layout, task.goal) for world, task in zip(worlds, tasks, strict=True)]  # type: ignore[attr-defined]

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """One step along them."""
        steps = [walk(self.worlds[i].layout, self.ways[i], self.worlds[i].state(), self.goals[i]) for i in live]  # type: ignore[attr-defined]
        return Acts(np.stack(steps)[:, None], np.zeros(len(live), bool))


class WaysActor(AgentActor):
    """The flat actor with the upper level's cost."""

    def __init__(self, agent: Agent, upper: Upper) -> None:
        super().__init__(agent)
        self.upper = upper

    def propose(self, live: np.ndarray, excess: Excess | None = None) -> Plan:
        """A plan for the environments `live` (n,)."""
        goal = self.goals[torch.from_numpy(live)]
        return self.agent.propose(Ways(self.upper, goal, UpperPlanConfig().strange), goal, excess)


def actor_of(setting: Setting, mind: Mind, seed: int) -> Actor:
    """Who acts, by a setting."""
    chance = torch.Generator().manual_seed(seed)
    planner = CEMConfig(samples=setting.samples, iterations=ROUNDS, elites=max(4, setting.samples // 8))
    config = AgentConfig(mode="slow", planner=planner, horizon=setting.horizon)
    agent = Agent(mind.model, config, chance, mind.heads)
    if setting.aim == "ways":
        return WaysActor(agent, upper_of(mind))
    lower = AgentActor(agent, setting.aim, setting.over)
    if setting.levels == 1:
        return lower
    above = CEMConfig(samples=setting.upper_samples, iterations=UPPER_ROUNDS, elites=setting.upper_samples // 8)
    return TwoLevelsActor(
        lower, UpperPlanner(upper_of(mind), UpperPlanConfig(planner=above, horizon=setting.upper_horizon), chance)
    )


def reached(actor: Actor, goals: Goals) -> list[bool]:
    """Which goals were reached within their budgets."""
    steps = run_tasks(Rooms(WORLD), goals.tasks, actor, int(np.ceil(goals.budgets.max()))).reached
    return ((steps > 0) & (steps <= goals.budgets)).tolist()


def compute(setting: Setting, mind: Mind, goals: Goals) -> float:
    """Million floating-point operations for one step of one environment, counted while one decision is made."""
    actor = actor_of(setting, mind, 0)
    worlds = [Rooms(WORLD)]
    worlds[0].reset(goals.tasks[0].seed)
    actor.begin(worlds, goals.tasks[:1])
    with FlopCounterMode(display=False) as counter:
        actor.act(np.arange(1), np.stack([worlds[0].render()]))
    return float(counter.get_total_flops()) / actor.skip / 1e6


def trained(work: Path, seed: int, steps: int) -> Mind:
    """Record, train and fit what is not there yet."""
    videos, folder = work / "videos", work / f"model{seed}"
    record(
        Played(Rooms(WORLD), RECORDED["policy"], RECORDED["frames"]),  # type: ignore[arg-type]
        videos,
        episodes=RECORDED["episodes"],  # type: ignore[arg-type]
        seed=RECORDED["seed"],  # type: ignore[arg-type]
        workers=1,
        progress=False,
    )
    if not (work / "store").exists():
        foretell.ingest(videos, work / "store", workers=1)
    if not (folder / "card.html").exists():
        config = TrainConfig(steps=steps, seed=seed)
        train(str(work / "store"), folder, preset="act", two_levels=True, config=config)
    return load_mind(folder)


def chosen(work: Path, mind: Mind) -> dict[str, dict[str, Any]]:
    """The settings that reach most development goals, one of each kind; and what all of them reached."""
    goals, found = far_goals(*DEVELOPMENT), {}
    for name, settings in (("flat", FLAT), ("two_levels", TWO_LEVELS)):
        shares = [
            float(np.mean(_kept(work, f"development {s}", lambda s=s: reached(actor_of(s, mind, 0), goals))))  # type: ignore[misc]
            for s in settings
        ]
        found[name] = {"tried": [asdict(s) for s in settings], "reached": shares, "best": int(np.argmax(shares))}
    return found


def judged(
    work: Path, seed: int, mind: Mind, settings: dict[str, Setting], goals: Goals
) -> dict[str, list[list[bool]]]:
    """What one training seed reaches: for each way to plan, goals by planner seed (planner seeds, tasks)."""
    return {
        name: [
            _kept(work, f"seed {seed} {s} {planner}", lambda s=s, p=planner: reached(actor_of(s, mind, p), goals))  # type: ignore[misc]
            for planner in PLANNERS
        ]
        for name, s in settings.items()
    }


def _kept(work: Path, name: str, find: Callable[[], list[bool]]) -> list[bool]:
    """What was found before under this name, or is found now."""
    path = work / "found" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        began = time.process_time()
        found = find()
        print(f"{np.mean(found):.3f} in {time.process_time() - began:.0f} CPU-s: {name}", flush=True)
        write_whole(path, json.dumps(found) + "\n")
    answer: list[bool] = json.loads(path.read_text())
    return answer


def main() -> None:
    """Train, choose on development goals, test, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("bench/results/two_levels.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    minds = [trained(arguments.work, seed, arguments.steps) for seed in arguments.seeds]
    choice = chosen(arguments.work, minds[0])
    settings = {
        "two_levels": TWO_LEVELS[choice["two_levels"]["best"]],
        "flat": FLAT[choice["flat"]["best"]],
        "flat_with_ways": WAYS,
    }
    goals = far_goals(*TEST)
    found = [
        judged(arguments.work, seed, mind, settings, goals) for seed, mind in zip(arguments.seeds, minds, strict=True)
    ]
    mega = {name: compute(setting, minds[0], goals) for name, setting in settings.items()}
    assert mega["two_levels"] <= mega["flat"], f"compute is not equal: {mega}"
    write_result(
        arguments.out,
        protocol={
            "world": asdict(WORLD),
            "recorded": RECORDED,
            "training_steps": arguments.steps,
            "training_seeds": arguments.seeds,
            "planner_seeds": PLANNERS,
            "upper": asdict(UpperConfig()) | asdict(UpperTraining()),
            "goals": f"pairs of places drawn evenly, more than {NEAREST} steps apart by the shortest way at full speed",
            "budget": "twice the shortest way; solved starts removed (none is, so far apart)",
            "development": {"seed": DEVELOPMENT[0], "goals": DEVELOPMENT[1]} | choice,
            "test": {"seed": TEST[0], "goals": TEST[1], "steps": [float(goals.steps.min()), float(goals.steps.max())]},
            "settings": {name: asdict(s) | {"samples": s.samples, "rounds": ROUNDS} for name, s in settings.items()},
            "imagined_steps_per_decision": IMAGINED,
            "intervals": "over test goals, each counted once with its mean over training and planner seeds",
        },
        seeds=arguments.seeds,
        metrics=metrics(found, mega),
        baselines={
            "random": share(reached(PolicyActor("random", 0), goals)),
            "smooth random": share(reached(PolicyActor("smooth", 0), goals)),
            "scripted walker": share(reached(Walker(), goals)),
        },
    )


def metrics(found: list[dict[str, Any]], mega: dict[str, float]) -> dict[str, Samples]:
    """Figures of the result: shares of goals reached, by how much two levels are ahead, and what each costs."""
    figures: dict[str, Samples] = {}
    by_goal = {name: np.mean([np.mean(one[name], 0) for one in found], 0) for name in mega}  # (tasks,)
    for name, shares in by_goal.items():
        figures[name] = share(shares)
        figures[f"{name}_by_training_seed"] = [float(np.mean(one[name])) for one in found]
        figures[f"{name}_million_operations_per_step"] = mega[name]
    for other in ("flat", "flat_with_ways"):
        ahead = by_goal["two_levels"] - by_goal[other]
        figures[f"ahead_of_{other}"] = bootstrap(lambda rows, ahead=ahead: float(ahead[rows].mean()), len(ahead))  # type: ignore[misc]
    return figures


if __name__ == "__main__":
    main()
