"""Videos -> a clip store, in several processes. Stop it at any moment; run it again and it continues."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foretell.data import ingest_plan as plan
from foretell.data.actions import keep_actions, read_actions
from foretell.data.clip import View
from foretell.data.ingest_worker import Message, ingest_sources, run_processes
from foretell.data.readers import Source, find_sources, summarise_fps
from foretell.data.shard import LogEntry, Shard, read_log, recover, shard_files
from foretell.data.sources import Fingerprint, natural
from foretell.data.store import INDEX_NAME, ClipRecord, Statistics, frame_bytes, index_text
from foretell.errors import ConfigError, DataError
from foretell.log import progress as progress_bar
from foretell.log import write_whole

SECONDS_TO_WAIT_FOR_LOCK = 10.0


@dataclass(frozen=True, kw_only=True)
class IngestSummary:
    """What came of an ingest; `str()` is what the user sees."""

    out: Path
    clips: int
    """Clips in the store."""
    frames: int
    """Frames in the store."""
    skipped: list[tuple[str, str]]
    """(name, reason) of every file that is not in the store."""
    view: View
    rate: str
    """Where the rate comes from."""
    seconds: float
    """How long this run took."""

    def __str__(self) -> str:
        view = f"{self.view.height} x {self.view.width} px ({self.view.fit}) at {self.rate}"
        lines = [f"{self.out}: {self.clips} clips, {self.frames} frames, {view}, in {self.seconds:.1f} s"]
        if self.skipped:
            lines.append(f"skipped {len(self.skipped)} files:")
            lines += [f"  {name}: {reason}" for name, reason in self.skipped]
        return "\n".join(lines)


def ingest(
    source: Path | str,
    out: Path | str,
    *,
    view_size: tuple[int, int] = (64, 64),
    fps: float | None = None,
    fit: Literal["letterbox", "crop"] = "letterbox",
    workers: int | None = None,
    progress: bool = True,
) -> IngestSummary:
    """Decode every video and image folder below `source` once into a clip store at `out`.

    view_size is (height, width); fps None takes the median rate of the videos (at most 30), or that of the store if
    it was begun; workers None takes one process a core. What is committed is never decoded again: a run that was
    stopped continues where it was, to the same bytes. Raises DataError if nothing can be read, if the disk is full
    or cannot be written, or if `out` holds clips of another view or of videos that have changed.
    """
    began = time.monotonic()
    out = Path(out)
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ConfigError(f"ingest workers: got {workers}, expected 1 or more")
    sources = [found for found in find_sources(source) if out.resolve() not in found.path.resolve().parents]
    with _locked(out) as lock:
        begun = _begun_view(out)
        if fps is not None:
            rate = f"{fps:g} fps: as stated"
        elif begun is not None:
            fps, rate = begun.fps, f"{begun.fps:g} fps: that of the store as it was begun"
        else:
            fps, rate = summarise_fps(sources)
        view = View(height=view_size[0], width=view_size[1], fps=fps, fit=fit)
        if begun is not None and begun != view:
            raise DataError(f"{out}: begun with {begun}, now asked for {view}; choose another --out, or delete {out}")
        done = _committed(out, view)
        _check_unchanged(out, sources, done)
        pending = [found for found in sources if found.name not in done]
        skipped: list[tuple[str, str]] = []
        if pending:
            _reopen(out)
            skipped = _run(out, view, sources, pending, workers, progress, lock)
        clips, statistics = _finish(out, source, view, skipped)
    return IngestSummary(
        out=out,
        clips=len(clips),
        frames=statistics.frames,
        skipped=skipped,
        view=view,
        rate=rate,
        seconds=time.monotonic() - began,
    )


def _run(
    out: Path,
    view: View,
    sources: Sequence[Source],
    pending: Sequence[Source],
    workers: int,
    progress: bool,
    lock: int,
) -> list[tuple[str, str]]:
    """Decode what is pending; return (name, reason) of what cannot be read, in the order of the sources."""
    order = {found.name: index for index, found in enumerate(sources)}
    shares = plan.share_out(sources, pending, workers)
    skipped: list[tuple[str, str]] = []
    frames = 0
    estimate = plan.estimate_frames(pending, view) if progress else 0
    with progress_bar(estimate, "ingest", " frames") if progress and estimate else nullcontext() as bar:

        def report(message: Message) -> None:
            nonlocal frames
            if message.kind == "frames":
                frames += message.count
                if bar is not None:
                    bar.update(message.count)
            elif message.kind == "skipped":
                skipped.append((message.name, message.text))
            elif message.kind == "failed":
                missing = max(0, plan.estimate_frames(pending, view) - frames) * frame_bytes(view) / 1e6
                raise DataError(
                    f"{message.text}; about {missing:.0f} MB more are needed for the videos that are left: make room,"
                    " or delete this store and choose another --out; the same command run again continues"
                )

        if len(shares) == 1 or sum(map(plan.size_of, pending)) < plan.SMALL_BYTES:
            for number, share in shares:
                ingest_sources(out, number, view, share, report)
        else:
            run_processes(out, view, shares, report, lock)
        if bar is not None:
            bar.total = frames  # it was an estimate
    return sorted(skipped, key=lambda pair: order[pair[0]])


def _begun_view(out: Path) -> View | None:
    for log in sorted(out.glob("frames-*.jsonl")):
        view = read_log(log)[0]
        if view is not None:
            return view
    return None


def _committed(out: Path, view: View) -> dict[str, LogEntry]:
    """Clips that are in the store already. An unfinished store is checked pixel by pixel."""
    finished = (out / INDEX_NAME).exists()
    entries: list[LogEntry] = []
    for number in _shard_numbers(out):
        entries += read_log(shard_files(out, number)[1])[1] if finished else recover(out, number, view)
    return {entry.name: entry for entry in entries}


def _shard_numbers(out: Path) -> list[int]:
    return sorted(int(log.stem.removeprefix("frames-")) for log in out.glob("frames-*.jsonl"))


def _reopen(out: Path) -> None:
    """Until the run is through, the store is unfinished."""
    try:
        (out / INDEX_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def _check_unchanged(out: Path, sources: Sequence[Source], done: dict[str, LogEntry]) -> None:
    here = {found.name: found for found in sources}
    for name, entry in done.items():
        known = Fingerprint(bytes=entry.source_bytes, mtime_ns=entry.source_mtime_ns)
        if name not in here or plan.known_fingerprint(here[name]) != known:
            what = "has changed since" if name in here else "is not among the videos given"
            raise DataError(f"{out}: holds the clip {name}, which {what}; choose another --out, or delete {out}")


def _finish(
    out: Path, source: Path | str, view: View, skipped: Sequence[tuple[str, str]]
) -> tuple[list[ClipRecord], Statistics]:
    """Write store.json over all that is committed. It comes last: a store that has it is whole."""
    finished = (out / INDEX_NAME).exists()
    clips: list[ClipRecord] = []
    entries: list[LogEntry] = []
    for number in _shard_numbers(out):
        path, log = shard_files(out, number)
        logged = read_log(log)[1]
        entries += logged
        clips += [_record(entry, path.name, view) for entry in logged]
        if not finished:
            with Shard(out, number, view) as shard:
                shard.sync()
    if not clips:
        named = "; ".join(f"{name}: {reason}" for name, reason in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        raise DataError(f"{source}: no video here can be read ({named}{more}); give a folder with at least one")
    clips.sort(key=lambda clip: natural(clip.name))
    statistics = _statistics(entries)
    if not finished:
        if (acted := read_actions(Path(source))) is not None:
            keep_actions(out, acted, {clip.name: clip.frames for clip in clips})
        write_whole(out / INDEX_NAME, index_text(view, clips, statistics, skipped))
    return clips, statistics


def _record(entry: LogEntry, shard: str, view: View) -> ClipRecord:
    return ClipRecord(
        name=entry.name,
        frames=entry.frames,
        seconds=entry.frames / view.fps,
        source_frames=entry.source_frames,
        crc32=entry.crc32,
        shard=shard,
        offset=entry.offset,
    )


def _statistics(entries: Sequence[LogEntry]) -> Statistics:
    pixels = sum(entry.pixels for entry in entries)
    mean = [sum(entry.sums[channel] for entry in entries) / pixels for channel in range(3)]
    square = [sum(entry.squares[channel] for entry in entries) / pixels for channel in range(3)]
    std = [max(0.0, square[channel] - mean[channel] ** 2) ** 0.5 for channel in range(3)]
    return Statistics(
        frames=sum(entry.frames for entry in entries),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


@contextmanager
def _locked(out: Path) -> Iterator[int]:
    """One ingest at a time into a folder; yields the lock, which worker processes hold too, even as orphans."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DataError(f"{out}: no store can be made here ({error.strerror}); choose another --out") from error
    try:
        patience = time.monotonic() + SECONDS_TO_WAIT_FOR_LOCK
        while not _try_lock(lock):
            if time.monotonic() > patience:
                raise DataError(f"{out}: another ingest is writing this store; wait until it is done")
            time.sleep(0.1)
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
