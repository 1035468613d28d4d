"""The clip store: every frame of every video once, raw, side by side in a few large files; any window in O(1).

store.json        version, view, statistics, and for every clip where it lies; written last, so it tells "finished"
frames-00.u8      uint8 pixels, (frame, row, column, channel), clips one after the other
frames-00.jsonl   what is committed in frames-00.u8, a line a clip (read by ingest alone, see shard.py)
actions.npz       what was done in every clip, where somebody acted (see actions.py)
"""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from foretell.data.actions import KEPT, ActionLog, parse_actions
from foretell.data.clip import View
from foretell.errors import ConfigError, DataError

FORMAT = "foretell clip store"
VERSION = 1
INDEX_NAME = "store.json"
FRAMES_READ_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """One clip of a store and where its frames lie."""

    name: str
    """Path of the video below the folder that was ingested."""
    frames: int
    """Steps at the rate of the store's view."""
    seconds: float
    """frames / fps."""
    source_frames: int
    """Frames the video file itself held."""
    crc32: int
    """Checksum of the pixels."""
    shard: str
    """File that holds the pixels."""
    offset: int
    """Index of the clip's first frame in that file."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Pixels of a store, 0 to 255, red, green, blue; measured on every eighth frame of each clip."""

    frames: int
    """Frames in the store."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class _Shard(Protocol):
    """The frames of one shard, from memory or from afar."""

    def __getitem__(self, frames: slice) -> np.ndarray: ...


class Store:
    """A finished clip store, opened for reading with `Store.open`."""

    def __init__(
        self,
        *,
        where: str,
        view: View,
        clips: Sequence[ClipRecord],
        statistics: Statistics,
        shards: dict[str, _Shard],
        log: ActionLog | None = None,
    ) -> None:
        self.where = where
        self.log = log
        """What was done in every clip; None where nobody acted."""
        self.view = view
        self.clips = list(clips)
        self.statistics = statistics
        self._places = [(shards[clip.shard], clip.offset, clip.frames) for clip in self.clips]

    @staticmethod
    def open(path: Path | str) -> Store:
        """Open a store in a local folder (memory-mapped) or behind any fsspec URL (read by byte ranges).

        Raises DataError if it is unfinished, of another version, or if a file of it is missing or cut off.
        """
        if "://" in str(path):
            return _open_remote(str(path))
        return _open_local(Path(path))

    def __len__(self) -> int:
        """The number of clips."""
        return len(self.clips)

    @property
    def lengths(self) -> list[int]:
        """Frames of every clip."""
        return [clip.frames for clip in self.clips]

    def window(self, clip: int, start: int, length: int, stride: int = 1) -> np.ndarray:
        """Frames start, start + stride, ... of a clip: uint8 (length, H, W, 3), read-only.

        A local window is a view of the memory map: nothing is copied or decoded. Raises DataError if the window
        does not lie inside the clip.
        """
        shard, offset, frames = self._places[clip]
        stop = start + (length - 1) * stride + 1
        if start < 0 or length < 1 or stride < 1 or stop > frames:
            raise DataError(
                f"{self.where}: clip {self.clips[clip].name} has {frames} frames, got a window of {length} frames"
                f" from {start} with stride {stride}; expected 0 <= start and the last frame below {frames}"
            )
        return shard[offset + start : offset + stop : stride]

    def verify(self) -> None:
        """Read every pixel and compare checksums. Raises DataError that names the damaged clips."""
        damaged = [
            record.name
            for record, (shard, offset, frames) in zip(self.clips, self._places, strict=True)
            if checksum(shard, offset, frames) != record.crc32
        ]
        if damaged:
            named = ", ".join(damaged[:10]) + (", ..." if len(damaged) > 10 else "")
            raise DataError(
                f"{self.where}: {len(damaged)} of {len(self)} clips are damaged ({named});"
                " delete the store and ingest the videos again"
            )


def checksum(shard: _Shard, offset: int, frames: int) -> int:
    """CRC-32 of the pixels of a clip, read piece by piece."""
    crc = 0
    for first in range(offset, offset + frames, FRAMES_READ_AT_ONCE):
        piece = shard[first : min(first + FRAMES_READ_AT_ONCE, offset + frames)]
        crc = zlib.crc32(piece.data, crc)
    return crc


def map_frames(path: Path, view: View) -> np.ndarray:
    """All whole frames of a shard file as a read-only memory map, uint8 (N, H, W, 3)."""
    count = path.stat().st_size // frame_bytes(view)
    if count == 0:
        return np.empty((0, view.height, view.width, 3), np.uint8)  # an empty file cannot be mapped
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), count * frame_bytes(view), access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, np.uint8).reshape(count, view.height, view.width, 3)


def frame_bytes(view: View) -> int:
    """Bytes of one frame."""
    return view.height * view.width * 3


def index_text(
    view: View, clips: Sequence[ClipRecord], statistics: Statistics, skipped: Sequence[Sequence[str]]
) -> str:
    """The text of store.json: one line a clip, so that it can be read and compared by eye."""
    head = {"format": FORMAT, "version": VERSION, "view": asdict(view), "statistics": asdict(statistics)}
    parts = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    parts.append(f'"skipped": {_lines(list(map(list, skipped)))}')
    parts.append(f'"clips": {_lines([asdict(clip) for clip in clips])}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(values: Sequence[Any]) -> str:
    return "[" + ",".join("\n  " + json.dumps(value) for value in values) + "\n]"


def _parse(text: str, where: str) -> tuple[View, list[ClipRecord], Statistics]:
    try:
        index = json.loads(text)
        if index["format"] != FORMAT:
            raise DataError(f"{where}: this is no clip store; expected format {FORMAT!r}, got {index['format']!r}")
        if index["version"] != VERSION:
            raise DataError(
                f"{where}: the store is of version {index['version']}, this foretell reads version {VERSION};"
                " ingest the videos again, or read it with the foretell that wrote it"
            )
        statistics = Statistics(
            frames=index["statistics"]["frames"],
            mean=tuple(index["statistics"]["mean"]),
            std=tuple(index["statistics"]["std"]),
        )
        return View(**index["view"]), [ClipRecord(**clip) for clip in index["clips"]], statistics
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(f"{where}: the index is damaged ({error}); ingest the videos again") from error


def _needs(clips: Sequence[ClipRecord], view: View) -> Iterator[tuple[str, int]]:
    """Every shard that is used, with the bytes it must have."""
    needed: dict[str, int] = {}
    for clip in clips:
        end = (clip.offset + clip.frames) * frame_bytes(view)
        needed[clip.shard] = max(end, needed.get(clip.shard, 0))
    yield from needed.items()


def _check_size(where: str, name: str, size: int | None, needed: int) -> None:
    if size is None or size < needed:
        got = "it is missing" if size is None else f"got {size} bytes"
        raise DataError(
            f"{where}: the store's file {name} should have {needed} bytes, {got};"
            " copy the store again, or ingest the videos again"
        )


def _open_local(path: Path) -> Store:
    index = path / INDEX_NAME
    try:
        text = index.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if any(path.glob("frames-*.jsonl")):
            raise DataError(f"{path}: ingest did not finish; run the same ingest again, it continues") from error
        raise DataError(
            f"{path}: no clip store here ({INDEX_NAME} is missing); make one with: foretell ingest"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{index}: cannot be read ({error})") from error
    view, clips, statistics = _parse(text, str(index))
    shards: dict[str, _Shard] = {}
    for name, needed in _needs(clips, view):
        shard = path / name
        _check_size(str(path), name, shard.stat().st_size if shard.exists() else None, needed)
        shards[name] = map_frames(shard, view)
    log = parse_actions((path / KEPT).read_bytes(), str(path / KEPT)) if (path / KEPT).exists() else None
    return Store(where=str(path), view=view, clips=clips, statistics=statistics, shards=shards, log=log)


class _RemoteShard:
    """The frames of a shard behind fsspec: every slice is one request for a range of bytes."""

    def __init__(self, files: Any, path: str, view: View) -> None:
        self._files, self._path = files, path
        self._frame_bytes, self._shape = frame_bytes(view), (view.height, view.width, 3)

    def __getitem__(self, frames: slice) -> np.ndarray:
        wanted = self._files.cat_file(
            self._path, start=frames.start * self._frame_bytes, end=frames.stop * self._frame_bytes
        )
        return np.frombuffer(wanted, np.uint8).reshape(-1, *self._shape)[:: frames.step]


def _open_remote(url: str) -> Store:
    import fsspec  # a tenth of a second that local stores need not pay

    try:
        files, root = fsspec.core.url_to_fs(url)
        text = files.cat_file(f"{root}/{INDEX_NAME}").decode("utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{url}: no finished clip store here ({INDEX_NAME} is missing)") from error
    except (OSError, ImportError, ValueError) as error:
        raise DataError(f"{url}: cannot be read ({error})") from error
    view, clips, statistics = _parse(text, f"{url}/{INDEX_NAME}")
    shards: dict[str, _Shard] = {}
    for name, needed in _needs(clips, view):
        path = f"{root}/{name}"
        _check_size(url, name, files.size(path) if files.exists(path) else None, needed)
        shards[name] = _RemoteShard(files, path, view)
    kept = f"{root}/{KEPT}"
    log = parse_actions(files.cat_file(kept), f"{url}/{KEPT}") if files.exists(kept) else None
    return Store(where=url, view=view, clips=clips, statistics=statistics, shards=shards, log=log)
