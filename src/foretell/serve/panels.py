"""What was imagined beside what happened, as a video of three panels and as a film strip."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foretell.serve.pictures import INK, MARK, PAPER, enlarge, film_strip, heat_overlay, write_words

SEEING, BLANK, TRACK = (150, 150, 154), (228, 227, 222), (214, 213, 207)
PANEL_PIXELS = 256
CELL_PIXELS = 96
SEEN_COLUMNS, IMAGINED_COLUMNS = 4, 8
"""Of square frames; wide ones have fewer columns, so that they can still be made out when the strip is fitted to a page."""
DIFFERENCE_SCALE = (8.0, 96.0)
"""Grey levels by which a pixel may be off and still be drawn as no difference; and from which on it glows most."""


@dataclass(frozen=True, kw_only=True)
class Imagination:
    """`start` steps that were seen, then steps that were imagined; T in all. Frames are uint8 (.., H, W, 3)."""

    true: np.ndarray
    """(K, H, W, 3), the K <= T steps that the clip has."""
    decoded: np.ndarray
    """(T, H, W, 3): the decoder's picture of what was seen, then of what was imagined."""
    start: int
    fps: float

    def rows(self) -> dict[str, np.ndarray]:
        """true, imagined and difference, each (T, H, W, 3); blank where the clip has ended."""
        known, unknown = len(self.true), len(self.decoded) - len(self.true)
        off = np.abs(self.true.astype(np.float32) - self.decoded[:known]).mean(-1)
        glowing = heat_overlay(self.true, off, DIFFERENCE_SCALE)
        blank = np.full((unknown, *self.true.shape[1:]), BLANK, np.uint8)
        for frame in blank:
            write_words(frame, "?", max(1, frame.shape[0] // 16))
        return {
            "true": np.concatenate([self.true, blank]),
            "imagined": self.decoded,
            "difference": np.concatenate([glowing, blank]),
        }


def strip(shown: Imagination) -> np.ndarray:
    """The film strip: up to 4 steps seen, a red line, up to 8 steps imagined. Returns uint8 (height, width, 3)."""
    horizon = len(shown.decoded) - shown.start
    height, width = shown.true.shape[1:3]
    stride = math.ceil(horizon / max(1, min(IMAGINED_COLUMNS, IMAGINED_COLUMNS * height // width)))
    seen = [-k * stride for k in reversed(range(SEEN_COLUMNS)) if k * stride < shown.start]
    ahead = [*seen, *range(stride, horizon + 1, stride)]
    columns = [shown.start - 1 + k for k in ahead]
    factor = max(1, round(CELL_PIXELS / height))
    rows = {name: np.stack(list(enlarge(frames[columns], factor))) for name, frames in shown.rows().items()}
    return film_strip(rows, marks=[len(seen)], moments=[f"{k:+d}" if k else "now" for k in ahead])


def panels(shown: Imagination) -> Iterator[np.ndarray]:
    """The frames of the video: true, imagined, difference side by side, framed in grey while seeing and in red from there on."""
    rows = shown.rows()
    factor = max(1, round(PANEL_PIXELS / shown.true.shape[1]))
    large = [enlarge(frames, factor) for frames in rows.values()]
    for step, pictures in enumerate(zip(*large, strict=True)):
        seeing = step < shown.start
        names = ["true", "decoded" if seeing else "imagined", "difference"]
        yield _page(list(pictures), names, step, shown)


def _page(pictures: list[np.ndarray], names: list[str], step: int, shown: Imagination) -> np.ndarray:
    """One frame: names above, panels, and below them words for this step and a track of all steps."""
    height, width, _ = pictures[0].shape
    edge, size = max(4, height // 42), max(1, min(width // 80, height // 60))
    line, gap = 8 * size + 2 * edge, 2 * edge
    framed_height, framed_width = height + 2 * edge, width + 2 * edge
    page = np.full((line + framed_height + line + edge + gap, 3 * framed_width + 4 * gap, 3), PAPER, np.uint8)
    seeing = step < shown.start
    colour = SEEING if seeing else MARK
    for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        column = page[:, gap + number * (framed_width + gap) :][:, :framed_width]
        write_words(column[:line], name, size)
        column[line : line + framed_height] = colour
        column[line + edge : line + edge + height, edge:-edge] = picture
    below, ahead = page[line + framed_height :], step - shown.start + 1
    words = f"seen {step + 1} of {shown.start}" if seeing else f"imagined +{ahead}: {ahead / shown.fps:.1f} s ahead"
    write_words(below[:line], words, size, INK if seeing else MARK)
    _draw_track(below[line : line + edge, gap:-gap], step, shown)
    return page


def _draw_track(area: np.ndarray, step: int, shown: Imagination) -> None:
    """A cell a step, in place: grey when seen, red when imagined, pale when still to come."""
    edges = np.linspace(0, area.shape[1], len(shown.decoded) + 1).astype(int)
    for cell, (left, right) in enumerate(itertools.pairwise(edges)):
        filled = SEEING if cell < shown.start else MARK
        area[:, left : max(left + 1, right - 2)] = filled if cell <= step else TRACK
