"""What if: one past, several futures. What is imagined if something else is done, or if a thing were not there.

A model that acts imagines each future from the same memory, and a probe reads quantities off it (do-operator: Pearl,
Causality, 2009, chapter 3). What differs between two futures, and how sure that is: effects.py. Numbers in, numbers out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from foretell.errors import ConfigError, ShapeError
from foretell.model.heads import Probe
from foretell.model.world_model import WorldModel
from foretell.plan.effects import gone

RING = 2
"""Pixels around a removed box whose colour takes its place."""
MOVED = 24
"""Grey levels by which a pixel must differ from its median over time to belong to something that moves."""


class Past(NamedTuple):
    """What is known when the futures part."""

    latents: Tensor  # (P, D), the last ones seen
    memory: Tensor  # (...), of before they were taken in
    seen: Tensor  # (T, P, D), all that was seen, the last with it


class Futures(NamedTuple):
    """What was imagined in S futures of T steps."""

    latents: Tensor  # (S, T, P, D)
    quantities: Tensor  # (S, T, Q); Q = 0 without a probe
    gone: Tensor  # (S, T), how far from the start, see effects.gone


@torch.no_grad()
def take_in(model: WorldModel, frames: np.ndarray, blocks: Tensor) -> Past:
    """See a past: frames uint8 (T, H, W, 3), one a step of the model, and what was done between them, (T - 1, A').

    One frame and no block is a past without memory. Raises ShapeError if there is not a block between any two frames.
    """
    if len(blocks) != len(frames) - 1:
        raise ShapeError(
            f"past: got {len(frames)} frames and {len(blocks)} blocks, expected one block fewer than frames"
        )
    latents = model.encode(rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "t h w c -> 1 t c h w")).float()
    memory = model.predictor.start(1)
    if len(blocks):
        _, memory = model.go_on(latents[:, :-1], memory, blocks[None])
    return Past(latents[0, -1], memory[0], latents[0])


@torch.no_grad()
def imagine_futures(model: WorldModel, probe: Probe | None, past: Past, blocks: Tensor) -> Futures:
    """What follows in each of S cases: blocks (S, T, A') in the world's units. Raises ShapeError."""
    latents, memory = (repeat(x, "... -> s ...", s=len(blocks)) for x in (past.latents, past.memory))
    said = model.imagine(latents, memory, blocks)
    if probe is None:
        return Futures(said, said.new_zeros(*said.shape[:2], 0), said.new_zeros(said.shape[:2]))
    read = probe(said)
    return Futures(said, read, gone(read, probe(past.latents), probe.std))


def without(frames: np.ndarray, box: tuple[int, int, int, int]) -> tuple[np.ndarray, str]:
    """Frames uint8 (T, H, W, 3) with what is in the box (x0, y0, x1, y1; pixels, the last two outside) painted over.

    What moved through the box shows what was behind it, the median over time. What stood there always has nothing behind
    it that was ever seen: it gets the median colour of the ring around the box, and what passes in front of it stays.
    Returns the frames, and which of the two was done, in words. Raises ConfigError if the box is not inside the frame.
    """
    height, width = frames.shape[1:3]
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        got = f"{left},{top},{right},{bottom} in frames of {width} x {height} pixels"
        raise ConfigError(f"remove: got the box {got}, expected x0,y0,x1,y1 with 0 <= x0 < x1 <= {width} and so down")
    still = np.median(frames, axis=0)
    inside = np.zeros((height, width), bool)
    inside[top:bottom, left:right] = True
    if np.abs(frames[-1] - still).max(-1)[inside].max() > MOVED:
        return np.where(inside[..., None], still, frames).round().astype(np.uint8), "the median of the clip over time"
    ring = np.zeros_like(inside)
    ring[max(0, top - RING) : bottom + RING, max(0, left - RING) : right + RING] = True
    ring &= ~inside
    around = still[ring if ring.any() else inside]
    moving = np.abs(frames - still).max(-1) > MOVED
    painted = np.where((inside & ~moving)[..., None], np.median(around, axis=0), frames)
    return painted.round().astype(np.uint8), "the median colour of the pixels around the box"
