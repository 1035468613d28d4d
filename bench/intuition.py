"""Intuitive physics, several seeds: train on possible scenes alone, sit the exam, put the seeds together.

    python bench/intuition.py --work WORK [--seeds 0 1 2] [--steps 6000] [--control-steps 300]

Each seed's own result and page lie in WORK/exam<seed>; figures here are median, lowest and highest over seeds, and
the same of either end of each seed's 95% interval (NAME/low, NAME/high). A model or an exam that WORK already holds is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from result import each_seed, write_result

import foretell
from foretell.evals.exam import ExamConfig
from foretell.model.likeness import LikenessConfig
from foretell.objectives.next_latent import NextLatentConfig
from foretell.worlds.physics import Physics
from foretell.worlds.record import record

WORLD = Physics(scenario="staged", frames=24)
RECORD_SEED, EPISODES, HOLD_OUT = 1, 12_000, 0.1
OBJECTIVE = NextLatentConfig(horizon=8, starts=2, settle=0.4)
PRESET = "colour"
SURPRISE = {"nearest": 1, "farthest": 1, "context": 8, "expect": True}
"""Judged one step ahead, from the tenth frame on: whether a screen will rise, at the sixth, nobody can know."""


def main() -> None:
    """Record, train and examine each seed, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--control-steps", type=int, default=300)
    parser.add_argument("--part", choices=["test", "development"], default="test")
    parser.add_argument("--quadruplets", type=int, default=200)
    arguments = parser.parse_args()
    results, minutes, sat = [], [], []
    for seed in arguments.seeds:
        model = arguments.work / f"m{seed}"
        if not (model / "calibration.json").exists():
            train(arguments.work, model, seed, arguments.steps)
        out = arguments.work / f"exam{seed}" / f"{arguments.part}.json"
        if not out.exists():
            exam = ExamConfig(part=arguments.part, quadruplets=arguments.quadruplets)
            controls, began = arguments.work / "controls", time.monotonic()
            print(
                foretell.evaluate(
                    "physics", model, out, controls=controls, control_steps=arguments.control_steps, exam=exam
                )
            )
            (out.parent / "minutes.json").write_text(json.dumps((time.monotonic() - began) / 60))
        results.append(json.loads(out.read_text(encoding="utf-8")))
        minutes.append(json.loads((model / "minutes.json").read_text()))
        sat.append(json.loads((out.parent / "minutes.json").read_text()))
    write_result(
        Path("bench/results/intuition.json"),
        protocol={
            "train": {"world": repr(WORLD), "seed": RECORD_SEED, "episodes": EPISODES, "hold_out": HOLD_OUT},
            "steps": arguments.steps,
            "preset": PRESET,
            "objective": repr(OBJECTIVE),
            "surprise": SURPRISE,
            "likeness": repr(LikenessConfig()),
            "exam": {k: v for k, v in results[0]["protocol"].items() if k != "model"},
        },
        seeds=arguments.seeds,
        metrics={"cpu_minutes": minutes, "minutes of the exam": sat} | each_seed(results, "metrics"),
        baselines=each_seed(results, "baselines"),
    )


def train(work: Path, model: Path, seed: int, steps: int) -> None:
    """One seed's model."""
    record(WORLD, work / "videos", episodes=EPISODES, seed=RECORD_SEED, workers=2)
    foretell.ingest(work / "videos", work / "store")
    config = foretell.TrainConfig(steps=steps, seed=seed, check_every=500, save_every=200, objective=OBJECTIVE)
    began = time.process_time()
    foretell.train_model(
        str(work / "store"), model, preset=PRESET, hold_out=HOLD_OUT, likeness=True, **SURPRISE, config=config
    )
    (model / "minutes.json").write_text(json.dumps((time.process_time() - began) / 60))


if __name__ == "__main__":
    main()
