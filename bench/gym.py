"""Gymnasium worlds: record at random, train, reach goal images 25 frames ahead; one continuous world and one of choices.
And, without an image, swing a pendulum up: upright and slow within 100 steps, beside who acts at random.

    python bench/gym.py --work WORK [--seeds 0 1 2] [--steps 1500]

Figures are those of `foretell evaluate planning`. There is no ceiling: Gymnasium does not say how a world is restored. Success is
every number of the observation, speeds among them, within a tenth of its deviation in the recording; a goal image does not show
speeds. NAME/low and NAME/high are the ends of each seed's 95% interval over tasks. What WORK holds already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from result import write_result

import foretell
from foretell.acting import evaluate_planning
from foretell.evals.planning import steps_taken, success
from foretell.model.mind import load_mind
from foretell.plan.actors import AgentActor, PolicyActor
from foretell.plan.agent import AgentConfig
from foretell.plan.episodes import TaskConfig, draw_tasks, run_tasks
from foretell.plan.set_points import read_set_points
from foretell.planning import one_agent
from foretell.worlds.gym import Gym, GymConfig
from foretell.worlds.played import Played
from foretell.worlds.record import record

WORLDS = {"Pendulum-v1": "cem", "MountainCar-v0": "categorical"}
"""Environment -> planner."""
EPISODES, FRAMES, RECORD_SEED = 250, 100, 1

SWUNG, UPRIGHT = "Pendulum-v1", ("obs_0=1", "obs_2=0")
"""In place of a goal image: cosine of the angle 1 and speed 0, each within a quarter of its deviation in the recording."""
UP_TASKS = TaskConfig(episodes=100, budget=100, seed=92_500_001)
SEARCH = AgentConfig(mode="slow")


def main() -> None:
    """Record, train and evaluate in each world, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    figures: dict[str, dict[str, list[Any]]] = {"metrics": {}, "baselines": {}}
    for env in WORLDS:
        for seed in arguments.seeds:
            result = judged(arguments.work / env, env, seed, arguments.steps)
            if env == SWUNG:
                for part, found in swung_up(arguments.work / env / f"m{seed}").items():
                    result[part] |= found
            for part, found in figures.items():
                for name, figure in result[part].items():
                    for kind, bound in (("", "value"), ("/low", "low"), ("/high", "high")):
                        if bound in figure:
                            found.setdefault(f"{env}/{name}{kind}", []).append(figure[bound])
            print(env, seed, {name: round(f["value"], 3) for name, f in result["metrics"].items()}, flush=True)
    write_result(
        Path(__file__).parent / "results" / "gym.json",
        protocol={
            "worlds": WORLDS,
            "record": {"policy": "mixed", "episodes": EPISODES, "frames": FRAMES, "seed": RECORD_SEED},
            "steps": arguments.steps,
            "swing up": {"to": UPRIGHT, "tasks": repr(UP_TASKS), "agent": repr(SEARCH)},
            "evaluation": {k: v for k, v in result["protocol"].items() if k not in ("model", "trained", "world")},
        },
        seeds=arguments.seeds,
        metrics=figures["metrics"],
        baselines=figures["baselines"],
    )


def judged(work: Path, env: str, seed: int, steps: int) -> dict[str, Any]:
    """The result of one training seed in one world, with the CPU-minutes of its training."""
    model, out, spent = work / f"m{seed}", work / f"planning{seed}.json", work / f"minutes{seed}.json"
    if not spent.exists():
        record(Played(Gym(GymConfig(env=env)), "mixed", FRAMES), work / "videos", episodes=EPISODES, seed=RECORD_SEED)
        foretell.ingest(work / "videos", work / "store", workers=1)
        began = time.process_time()
        training = foretell.TrainConfig(steps=steps, seed=seed)
        foretell.train_model(str(work / "store"), model, preset="act", config=training)
        spent.write_text(json.dumps((time.process_time() - began) / 60))
    if not out.exists():
        evaluate_planning(model, out, world=f"gym:{env}", planner=WORLDS[env])  # type: ignore[arg-type]
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    result["metrics"]["cpu_minutes"] = {"value": json.loads(spent.read_text())}
    return result


def swung_up(model: Path) -> dict[str, dict[str, Any]]:
    """How often a pendulum is swung up, by the model's agent and at random."""
    mind = load_mind(model)
    probe = mind.heads.probe
    assert probe is not None
    wanted = read_set_points(UPRIGHT, None, probe)
    world = Gym(GymConfig(env=SWUNG, spread=tuple(probe.std.tolist())))
    tasks = draw_tasks(world, UP_TASKS, wanted.hold).tasks
    agent = AgentActor(one_agent(mind, SEARCH, 0), wanted=wanted.cost(probe))
    actors = {"agent": agent, "random": PolicyActor("random", 0), "smooth": PolicyActor("smooth", 0)}
    reached = {name: run_tasks(world, tasks, actor, UP_TASKS.budget).reached[None] for name, actor in actors.items()}
    return {
        "metrics": {"swing up": success(reached["agent"]), "swing up, steps": steps_taken(reached["agent"])},
        "baselines": {f"swing up, {name}": success(reached[name]) for name in ("random", "smooth")},
    }


if __name__ == "__main__":
    main()
