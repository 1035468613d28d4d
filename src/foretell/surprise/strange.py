"""How unlike anything it was fitted on is what was seen? Of a whole stretch, before anything is foretold of it.

Surprise says that something did not go on as foretold; strangeness, that nothing like this was there to learn from. It is a
distance from the middle of normal stretches in what sums up their latents: which tokens there are and how they differ,
how far the strangest one lies from all others, how much they change, and how wrong the next step was foretold. A frozen
camera changes too little and is as strange as a shaken one. A world model rightly forgets grain and sharpness, so these are
taken from the pictures themselves. (Mahalanobis distance of features, Lee et al., arXiv 1807.03888; the norm of latents alone
misses much, as it looks at no direction.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from foretell.errors import DataError, ShapeError
from foretell.surprise.score import shrunk_covariance

LEAST_STD = 0.02
"""Of a feature: what was always the same may be a little otherwise."""
LEAST = 1e-6
"""Under a logarithm: what does not change at all changes so much."""


class Normal(NamedTuple):
    """What normal stretches are like."""

    token_mean: Tensor  # (D,)
    token_precision: Tensor  # (D, D), divided by D
    mean: Tensor  # (F,) of summaries
    precision: Tensor  # (F, F), divided by F


def fit_normal(seen: Tensor, foretold: Tensor, pictures: Tensor) -> Normal:
    """From normal stretches: latents (N, T, P, D), what was foretold of their steps but the first (N, T - 1, P, D), and what
    `picture_summary` says of their frames (N, K).

    Raises DataError for fewer than 2 stretches.
    """
    if len(seen) < 2:
        raise DataError(f"strangeness: got {len(seen)} normal stretches, expected at least 2")
    tokens = seen.float().flatten(0, 2)
    token_mean = tokens.mean(0)
    token_precision = _precision(tokens - token_mean)
    summaries = summary(seen, foretold, pictures, token_mean, token_precision)
    mean, std = summaries.mean(0), summaries.std(0).clamp_min(LEAST_STD)
    whitened = _precision((summaries - mean) / std)  # shrunk among features of one scale
    return Normal(token_mean, token_precision, mean, whitened / std / std[:, None])


def strangeness(seen: Tensor, foretold: Tensor, pictures: Tensor, normal: Normal) -> Tensor:
    """Squared distance (N,) of stretches from normal ones, about 1 for these. Raises ShapeError."""
    away = summary(seen, foretold, pictures, normal.token_mean, normal.token_precision) - normal.mean
    return ((away @ normal.precision) * away).sum(-1)


def picture_summary(frames: Tensor) -> Tensor:
    """Frames uint8 (N, T, H, W, 3) -> brightness, colour, contrast, sharpness, grain and change of their pixels, (N, K = 9).

    Sharpness is the energy of second differences beside that of first ones: blur lowers it, noise raises it.
    """
    grey = frames.float().mean(-1) / 255
    colour = frames.float().div(255).std(-1, correction=0).mean((1, 2, 3))
    first = _energy(grey[..., 1:] - grey[..., :-1]) + _energy(grey[..., 1:, :] - grey[..., :-1, :])
    second = _energy(grey[..., 2:] - 2 * grey[..., 1:-1] + grey[..., :-2])
    second = second + _energy(grey[..., 2:, :] - 2 * grey[..., 1:-1, :] + grey[..., :-2, :])
    grain = (grey[..., 1:-1, 2:] - 2 * grey[..., 1:-1, 1:-1] + grey[..., 1:-1, :-2]).abs()
    grain = rearrange(grain, "n t h w -> n (t h w)")[:, ::7].median(1).values  # of a flat wall: noise alone
    change = rearrange((grey[:, 1:] - grey[:, :-1]).square(), "n t h w -> n t (h w)").mean(-1)
    logs = [first, second, second / first.clamp_min(LEAST), grain, change.amin(1), change.mean(1), change.amax(1)]
    floors = [LEAST, LEAST, LEAST, 1e-4, 1e-7, 1e-7, 1e-7]
    steep = [log.clamp_min(floor).log() for log, floor in zip(logs, floors, strict=True)]
    return torch.stack([grey.mean((1, 2, 3)), colour, *steep], 1)


def summary(seen: Tensor, foretold: Tensor, pictures: Tensor, token_mean: Tensor, token_precision: Tensor) -> Tensor:
    """What sums up each stretch, (N, F = 2 D + 8 + K). Raises ShapeError."""
    if seen.ndim != 4 or seen.shape[1] < 2 or foretold.shape != seen[:, 1:].shape:
        got = f"latents {tuple(seen.shape)} and foretold {tuple(foretold.shape)}"
        raise ShapeError(f"strangeness: got {got}; expected (N, T, P, D) with T of 2 or more, and (N, T - 1, P, D)")
    seen, foretold = seen.float(), foretold.float()
    away = seen - token_mean
    distance = ((away @ token_precision) * away).sum(-1)  # (N, T, P)
    change = (seen[:, 1:] - seen[:, :-1]).square().mean((2, 3))  # (N, T - 1)
    error = (seen[:, 1:] - foretold).square().mean((2, 3))
    numbers = [distance.mean((1, 2)), distance.amax((1, 2))]
    numbers += [f(x) for x in (change, error) for f in (_least, _mean, _most)]
    logs = torch.stack(numbers, 1).clamp_min(LEAST).log()
    return torch.cat([seen.mean((1, 2)), seen.std(2, correction=0).mean(1), logs, pictures.float()], 1)


def _precision(away: Tensor) -> Tensor:
    covariance = shrunk_covariance(away)
    return (torch.linalg.inv(covariance) / len(covariance)).float()


def _energy(differences: Tensor) -> Tensor:
    return differences.square().mean((1, 2, 3))


def _least(x: Tensor) -> Tensor:
    return x.amin(1)


def _mean(x: Tensor) -> Tensor:
    return x.mean(1)


def _most(x: Tensor) -> Tensor:
    return x.amax(1)
