"""What was imagined beside what happened, as a video of panels and as a film strip: one future, or several."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foretell.serve.pictures import INK, MARK, PAPER, enlarge, film_strip, heat_overlay, write_words

SEEING, BLANK, TRACK = (150, 150, 154), (228, 227, 222), (214, 213, 207)
PANEL_PIXELS, WIDEST_PAGE = 256, 1280
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
        off = np.abs(self.true.astype(np.float32) - self.decoded[: len(self.true)]).mean(-1)
        glowing = heat_overlay(self.true, off, DIFFERENCE_SCALE)
        steps = len(self.decoded)
        return {
            "true": _to_the_end(self.true, steps),
            "imagined": self.decoded,
            "difference": _to_the_end(glowing, steps),
        }


@dataclass(frozen=True, kw_only=True)
class Fan:
    """`start` steps that were seen, then several ways on, the likeliest first. Frames are uint8 (.., H, W, 3)."""

    true: np.ndarray
    """(K, H, W, 3), the K <= T steps that the clip has."""
    ways: dict[str, np.ndarray]
    """Name -> (T, H, W, 3): the decoder's picture of what was seen, then of what was imagined."""
    start: int
    fps: float

    def rows(self) -> dict[str, np.ndarray]:
        """true and every way, each (T, H, W, 3); blank where the clip has ended."""
        return {"true": _to_the_end(self.true, len(next(iter(self.ways.values())))), **self.ways}


def _to_the_end(frames: np.ndarray, steps: int) -> np.ndarray:
    """Frames (K, H, W, 3), and then blank ones with a question mark: (steps, H, W, 3)."""
    blank = np.full((steps - len(frames), *frames.shape[1:]), BLANK, np.uint8)
    for frame in blank:
        write_words(frame, "?", max(1, frame.shape[0] // 16))
    return np.concatenate([frames, blank])


def strip(shown: Imagination | Fan) -> np.ndarray:
    """The film strip: up to 4 steps seen, a red line, up to 8 steps imagined. Returns uint8 (height, width, 3)."""
    rows = shown.rows()
    horizon = len(rows["true"]) - shown.start
    height, width = shown.true.shape[1:3]
    stride = math.ceil(horizon / max(1, min(IMAGINED_COLUMNS, IMAGINED_COLUMNS * height // width)))
    seen = [-k * stride for k in reversed(range(SEEN_COLUMNS)) if k * stride < shown.start]
    ahead = [*seen, *range(stride, horizon + 1, stride)]
    columns = [shown.start - 1 + k for k in ahead]
    factor = max(1, round(CELL_PIXELS / height))
    large = {name: np.stack(list(enlarge(frames[columns], factor))) for name, frames in rows.items()}
    return film_strip(large, marks=[len(seen)], moments=[f"{k:+d}" if k else "now" for k in ahead])


def panels(shown: Imagination | Fan) -> Iterator[np.ndarray]:
    """The frames of the video: all rows side by side, framed in grey while seeing and in red from there on."""
    rows = shown.rows()
    factor = max(1, round(min(PANEL_PIXELS, WIDEST_PAGE / len(rows)) / shown.true.shape[1]))
    large = [enlarge(frames, factor) for frames in rows.values()]
    for step, pictures in enumerate(zip(*large, strict=True)):
        seeing = step < shown.start
        names = ["decoded" if seeing and name == "imagined" else name for name in rows]
        yield _page(list(pictures), names, step, shown.start, len(rows["true"]), shown.fps)


def _page(pictures: list[np.ndarray], names: list[str], step: int, start: int, steps: int, fps: float) -> np.ndarray:
    """One frame: names above, panels, and below them words for this step and a track of all steps."""
    height, width, _ = pictures[0].shape
    edge, size = max(4, height // 42), max(1, min(width // 80, height // 60))
    line, gap = 8 * size + 2 * edge, 2 * edge
    framed_height, framed_width = height + 2 * edge, width + 2 * edge
    wide = len(pictures) * (framed_width + gap) + gap
    page = np.full((line + framed_height + line + edge + gap, wide + wide % 2, 3), PAPER, np.uint8)
    seeing = step < start
    colour = SEEING if seeing else MARK
    for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        column = page[:, gap + number * (framed_width + gap) :][:, :framed_width]
        write_words(column[:line], name, size)
        column[line : line + framed_height] = colour
        column[line + edge : line + edge + height, edge:-edge] = picture
    below, ahead = page[line + framed_height :], step - start + 1
    words = f"seen {step + 1} of {start}" if seeing else f"imagined +{ahead}: {ahead / fps:.1f} s ahead"
    write_words(below[:line], words, size, INK if seeing else MARK)
    _draw_track(below[line : line + edge, gap:-gap], step, start, steps)
    return page


def _draw_track(area: np.ndarray, step: int, start: int, steps: int) -> None:
    """A cell a step, in place: grey when seen, red when imagined, pale when still to come."""
    edges = np.linspace(0, area.shape[1], steps + 1).astype(int)
    for cell, (left, right) in enumerate(itertools.pairwise(edges)):
        filled = SEEING if cell < start else MARK
        area[:, left : max(left + 1, right - 2)] = filled if cell <= step else TRACK
