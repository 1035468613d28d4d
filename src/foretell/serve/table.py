"""surprise.csv: a row for every source frame of every readable file, with the score of the step it belongs to."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from foretell.surprise.calibrate import Calibration
from foretell.surprise.smooth import Smoother

COLUMNS = ("file", "frame", "time_s", "surprise", "p_value", "alarm")


class Track:
    """One scorer's numbers for one video: surprise and p-value of each step. Doubles, and nothing else, are kept."""

    def __init__(
        self,
        calibration: Calibration | None,
        alpha: float | None,
        smooth: int = 1,
        strangeness: Calibration | None = None,
    ) -> None:
        """`strangeness` sets the line above which steps are too strange to be judged."""
        self._calibration, self._alpha, self._smoother = calibration, alpha, Smoother(smooth)
        self.surprise = array("d")
        self.p_value = array("d")
        self.strange = array("d")
        self.threshold, self._too_strange = (
            None if line is None or alpha is None else line.threshold(alpha) for line in (calibration, strangeness)
        )

    def add(self, surprise: np.ndarray, strange: np.ndarray) -> None:
        """surprise: (T,) of the next steps, NaN where not scored, kept once it is smoothed; and how strange each is (T,)."""
        self.strange.frombytes(np.asarray(strange, np.float64).tobytes())
        self._keep(self._smoother.add(surprise))

    def end(self) -> None:
        """The video is over: keep what still waits for smoothing."""
        self._keep(self._smoother.end())

    def _keep(self, surprise: np.ndarray) -> None:
        p_value = np.full(len(surprise), np.nan) if self._calibration is None else self._calibration.p_value(surprise)
        self.surprise.frombytes(surprise.tobytes())
        self.p_value.frombytes(np.asarray(p_value, np.float64).tobytes())

    def alarms(self) -> np.ndarray:
        """bool (T,): which steps lie above the alarm line."""
        return np.array(self.p_value) <= (-1.0 if self._alpha is None else self._alpha)

    def highest(self, first: int, last: int) -> int | None:
        """The step with the highest score from `first` up to and with `last`; None if none of them is scored."""
        scored = [
            step for step in range(first, min(last + 1, len(self.surprise))) if not math.isnan(self.surprise[step])
        ]
        return max(scored, key=self.surprise.__getitem__, default=None)

    def is_alarm(self, step: int) -> bool:
        """Whether this step lies above the alarm line; never without calibration."""
        return self._alpha is not None and self.p_value[step] <= self._alpha

    def unknown(self) -> np.ndarray:
        """bool (T,): which steps are too unlike anything normal for their surprise to mean much, and raise no alarm."""
        too_strange = np.array(self.strange) > (np.inf if self._too_strange is None else self._too_strange)
        return too_strange & ~self.alarms()

    def is_unknown(self, first: int, last: int) -> bool:
        """Whether any step from `first` up to and with `last` is too strange to be judged."""
        return self._too_strange is not None and any(s > self._too_strange for s in self.strange[first : last + 1])

    @property
    def calibrated(self) -> bool:
        """Whether there is an alarm line to hold the scores against."""
        return self.threshold is not None


class Row(NamedTuple):
    """One source frame."""

    frame: int
    time_s: float
    step: int


class SurpriseTable:
    """Writes the rows of one file after the other. Use it in a `with` block: it closes the file, it does not name it.

    Where the source has fewer frames a second than the model has steps, a frame stands until the next one comes and
    takes the highest score of the steps it stands for, so that no alarm falls between two rows. Where the video is too
    strange to be judged and raises no alarm, p-value and alarm stay empty.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
        self._file.write(",".join(COLUMNS) + "\n")

    def begin(self, name: str, track: Track) -> None:
        """The rows that follow are of the file `name`, scored by `track`."""
        cell = io.StringIO()
        csv.writer(cell).writerow([name])
        self._name, self._track = cell.getvalue().removesuffix("\r\n"), track
        self._waiting: deque[Row] = deque()
        self.frames, self.first_alarm = 0, None

    frames: int
    """Rows of this file so far, with those that still wait for their score."""
    first_alarm: Row | None
    """The first row of this file above the alarm line."""

    def add(self, seconds: np.ndarray, steps: np.ndarray) -> None:
        """Source frames by their time and model step, (M,) each; a row is written once the frame's steps are scored."""
        for time_s, step in zip(seconds.tolist(), steps.tolist(), strict=True):
            self._waiting.append(Row(self.frames, time_s, step))
            self.frames += 1
        while len(self._waiting) > 1 and self._last_step() < len(self._track.surprise):
            self._write(self._last_step())

    def end(self) -> None:
        """Write what still waits: frames whose step never came are not scored."""
        while self._waiting:
            self._write(self._last_step())

    def _last_step(self) -> int:
        """The last step that the first waiting frame stands for."""
        if len(self._waiting) == 1:
            return max(self._waiting[0].step, len(self._track.surprise) - 1)
        return max(self._waiting[0].step, self._waiting[1].step - 1)

    def _write(self, last_step: int) -> None:
        row = self._waiting.popleft()
        step = self._track.highest(row.step, last_step)
        cells = ",,"
        if step is not None:
            cells = f"{self._track.surprise[step]:.6g},,"
            alarm = self._track.is_alarm(step)
            if self._track.calibrated and (alarm or not self._track.is_unknown(row.step, last_step)):
                cells = f"{self._track.surprise[step]:.6g},{self._track.p_value[step]:.6g},{int(alarm)}"
                if alarm and self.first_alarm is None:
                    self.first_alarm = row
        self._file.write(f"{self._name},{row.frame},{row.time_s:.4f},{cells}\n")

    def __enter__(self) -> SurpriseTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
