"""What lies in a folder: video files, folders of numbered images, and the rest, in one fixed order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foretell.data.actions import ACTIONS, RECORDING, STATES
from foretell.errors import DataError

IMAGE_CODECS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".bmp": "bmp", ".tif": "tiff", ".tiff": "tiff"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One thing that may be a video. Whether it can be read, only reading tells."""

    path: Path
    """The file, or the folder of numbered images."""
    name: str
    """Path below the folder that was asked for, with forward slashes: the same on every machine."""
    kind: Literal["video", "images"]
    """images: the numbered pictures of a folder, in the order of their numbers, are the frames."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Tells whether a source is still the one that was read."""

    bytes: int
    mtime_ns: int


def find_sources(path: Path | str) -> list[Source]:
    """All sources below a folder, walked recursively in natural order (2 before 10), or the one file given.

    Every file is listed, so that what cannot be read is named later and not lost: only hidden files (a leading dot) and
    the tables that belong to videos (see data/actions.py) are left out, and the numbered images of a folder are one
    source together. Raises DataError if `path` does not exist or holds no file at all.
    """
    path = Path(path)
    if not os.path.exists(path):  # os's, which says no to a name too long for the disk, where pathlib's raises
        raise DataError(f"{path}: no such file or folder; expected a video or a folder of videos")
    if path.is_file():
        return [Source(path=path, name=_shown(path), kind="video")]
    found = sorted(_walk(path, _shown(path), ""), key=lambda source: natural(source.name))
    if not found:
        raise DataError(f"{path}: the folder is empty; expected videos or folders of numbered images")
    return found


def frame_files(folder: Path) -> list[Path]:
    """The numbered images of a folder, in the order of their numbers."""
    return sorted((path for path in folder.iterdir() if _is_numbered_image(path)), key=lambda path: natural(path.name))


def fingerprint(source: Source) -> Fingerprint:
    """Size and time of the last change, of all images together for a folder of them. Raises OSError."""
    files = [source.path] if source.kind == "video" else frame_files(source.path)
    stats = [file.stat() for file in files]
    return Fingerprint(bytes=sum(stat.st_size for stat in stats), mtime_ns=max(stat.st_mtime_ns for stat in stats))


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that reads runs of digits as numbers: frame_2 comes before frame_10."""
    parts = re.split(r"(\d+)", name)
    key = tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)
    return key


def _walk(folder: Path, top: str, below: str, seen: frozenset[str] = frozenset()) -> Iterator[Source]:
    real = os.path.realpath(folder)
    if real in seen:  # a link that leads back up
        return
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot list this folder ({error.strerror}); check its permissions") from error
    numbered = {entry for entry in entries if _is_numbered_image(entry)}
    if len(numbered) > 1:
        yield Source(path=folder, name=below or top, kind="images")
        entries = [entry for entry in entries if entry not in numbered]
    stems = {entry.stem for entry in entries if entry.suffix != ".csv"}
    for entry in entries:
        if entry.name in (RECORDING, STATES, ACTIONS) or (entry.suffix == ".csv" and entry.stem in stems):
            continue
        name = f"{below}/{_shown(entry)}" if below else _shown(entry)
        if entry.is_dir():
            yield from _walk(entry, top, name, seen | {real})
        elif entry.is_file() or entry.is_symlink():  # not pipes or devices; a dead link is named when read
            yield Source(path=entry, name=name, kind="video")


def _shown(path: Path) -> str:
    """A file's name as text, which a name on disk need not be."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def _is_numbered_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_CODECS and any(letter.isdecimal() for letter in path.stem) and path.is_file()
