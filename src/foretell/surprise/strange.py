"""How unlike anything it was fitted on is what was seen? Of a whole stretch, before anything is foretold of it.

Surprise says that something did not go on as foretold; strangeness, that nothing like this was there to learn from. It is a
distance from the middle of normal stretches in what sums up their latents: which tokens there are and how they differ,
how far the strangest one lies from all others, how much they change, and how wrong the next step was foretold. A frozen
camera changes too little and is as strange as a shaken one. A world model rightly forgets grain and sharpness, so these are
taken from the pictures themselves. (Mahalanobis distance of features, Lee et al., arXiv 1807.03888; the norm of latents alone
misses much, as it looks at no direction.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from foretell.errors import DataError, ShapeError
from foretell.surprise.covariance import shrunk_covariance

LEAST_STD = 0.02
"""Of a feature: what was always the same may be a little otherwise."""
LEAST, LEAST_GRAIN, LEAST_CHANGE = 1e-6, 1e-4, 1e-7
"""Under a logarithm: what does not change at all changes so much."""


WINDOW = 8
"""Steps of a passing video that are judged together."""
Stretch = tuple[Tensor, Tensor, Tensor]
"""Of a passing video: latents (T, P, D), what was foretold of each one step before (T, P, D), frames uint8 (T, H, W, 3)."""


PICTURE, BESIDE = 9, 17
"""Numbers K of a summary that are of pictures, and all that are not of single channels."""
USUAL = 0.95
"""Share of normal stretches that are less strange than 1."""


class Normal(NamedTuple):
    """What normal stretches are like."""

    token_mean: Tensor  # (D,)
    token_precision: Tensor  # (D, D), divided by D
    mean: Tensor  # (F,) of summaries
    precision: Tensor  # (F, F), divided by F
    of_pictures: (
        Tensor  # (K, K) the same of the last K, what sums up pictures: among F a change of these alone would go under
    )
    usual: Tensor  # (2,) distances that 1 in 20 normal stretches exceed: of all, and of pictures alone


def fit_normal(seen: Tensor, foretold: Tensor, pictures: Tensor) -> Normal:
    """From normal stretches: latents (N, T, P, D), what was foretold of their steps but the first (N, T - 1, P, D), and what
    `picture_summary` says of their frames (N, K).

    Raises DataError for fewer than 2 stretches.
    """
    tokens = _fit_tokens([seen])
    return _fit_normal(*tokens, summary(seen, foretold, pictures, *tokens))


def fit_passing(stretches: Callable[[], Iterable[Stretch]]) -> Normal:
    """From normal videos, given anew at each call: what `Passing` then takes for usual. Raises DataError if all are too short."""
    tokens = _fit_tokens(seen for seen, _, _ in stretches())
    summaries = [Summaries(*tokens).next(*stretch) for stretch in stretches()]
    return _fit_normal(*tokens, torch.cat(summaries))


class Passing:
    """One video passing by: how strange its last WINDOW steps are, at every step. Each step is looked at once."""

    def __init__(self, normal: Normal) -> None:
        self.normal = normal
        self.summaries = Summaries(normal.token_mean, normal.token_precision)

    def next(self, *stretch: Tensor) -> Tensor:
        """The next T steps, a `Stretch` -> (T,): below 1 where they are as usual; NaN until WINDOW steps were seen."""
        distance = _distance(self.summaries.next(*stretch), self.normal)
        return torch.cat([distance.new_full((len(stretch[0]) - len(distance),), torch.nan), distance])


class Summaries:
    """One video passing by: what sums up every WINDOW of its steps."""

    def __init__(self, token_mean: Tensor, token_precision: Tensor) -> None:
        self.tokens = token_mean, token_precision
        self.recent: Tensor | None = None  # (fewer than WINDOW, numbers) of the last steps
        self.last: tuple[Tensor, Tensor] | None = None  # latents (1, P, D) and grey picture (1, H, W) of the last step

    def next(self, seen: Tensor, foretold: Tensor, frames: Tensor) -> Tensor:
        """The next T steps, a `Stretch` -> summaries (N, F) of all windows that end with one of them; N is T, but at first."""
        levels, (looks, grey) = token_numbers(seen, *self.tokens), picture_numbers(frames)
        unknown = torch.full_like(seen[:1], torch.nan), torch.full_like(grey[:1], torch.nan)
        before, grey_before = (
            torch.cat([last, now[:-1]]) for last, now in zip(self.last or unknown, (seen, grey), strict=True)
        )
        moved = squared_difference(seen, before), squared_difference(seen, foretold), picture_change(grey, grey_before)
        numbers = torch.cat([levels, looks, torch.stack(moved, -1)], -1)
        if self.recent is not None:
            numbers = torch.cat([self.recent, numbers])
        self.recent, self.last = numbers[-(WINDOW - 1) :], (seen[-1:], grey[-1:])
        if len(numbers) < WINDOW:
            return numbers.new_zeros(0, 2 * seen.shape[-1] + BESIDE)
        windows = numbers.unfold(0, WINDOW, 1).transpose(1, 2)
        of_tokens, of_looks, changes = windows.split([levels.shape[-1], looks.shape[-1], len(moved)], -1)
        latents = _sum_up_latents(of_tokens, changes[:, 1:, :2])
        return torch.cat([latents, _sum_up_pictures(of_looks, changes[:, 1:, 2])], 1)


def strangeness(seen: Tensor, foretold: Tensor, pictures: Tensor, normal: Normal) -> Tensor:
    """How far stretches are from normal ones, (N,), squared; of these 1 in 20 are beyond 1. Raises ShapeError."""
    return _distance(summary(seen, foretold, pictures, normal.token_mean, normal.token_precision), normal)


def picture_summary(frames: Tensor) -> Tensor:
    """Frames uint8 (N, T, H, W, 3) -> brightness, colour, contrast, sharpness, grain and change of their pixels, (N, K = 9).

    Sharpness is the energy of second differences beside that of first ones: blur lowers it, noise raises it.
    """
    looks, grey = picture_numbers(frames)
    return _sum_up_pictures(looks, picture_change(grey[:, 1:], grey[:, :-1]))


def picture_numbers(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames uint8 (..., H, W, 3) -> what each looks like by itself, (..., 5), and in grey, (..., H, W), 0 to 1."""
    colours = (
        frames.movedim(-1, 0).contiguous().float() / 255
    )  # to go along pixels is many times faster than along colours
    grey = colours.mean(0)
    down, right = grey[..., 1:, :] - grey[..., :-1, :], grey[..., 1:] - grey[..., :-1]
    down_again, right_again = down[..., 1:, :] - down[..., :-1, :], right[..., 1:] - right[..., :-1]
    first = down.square().mean((-1, -2)) + right.square().mean((-1, -2))
    second = down_again.square().mean((-1, -2)) + right_again.square().mean((-1, -2))
    mixed = right_again[..., 2:, :] - 2 * right_again[..., 1:-1, :] + right_again[..., :-2, :]
    grain = mixed.abs().flatten(-2)[..., ::7].median(-1).values  # of a flat wall: noise alone
    colour = (colours - grey).square().mean(0).sqrt().mean((-1, -2))
    return torch.stack([grey.mean((-1, -2)), colour, first, second, grain], -1), grey


