"""Two rooms: train on 250 recorded episodes, reach goals 25 steps ahead; several training and planner seeds.

    python bench/rooms.py --work WORK [--seeds 0 1 2] [--steps 1500] [--planner-seeds 3]

For each training seed the figures of `foretell evaluate planning`; then all of them together: median, lowest and highest
over training seeds. CPU seconds are those of this process: of training with ingest and heads, and of one evaluation of 100 tasks by
the leading mode alone, drawing of worlds counted.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from result import write_result

import foretell
from foretell.model.mind import load_mind
from foretell.plan.actors import AgentActor
from foretell.plan.agent import AgentConfig
from foretell.plan.episodes import TaskConfig, draw_tasks, run_tasks
from foretell.planning import PlanningConfig, evaluate_in, one_agent
from foretell.worlds.played import Played
from foretell.worlds.record import record
from foretell.worlds.rooms import Rooms, RoomsConfig

WORLD = Rooms(RoomsConfig())
RECORD_SEED, EPISODES, FRAMES = 1, 250, 100
TASKS = TaskConfig(seed=93_000_001)
"""Drawn once everything was settled: the usual tasks of `evaluate planning` had been looked at with an earlier model."""


def main() -> None:
    """Record, train and evaluate each seed, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--planner-seeds", type=int, default=3)
    arguments = parser.parse_args()
    record(Played(WORLD, "mixed", FRAMES), arguments.work / "videos", episodes=EPISODES, seed=RECORD_SEED)
    foretell.ingest(arguments.work / "videos", arguments.work / "store", workers=1)
    config = PlanningConfig(tasks=TASKS, planner_seeds=arguments.planner_seeds)
    results = []
    for seed in arguments.seeds:
        model, out = arguments.work / f"m{seed}", arguments.work / f"rooms{seed}.json"
        spent = arguments.work / f"cpu{seed}.json"
        if not spent.exists():
            began = time.process_time()
            training = foretell.TrainConfig(steps=arguments.steps, seed=seed)
            foretell.train_model(str(arguments.work / "store"), model, preset="act", config=training)
            spent.write_text(json.dumps({"cpu_seconds_of_training": time.process_time() - began}))
        if not out.exists():
            evaluate_in(WORLD, load_mind(model), out, config, command=f"bench/rooms.py, seed {seed}")
        result = json.loads(out.read_text(encoding="utf-8"))
        result["metrics"] |= {k: {"value": v} for k, v in json.loads(spent.read_text()).items()}
        result["metrics"]["cpu_seconds_of_one_evaluation"] = {"value": one_evaluation(model)}
        results.append(result)
        print(seed, {k: round(v["value"], 3) for k, v in result["metrics"].items()}, flush=True)
    over_seeds = [
        {name: [result[part][name]["value"] for result in results] for name in results[0][part]}
        for part in ("metrics", "baselines")
    ]
    write_result(
        Path("bench/results/rooms.json"),
        protocol={
            "record": {
                "world": repr(WORLD),
                "policy": "mixed",
                "frames": FRAMES,
                "episodes": EPISODES,
                "seed": RECORD_SEED,
            },
            "steps": arguments.steps,
            "evaluation": {k: v for k, v in results[0]["protocol"].items() if k not in ("model", "trained")},
        },
        seeds=arguments.seeds,
        metrics=over_seeds[0],
        baselines=over_seeds[1],
    )


def one_evaluation(folder: Path) -> float:
    """CPU seconds of 100 tasks with the leading mode: tasks drawn, model read, all of them run."""
    began = time.process_time()
    mind = load_mind(folder)
    tasks = draw_tasks(WORLD, TASKS)
    actor = AgentActor(one_agent(mind, AgentConfig(), 0), "blend", "sum")
    run_tasks(WORLD, tasks.tasks, actor, TASKS.budget)
    return time.process_time() - began


if __name__ == "__main__":
    main()
