"""Who is trained on, who chooses the checkpoint, who calibrates: whole stretches of video, never shared.

A stretch is a clip, or, where a recording is long, a piece of it with a gap to the next, so that neighbours are nearly
independent. Every stretch has one part to play for good: what calibrates was never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretell.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """`length` consecutive steps of clip number `clip`, from step `start`."""

    clip: int
    start: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """The parts of a store: to train on, to develop on (checkpoint, monitors, whitening) and to calibrate on."""

    train: tuple[Stretch, ...]
    development: tuple[Stretch, ...]
    calibration: tuple[Stretch, ...]


def split_stretches(
    lengths: Sequence[int],
    *,
    fps: float,
    calibration: float,
    development: float,
    seed: int,
    stretch_seconds: float = 20.0,
) -> Split:
    """Cut clips of `lengths` steps into stretches and deal them out by `seed`.

    Clips of up to 1.5 * `stretch_seconds` stay whole; longer ones are cut, with a tenth of a stretch left out between
    neighbours. `calibration` and `development` are shares of all stretches, each at least one.
    Raises DataError if fewer than three stretches come out.
    """
    whole = max(1, round(stretch_seconds * fps))
    stretches = [piece for clip, length in enumerate(lengths) for piece in _cut(clip, length, whole)]
    if len(stretches) < 3:
        raise DataError(
            f"store: {len(stretches)} stretch(es) of video, expected at least 3 (one each to train, to choose the "
            f"checkpoint, to calibrate): add clips, or recordings longer than {1.5 * stretch_seconds:.0f} s"
        )
    order = np.random.default_rng([seed, len(stretches)]).permutation(len(stretches))
    n_calibration = max(1, round(calibration * len(stretches)))
    n_development = max(1, round(development * len(stretches)))
    if n_calibration + n_development >= len(stretches):
        n_calibration = n_development = 1
    dealt = [
        tuple(stretches[i] for i in sorted(part))
        for part in np.split(order, [n_calibration, n_calibration + n_development])
    ]
    return Split(calibration=dealt[0], development=dealt[1], train=dealt[2])


def _cut(clip: int, length: int, whole: int) -> list[Stretch]:
    if length <= 1.5 * whole:
        return [Stretch(clip=clip, start=0, length=length)] if length else []
    gap = max(1, whole // 10)
    starts = range(0, length - whole // 2, whole + gap)
    return [Stretch(clip=clip, start=s, length=min(whole, length - s)) for s in starts]
