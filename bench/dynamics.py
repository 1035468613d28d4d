"""It learned dynamics: train on the physics world, judge on fresh episodes; several seeds.

    python bench/dynamics.py --work WORK [--seeds 0 1 2] [--steps 1000]

Error h steps ahead over that of repeating the last latent (copy) and of a straight line; effective rank; ridge R2 of
position from one frame's latents, on throws (one object), split by clip. Beside it an untrained network.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from result import write_result

import foretell
from foretell.evals.forecast import forecast_figures, position_r2
from foretell.surprise.panel import untrained_model
from foretell.worlds.physics import Physics

TRAIN_SEED, EPISODES = 101, 1500
MIXED, THROWN = Physics(), Physics(scenario="thrown")
FRESH = {
    "forecast": range(7_000_000, 7_000_128),
    "probe train": range(8_000_000, 8_000_500),
    "probe test": range(9_000_000, 9_000_060),
}


def main() -> None:
    """Train each seed, judge it, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    videos, store = arguments.work / "videos", arguments.work / "store"
    foretell.record("physics", videos, episodes=EPISODES, seed=TRAIN_SEED)
    foretell.ingest(videos, store, workers=1)

    forecast, probe_train, probe_test = (
        [world.episode(seed) for seed in FRESH[name]]
        for name, world in (("forecast", MIXED), ("probe train", THROWN), ("probe test", THROWN))
    )
    figures: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        began = time.process_time()
        config = foretell.TrainConfig(steps=arguments.steps, seed=seed, check_every=max(20, arguments.steps // 5))
        model = foretell.load_model(foretell.train_model(store, arguments.work / f"model{seed}", config=config))
        found = {"cpu_minutes": (time.process_time() - began) / 60, **forecast_figures(model, forecast)}
        found["position_r2"] = position_r2(model, probe_train, probe_test)
        found["rank_share"] = found["rank"] / model.config.encoder.latent_width
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
        print(seed, {name: round(value, 3) for name, value in found.items()}, flush=True)
    untrained = untrained_model(model.config, 12345)
    write_result(
        Path("bench/results/dynamics.json"),
        protocol={
            "train": {"seed": TRAIN_SEED, "episodes": EPISODES, "world": repr(MIXED)},
            "steps": arguments.steps,
            "batch": config.batch,
            "window": config.window,
            "fresh seeds": {k: str(v) for k, v in FRESH.items()},
        },
        seeds=arguments.seeds,
        metrics=figures,
        baselines={
            "untrained/position_r2": position_r2(untrained, probe_train, probe_test),
            **{f"untrained/{k}": v for k, v in forecast_figures(untrained, forecast).items() if k.startswith("error")},
        },
    )


if __name__ == "__main__":
    main()
