"""Footage as clips for calibration: every readable video of a folder; long recordings come in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from foretell.data.clip import View
from foretell.data.readers import Source, UnreadableSource, find_sources, read
from foretell.errors import DataError
from foretell.log import progress

PIECE_SECONDS = 600


def videos_as_clips(videos: Path, view: View) -> Iterator[tuple[str, np.ndarray]]:
    """(name, frames uint8 (T, H, W, 3)) of every readable video under `videos`, at most ten minutes a piece.

    Unreadable files are named on the way. Raises DataError if none can be read.
    """
    given, skipped = 0, []
    sources = find_sources(videos)
    with progress(len(sources), "calibrate", "file") as bar:
        for source in sources:
            try:
                for frames in _pieces(source, view):
                    yield source.name, frames
                    given += 1
            except UnreadableSource as error:
                skipped.append(f"  {source.name}: {error.reason}")
                bar.write(f"skipped {source.name}: {error.reason}")
            bar.update()
    if not given:
        raise DataError(f"{videos}: none of its {len(skipped)} files can be read:\n" + "\n".join(skipped))


def _pieces(source: Source, view: View) -> Iterator[np.ndarray]:
    kept: list[np.ndarray] = []
    for chunk in read(source, view):
        kept.append(chunk.frames)
        if sum(map(len, kept)) >= PIECE_SECONDS * view.fps:
            yield np.concatenate(kept)
            kept = []
    if kept:
        yield np.concatenate(kept)
