"""The verb that foretells quantities along a stream that may drift: track."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from foretell.doubt.adaptive import AdaptiveThreshold
from foretell.errors import DataError
from foretell.model.folder import load_model
from foretell.predicting import Footage, check_watches
from foretell.serve.tracked import Step, Tracked, write_tracked
from foretell.train.forecaster import Forecast, Forecaster
from foretell.train.quantities import Told, imagine_windows
from foretell.verbs import one_thread

AT_ONCE = 64
"""Forecasts of one video that are made together."""


def track(
    model: Positional[Path], recording: Positional[Path], out: Path = Path("tracked"), *, gamma: float = 0.02
) -> Tracked:
    """Foretell quantities along a stream, one forecast after another, with a band that learns from what it missed.

    Before each forecast, what came of the last one is known. If the stream drifts, a fixed band breaks its promise; this one gets
    wider after a miss and a little narrower after a hit, so that over the long run the stated share stays inside whatever comes.
    Writes tracked.csv, tracked.json and report.html.

    Args:
        model: A model folder that foretell quantify has dealt with.
        recording: The stream: videos in the order of their names, with states.parquet or NAME.csv beside NAME.mp4.
        out: Folder for the three files.
        gamma: How fast the band follows; 0.005 to 0.05 is usual, more is quicker and less steady.
    """
    one_thread()
    network = load_model(Path(model))
    check_watches(network)
    forecaster = Forecaster.load(Path(model), network)
    config, level = forecaster.quantities.config, forecaster.band.level
    follows = AdaptiveThreshold(1 - level, gamma=gamma, scores=forecaster.misses)
    footage = Footage(network, Path(recording), config)
    steps: list[Step] = []
    too_short = 0
    for name, frames, truth in footage.clips(range(len(footage.files)), "track"):
        before = len(steps)
        for first, told in stretches(frames, truth, config.context, config.horizon):
            windows = imagine_windows(network, [told], config, every=config.horizon)
            steps += judged(name, first, forecaster(windows), windows, follows)
        too_short += len(steps) == before
    if not steps:
        raise DataError(
            f"{recording}: none of its videos has {config.context + config.horizon} steps, {config.context} to see and "
            f"{config.horizon} to foretell"
        )
    return write_tracked(
        Path(out), steps, forecaster, follows, fps=network.config.view.fps, skipped=footage.left_out, too_short=too_short
    )  # fmt: skip


def stretches(
    frames: np.ndarray, truth: np.ndarray, context: int, horizon: int
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """A video in pieces that give so many forecasts each, none twice: the first step that is foretold in it, and the piece."""
    length = AT_ONCE * horizon
    for at in range(0, len(frames) - context - horizon + 1, length):
        piece = slice(at, at + context + length)
        yield at + context, (frames[piece], truth[piece])


def judged(name: str, first: int, said: Forecast, told: Told, follows: AdaptiveThreshold) -> Iterator[Step]:
    """One forecast after another: the band as it is by then, and what came, from which it learns.

    Of what the forecaster abstains from nothing is claimed; where nobody knows what came, nothing is learned.
    """
    truth = told.truth.double().numpy()
    misses = np.where(said.abstained, -np.inf, (np.abs(truth - said.mean) / said.spread).max(2))  # (N, H)
    for number, miss in enumerate(misses.max(1).tolist()):
        spreads = follows.threshold
        counts = bool(np.isfinite(miss))  # minus infinite if nothing is claimed, NaN if it is not known what came
        yield Step(
            file=name,
            first=first + number * said.mean.shape[1],
            mean=said.mean[number],
            spread=said.spread[number],
            truth=truth[number],
            abstained=said.abstained[number],
            spreads=spreads,
            miss=miss if counts else None,
            missed=follows.add(miss) if counts else None,
        )
