"""An effect: what differs between two futures of one past, and how sure that is.

Uncertainty is split conformal, joint over the horizon (Vovk et al., 2005; the largest error in units of a step's own: arXiv
2304.01075), in units that grow with how far the futures go, for bold ones are harder to foretell (locally weighted: Lei et al.,
JASA 113, 2018). Numbers in, numbers out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Binomial

from foretell.errors import ConfigError, ShapeError
from foretell.model.heads import Errors

ALPHA = 0.05
"""A band misses the truth anywhere in the horizon in at most this share of cases."""
DOUBT = 0.1
"""Probability that the calibration clips were so lucky a draw that it does so in more."""
FLOOR = 0.2
"""Least width of a band where nothing moves, as a share of the usual error."""


class Effect(NamedTuple):
    """What is different in one future, compared with another. All (T, Q), in the quantities' units."""

    difference: Tensor  # this future's minus the other's
    margin: Tensor  # half the width of the band around it, inf where nothing is known
    sign: Tensor  # int: 1 raised, -1 lowered, 0 no effect: the band holds zero


class Bands(NamedTuple):
    """Half the width of bands around T steps of Q quantities: at least so much, and more for each unit that is gone."""

    least: Tensor  # (T, Q), inf where too little is known
    wider: Tensor  # (T, Q)

    def margin(self, gone: Tensor) -> Tensor:
        """Of a future that has gone so far (T',): (T', Q), inf beyond the steps that were calibrated."""
        steps = len(self.least)
        known = self.least[: len(gone)] + self.wider[: len(gone)] * gone[:steps, None]
        return torch.cat([known, known.new_full((max(0, len(gone) - steps), known.shape[1]), math.inf)])


class Misses(NamedTuple):
    """How M forecasts of calibration clips erred: futures, or differences of two."""

    errors: Tensor  # (M, T, Q)
    gone: Tensor  # (M, T)


def gone(quantities: Tensor, now: Tensor, std: Tensor) -> Tensor:
    """How far futures go from where they start, as they are read: quantities (..., T, Q), now (..., Q), std (Q,) -> (..., T).

    In deviations std of the quantities, the root of the sum of squares.
    """
    return ((quantities - now[..., None, :]) / std).square().sum(-1).sqrt()


def effect(future: Tensor, other: Tensor, margin: Tensor) -> Effect:
    """The effect on quantities (T, Q), given the margin (T, Q) of a difference. Raises ShapeError."""
    if not future.shape == other.shape == margin.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (future, other, margin))
        raise ShapeError(f"effect: got shapes {shapes}, expected three of (T, Q)")
    difference = future - other
    return Effect(difference, margin, (difference.sign() * (difference.abs() > margin)).int())


def fit_bands(misses: Misses, alpha: float = ALPHA) -> Bands:
    """Bands of which each quantity's holds at all T steps at once.

    If a new error and the last four fifths of M are independent draws of one kind, it leaves its quantity's band at any
    step with probability at most `alpha`: in all but DOUBT of calibrations, not on average over them (training-conditional
    validity: Vovk, arXiv 1209.2673). The first fifth says how wide the band is at one step compared with another, and how
    much wider for who goes far, which takes few; the rank takes many. Too few for that: inf. Raises ConfigError for an
    impossible alpha.
    """
    if not 0 < alpha < 1:
        raise ConfigError(f"what-if alpha: got {alpha:g}, expected more than 0 and less than 1")
    few = len(misses.errors) // 5
    kept = Misses(misses.errors[few:], misses.gone[few:])
    outside = _may_lie_outside(len(kept.errors), alpha)
    if few < 2 or outside < 0:
        unknown = misses.errors.new_full(misses.errors.shape[1:], math.inf)
        return Bands(unknown, torch.zeros_like(unknown))
    least, wider = _usual(Misses(misses.errors[:few], misses.gone[:few]))
    worst = (kept.errors.abs() / (least + wider * kept.gone[..., None])).amax(1)
    times = worst.sort(0, descending=True).values[outside]
    return Bands(times * least, times * wider)


def _usual(misses: Misses) -> tuple[Tensor, Tensor]:
    """The straight lines nearest to sizes of errors over what is gone (least squares), never falling: (T, Q) at 0, and slope."""
    size, far = misses.errors.abs(), misses.gone[..., None]
    covariance = ((size - size.mean(0)) * (far - far.mean(0))).mean(0)
    wider = (covariance / far.var(0, unbiased=False).clamp_min(1e-9)).clamp_min(0)
    least = torch.maximum(size.mean(0) - wider * far.mean(0), FLOOR * size.mean(0))
    return least.clamp_min(1e-9), wider


def _may_lie_outside(count: int, alpha: float) -> int:
    """The most of `count` that lie outside a band, so few that a rate over alpha shows as few with probability DOUBT at most; or -1."""
    rate = torch.tensor(alpha, dtype=torch.float64)
    chance = Binomial(count, rate).log_prob(torch.arange(count + 1.0)).exp().cumsum(0)
    return int((chance <= DOUBT).sum()) - 1


def misses_of_futures(errors: Errors, std: Tensor) -> Misses:
    """How single futures err, with std (Q,) of quantities."""
    return Misses(errors.foretold - errors.truth, gone(errors.foretold, errors.now, std))


def misses_of_differences(errors: Errors, std: Tensor, *, one_past: bool) -> Misses:
    """How far differences between two futures may err, as calibration clips tell it: M // 2 of them, no stretch used twice.

    Recordings hold no two futures of one past, so each pair here is of two strangers, stretches from far apart in the
    recording. Their errors are added without their signs: those of two futures, as of actions the other way round, may
    point apart more often than strangers' do. With `one_past`, only how each changed from its own start counts: the start,
    and how it was read, falls out of the difference. Without it, where one past was painted over and may be read otherwise,
    everything counts. Held against a simulator's true pairs in bench/what_if.py. Where one future errs the more, the more
    the other does, the band is too narrow.
    """
    wrong, far = misses_of_futures(errors, std)
    if one_past:
        wrong = wrong - (errors.now - _truth_at_start(errors.between))[:, None]
    half = len(wrong) // 2
    return Misses(wrong[:half].abs() + wrong[half : 2 * half].abs(), together(far[:half], far[half : 2 * half]))


def together(gone: Tensor, other: Tensor) -> Tensor:
    """How far two futures go, taken together."""
    return torch.hypot(gone, other)


def _truth_at_start(between: Tensor) -> Tensor:
    """Quantities at the start of stretches, from those of the frames after it (M, F, Q), the first two gone on with backwards."""
    return between[:, 0] if between.shape[1] < 2 else 2 * between[:, 0] - between[:, 1]
