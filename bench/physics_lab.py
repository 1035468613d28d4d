"""Real lab films: where hand-marked things will be, and what a probe reads of mass, spring and incline.

    python bench/physics_lab.py DATA --work WORK [--pretrained MODEL] [--seeds 0] [--steps 400]

Starts from a model of simulated scenes and trains on the films themselves, in two folds by film: what is judged was never
trained on. Forecast: 0.1 and 0.2 s ahead, read from foretold latents by ridge probes that never saw the film, beside copy,
line and parabola through its marks, which know no picture. Labels: read from pooled latents and memory of a whole film, by
probes fitted on the other films. Beside both the model before it saw films, and an untrained network.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lab_films import (
    AHEAD,
    FOLDS,
    LABELS,
    MARKS,
    NEAR,
    RECENT,
    SAME_FOOTAGE,
    SEEN,
    VIEW,
    Film,
    folds,
    read_films,
)
from lab_judge import PENALTIES, PLACE_PENALTY, Errors, Judge, ModelOf, Reads
from result import write_result

import foretell
from foretell.evals.intervals import Figure, bootstrap
from foretell.log import Samples
from foretell.model.folder import load_model, read_config
from foretell.model.world_model import WorldModel
from foretell.surprise.panel import untrained_model
from foretell.train.optim import OptimConfig

HOLD_OUT = 0.1
TRAIN = {"batch": 12, "window": 12}
OPTIM = OptimConfig(peak=1e-3)
UNTRAINED_SEED = 12345


def main() -> None:
    """Train each fold and seed, judge, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pretrained", type=Path, help="model folder to start from; unless given, random weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()

    films = read_films(arguments.data)
    fold_of = folds(films)
    judge = Judge(films)
    stores = [ingest_fold(films, fold_of, fold, arguments.work) for fold in range(FOLDS)]
    errors, reads, minutes = [], [], []
    for seed in arguments.seeds:
        began = time.process_time()
        models = [train(store, arguments, seed) for store in stores]
        minutes.append((time.process_time() - began) / 60)
        found = judge(by_fold(models, fold_of))
        errors.append(found[0])
        reads.append(found[1])
    networks = {"untrained": untrained_model(models[0].config, UNTRAINED_SEED)}
    if arguments.pretrained:
        networks["simulated"] = load_model(arguments.pretrained)

    metrics = {"cpu_minutes": minutes} | seed_figures(errors, reads)
    metrics |= forecast_figures(films, mean_of_seeds(errors), "model") | label_figures(reads, "model")
    baselines = forecast_figures(films, judge.rules(), "marks")
    baselines |= label_figures([judge.means()], "mean")
    for name, network in networks.items():
        of_films, of_labels = judge(by_fold([network] * FOLDS, fold_of))
        baselines |= forecast_figures(films, of_films, name) | label_figures([of_labels], name)
    write_result(
        arguments.out / "physics_lab.json",
        protocol=protocol(arguments, films, fold_of, judge),
        seeds=arguments.seeds,
        metrics=metrics,
        baselines=baselines,
    )


def train(store: Path, arguments: argparse.Namespace, seed: int) -> WorldModel:
    """The model of one fold and seed."""
    config = foretell.TrainConfig(
        steps=arguments.steps, seed=seed, optim=OPTIM, check_every=max(5, arguments.steps // 5), **TRAIN
    )
    out = store.parent / f"m{seed}"
    start = arguments.pretrained
    return load_model(foretell.train_model(str(store), out, hold_out=HOLD_OUT, start_from=start, config=config))


def ingest_fold(films: Sequence[Film], fold_of: Mapping[str, int], fold: int, work: Path) -> Path:
    """The store of the films that a fold's model may see."""
    folder = work / f"fold{fold}"
    for film in films:
        link = folder / "videos" / film.name
        if fold_of.get(film.name) != fold and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(film.path.resolve(), link)
    size = f"{VIEW.height}x{VIEW.width}"
    foretell.ingest(folder / "videos", folder / "store", size=size, fps=VIEW.fps, fit=VIEW.fit, workers=1)
    return folder / "store"


def by_fold(models: Sequence[WorldModel], fold_of: Mapping[str, int]) -> ModelOf:
    """The model that is to judge a film: that of its fold."""
    return lambda film: models[fold_of[film.name]]


def mean_of_seeds(errors: Sequence[dict[str, Errors]]) -> dict[str, Errors]:
    """A moment's error is its mean over the seeds."""
    return {k: {film: np.mean([one[k][film] for one in errors], 0) for film in errors[0][k]} for k in errors[0]}


def forecast_figures(films: Sequence[Film], errors: dict[str, Errors], who: str) -> dict[str, Samples]:
    """By "forecast/who way/+0.1s/unit" the mean over films, with the interval of films drawn anew; and each film's own."""
    known = {film.name: film for film in films}
    found: dict[str, Samples] = {}
    for way, of_films in errors.items():
        for ahead in range(AHEAD):
            px = np.array([wrong[:, ahead].mean() for wrong in of_films.values()])
            cm = px / [known[name].px_per_metre for name in of_films] * 100
            at = f"{who} {way}/+{(ahead + 1) / VIEW.fps:g}s"
            found |= {f"forecast/{at}/px": over_films(px), f"forecast/{at}/cm": over_films(cm)}
            found[f"forecast/{at}/median cm"] = over_films(cm, np.median)
            for name, value in zip(of_films, cm, strict=True):
                found[f"film/{Path(name).stem}/{at}/cm"] = float(value)
    return found


def over_films(values: np.ndarray, middle: Callable[[np.ndarray], np.floating] = np.mean) -> Figure:
    """Mean (or median) of (films,) and its 95% interval."""
    return bootstrap(lambda drawn: float(middle(values[drawn])), len(values), draws=1000)


def label_figures(reads: Sequence[Reads], who: str) -> dict[str, Samples]:
    """R2 and mean error of each label, read by leaving out the film, or all of its setting, or from one frame; over films.

    Both are means over the seeds, on the same films.
    """
    found: dict[str, Samples] = {}
    for label in LABELS:
        truth = reads[0][label][:, 0]
        for column, how in ((1, "film left out"), (2, "setting left out"), (3, "one frame")):
            said = np.stack([of_seed[label][:, column] for of_seed in reads])
            at = f"label/{label}/{who}, {how}"
            found[f"{at}/mae"] = over_films(np.abs(said - truth).mean(0))
            found[f"{at}/r2"] = bootstrap(partial(mean_r2, truth, said), len(truth), draws=1000)
    return found


def mean_r2(truth: np.ndarray, said: np.ndarray, drawn: np.ndarray) -> float:
    """Of the films `drawn`, the mean over seeds; truth (films,), said (seeds, films)."""
    return float(np.mean([r2(truth[drawn], of_seed[drawn]) for of_seed in said]))


def r2(truth: np.ndarray, said: np.ndarray) -> float:
    """1 - squared error over that of the mean of `truth`; NaN if all of it is alike."""
    total = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - said) ** 2).sum() / total) if total > 0 else float("nan")


