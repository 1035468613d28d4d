"""The whole story on a simulated world, on a CPU, in under fifteen minutes: `make demo`.

Record thrown balls, learn from them, set the alarm line, then watch 500 fresh possible throws and 5 x 100 impossible
ones, and look at what the model imagines. The same as the commands in README.md.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import foretell
from foretell.log import write_result

VIOLATIONS = {
    "cube": "a ball turns into a cube",
    "vanish": "the ball vanishes",
    "jump": "the ball jumps",
    "hang": "the ball hangs in the air",
    "rise": "the ball falls upward",
}
ALPHA = 0.05
UNKNOWN = "I don't know"
# Training, calibration and test share no episode: each is recorded from a seed of its own.
SEEDS = {"train": 1, "calibrate": 2, "possible": 3} | {name: 4 + i for i, name in enumerate(VIOLATIONS)}
EPISODES = {"train": 1000, "calibrate": 1000, "possible": 500} | dict.fromkeys(VIOLATIONS, 100)
SMALL = {"train": 40, "calibrate": 24, "possible": 10} | dict.fromkeys(VIOLATIONS, 5)


def main() -> None:
    """Run every verb once, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("--steps", type=int, default=900, help="training steps")
    parser.add_argument(
        "--small", action="store_true", help="a minute instead of fifteen, to see that it runs: no figures"
    )
    arguments = parser.parse_args()
    tell_story(arguments.out, SMALL if arguments.small else EPISODES, 20 if arguments.small else arguments.steps)


def tell_story(out: Path, episodes: dict[str, int], steps: int) -> None:
    """Record, ingest, train, calibrate, watch, imagine; then the table."""
    began = time.monotonic()
    for name, count in episodes.items():
        foretell.record(
            "physics",
            out / "videos" / name,
            episodes=count,
            seed=SEEDS[name],
            frames=24,
            scenario="thrown",
            shapes="ball",
            violation=name if name in VIOLATIONS else "none",
        )
    foretell.ingest(out / "videos" / "train", out / "store", workers=1)
    settings = foretell.TrainConfig(steps=steps, check_every=max(10, steps // 5))
    model = foretell.train_model(out / "store", out / "model", config=settings)
    foretell.calibrate(model, out / "videos" / "calibrate")
    watched = {
        name: foretell.watch(model, out / "videos" / name, out / "watched" / name, alpha=ALPHA)
        for name in ("possible", *VIOLATIONS)
    }
    foretell.imagine(
        model,
        out / "videos" / "possible" / f"seed{SEEDS['possible']}_00000.mp4",
        out / "imagined.mp4",
        start=6,
        horizon=12,
    )

    rates = {name: alarm_rates(summary.files) for name, summary in watched.items()}
    minutes = (time.monotonic() - began) / 60
    print_table(rates)
    print(f"\n{minutes:.1f} minutes. Look at {out}/watched/*/report.html, {out}/model/card.html and {out}/imagined.mp4")
    protocol = {
        "episodes": episodes,
        "seeds": SEEDS,
        "frames": 24,
        "scenario": "thrown",
        "shapes": "ball",
        "alpha": ALPHA,
        "steps": steps,
    }
    told = {"model": "alarms", UNKNOWN: "not known"}
    metrics = {f"{told[who]}/{name}": rate[who] for name, rate in rates.items() for who in told} | {"minutes": minutes}
    baselines = {f"{who}/{name}": rate[who] for name, rate in rates.items() for who in rate if who not in told}
    write_result(
        out / "result.json",
        command="make demo",
        protocol=protocol,
        seeds=[0],
        metrics=metrics,
        baselines=baselines,
    )


def alarm_rates(files: list) -> dict[str, dict]:  # type: ignore[type-arg]
    """Share of files with an alarm, with its 95% Wilson interval, for the model and each control; and of those not known."""
    alarms = {
        "model": [file.alarm for file in files],
        UNKNOWN: [bool(file.unknown) and not file.alarm for file in files],
    }
    for name in files[0].controls:
        alarms[name] = [file.controls[name].alarm for file in files]
    return {name: share([bool(a) for a in of]) for name, of in alarms.items()}


def share(hits: list[bool]) -> dict[str, float]:
    """Their mean and its Wilson interval."""
    n, p, z = len(hits), sum(hits) / len(hits), 1.96
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return {"value": p, "low": (middle - half) / (1 + z * z / n), "high": (middle + half) / (1 + z * z / n), "n": n}


def print_table(rates: dict[str, dict]) -> None:  # type: ignore[type-arg]
    """Share of clips with an alarm: the model beside its controls."""
    who = list(rates["possible"])
    print(f"\nshare of clips with an alarm, promised at most {ALPHA:.0%} of possible ones\n")
    print(f"{'':<28}" + "".join(f"{name:>20}" for name in who))
    for name, rate in rates.items():
        row = "".join(f"{rate[w]['value']:>20.1%}" for w in who)
        print(f"{VIOLATIONS.get(name, 'possible throws'):<28}{row}")


if __name__ == "__main__":
    main()
