"""All that is watched, taken as one stream: is it still normal footage? A promise that holds however long one watches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from foretell.doubt.martingale import StreamEvidence
from foretell.errors import ConfigError
from foretell.surprise.calibrate import Calibration, unit_maxima

SEED = 0


@dataclass(frozen=True, kw_only=True)
class StreamResult:
    """What the stream as a whole came to."""

    words: str
    alpha: float
    """If all of it is normal, the evidence ever reaches 1 / alpha with at most this probability."""
    units: int
    """Clips or segments that counted, in the order in which they were watched."""
    left_out: int
    """Files and segments that were not scored, and files longer than the clips of the calibration."""
    log10_evidence: float
    """Decimal logarithm at the end; 0 at the start."""
    highest_log10_evidence: float
    alarm: bool
    alarm_file: str | None
    """Where the evidence first reached 1 / alpha."""
    alarm_s: float | None
    """The end of that unit, in seconds of its file."""


class Stream:
    """Takes in one video after the other, as units like those of the calibration."""

    def __init__(self, calibration: Calibration | None, alpha: float, fps: float) -> None:
        """Raises ConfigError without calibration, or unless 0 < alpha < 1."""
        if calibration is None or not 0 < alpha < 1:
            raise ConfigError(
                f"evidence over the stream: got alpha {alpha} and {'no' if calibration is None else 'a'} calibration; "
                "expected more than 0 and less than 1, and a calibrated model: calibrate first, or watch without it"
            )
        self._calibration, self._alpha, self._fps = calibration, alpha, fps
        self._evidence = StreamEvidence(calibration.scores, seed=SEED)
        self._left_out = self._longer = 0
        self._alarm: tuple[str, float] | None = None

    def add(self, name: str, surprise: np.ndarray) -> None:
        """surprise: (T,) of one whole video, NaN where not scored.

        Where the calibration counts clips, a longer video has more time to be surprised and is no unit: it is left out.
        """
        made = self._calibration
        if made.unit == "clip" and len(surprise) / self._fps > 1.5 * made.unit_seconds:
            self._left_out += 1
            self._longer += 1
            return
        units = unit_maxima(
            surprise, fps=self._fps, unit=made.unit, segment_seconds=made.unit_seconds, gap_seconds=made.gap_seconds
        )
        self._left_out += units.left_out
        for score, end in zip(units.maxima.tolist(), units.ends.tolist(), strict=True):
            self._evidence.add(score)
            if self._alarm is None and self._evidence.alarm(self._alpha):
                self._alarm = name, end / self._fps

    def result(self) -> StreamResult:
        """What it came to so far."""
        evidence = self._evidence
        return StreamResult(
            words=self._words(),
            alpha=self._alpha,
            units=evidence.steps,
            left_out=self._left_out,
            log10_evidence=evidence.log_evidence / math.log(10),
            highest_log10_evidence=evidence.highest_log_evidence / math.log(10),
            alarm=self._alarm is not None,
            alarm_file=None if self._alarm is None else self._alarm[0],
            alarm_s=None if self._alarm is None else self._alarm[1],
        )

    def _words(self) -> str:
        evidence, made = self._evidence, self._calibration
        if not evidence.steps:
            told = f"Nothing could be said of the stream as a whole: no {made.unit} of it counted."
        else:
            reached = "never reached"
            if self._alarm is not None:
                reached = f"ALARM in {self._alarm[0]} at {self._alarm[1]:.1f} s: it reached"
            told = (
                "Evidence that this stream is no longer normal footage: at most "
                f"{_say(evidence.highest_log_evidence)}, {_say(evidence.log_evidence)} at the end of {evidence.steps} {made.unit}s, "
                f"from 1 at the start; {reached} {1 / self._alpha:.4g}. If all of it is normal, the chance that it ever does, "
                f"however long one watches, is at most {100 * self._alpha:.3g}%."
            )
        if self._longer:
            told += (
                f" {self._longer} longer than the clips of the calibration did not count: calibrate on long recordings, "
                "so that segments count."
            )
        return told


def _say(log_evidence: float) -> str:
    """A fortune as one would say it, whatever its size."""
    power = log_evidence / math.log(10)
    return f"{math.exp(log_evidence):.3g}" if abs(power) < 4 else f"10^{power:.0f}"
