"""The legend of axes, and the check used at the seams.

B batch    T time (steps)    C channels    H W pixels
P tokens of one frame        D latent width
A action width               S candidate plans

frames   (B, T, C, H, W)     uint8 on disk as (T, H, W, C), float in the model
latents  (B, T, P, D)        P = 1 for pooled encoders
surprise (B, T)
actions  (B, T, A)           candidates (B, S, T, A), costs (B, S)
"""

from __future__ import annotations

from typing import Protocol

from foretell.errors import ShapeError


class HasShape(Protocol):
    """Anything with a shape: numpy's arrays, torch's tensors."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def check_axes(array: HasShape, axes: str, what: str) -> None:
    """Raise ShapeError unless `array` has one axis for every word of `axes` (e.g. "B T C H W").

    A number in `axes` fixes that axis: "B T 3 H W" asks for three channels.
    """
    names, shape = axes.split(), tuple(array.shape)
    fits = len(names) == len(shape) and all(
        not name.isdigit() or int(name) == size for name, size in zip(names, shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"{what}: expected axes ({', '.join(names)}), got shape {shape}")
