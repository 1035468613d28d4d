"""What if: one past, several futures. What an action changes, or the absence of a thing, and how sure that is.

A model that acts imagines each future from the same memory; a probe reads quantities off it; an effect is the difference
of two such readings (do-operator: Pearl, Causality, 2009, chapter 3). Uncertainty is split conformal, joint over the
horizon (Vovk et al., 2005; the largest error in units of a step's own: arXiv 2304.01075). Numbers in, numbers out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from foretell.errors import ConfigError, ShapeError
from foretell.model.heads import Errors, Probe
from foretell.model.world_model import WorldModel

ALPHA = 0.05
"""A band misses the truth anywhere in the horizon in at most this share of cases."""
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


class Effect(NamedTuple):
    """What is different in one future, compared with another. All (T, Q), in the quantities' units."""

    difference: Tensor  # this future's minus the other's
    margin: Tensor  # half the width of the band around it, inf where nothing is known
    sign: Tensor  # int: 1 raised, -1 lowered, 0 no effect: the band holds zero


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
    return Futures(said, said.new_zeros(*said.shape[:2], 0) if probe is None else probe(said))


def effect(future: Tensor, other: Tensor, margin: Tensor) -> Effect:
    """The effect on quantities (T, Q), given the margin (T, Q) of a difference. Raises ShapeError."""
    if not future.shape == other.shape == margin.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (future, other, margin))
        raise ShapeError(f"effect: got shapes {shapes}, expected three of (T, Q)")
    difference = future - other
    return Effect(difference, margin, (difference.sign() * (difference.abs() > margin)).int())


def margins(errors: Tensor, alpha: float = ALPHA) -> Tensor:
    """Errors of calibration (M, T, Q) -> margins (T, Q): each quantity's band holds at all T steps at once.

    If a new error is as likely to rank anywhere among those of the last four fifths of M (they are exchangeable), it leaves
    its quantity's band at any step with probability at most `alpha`. The first fifth says how wide the band is at one step
    compared with another, which takes few; the rank takes many, or it is good on average only, over calibrations.
    Too few for that: inf. Raises ConfigError for an impossible alpha.
    """
    if not 0 < alpha < 1:
        raise ConfigError(f"what-if alpha: got {alpha:g}, expected more than 0 and less than 1")
    few = len(errors) // 5
    shape, kept = errors[:few], errors[few:]
    rank = math.ceil((len(kept) + 1) * (1 - alpha))
    if few < 2 or rank > len(kept):
        return errors.new_full(errors.shape[1:], math.inf)
    scale = shape.square().mean(0).sqrt().clamp_min(1e-9)
    worst = (kept.abs() / scale).amax(1)
    return scale * worst.sort(0).values[rank - 1]


def errors_of_differences(errors: Errors, *, one_past: bool) -> Tensor:
    """How differences between two futures err, as calibration clips tell it: (M // 2, H, Q), no stretch used twice.

    Recordings hold no two futures of one past, so each pair here is of two strangers, stretches from far apart in the
    recording. With `one_past`, only how each changed from its own start counts: the start, and how it was read, falls out
    of the difference. Without it, where one past was painted over and may be read otherwise, everything counts. Held against
    a simulator's true pairs in bench/what_if.py. Where two futures err less alike than strangers do, the band is too narrow.
    """
    wrong = errors.foretold - errors.truth
    if one_past:
        wrong = wrong - (errors.now - _truth_at_start(errors.between))[:, None]
    half = len(wrong) // 2
    return wrong[:half] - wrong[half : 2 * half]


def _truth_at_start(between: Tensor) -> Tensor:
    """Quantities at the start of stretches, from those of the frames after it (M, F, Q), the first two gone on with backwards."""
    return between[:, 0] if between.shape[1] < 2 else 2 * between[:, 0] - between[:, 1]


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
