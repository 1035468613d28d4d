"""A thrown ball, foreseen: from 8 seen frames where it will be, under gravity seen in training and never seen.

    python bench/thrown.py --work WORK [--seeds 0 1 2] [--steps 3500] [--more 2400]

Trains on balls that are thrown or bounce, each under one of five gravities. When the encoder is done, the predictor learns
on alone, from rollouts that start after as many seen frames as are judged. Error in pixels of a 64 px frame of the model's
rollout, read by a ridge probe of each token's neighbourhood, on fresh flights under each of them, under two between them and
one outside. Beside it the floor (the same probe on the frames that came), a ridge probe of all tokens at once, line and
parabola through the true places and through those that the probe reads, and an untrained network. Writes thrown.json, and
docs/images/thrown.png (needs the extra `plot`). A model that WORK already holds is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from result import write_result

import foretell
from foretell import presets
from foretell.data.store import Store
from foretell.evals.place import BUMP, EDGE, SURE
from foretell.evals.thrown import SEEN, Forecast, fit_local_probe, fit_place_probe, foresee, mean_figure
from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import NextLatentConfig
from foretell.surprise.panel import untrained_model
from foretell.train.optim import OptimConfig
from foretell.train.run import RunConfig, run_training
from foretell.worlds.physics import Physics
from foretell.worlds.record import record

GRAVITY = {"seen": (6.0, 9.0, 12.0, 18.0, 24.0), "between": (7.5, 15.0), "outside": (30.0,)}
NEIGHBOURS = (6.0, 9.0, 12.0, 18.0)
"""Of the two between, whose mean each of them is: a ball falls as far under the two as under the four, on average."""
FLIGHTS = ("thrown", "bouncing")
HORIZON, TOLD = 12, (1, 2, 4, 6, 8, 10, 12)
TRAIN_SEEDS = {"thrown": 301, "bouncing": 302}
PROBE_FROM, TEST_FROM, UNTRAINED_SEED = 8_300_000, 9_300_000, 12345
EVERY = 4
"""Of a clip's frames and rollout steps the probe is fitted on one in four, other ones of each: neighbours say nearly the same."""
AT_ONCE = 800
"""Clips that the probe of all tokens at once is fitted on."""
HOLD_OUT = 0.05
BARS = {
    "error_at_4": "at most 1.0 px",
    "error_at_8": "at most 2.0 px",
    "linear_over_model_at_8": "at least 3",
    "between_over_neighbours_at_8": "at most 1.5",
}
Forecasts = dict[tuple[str, float], Forecast]
"""(flight, gravity) -> what was said of its fresh episodes."""


def world(flight: str, gravity: tuple[float, ...]) -> Physics:
    """Balls of one kind of flight."""
    return Physics(scenario=flight, shapes="ball", gravity=gravity)  # type: ignore[arg-type]


def main() -> None:
    """Train each seed, judge it, write the result and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--more", type=int, default=2400, help="steps of the predictor alone")
    parser.add_argument("--episodes", type=int, default=2500, help="to train on, of each kind of flight")
    parser.add_argument("--probe-episodes", type=int, default=1000, help="to fit the probe on, of each kind of flight")
    parser.add_argument("--test-episodes", type=int, default=100, help="of each kind of flight and gravity")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--picture", type=Path, default=Path(__file__).parents[1] / "docs" / "images" / "thrown.png")
    arguments = parser.parse_args()

    judge = Judge(arguments.probe_episodes, arguments.test_episodes)
    judged, of_seeds = [], []
    for seed in arguments.seeds:
        model, minutes = trained(arguments, seed)
        judged.append(judge(model, FLIGHTS))
        found = {"cpu_minutes": minutes} | bar_figures(judged[-1]) | judge.read_at_once(model)
        of_seeds.append(found)
        print(seed, {name: round(value, 3) for name, value in found.items()}, flush=True)
    untrained = bar_figures(judge(untrained_model(model.config, UNTRAINED_SEED), FLIGHTS[:1]))

    figures = curves(judged)
    own = {name: figure for name, figure in figures.items() if name.split("/")[2] in ("model", "probe")}
    write_result(
        arguments.out / "thrown.json",
        protocol=protocol(arguments),
        seeds=arguments.seeds,
        metrics={name: [found[name] for found in of_seeds] for name in of_seeds[0]} | own,
        baselines={f"untrained/{name}": value for name, value in untrained.items()}
        | {name: figure for name, figure in figures.items() if name not in own},
    )
    draw(arguments.out / "thrown.json", judged[0], arguments.picture)


def trained(arguments: argparse.Namespace, seed: int) -> tuple[WorldModel, float]:
    """One seed's model, and the CPU-minutes that its training took."""
    told, out = arguments.work / f"minutes{seed}.json", arguments.work / f"model{seed}"
    if not told.exists():
        for flight, drawn in TRAIN_SEEDS.items():
            videos = arguments.work / "videos" / flight
            record(world(flight, GRAVITY["seen"]), videos, episodes=arguments.episodes, seed=drawn)
        foretell.ingest(arguments.work / "videos", arguments.work / "store", workers=1)
        began = time.process_time()
        store = Store.open(arguments.work / "store")
        for number, config in enumerate(stages(arguments, seed)):
            begin_with = str(arguments.work / f"first{seed}") if number else None
            run = RunConfig(model=presets.dense(), train=config, hold_out=HOLD_OUT, start_from=begin_with)
            run_training(store, out if number else arguments.work / f"first{seed}", run)
        told.write_text(json.dumps((time.process_time() - began) / 60))
    return foretell.load_model(out), json.loads(told.read_text())