def picture_change(after: Tensor, before: Tensor) -> Tensor:
    """Mean squared difference of grey frames (..., H, W): (...)."""
    return (after - before).square().mean((-1, -2))


def summary(seen: Tensor, foretold: Tensor, pictures: Tensor, token_mean: Tensor, token_precision: Tensor) -> Tensor:
    """What sums up each stretch, (N, F = 2 D + 8 + K). Raises ShapeError."""
    if seen.ndim != 4 or seen.shape[1] < 2 or foretold.shape != seen[:, 1:].shape:
        got = f"latents {tuple(seen.shape)} and foretold {tuple(foretold.shape)}"
        raise ShapeError(f"strangeness: got {got}; expected (N, T, P, D) with T of 2 or more, and (N, T - 1, P, D)")
    seen, foretold = seen.float(), foretold.float()
    change, error = squared_difference(seen[:, 1:], seen[:, :-1]), squared_difference(seen[:, 1:], foretold)
    told = _sum_up_latents(token_numbers(seen, token_mean, token_precision), torch.stack([change, error], -1))
    return torch.cat([told, pictures.float()], 1)


def token_numbers(latents: Tensor, token_mean: Tensor, token_precision: Tensor) -> Tensor:
    """Latents (..., P, D) -> mean and deviation of the tokens, and how far from all others they lie and the strangest one:
    (..., 2 D + 2)."""
    away = latents - token_mean
    distance = ((away @ token_precision) * away).sum(-1)
    spread = latents.std(-2, correction=0)
    return torch.cat([latents.mean(-2), spread, distance.mean(-1, keepdim=True), distance.amax(-1, keepdim=True)], -1)


