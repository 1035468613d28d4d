"""Watch videos: stream them past the model, write surprise.csv, summary.json and report.html."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.data.readers import Source, UnreadableSource, find_sources, read
from foretell.errors import ConfigError, DataError
from foretell.log import progress as progress_bar
from foretell.serve.evidence import SEED, Stream
from foretell.serve.gallery import Gallery
from foretell.serve.reel import Reel
from foretell.serve.report import write_report
from foretell.serve.summary import (
    KNOWS_NO_LIMITS,
    UNCALIBRATED,
    ControlResult,
    FileResult,
    Promise,
    Skipped,
    WatchSummary,
    longer_than_calibrated,
    promise,
    write_text,
)
from foretell.serve.table import SurpriseTable, Track
from foretell.surprise.calibrate import Calibration, units_needed

if TYPE_CHECKING:
    from foretell.surprise.score import Scorer

NAMES = ("surprise.csv", "summary.json", "report.html")
# Stretches of alarm with less than this between them are told as one.
JOIN_SECONDS = 1.0


@dataclass(frozen=True)
class Watcher:
    """A scorer and the line that its scores are held against."""

    scorer: Scorer
    calibration: Calibration | None
    alpha: float | None
    strangeness: Calibration | None = None

    def track(self) -> Track:
        """Begin a new video."""
        self.scorer.start()
        return Track(self.calibration, self.alpha, self.scorer.smooth, self.strangeness)


def watch(
    source: Path,
    out: Path,
    *,
    scorer: Scorer,
    calibration: Calibration | None,
    controls: dict[str, tuple[Scorer, Calibration | None]],
    strangeness: Calibration | None = None,
    alpha: float | None = 0.05,
    false_alarms_per_hour: float | None = None,
    stream_alpha: float | None = None,
    progress: bool = True,
) -> WatchSummary:
    """Score every readable video under `source`; write surprise.csv, summary.json and report.html into `out`.

    controls: name -> (scorer, its own calibration), shown beside the model. `strangeness` calibrates how unlike anything
    normal a video may be: what is stranger, and raises no alarm, is said not to be known. The alarm line is set by `alpha`, the share
    of normal units that may raise an alarm, or by `false_alarms_per_hour` if that is given. Without calibration p-value
    and alarm stay empty. `stream_alpha` takes all files, in the order of their names, as one stream, too, and tells the
    evidence that it is no longer normal footage; if all of it is normal, this is the highest probability that the stream
    ever raises an alarm, however long it is. The three files appear together when all is done, or not at all. Memory does
    not grow with the length of a video, but for a few numbers a step.

    Raises DataError if no file can be read or `out` cannot be written, ConfigError for an impossible rate or for
    `stream_alpha` without calibration, and CalibrationError if the calibration has too few units for the rate.
    """
    model = _watcher(scorer, calibration, alpha, false_alarms_per_hour)
    if strangeness is not None and model.alpha is not None and len(strangeness.scores) >= units_needed(model.alpha):
        model = replace(model, strangeness=strangeness)
    others = {name: _watcher(other, line, alpha, false_alarms_per_hour) for name, (other, line) in controls.items()}
    made = promise(calibration, model.alpha, asked_per_hour=false_alarms_per_hour is not None)
    sources = find_sources(source)
    gallery = Gallery(scorer.view, len(sources))
    stream = None if stream_alpha is None else Stream(calibration, stream_alpha, scorer.view.fps)
    files: list[FileResult] = []
    skipped: list[Skipped] = []
    with _outputs(out) as parts:
        with SurpriseTable(parts["surprise.csv"]) as table, _counter(progress) as count:
            for one in sources:
                try:
                    files.append(_watch_file(one, model, others, table, gallery, stream, count))
                except UnreadableSource as error:
                    skipped.append(Skipped(file=one.name, reason=error.reason))
        if not files:
            reasons = "\n".join(f"  {one.file}: {one.reason}" for one in skipped)
            raise DataError(
                f"{source}: none of its {len(skipped)} files can be read, so there is nothing to watch:\n{reasons}"
            )
        summary = WatchSummary(
            source=str(source),
            created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            promise=made,
            warnings=_warnings(model, made, files),
            files=files,
            skipped=skipped,
            protocol=_protocol(model, others)
            | ({} if stream is None else {"stream": {"alpha": stream_alpha, "seed": SEED}}),
            stream=None if stream is None else stream.result(),
        )
        write_text(parts["summary.json"], summary.to_json())
        write_report(parts["report.html"], summary, gallery)
    return summary


def _watch_file(
    source: Source,
    model: Watcher,
    others: dict[str, Watcher],
    table: SurpriseTable,
    gallery: Gallery,
    stream: Stream | None,
    count: Callable[[int], object],
) -> FileResult:
    """Stream one video: rows into the table, what is worth showing into the gallery. Raises UnreadableSource."""
    view, track = model.scorer.view, model.track()
    beside = {name: other.track() for name, other in others.items()}
    reel, broke_off, steps = Reel(view.fps), "", 0
    table.begin(source.name, track)
    try:
        for chunk in read(source, view):
            scores = model.scorer.score(chunk.frames)
            track.add(scores.surprise, scores.strange)
            for name, other in others.items():
                said = other.scorer.score(chunk.frames)
                beside[name].add(said.surprise, said.strange)
            reel.add(chunk.frames, scores.heat, scores.surprise)
            table.add(chunk.seconds, chunk.steps)
            count(len(chunk.seconds))
            steps += len(chunk.frames)
    except UnreadableSource as error:
        if table.frames == 0:
            raise
        broke_off = f"Read up to {steps / view.fps:.1f} s only: {error.reason}"
    for each in (track, *beside.values()):
        each.end()
    table.end()
    footage = reel.footage()
    if footage is None:
        raise UnreadableSource(source.path, "no frame in it")
    if stream is not None:
        stream.add(source.name, np.array(track.surprise))
    result = _result(source.name, broke_off, model, track, beside, table)
    gallery.offer(result, footage, track, beside)
    return result


def _result(
    name: str, note: str, model: Watcher, track: Track, beside: dict[str, Track], table: SurpriseTable
) -> FileResult:
    """The numbers of one video. A video without a single score is said to be not scored, never normal."""
    fps, steps = model.scorer.view.fps, len(track.surprise)
    peak = track.highest(0, steps - 1)
    if peak is None:
        needs = model.scorer.context
        too_short = f"{steps} steps are too few: the first score needs {needs} steps ({needs / fps:.1f} s) before it."
        note = " ".join(filter(None, (too_short, note)))
    first, unknown = table.first_alarm, _stretches(track.unknown(), fps)
    judged = peak is not None and track.calibrated and (track.is_alarm(peak) or not unknown)
    return FileResult(
        file=name,
        status="not scored" if peak is None else "scored",
        note=note,
        frames=table.frames,
        seconds=steps / fps,
        max_surprise=None if peak is None else track.surprise[peak],
        max_surprise_s=None if peak is None else peak / fps,
        p_value=track.p_value[peak] if peak is not None and judged else None,
        alarm=track.is_alarm(peak) if peak is not None and judged else None,
        first_alarm_s=None if first is None else first.time_s,
        first_alarm_frame=None if first is None else first.frame,
        alarms=_stretches(track.alarms(), fps),
        unknown=unknown,
        controls={other: _control(their) for other, their in beside.items()},
    )


def _control(track: Track) -> ControlResult:
    peak = track.highest(0, len(track.surprise) - 1)
    if peak is None:
        return ControlResult(max_score=None, p_value=None, alarm=None)
    return ControlResult(
        max_score=track.surprise[peak],
        p_value=track.p_value[peak] if track.calibrated else None,
        alarm=track.is_alarm(peak) if track.calibrated else None,
    )


def _stretches(chosen: np.ndarray, fps: float) -> list[tuple[float, float]]:
    """Start and end in seconds of each stretch of chosen steps, bool (T,)."""
    steps = np.flatnonzero(chosen)
    if not len(steps):
        return []
    gaps = np.flatnonzero(np.diff(steps) > JOIN_SECONDS * fps)
    starts, ends = steps[np.r_[0, gaps + 1]], steps[np.r_[gaps, len(steps) - 1]] + 1
    return [(float(start) / fps, float(end) / fps) for start, end in zip(starts, ends, strict=True)]


def _watcher(
    scorer: Scorer, calibration: Calibration | None, alpha: float | None, false_alarms_per_hour: float | None
) -> Watcher:
    """Settle the alpha, and refuse now rather than after hours of video if the calibration cannot promise it."""
    if calibration is None:
        return Watcher(scorer, None, None)
    if false_alarms_per_hour is not None:
        alpha = calibration.alpha_for_false_alarms_per_hour(false_alarms_per_hour)
    if alpha is None:
        raise ConfigError("watch: got neither alpha nor false alarms per hour, expected one of them: try alpha 0.05")
    calibration.threshold(alpha)
    return Watcher(scorer, calibration, alpha)


def _warnings(model: Watcher, made: Promise, files: list[FileResult]) -> list[str]:
    """What the reader must know before trusting the numbers."""
    calibration = model.calibration
    if calibration is None:
        return [UNCALIBRATED]
    seen = calibration.overlap(file.file for file in files)
    named = ", ".join(seen[:5]) + (" and more" if len(seen) > 5 else "")
    overlap = (
        f"{len(seen)} of the files {'has' if len(seen) == 1 else 'have'} the name of a calibration clip ({named}). "
        "Where it is the same video, the promise does not hold: the alarm line was set on it."
    )
    certain = KNOWS_NO_LIMITS if model.strangeness is None else ""
    return [*([overlap] if seen else []), *filter(None, [longer_than_calibrated(made, files), certain])]


def _protocol(model: Watcher, others: dict[str, Watcher]) -> dict[str, Any]:
    """Every setting that could change a number."""
    return {
        "foretell": metadata.version("foretell"),
        "view": asdict(model.scorer.view),
        "context_steps": model.scorer.context,
        "smoothed_over_steps": model.scorer.smooth,
        "model": _line(model),
        "strangeness": _line(replace(model, calibration=model.strangeness)),
        "controls": {name: _line(other) for name, other in others.items()},
    }


def _line(watcher: Watcher) -> dict[str, Any] | None:
    """How the alarm line was set; None if it was not."""
    calibration = watcher.calibration
    if calibration is None or watcher.alpha is None:
        return None
    return {
        "alpha": watcher.alpha,
        "threshold": calibration.threshold(watcher.alpha),
        "unit": calibration.unit,
        "unit_seconds": calibration.unit_seconds,
        "gap_seconds": calibration.gap_seconds,
        "units": len(calibration.scores),
    }


@contextlib.contextmanager
def _counter(shown: bool) -> Iterator[Callable[[int], object]]:
    """A progress bar that counts source frames, or nothing."""
    if not shown:
        yield lambda frames: None
        return
    with progress_bar(None, "watch", " frames") as bar:
        yield bar.update


@contextlib.contextmanager
def _outputs(out: Path) -> Iterator[dict[str, Path]]:
    """Hidden files to write into, which take their names together at the end, or are removed. Raises DataError."""
    parts = {name: out / f".{name}.part" for name in NAMES}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for part in parts.values():
            part.touch()  # a folder that takes no files is told before hours of video, not after
        yield parts
        for name, part in parts.items():
            part.replace(out / name)
    except OSError as error:
        raise DataError(
            f"{out}: the results cannot be written ({error.strerror or error}); "
            "choose a folder that is writable and has room"
        ) from error
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
