"""Clip and View: what was seen, and how it was looked at. The one currency between readers, worlds and the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from foretell.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class View:
    """How every video is looked at: one size, one rate, one way to fit. Kept with the store and with the model."""

    height: int = 64
    """Pixels of a frame, top to bottom; a multiple of 8."""
    width: int = 64
    """Pixels of a frame, left to right; a multiple of 8."""
    fps: float = 10.0
    """Steps a second after resampling by time stamps."""
    fit: Literal["letterbox", "crop"] = "letterbox"
    """letterbox keeps all of the frame on black bars; crop fills the frame and cuts what stands over."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            size = getattr(self, name)
            if size < 16 or size % 8:
                raise ConfigError(f"view {name}: got {size}, expected a multiple of 8 from 16 up")
        if not 0 < self.fps <= 1000:
            raise ConfigError(f"view fps: got {self.fps}, expected more than 0 and at most 1000")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One stretch of experience. frames: uint8 (T, H, W, 3); states: name -> (T, ...) truth of a simulated world.

    actions: float32 (T, A), what was done after each frame was seen, which leads to the next one; None where nobody acts.
    """

    name: str
    frames: np.ndarray
    fps: float
    states: dict[str, np.ndarray] = field(default_factory=dict)
    actions: np.ndarray | None = None
