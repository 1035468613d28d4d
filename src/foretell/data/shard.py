"""One shard of a store being written: append a clip, then commit it. What is not committed never happened.

A clip counts once its line, with its newline, is in the log. A kill, a full disk or a lost machine at any moment
leaves pixels or half a line beyond the last commit; opening the shard again cuts them off.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from foretell.data.clip import View
from foretell.data.sources import Fingerprint
from foretell.data.store import VERSION, checksum, frame_bytes, map_frames
from foretell.errors import ConfigError, DataError
from foretell.log import write_whole

STATISTICS_EVERY = 8  # frames; enough for a mean, and an eighth of the cost


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """A committed clip: a line of the log."""

    name: str
    offset: int
    frames: int
    source_frames: int
    crc32: int
    source_bytes: int
    source_mtime_ns: int
    pixels: int
    """Pixels measured for the statistics."""
    sums: list[int]
    """Sum of each channel over these pixels."""
    squares: list[int]
    """Sum of squares of each channel over these pixels."""


class Shard:
    """Appends clips to `frames-NN.u8` and commits them in `frames-NN.jsonl`. Use it in a `with` block.

    Opening cuts off what a killed run left behind the last commit. Raises DataError if the files cannot be written.
    """

    def __init__(self, folder: Path, number: int, view: View) -> None:
        self.view = view
        self.path, log = shard_files(folder, number)
        committed = read_log(log)[1] if log.exists() else []
        text = (_header(view) + "".join(map(_line, committed))).encode()
        self._frames = sum(entry.frames for entry in committed)
        self._log_end = len(text)
        try:
            self._pixels = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            self._log = os.open(log, os.O_RDWR | os.O_CREAT, 0o666)
            _write_all(self._log, text, 0)  # the same bytes again, except when it is new
            self._cut()
        except OSError as error:
            raise self._cannot_write(error) from error
        self._restart()

    def _restart(self) -> None:
        self._clip_frames, self._crc, self._counted = 0, 0, 0
        self._sums, self._squares = np.zeros(3, np.uint64), np.zeros(3, np.uint64)

    def append(self, frames: np.ndarray) -> None:
        """Write the next frames (T, H, W, 3) of the clip that is under way."""
        first = (self._frames + self._clip_frames) * frame_bytes(self.view)
        pixels = np.ascontiguousarray(frames).data.cast("B")
        try:
            _write_all(self._pixels, pixels, first)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._crc = zlib.crc32(pixels, self._crc)
        # Which frames are measured depends on the clip alone, not on how it came in pieces.
        measured = frames[-self._clip_frames % STATISTICS_EVERY :: STATISTICS_EVERY]
        rows = measured.reshape(-1, self.view.width * 3)
        self._sums += rows.sum(axis=0, dtype=np.uint64).reshape(-1, 3).sum(axis=0)
        self._squares += np.square(rows, dtype=np.uint32).sum(axis=0, dtype=np.uint64).reshape(-1, 3).sum(axis=0)
        self._counted += rows.size // 3
        self._clip_frames += len(frames)

    def commit(self, name: str, fingerprint: Fingerprint, source_frames: int) -> None:
        """The clip is whole: from now on it counts."""
        entry = LogEntry(
            name=name,
            offset=self._frames,
            frames=self._clip_frames,
            source_frames=source_frames,
            crc32=self._crc,
            source_bytes=fingerprint.bytes,
            source_mtime_ns=fingerprint.mtime_ns,
            pixels=self._counted,
            sums=self._sums.tolist(),
            squares=self._squares.tolist(),
        )
        line = _line(entry).encode()
        try:
            _write_all(self._log, line, self._log_end)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._log_end += len(line)
        self._frames += entry.frames
        self._restart()

    def rollback(self) -> None:
        """Forget the clip that is under way; the next one is written over it."""
        self._restart()

    def sync(self) -> None:
        """Cut off what is not committed and wait until the rest is on the disk."""
        try:
            self._cut()
            os.fsync(self._pixels)
            os.fsync(self._log)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cut(self) -> None:
        os.ftruncate(self._pixels, self._frames * frame_bytes(self.view))
        os.ftruncate(self._log, self._log_end)

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be written ({error.strerror})")

    def __enter__(self) -> Shard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._pixels)
        os.close(self._log)


def shard_files(folder: Path, number: int) -> tuple[Path, Path]:
    """The pixels and the log of a shard."""
    return folder / f"frames-{number:02d}.u8", folder / f"frames-{number:02d}.jsonl"


def read_log(log: Path) -> tuple[View | None, list[LogEntry]]:
    """The view a shard was begun with and what is committed in it; a last line that was cut off does not count.

    (None, []) if not even the first line was finished. Raises DataError for another version or a damaged log.
    """
    try:
        lines = log.read_bytes().split(b"\n")[:-1]  # what follows the last newline was cut off
        if not lines:
            return None, []
        head = json.loads(lines[0])
        if head["version"] != VERSION:
            raise DataError(
                f"{log}: begun as version {head['version']}, this foretell writes version {VERSION};"
                f" delete {log.parent} and ingest again, or use the foretell that began it"
            )
        return View(**head["view"]), [LogEntry(**json.loads(line)) for line in lines[1:]]
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(f"{log}: the log is damaged ({error}); delete {log.parent} and ingest again") from error


def recover(folder: Path, number: int, view: View) -> list[LogEntry]:
    """Check a shard of an unfinished store: drop commits whose pixels never reached the disk, return the others.

    A killed process loses nothing that it committed, a machine that loses power may.
    """
    path, log = shard_files(folder, number)
    entries = read_log(log)[1]
    frames = map_frames(path, view) if path.exists() else np.empty((0, 0, 0, 3), np.uint8)
    for index, entry in enumerate(entries):
        whole = entry.offset + entry.frames <= len(frames)
        if not whole or checksum(frames, entry.offset, entry.frames) != entry.crc32:
            write_whole(log, _header(view) + "".join(map(_line, entries[:index])))
            return entries[:index]
    return entries


def _header(view: View) -> str:
    return json.dumps({"version": VERSION, "view": asdict(view)}) + "\n"


def _line(entry: LogEntry) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _write_all(file: int, data: bytes | memoryview, start: int) -> None:
    """os.pwrite until all is written; a disk that is filling up takes a part first and fails next."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, start)
        view, start = view[written:], start + written