def stages(arguments: argparse.Namespace, seed: int) -> list[foretell.TrainConfig]:
    """First all of it learns; then, from the second step on, the encoder rests, and rollouts are like those that are judged."""
    first, second = NextLatentConfig(horizon=8), NextLatentConfig(horizon=HORIZON, seen=SEEN, settle=0.999)
    steps, more = arguments.steps, arguments.more
    return [
        foretell.TrainConfig(steps=steps, seed=seed, objective=first, check_every=max(20, steps // 10)),
        foretell.TrainConfig(
            steps=more, seed=100 + seed, objective=second, check_every=max(20, more // 6), optim=OptimConfig(peak=1e-3)
        ),
    ]


class Judge:
    """The episodes that every model is judged on, made once."""

    def __init__(self, probe_episodes: int, test_episodes: int) -> None:
        kinds = [world(flight, GRAVITY["seen"]) for flight in FLIGHTS]
        self.probe_clips = [kind.episode(PROBE_FROM + k) for k in range(probe_episodes) for kind in kinds]
        self.test_clips = {
            (flight, value): [world(flight, (value,)).episode(TEST_FROM + k) for k in range(test_episodes)]
            for flight in FLIGHTS
            for value in all_gravities()
        }

    def __call__(self, model: WorldModel, flights: Sequence[str]) -> Forecasts:
        """What `model` says of all test clips of these flights."""
        probe = fit_local_probe(model, self.probe_clips, horizon=HORIZON, every=EVERY)
        clips = {kind: of_kind for kind, of_kind in self.test_clips.items() if kind[0] in flights}
        return {kind: foresee(model, probe, of_kind, horizon=HORIZON) for kind, of_kind in clips.items()}

    def read_at_once(self, model: WorldModel) -> dict[str, float]:
        """The same for throws under seen gravity, by one ridge on all tokens at once; more episodes read no better."""
        probe = fit_place_probe(model, self.probe_clips[:AT_ONCE], horizon=HORIZON)
        said = [foresee(model, probe, self.test_clips["thrown", g], horizon=8) for g in GRAVITY["seen"]]
        return {
            f"all_tokens_at_once/{name}_at_{ahead}": float(np.mean([one.errors[who][:, ahead - 1] for one in said]))
            for name, who in (("error", "model"), ("floor", "probe"))
            for ahead in (4, 8)
        }


def all_gravities() -> list[float]:
    """Every gravity that is judged, in order."""
    return sorted(value for group in GRAVITY.values() for value in group)


def errors_of(forecasts: Forecasts, flight: str, gravities: Iterable[float], name: str) -> np.ndarray:
    """Errors (B, H) of one who foretells, over all clips of these gravities."""
    return np.concatenate([forecasts[flight, gravity].errors[name] for gravity in gravities])


def bar_figures(forecasts: Forecasts) -> dict[str, float]:
    """One model's figures for throws: those that have a bar, and a few to read them by."""

    def at(ahead: int, name: str, gravities: Iterable[float] = GRAVITY["seen"]) -> np.ndarray:
        return errors_of(forecasts, "thrown", gravities, name)[:, ahead - 1]

    neighbours = at(8, "model", NEIGHBOURS).mean()
    found = {
        "error_at_4": at(4, "model").mean(),
        "error_at_8": at(8, "model").mean(),
        "linear_over_model_at_8": at(8, "linear").mean() / at(8, "model").mean(),
        "between_over_neighbours_at_8": at(8, "model", GRAVITY["between"]).mean() / neighbours,
        "outside_over_seen_at_8": at(8, "model", GRAVITY["outside"]).mean() / at(8, "model").mean(),
        "floor_at_4": at(4, "probe").mean(),
        "floor_at_8": at(8, "probe").mean(),
        "median_error_at_4": np.median(at(4, "model")),
        "median_error_at_8": np.median(at(8, "model")),
    }
    return {name: float(value) for name, value in found.items()}


def curves(judged: list[Forecasts]) -> dict[str, Any]:
    """Mean over clips with its interval, by "flight/group or gravity/who/+steps".

    A clip's error is its mean over the seeds: the interval speaks of clips; how much seeds differ, the bars' low and
    high say.
    """
    groups = {**GRAVITY, **{f"gravity {value:g}": (value,) for value in all_gravities()}}
    found: dict[str, Any] = {}
    for flight in FLIGHTS:
        for group, gravities in groups.items():
            for name in judged[0][flight, gravities[0]].said:
                errors = np.mean([errors_of(forecasts, flight, gravities, name) for forecasts in judged], axis=0)
                for ahead in TOLD if group in GRAVITY else (8,):
                    found[f"{flight}/{group}/{name}/+{ahead}"] = mean_figure(errors[:, ahead - 1])
    return found


def protocol(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every setting that could change a number."""
    return {
        "unit": "mean distance in pixels of a 64 px frame",
        "train": {
            flight: {"world": repr(world(flight, GRAVITY["seen"])), "seed": TRAIN_SEEDS[flight]} for flight in FLIGHTS
        },
        "episodes": arguments.episodes,
        "probe": {
            "episodes": arguments.probe_episodes,
            "from seed": PROBE_FROM,
            "fitted on": "frames and rollouts",
            "looks at": f"{EDGE}x{EDGE} tokens; all_tokens_at_once: one ridge on all, fitted on {AT_ONCE} clips",
            "bump, power, penalty": (BUMP, SURE, 1e-4),
        },
        "test": {"episodes": arguments.test_episodes, "from seed": TEST_FROM},
        "gravity": GRAVITY,
        "neighbours": NEIGHBOURS,
        "seen": SEEN,
        "horizon": HORIZON,
        "stages": [repr(stage) for stage in stages(arguments, 0)],
        "bars": BARS,
    }


COLOURS = {"model": "#0b6e99", "probe": "#9aa5ab", "linear": "#c4622d", "parabola": "#3b8f4a", "copy": "#b9a44c"}
SHOWN_FLIGHTS = (("thrown", 9.0), ("thrown", 15.0), ("thrown", 30.0), ("bouncing", 12.0))


def draw(result: Path, forecasts: Forecasts, path: Path) -> None:
    """Error over steps ahead and over gravity, from the result; below, one flight each of `forecasts`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    told = json.loads(result.read_text(encoding="utf-8"))
    told = told["metrics"] | told["baselines"]
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    left, right = above.subplots(1, 2)
    draw_errors_ahead(left, told)
    draw_errors_by_gravity(right, told)
    for axes, (flight, gravity) in zip(below.subplots(1, len(SHOWN_FLIGHTS)), SHOWN_FLIGHTS, strict=True):
        draw_flight(axes, forecasts[flight, gravity], f"{flight}, gravity {gravity:g}")
    figure.savefig(path, dpi=110)


def draw_errors_ahead(axes: Any, told: dict[str, Any]) -> None:
    """Throws under seen gravity."""
    for name, colour in COLOURS.items():
        figures = [told[f"thrown/seen/{name}/+{ahead}"] for ahead in TOLD]
        axes.plot(TOLD, [one["value"] for one in figures], color=colour, label=name, lw=2)
        axes.fill_between(
            TOLD, [o["low"] for o in figures], [o["high"] for o in figures], color=colour, alpha=0.2, lw=0
        )
    top = max(told[f"thrown/seen/{name}/+12"]["value"] for name in ("model", "linear"))
    axes.set(title="Throws under seen gravity", xlabel="steps ahead", ylabel="error (px of 64)", ylim=(0, 1.15 * top))
    axes.legend(frameon=False)


def draw_errors_by_gravity(axes: Any, told: dict[str, Any]) -> None:
    """Throws, 8 steps ahead; what was never seen in training is drawn hollow."""
    for name in ("model", "probe", "linear"):
        figures = [told[f"thrown/gravity {value:g}/{name}/+8"] for value in all_gravities()]
        values = [one["value"] for one in figures]
        axes.plot(all_gravities(), values, color=COLOURS[name], lw=1.5, label=name)
        for gravity, value in zip(all_gravities(), values, strict=True):
            filled = COLOURS[name] if gravity in GRAVITY["seen"] else "white"
            axes.plot(gravity, value, "o", color=COLOURS[name], markerfacecolor=filled)
    axes.set(title="8 steps ahead; hollow: never seen in training", xlabel="gravity (px/s²)", ylim=(0, None))
    axes.legend(frameon=False)


def draw_flight(axes: Any, forecast: Forecast, title: str) -> None:
    """The first clip: seen places, what came, and what was said of it."""
    axes.plot(*forecast.seen[0].T, "o", color="black", ms=4, label="seen")
    axes.plot(*forecast.truth[0].T, "o", color="black", markerfacecolor="white", ms=6, label="came")
    for name in ("model", "linear", "parabola"):
        axes.plot(*forecast.said[name][0].T, ".-", color=COLOURS[name], lw=1.2, ms=5, label=name)
    axes.set(title=title, xlim=(0, 64), ylim=(64, 0), aspect="equal")
    axes.legend(frameon=False, fontsize=7)


if __name__ == "__main__":
    main()