def squared_difference(one: Tensor, other: Tensor) -> Tensor:
    """Of latents (..., P, D), mean over both: (...)."""
    return (one - other).square().mean((-1, -2))


def _sum_up_latents(tokens: Tensor, changes: Tensor) -> Tensor:
    """Numbers of each step (N, T, 2 D + 2), and change and error of each but the first (N, T - 1, 2) -> (N, 2 D + 8)."""
    levels, middle, strangest = tokens[..., :-2], tokens[..., -2], tokens[..., -1]
    over_time = torch.stack([changes.amin(1), changes.mean(1), changes.amax(1)], -1).flatten(1)
    distances = torch.stack([middle.mean(1), strangest.amax(1)], 1)
    return torch.cat([levels.mean(1), torch.cat([distances, over_time], 1).clamp_min(LEAST).log()], 1)


def _sum_up_pictures(looks: Tensor, change: Tensor) -> Tensor:
    """Numbers of each frame (N, T, 5), and change to each but the first (N, T - 1) -> (N, K = 9)."""
    bright, colour, first, second, grain = looks.mean(1).unbind(-1)
    steep = [first, second, second / first.clamp_min(LEAST), grain, change.amin(1), change.mean(1), change.amax(1)]
    floors = looks.new_tensor([LEAST, LEAST, LEAST, LEAST_GRAIN, *3 * [LEAST_CHANGE]])
    return torch.cat([torch.stack([bright, colour], 1), torch.stack(steep, 1).maximum(floors).log()], 1)


def _distance(summaries: Tensor, normal: Normal) -> Tensor:
    """Of summaries (N, F), (N,): the larger of both, in units of what is usual."""
    distances = _distances(summaries - normal.mean, normal.precision, normal.of_pictures)
    return (torch.stack(distances, -1) / normal.usual).amax(-1)


def _distances(away: Tensor, whole: Tensor, of_pictures: Tensor) -> tuple[Tensor, Tensor]:
    pictures = away[:, -PICTURE:]
    return ((away @ whole) * away).sum(-1), ((pictures @ of_pictures) * pictures).sum(-1)


def _fit_tokens(latents: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (D,) and precision (D, D) of the tokens of normal stretches (..., D)."""
    tokens = torch.cat([part.float().flatten(0, -2) for part in latents])
    mean = tokens.mean(0)
    return mean, _precision(tokens - mean)


def _fit_normal(token_mean: Tensor, token_precision: Tensor, summaries: Tensor) -> Normal:
    """From what sums up normal stretches, (N, F). Raises DataError for fewer than 2."""
    if len(summaries) < 2:
        raise DataError(f"strangeness: got {len(summaries)} normal stretches, expected at least 2")
    mean, std = summaries.mean(0), summaries.std(0).clamp_min(LEAST_STD)
    scaled = (summaries - mean) / std  # shrunk among features of one scale
    whole, of_pictures = _precision(scaled) / std / std[:, None], _precision(scaled[:, -PICTURE:])
    of_pictures = of_pictures / std[-PICTURE:] / std[-PICTURE:, None]
    usual = torch.stack(_distances(summaries - mean, whole, of_pictures)).quantile(USUAL, 1)
    return Normal(token_mean, token_precision, mean, whole, of_pictures, usual)


def _precision(away: Tensor) -> Tensor:
    covariance = shrunk_covariance(away)
    return (torch.linalg.inv(covariance) / len(covariance)).float()
