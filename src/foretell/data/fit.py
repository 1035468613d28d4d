"""One decoded frame of any size, shape, rotation and colour -> the pixels of a View."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from foretell.data.clip import View

AREA = int(Interpolation.AREA)  # average all pixels that fall into one; an int, since the enum is looked up each frame


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the picture goes: scale the stored frame to (height, width), turn it, lay it centred on the view."""

    height: int
    """Rows of the scaled frame before it is turned."""
    width: int
    """Columns of the scaled frame before it is turned."""
    quarter_turns: int
    """Quarter turns to the left that put the frame upright."""


def geometry(
    *,
    stored: tuple[int, int],
    pixel_aspect: Fraction | None,
    quarter_turns: int,
    view: tuple[int, int],
    fit: Literal["letterbox", "crop"],
) -> Geometry:
    """Fit a stored frame (height, width), whose pixels may not be square and which may lie on its side, into a view.

    letterbox: the largest size that stays inside the view; crop: the smallest that covers it.
    """
    height, width = float(stored[0]), float(stored[1] * (pixel_aspect or 1))
    if quarter_turns % 2:
        height, width = width, height
    ratios = (view[0] / height, view[1] / width)
    scale = min(ratios) if fit == "letterbox" else max(ratios)
    upright = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = upright[::-1] if quarter_turns % 2 else upright
    return Geometry(height=rows, width=columns, quarter_turns=quarter_turns)


class Fitter:
    """Bring frames to the view, one scaler kept between frames (a new one for each would halve the speed)."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._reformatter = VideoReformatter()
        self._seen: tuple[int, int, Fraction | None, int] | None = None
        self._geometry: Geometry | None = None

    def paint(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> np.ndarray:
        """One decoded frame -> uint8 (H, W, 3). A new stored size or rotation gets a new geometry."""
        place = self._place(frame, pixel_aspect)
        scaled = self._reformatter.reformat(
            frame,
            width=place.width,
            height=place.height,
            format="rgb24",
            interpolation=AREA,
            threads=1,
        )
        pixels = _pixels(scaled)
        if place.quarter_turns:
            pixels = np.rot90(pixels, place.quarter_turns)
        return on_view(pixels, self.view.height, self.view.width)

    def _place(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> Geometry:
        quarter_turns = round(frame.rotation / 90) % 4
        seen = (frame.height, frame.width, pixel_aspect, quarter_turns)
        if self._geometry is None or seen != self._seen:
            self._seen = seen
            self._geometry = geometry(
                stored=(frame.height, frame.width),
                pixel_aspect=pixel_aspect,
                quarter_turns=quarter_turns,
                view=(self.view.height, self.view.width),
                fit=self.view.fit,
            )
        return self._geometry


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """The pixels of an rgb24 frame (h, w, 3), not copied: `to_ndarray` would cost as much as the scaling."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)  # type: ignore[call-overload]
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def on_view(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Lay (h, w, 3) centred on (height, width, 3): cut what stands over, leave black what is not covered."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return pixels
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    cut = pixels[max(0, -top) : max(0, -top) + height, max(0, -left) : max(0, -left) + width]
    canvas[max(0, top) : max(0, top) + cut.shape[0], max(0, left) : max(0, left) + cut.shape[1]] = cut
    return canvas
