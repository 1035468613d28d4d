"""Does it know what it does not know? A ball in the wind, of which the best possible forecast is known; several training seeds.

    python bench/uncertainty.py --work WORK [--seeds 0 1 2] [--steps 1000]

Trains the dense preset on recordings of the buoy, then runs `foretell evaluate uncertainty` on fresh episodes, other ones for each
seed. A figure is the mean over seeds with the lowest and the highest of them. What WORK holds already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from result import write_result

import foretell
from foretell.uncertain import UncertaintyConfig, evaluate_uncertainty

RECORDED = {"episodes": 1500, "seed": 1}


def main() -> None:
    """Train, evaluate, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "uncertainty.json")
    arguments = parser.parse_args()
    work = arguments.work
    foretell.record("buoy", work / "videos", **RECORDED)
    foretell.ingest(work / "videos", work / "store", size="64", workers=1)
    results = []
    for seed in arguments.seeds:
        model, told = work / f"m{seed}", work / f"u{seed}.json"
        config = foretell.TrainConfig(steps=arguments.steps, seed=seed)
        foretell.train_model(str(work / "store"), model, config=config)
        if not told.exists():
            began = time.process_time()
            evaluate_uncertainty(model, told, world="buoy", config=UncertaintyConfig(seed=seed))
            print(f"seed {seed}: {(time.process_time() - began) / 60:.1f} CPU-min", flush=True)
        results.append(json.loads(told.read_text(encoding="utf-8")))
    write_result(
        arguments.out,
        protocol={"recorded": RECORDED, "training_steps": arguments.steps, "of each seed": results[0]["protocol"]},
        seeds=arguments.seeds,
        metrics=over_seeds([result["metrics"] for result in results]),
        baselines=over_seeds([result["baselines"] for result in results]),
    )


def over_seeds(figures: list[dict[str, dict[str, float]]]) -> dict[str, list[float]]:
    """Name -> the value of each seed, where all have it; of worst slices under one name, whichever slice it was."""
    plain = [{name.partition(" (")[0]: figure["value"] for name, figure in found.items()} for found in figures]
    return {name: [found[name] for found in plain] for name in plain[0] if all(name in found for found in plain)}


if __name__ == "__main__":
    main()
