"""How surprised is too surprised: split conformal on whole units. Numbers in, numbers out.

A unit is a clip, or in long recordings a segment of stated seconds with gaps between; its score is the largest
surprise in it. Frames of one clip resemble each other, so only whole units may be counted as independent. If a new
normal unit is as likely to rank anywhere among the n calibration units (they are exchangeable), it holds an alarm with
probability at most alpha, and more than alpha - 1 / (n + 1) where no scores are tied. Source: Vovk et al., Algorithmic
Learning in a Random World (2005); Angelopoulos and Bates, arXiv 2107.07511, section 1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from foretell.errors import CalibrationError, ConfigError
from foretell.log import read_sealed, write_sealed

Unit = Literal["clip", "segment"]
VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """The scores of normal units, and what a new score means beside them. Raises CalibrationError if there are none."""

    scores: np.ndarray
    """(n,) largest surprise of each calibration unit, ascending."""
    unit: Unit
    """What is counted as one: a whole clip, or a segment of a long recording."""
    unit_seconds: float
    """Length of a unit; for clips their mean."""
    gap_seconds: float = 0.0
    """Seconds left out between two segments, so that they are nearly independent."""
    left_out: int = 0
    """Clips or segments without a scored step, and recordings shorter than one segment."""
    names: tuple[str, ...] = ()
    """The files that the units came from."""

    def __post_init__(self) -> None:
        scores = np.sort(np.asarray(self.scores, dtype=np.float64))
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise CalibrationError(
                f"calibration: got scores of shape {scores.shape}, {int(np.isfinite(scores).sum())} of them finite, "
                f"and {self.left_out} units left out; expected one finite score a unit: give footage that can be scored"
            )
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)

    def p_value(self, surprise: np.ndarray) -> np.ndarray:
        """(T,) surprise -> (T,) share of units, itself counted, that came at least as high; NaN (not scored) stays NaN.

        The smallest p-value over a new normal unit is at most alpha with probability at most alpha.
        """
        surprise = np.asarray(surprise, dtype=np.float64)
        at_least = len(self.scores) - np.searchsorted(self.scores, surprise, side="left")
        return np.where(np.isnan(surprise), np.nan, (1 + at_least) / (len(self.scores) + 1))

    def threshold(self, alpha: float) -> float:
        """The surprise above which a step raises an alarm: the ceil((n + 1)(1 - alpha))-th smallest score.

        `surprise > threshold(alpha)` and `p_value(surprise) <= alpha` are the same to the last bit. Raises ConfigError
        unless 0 < alpha < 1, CalibrationError if there are too few units to promise alpha.
        """
        needed, units = units_needed(alpha), len(self.scores)
        if units < needed:
            raise CalibrationError(
                f"alpha {alpha:g}: got {units} calibration {self.unit}s, expected at least {needed}: "
                f"calibrate on more normal footage, or ask for alpha {1 / (units + 1):.4g} or more"
            )
        return float(self.scores[units - _largest_count(alpha, units + 1)])

    def alpha_for_false_alarms_per_hour(self, rate: float) -> float:
        """The alpha that keeps false alarms (normal units with any alarm) at `rate` an hour. Raises ConfigError."""
        alpha = rate * self.unit_seconds / 3600
        if not 0 < alpha < 1:
            raise ConfigError(
                f"false alarms per hour: got {rate:g}, expected more than 0 and less than "
                f"{3600 / self.unit_seconds:g}, the {self.unit}s of {self.unit_seconds:.3g} s in an hour"
            )
        return alpha

    def false_alarms_per_hour(self, alpha: float) -> float:
        """How many normal units an hour raise an alarm at most, at this alpha."""
        return alpha * 3600 / self.unit_seconds

    def overlap(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that this calibration has seen: the promise does not hold for them."""
        seen = set(self.names)
        return [name for name in names if name in seen]

    def __str__(self) -> str:
        """What the command line prints."""
        smallest = 1 / (len(self.scores) + 1)
        return (
            f"calibrated on {len(self.scores)} normal units ({self.unit}s of {self.unit_seconds:g} s) of {len(self.names)} files, "
            f"{self.left_out} left out; alpha may be {smallest:.2g} or more"
        )

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all. Raises DataError if it cannot be written."""
        content = {
            "unit": self.unit,
            "unit_seconds": self.unit_seconds,
            "gap_seconds": self.gap_seconds,
            "left_out": self.left_out,
            "names": list(self.names),
            "scores": self.scores.tolist(),
        }
        write_sealed(path, content, VERSION)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote. Raises CheckpointError if it is missing, altered or of another version."""
        content = read_sealed(path, VERSION, "a calibration", "calibrate again")
        return cls(**dict(content, names=tuple(content["names"]), scores=np.array(content["scores"])))


