"""What watching came to: a result for each file, the promise in words, what else must be said. Told as summary.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from foretell.serve.evidence import StreamResult
from foretell.surprise.calibrate import Calibration

UNCALIBRATED = (
    "The model is not calibrated, so there is no alarm line, no p-value and no alarm, only scores. "
    "Run `foretell calibrate` on normal footage that the model was not trained on."
)

KNOWS_NO_LIMITS = (
    "This model cannot say that it does not know: how unlike normal footage a video may be was not learned, or not on enough "
    "footage for this rate. Train again, or calibrate on more."
)


@dataclass(frozen=True, kw_only=True)
class ControlResult:
    """What a control (motion, an untrained network) made of one file."""

    max_score: float | None
    """Its largest score; None if it scored nothing."""
    p_value: float | None
    """Its smallest p-value; None without calibration."""
    alarm: bool | None
    """Whether it would have raised an alarm; None without calibration."""


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What the model made of one readable file. Times are seconds in the source video, frames count from 0 in it."""

    file: str
    status: Literal["scored", "not scored"]
    note: str
    """Why it is not scored, or that it broke off; empty if there is nothing to say."""
    frames: int
    seconds: float
    max_surprise: float | None
    max_surprise_s: float | None
    p_value: float | None
    """The smallest in the file; None where there is no alarm and parts are not known."""
    alarm: bool | None
    """None without calibration, and where there is no alarm but parts are not known."""
    first_alarm_s: float | None
    first_alarm_frame: int | None
    alarms: list[tuple[float, float]]
    """Start and end of each stretch above the alarm line; stretches less than a second apart are one."""
    unknown: list[tuple[float, float]]
    """Start and end of each stretch too unlike anything normal to be judged, and without an alarm."""
    controls: dict[str, ControlResult]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that could not be read, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The false-alarm rate that holds if what is watched is normal."""

    words: str
    alpha: float | None
    """None if the model is not calibrated."""
    unit: str | None = None
    unit_seconds: float | None = None
    false_alarms_per_hour: float | None = None
    calibration_units: int | None = None
    """How many normal units the alarm line stands on."""
    threshold: float | None = None
    """The alarm line: surprise above it is an alarm."""


@dataclass(frozen=True, kw_only=True)
class WatchSummary:
    """All that `watch` found. `write` gives summary.json."""

    source: str
    created: str
    promise: Promise
    warnings: list[str]
    files: list[FileResult]
    skipped: list[Skipped]
    protocol: dict[str, Any]
    """Every setting that could change a number."""
    stream: StreamResult | None = None
    """What all of it as one stream came to, where that was asked for."""
    counts: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        scored = [file for file in self.files if file.status == "scored"]
        counts: dict[str, float] = {
            "files": len(self.files) + len(self.skipped),
            "scored": len(scored),
            "not_scored": len(self.files) - len(scored),
            "skipped": len(self.skipped),
            "with_alarm": sum(bool(file.alarm) for file in scored),
            "not_known": sum(bool(file.unknown) for file in scored),
            "frames": sum(file.frames for file in self.files),
            "seconds": round(sum(file.seconds for file in self.files), 3),
        }
        object.__setattr__(self, "counts", counts)

    def __str__(self) -> str:
        """What the command line prints: counts, alarms, the promise, what was skipped and what else must be said."""
        c = self.counts
        lines = [
            f"{c['scored']} of {c['files']} files scored ({c['frames']} frames), {c['not_scored']} too short, {c['skipped']} skipped",
            *(f"  skipped {one.file}: {one.reason}" for one in self.skipped),
            *(f"  not scored {one.file}: {one.note}" for one in self.files if one.status != "scored"),
            f"{c['with_alarm']} with an alarm. {self.promise.words}",
            *([self.doubt] if c["not_known"] else []),
            *([] if self.stream is None else [self.stream.words]),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join(lines)

    @property
    def doubt(self) -> str:
        """In one sentence, what it does not know; empty where that is nothing."""
        files = [file for file in self.files if file.unknown]
        if not files:
            return ""
        parts = f"{len(files)} of {len(self.files)} files {'is' if len(files) == 1 else 'are'} in part unlike anything normal"
        first = f"{files[0].file} from {files[0].unknown[0][0]:.1f} s"
        return f"I don't know: {parts}, first {first}. That there is no alarm says nothing there."

    def to_json(self) -> str:
        """The content of summary.json; a number that is not finite is null."""
        return json.dumps(_finite(asdict(self)), indent=1, allow_nan=False) + "\n"


def promise(calibration: Calibration | None, alpha: float | None, *, asked_per_hour: bool = False) -> Promise:
    """What can be promised at `alpha`. Raises CalibrationError if the units are too few for it."""
    if calibration is None or alpha is None:
        return Promise(words=UNCALIBRATED, alpha=None)
    thing = "clips" if calibration.unit == "clip" else f"{number(calibration.unit_seconds)}-second segments"
    rate = calibration.false_alarms_per_hour(alpha)
    share = f"t most {number(100 * alpha)}% of normal {thing} raise any alarm"
    hourly = (
        f"At most {number(rate)} false alarm{'' if rate == 1 else 's'} an hour of normal video, on average (a{share})."
    )
    return Promise(
        words=hourly if asked_per_hour else f"A{share}.",
        alpha=alpha,
        unit=calibration.unit,
        unit_seconds=calibration.unit_seconds,
        false_alarms_per_hour=rate,
        calibration_units=len(calibration.scores),
        threshold=calibration.threshold(alpha),
    )


def expected_by_chance(made: Promise, files: Sequence[FileResult]) -> str:
    """In one sentence, the alarms to expect if all that was watched is normal; empty without calibration."""
    scored = [file.seconds for file in files if file.status == "scored"]
    if made.alpha is None or made.unit_seconds is None or not scored:
        return ""
    whole = 1.0 if made.unit == "clip" else 0.0  # a clip counts as one however short it is
    units = sum(max(whole, seconds / made.unit_seconds) for seconds in scored)
    expected = made.alpha * units
    alarms = (
        "fewer than one alarm"
        if expected < 1
        else f"up to about {number(round(expected))} alarm{'s' if expected >= 1.5 else ''}"
    )
    return f"If all of this were normal, {alarms} would be expected by chance."


def longer_than_calibrated(made: Promise, files: Sequence[FileResult]) -> str:
    """A clip's promise holds for a clip's length: say so where files are longer; empty where none is."""
    if made.unit != "clip" or made.unit_seconds is None:
        return ""
    longer = sum(file.status == "scored" and file.seconds > 1.5 * made.unit_seconds for file in files)
    if not longer:
        return ""
    return (
        f"{longer} of the files {'is' if longer == 1 else 'are'} longer than the clips that the alarm line was set on "
        f"({number(made.unit_seconds)} s on average). There the promise holds for every {number(made.unit_seconds)} s, not "
        f"for the whole file: up to {number(made.false_alarms_per_hour or 0)} false alarms an hour."
    )


def number(value: float) -> str:
    """A number as one would say it: at most three digits, no exponent below a million."""
    if value and abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:g}"


def write_text(path: Path, text: str) -> None:
    """UTF-8; a file name that is not valid text is shown by its escaped bytes."""
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
