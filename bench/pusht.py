"""Push-T: how often a T-shaped block is pushed to where a goal image shows it, 25 frames ahead, in 50 steps.

    python bench/pusht.py --work WORK [--seeds 0 1 2] [--steps 20000]

Records 6,000 episodes of the mixed policy, trains the preset things, and evaluates it beside random and scripted policies on tasks
of episodes never seen, drawn once everything was settled; success as in the field, by place and angle (20 of 512, 20 degrees),
solved starts removed. Figures are median, lowest and highest over training seeds, and the same of either end of each seed's 95%
interval (NAME/low, NAME/high). What WORK holds already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from result import each_seed, write_result

import foretell
from foretell.evals.intervals import share
from foretell.model.mind import load_mind
from foretell.plan.actors import AgentActor
from foretell.plan.agent import AgentConfig
from foretell.plan.episodes import Task, TaskConfig, begin_task, draw_tasks, run_tasks
from foretell.planning import PlanningConfig, evaluate_in, one_agent
from foretell.worlds.played import Played
from foretell.worlds.pusht import PushT, PushTConfig
from foretell.worlds.record import record

WORLD = PushT(PushTConfig(judge="pose"))
PLAYED, RECORD_SEED, EPISODES = Played(PushT(PushTConfig()), "mixed", 150), 1, 6000
TASKS = TaskConfig(seed=96_000_001)
"""Drawn once everything was settled: the usual tasks of `evaluate planning` had been looked at with earlier models."""
JOINT = 200
"""Steps of the usual training before the predictor learns on alone: there is no encoder to train."""
STIRRED = (10.0, np.pi / 18)
"""A task in which the block must move by more than this, in units of 512 a frame and radians, is counted apart, too."""


def main() -> None:
    """Record, train and evaluate each seed, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pusht.json")
    arguments = parser.parse_args()
    results = [result_of(arguments.work, seed, arguments.steps) for seed in arguments.seeds]
    write_result(
        arguments.out,
        protocol={
            "record": {"world": repr(PLAYED), "seed": RECORD_SEED, "episodes": EPISODES, "lossless": True},
            "must_move": int(must_move(draw_tasks(WORLD, TASKS).tasks).sum()),
            "evaluation": {k: v for k, v in results[0]["protocol"].items() if k != "model"},
        },
        seeds=arguments.seeds,
        metrics=each_seed(results, "metrics"),
        baselines=each_seed(results, "baselines"),
    )


def result_of(work: Path, seed: int, steps: int) -> dict:
    """One seed's result, with the CPU-minutes of its training."""
    model, out, spent = work / f"m{seed}", work / f"pusht{seed}.json", work / f"minutes{seed}.json"
    if not spent.exists():
        record(PLAYED, work / "videos", episodes=EPISODES, seed=RECORD_SEED, lossless=True)
        foretell.ingest(work / "videos", work / "store", workers=1)
        began = time.process_time()
        training = foretell.TrainConfig(steps=JOINT, seed=seed)
        foretell.train_model(str(work / "store"), model, preset="things", settled=steps, hold_out=0.1, config=training)
        spent.write_text(json.dumps((time.process_time() - began) / 60))
    if not out.exists():
        config = PlanningConfig(tasks=TASKS, over="least", planner_seeds=3)
        evaluate_in(WORLD, load_mind(model), out, config, command=f"bench/pusht.py, seed {seed}")
    stirred = work / f"must_move{seed}.json"
    if not stirred.exists():
        stirred.write_text(json.dumps(share(where_it_must_move(model))))
    result = json.loads(out.read_text(encoding="utf-8"))
    minutes = json.loads(spent.read_text())
    result["metrics"]["success, the block must move"] = json.loads(stirred.read_text())
    result["metrics"]["cpu_minutes"] = {"value": minutes, "low": minutes, "high": minutes}
    return result


def where_it_must_move(model: Path) -> np.ndarray:
    """Whether each of the tasks in which the block must move is solved, by the leading row's agent with its first seed."""
    tasks = draw_tasks(WORLD, TASKS).tasks
    chosen = [task for task, must in zip(tasks, must_move(tasks), strict=True) if must]
    actor = AgentActor(one_agent(load_mind(model), AgentConfig(), 0), "blend", "least")
    return run_tasks(WORLD, chosen, actor, TASKS.budget).reached > 0


def must_move(tasks: tuple[Task, ...]) -> np.ndarray:
    """Whether the block must move, of each task: bool (N,)."""
    found = []
    for task in tasks:
        off = begin_task(WORLD, task).state()[2:5] - task.goal[2:5]
        turned = abs((off[2] + np.pi) % (2 * np.pi) - np.pi)
        found.append(np.hypot(*off[:2]) * WORLD.pixel > STIRRED[0] or turned > STIRRED[1])
    return np.array(found)


if __name__ == "__main__":
    main()