def calibrate(
    surprises: Mapping[str, np.ndarray], *, fps: float, segment_seconds: float = 10.0, gap_seconds: float = 2.0
) -> Calibration:
    """Calibrate on normal footage: file name -> surprise (T,) at `fps`, NaN where not scored.

    Clips count as units if the median one is at most `segment_seconds` long; longer recordings are cut into segments.
    Raises CalibrationError if no unit can be scored.
    """
    seconds = [len(surprise) / fps for surprise in surprises.values()]
    unit = choose_unit(seconds, segment_seconds)
    found = {
        name: unit_maxima(surprise, fps=fps, unit=unit, segment_seconds=segment_seconds, gap_seconds=gap_seconds)
        for name, surprise in surprises.items()
    }
    return Calibration(
        scores=np.concatenate([units.maxima for units in found.values()]),
        unit=unit,
        unit_seconds=statistics.fmean(seconds) if unit == "clip" else segment_seconds,
        gap_seconds=0.0 if unit == "clip" else gap_seconds,
        left_out=sum(units.left_out for units in found.values()),
        names=tuple(name for name, units in found.items() if len(units.maxima)),
    )


def choose_unit(clip_seconds: Sequence[float], segment_seconds: float = 10.0) -> Unit:
    """Whole clips if the median one is at most a segment long, else segments. Raises CalibrationError without clips."""
    if not clip_seconds:
        raise CalibrationError("calibration: got no clips, expected normal footage: give a folder that holds some")
    return "clip" if statistics.median(clip_seconds) <= segment_seconds else "segment"


class Units(NamedTuple):
    """What one recording gives to a calibration."""

    maxima: np.ndarray
    """(n,) largest surprise of each unit."""
    ends: np.ndarray
    """(n,) the step after each unit's last."""
    left_out: int
    """Units without a scored step; 1 for a recording shorter than one segment."""


def unit_maxima(
    surprise: np.ndarray, *, fps: float, unit: Unit, segment_seconds: float = 10.0, gap_seconds: float = 2.0
) -> Units:
    """Cut the surprise (T,) of one recording into units and take the largest of each, NaN steps (not scored) ignored.

    Segments begin at the first scored step and are all of full length: a rest at the end has less time to be surprised.
    Raises ConfigError if a segment is shorter than one step.
    """
    surprise = np.asarray(surprise, dtype=np.float64)
    if unit == "clip":
        starts, length = np.zeros(1, np.int64), len(surprise)
    else:
        length, gap = round(segment_seconds * fps), round(gap_seconds * fps)
        if length < 1 or gap < 0:
            raise ConfigError(
                f"segments: got {segment_seconds:g} s with gaps of {gap_seconds:g} s at {fps:g} fps, "
                "expected a step or more, and no gap below 0"
            )
        scored = np.flatnonzero(~np.isnan(surprise))
        first = int(scored[0]) if len(scored) else len(surprise)
        starts = np.arange(first, len(surprise) - length + 1, length + gap)
    counted = [int(at) for at in starts if not np.isnan(surprise[at : at + length]).all()]
    maxima = [np.nanmax(surprise[at : at + length]) for at in counted]
    return Units(
        maxima=np.array(maxima, dtype=np.float64),
        ends=np.array(counted, dtype=np.int64) + length,
        left_out=max(1, len(starts)) - len(counted),
    )


def units_needed(alpha: float) -> int:
    """The fewest units that can promise alpha: ceil(1 / alpha) - 1. Raises ConfigError unless 0 < alpha < 1."""
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha: got {alpha}, expected more than 0 and less than 1")
    near = math.ceil(1 / alpha)  # rounding may put it one off: 1 / n <= alpha decides, as it does for p-values
    return next(n for n in (near - 1, near, near + 1) if n > 1 and 1 / n <= alpha) - 1


def _largest_count(alpha: float, of: int) -> int:
    """The largest count with count / of <= alpha in the very arithmetic of p_value."""
    near = math.floor(alpha * of)
    return next(count for count in (near + 1, near, near - 1) if count / of <= alpha)