def seed_figures(errors: Sequence[dict[str, Errors]], reads: Sequence[Reads]) -> dict[str, Samples]:
    """One number a seed: how much they differ."""
    found: dict[str, Samples] = {
        f"seeds/{way}/+{(ahead + 1) / VIEW.fps:g}s/px": [
            float(np.mean([wrong[:, ahead].mean() for wrong in one[way].values()])) for one in errors
        ]
        for way in errors[0]
        for ahead in range(AHEAD)
    }
    return found | {f"seeds/{label}/r2": [r2(*one[label][:, :2].T) for one in reads] for label in LABELS}


def protocol(
    arguments: argparse.Namespace, films: Sequence[Film], fold_of: Mapping[str, int], judge: Judge
) -> dict[str, Any]:
    """Every setting that could change a number, and what the names of figures mean."""
    weights = read_config(arguments.pretrained)["sha256"]["model.safetensors"] if arguments.pretrained else None
    leads = [m.then[:, 0] - m.past[-1, 0] for film in judge.tracked for m in judge.moments_of(film)]
    return {
        "start from": weights and f"model of simulated scenes, weights sha256 {weights[:16]}",
        "view": repr(VIEW),
        "train": {"steps": arguments.steps, **TRAIN, "optim": repr(OPTIM), "hold_out": HOLD_OUT},
        "objective": repr(foretell.TrainConfig(steps=1).objective),
        "folds": {"by": "film, settings and same footage together", **{k: fold_of[k] for k in sorted(fold_of)}},
        "trained on in every fold": [film.name for film in films if film.name not in fold_of],
        "same footage": SAME_FOOTAGE,
        "forecast": {
            "films": {film.name: len(judge.moments_of(film)) for film in judge.tracked},
            "not judged": [film.name for film in films if film.tracks and not film.is_forecast],
            "why not": "time lapse: no frame 0.1 s ahead",
            "steps seen at least": SEEN,
            "marks known at least": MARKS,
            "parabola and fitted line": f"least squares on the marks of {RECENT} s, at least {MARKS}; short: of {MARKS}",
            "truth": f"mark of the frame that the step shows; between marks at most {NEAR} s apart on the line",
            "seconds ahead, mean": np.round(np.mean(leads, 0), 3).tolist(),
            "moved": "last mark + ridge probe of its displacement, from the 3x3 tokens around it: foretold less present "
            "latents, and memory; one probe each step ahead",
            "placed": "ridge probe of the first object's place from all latents of a step, fitted on seen and foretold ones",
            "placed_seen": "the same probe on the frames that came: the floor of what it can read",
            "probes": f"leave one film out; penalty of `moved` by the same among the rest, of `placed` {PLACE_PENALTY}",
            "figures": "mean or median of the films' mean errors; intervals over films; film/ has each film's own",
        },
        "labels": {
            "columns": LABELS,
            "films": {label: sum(label in film.labels for film in films) for label in LABELS},
            "left out": "mass where label_consistent is 0",
            "features": "latents and memory: mean over steps and tokens, mean over tokens of the deviation in time",
            "steps": "the first ones, as many as the shortest film with the label has: a film's length tells of its spring",
            "one frame": "from the latents of the first frame, film left out: what looks alone tell",
            "penalties": PENALTIES,
        },
    }


if __name__ == "__main__":
    main()
