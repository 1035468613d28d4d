"""Five ways to refine a guess at the best actions: CEM, iCEM, MPPI, gradient, and CEM over choices.

Each is its own settings and three answers: where to start, what to try next, what the verdicts teach. All of them draw
within the limits, so that nothing outside is ever judged. Half a range, (high - low) / 2, is the unit of a spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from foretell.errors import ConfigError
from foretell.plan.candidates import (
    Judged,
    Limits,
    best_of,
    check_counts,
    check_elites,
    check_share,
    even_noise,
    normal_noise,
)

LEAST_RANGE = 1e-9
"""Limits may leave an action no choice; nothing is divided by zero then."""
ADAM = (0.5, 0.9, 1e-12)
"""Decay of the two means, fast since there are few steps, and the least divisor."""


class Belief(NamedTuple):
    """What is believed so far of the best actions."""

    mean: Tensor  # (B, T, A); of choices, their probabilities
    spread: Tensor  # (B, T, A) in halves of the range; of choices, unused zeros
    kept: Tensor  # (B, K, T, A) candidates of the last round that are judged again
    round: int = 0


class Points(NamedTuple):
    """Candidates that walk downhill, and Adam's two running means of their slopes."""

    at: Tensor  # (B, S, T, A)
    slope: Tensor
    square: Tensor
    round: int = 0


@dataclass(frozen=True, kw_only=True)
class CEMConfig:
    """The cross-entropy method: draw, keep the elites, draw around them (Rubinstein, EJOR 99, 1997)."""

    samples: int = 128
    """Candidates in a round."""
    iterations: int = 6
    """Rounds."""
    elites: int = 16
    """The best candidates of a round, which the next one is drawn around."""
    spread: float = 0.7
    """Deviation of the first round's candidates, in halves of the range."""
    floor: float = 0.02
    """Least deviation of any round's."""

    def __post_init__(self) -> None:
        check_counts(self, samples=2, iterations=1, elites=1)
        check_elites(self.elites, self.samples)
        check_share("spread", self.spread, 10.0)
        check_share("floor", self.floor, self.spread)

    def start(self, limits: Limits, warm: Tensor | None, generator: torch.Generator) -> Belief:
        """Around the proposal (B, T, A), or around the middle of the range."""
        return _first(limits, warm, self.spread)

    def candidates(self, belief: Belief, limits: Limits, generator: torch.Generator) -> Tensor:
        """(B, S, T, A), the first of them the mean itself."""
        return _around(belief, limits, normal_noise(limits.shape_of(self.samples - 1), limits.low, generator))

    def learn(self, belief: Belief, limits: Limits, actions: Tensor, judged: Judged) -> Belief:
        """Mean and deviation of the elites."""
        chosen, weight = best_of(actions, judged, self.elites)
        return _moved(belief, limits, chosen, weight, self.floor)


@dataclass(frozen=True, kw_only=True)
class ICEMConfig:
    """CEM with noise that is smooth in time, elites that are kept, and rounds that shrink (arXiv 2008.06389)."""

    samples: int = 128
    """Candidates in the first round."""
    iterations: int = 6
    """Rounds."""
    elites: int = 16
    """The best candidates of a round, which the next one is drawn around."""
    spread: float = 0.7
    """Deviation of the first round's candidates, in halves of the range."""
    floor: float = 0.02
    """Least deviation of any round's."""
    colour: float = 1.0
    """Power of noise falls with frequency as f ** -colour: 0 is white, 2 and more is smooth."""
    keep: float = 0.3
    """Share of the elites that are judged again in the next round."""
    shrink: float = 1.25
    """Each round has so many times fewer candidates than the one before, but no fewer than two for each elite."""
    inertia: float = 0.1
    """Share of the last mean and deviation that stays."""

    def __post_init__(self) -> None:
        check_counts(self, samples=2, iterations=1, elites=1)
        check_elites(self.elites, self.samples)
        check_share("spread", self.spread, 10.0)
        check_share("floor", self.floor, self.spread)
        check_share("colour", self.colour, 10.0)
        check_share("keep", self.keep, 1.0)
        check_share("inertia", self.inertia, 0.99)
        if not 1 <= self.shrink < float("inf"):
            raise ConfigError(f"planner shrink: got {self.shrink}, expected a finite number of 1 or more")

    def start(self, limits: Limits, warm: Tensor | None, generator: torch.Generator) -> Belief:
        """Around the proposal (B, T, A), or around the middle of the range."""
        return _first(limits, warm, self.spread)

    def candidates(self, belief: Belief, limits: Limits, generator: torch.Generator) -> Tensor:
        """(B, S, T, A), first the mean itself, then the elites that are kept."""
        samples = min(self.samples, max(2 * self.elites, int(self.samples * self.shrink**-belief.round)))
        shape = limits.shape_of(max(1, samples - 1 - belief.kept.shape[1]))
        return _around(belief, limits, coloured(normal_noise(shape, limits.low, generator), self.colour))

    def learn(self, belief: Belief, limits: Limits, actions: Tensor, judged: Judged) -> Belief:
        """Mean and deviation of the elites, with inertia; the best of them stay."""
        chosen, weight = best_of(actions, judged, self.elites)
        moved = _moved(belief, limits, chosen, weight, self.floor)
        return moved._replace(
            mean=moved.mean.lerp(belief.mean, self.inertia),
            spread=moved.spread.lerp(belief.spread, self.inertia),
            kept=chosen[:, : int(self.keep * self.elites)],
        )


@dataclass(frozen=True, kw_only=True)
class MPPIConfig:
    """Model-predictive path integral: every candidate weighs by its cost, noise dies down (arXiv 1509.01149)."""

    samples: int = 128
    """Candidates in a round."""
    iterations: int = 6
    """Rounds."""
    spread: float = 0.7
    """Deviation of the first round's candidates, in halves of the range."""
    decay: float = 0.6
    """Each round's deviation, as a share of the one before."""
    temperature: float = 0.1
    """How much better a candidate must be to weigh e times more; 1 is from the middle one of all to the best."""

    def __post_init__(self) -> None:
        check_counts(self, samples=2, iterations=1)
        check_share("spread", self.spread, 10.0)
        check_share("decay", self.decay, 1.0)
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"planner temperature: got {self.temperature}, expected a finite number above 0")

    def start(self, limits: Limits, warm: Tensor | None, generator: torch.Generator) -> Belief:
        """Around the proposal (B, T, A), or around the middle of the range."""
        return _first(limits, warm, self.spread)

    def candidates(self, belief: Belief, limits: Limits, generator: torch.Generator) -> Tensor:
        """(B, S, T, A), the first of them the mean itself."""
        return _around(belief, limits, normal_noise(limits.shape_of(self.samples - 1), limits.low, generator))

    def learn(self, belief: Belief, limits: Limits, actions: Tensor, judged: Judged) -> Belief:
        """The weighted mean of all candidates: of feasible ones by cost, or, where there is none, by excess."""
        feasible = judged.excess == 0
        any_feasible = feasible.any(1, keepdim=True)
        counted = torch.where(any_feasible, feasible, judged.excess.isfinite())
        badness = torch.where(any_feasible, judged.cost, judged.excess).masked_fill(~counted, torch.inf)
        least = badness.amin(1, keepdim=True)
        half_way = badness.sort(1).values.gather(1, (counted.sum(1, keepdim=True) - 1).clamp_min(0) // 2)
        unit = (half_way - least).clamp_min(torch.finfo(badness.dtype).tiny) * self.temperature
        weight = ((least - badness) / unit).softmax(1).to(actions.dtype)
        known = counted.any(1)[:, None, None]
        mean = torch.where(known, (weight[..., None, None] * actions).sum(1), belief.mean)
        return Belief(mean, belief.spread * self.decay, belief.kept, belief.round + 1)


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """Adam down a slope from several starts, brought back within the limits after each step.

    It is the slope of the excess while a constraint is broken, else of the cost (Polyak, USSR Comput. Math. 7, 1967); of
    its length only the direction counts, so that neither needs a weight.
    """

    samples: int = 16
    """Starts: one at the proposal or the middle of the range, the others anywhere within the limits."""
    iterations: int = 24
    """Steps."""
    rate: float = 0.3
    """Length of the first step, in halves of the range; the last one is nearly 0."""

    def __post_init__(self) -> None:
        check_counts(self, samples=1, iterations=1)
        check_share("rate", self.rate, 10.0)

    def start(self, limits: Limits, warm: Tensor | None, generator: torch.Generator) -> Points:
        """The starts, drawn evenly within the limits but for the first."""
        low = limits.low
        drawn = even_noise(limits.shape_of(self.samples), low, generator)
        at = low[:, None] + drawn * (limits.high - low)[:, None]
        at[:, 0] = limits.middle if warm is None else warm
        still = torch.zeros_like(at)
        return Points(limits.clip(at), still, still)

    def candidates(self, points: Points, limits: Limits, generator: torch.Generator) -> Tensor:
        """(B, S, T, A), ready to be differentiated by."""
        return points.at.detach().requires_grad_()

    def learn(self, points: Points, limits: Limits, actions: Tensor, judged: Judged) -> Points:
        """One step of each candidate; where the slope is not finite it stays where it is."""
        aim = torch.where(judged.excess > 0, judged.excess, judged.cost).masked_fill(~judged.cost.isfinite(), 0.0)
        if not aim.requires_grad:
            raise ConfigError("planner gradient: the cost has no slope: judge with gradients, or plan with CEM")
        (slope,) = torch.autograd.grad(aim.sum(), actions)
        first, second, least = ADAM
        half = limits.half[:, None]
        with torch.no_grad():
            slope = (slope * half).nan_to_num(0.0, 0.0, 0.0)  # as if every action had the range -1 to 1
            slope = slope / slope.norm(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
            mean = points.slope * first + slope * (1 - first)
            square = points.square * second + slope.pow(2) * (1 - second)
            number = points.round + 1
            step = (mean / (1 - first**number)) / ((square / (1 - second**number)).sqrt() + least)
            rate = self.rate * (1 - points.round / self.iterations)
            return Points(limits.clip(actions.detach() - rate * half * step), mean, square, number)


@dataclass(frozen=True, kw_only=True)
class CategoricalConfig:
    """CEM over choices: draw one-hot actions, then draw them as often as the elites do."""

    samples: int = 128
    """Candidates in a round."""
    iterations: int = 6
    """Rounds."""
    elites: int = 16
    """The best candidates of a round, which the next one's probabilities come from."""
    choices: int | None = None
    """Width of one choice, where an action is several side by side; the whole width unless given."""
    floor: float = 0.05
    """Share of the draws that stay even over all choices that the limits allow."""
    trust: float = 0.5
    """Share of the first round that takes the proposal's choice, if there is a proposal."""

    def __post_init__(self) -> None:
        check_counts(self, samples=2, iterations=1, elites=1)
        check_elites(self.elites, self.samples)
        check_share("floor", self.floor, 1.0)
        check_share("trust", self.trust, 1.0)
        if self.choices is not None and self.choices < 2:
            raise ConfigError(f"planner choices: got {self.choices}, expected 2 or more")

    def start(self, limits: Limits, warm: Tensor | None, generator: torch.Generator) -> Belief:
        """Even over what the limits allow, or partly as the proposal (B, T, A) has it.

        A high of 0 rules a choice out. Raises ConfigError for limits that are not those of one-hot actions.
        """
        even = self._even(limits)
        mean = (
            even if warm is None else even.lerp(self._one_hot(warm.clamp_min(0) * (even > 0) + even * 1e-6), self.trust)
        )
        return Belief(mean, torch.zeros_like(mean), mean.new_zeros(len(mean), 0, *mean.shape[1:]))

    def candidates(self, belief: Belief, limits: Limits, generator: torch.Generator) -> Tensor:
        """(B, S, T, A) one-hot, the first of them the likeliest choices."""
        noise = -(-even_noise(limits.shape_of(self.samples - 1), limits.low, generator).log()).log()
        drawn = self._one_hot(belief.mean[:, None].log() + noise)  # the Gumbel trick: argmax draws by probability
        return torch.cat([self._one_hot(belief.mean)[:, None], drawn], 1)

    def learn(self, belief: Belief, limits: Limits, actions: Tensor, judged: Judged) -> Belief:
        """How often the elites take each choice, and a little of all."""
        chosen, weight = best_of(actions, judged, self.elites)
        found = (weight[..., None, None] * chosen).sum(1).lerp(self._even(limits), self.floor)
        mean = torch.where(weight.any(1)[:, None, None], found, belief.mean)
        return Belief(mean, belief.spread, belief.kept, belief.round + 1)

    def _even(self, limits: Limits) -> Tensor:
        allowed = (limits.high == 1).to(limits.low.dtype)
        width = limits.low.shape[-1]
        choices = self.choices or width
        grouped = rearrange(allowed, "b t (g c) -> b t g c", c=choices) if width % choices == 0 else None
        one_hot = ((limits.low == 0) & ((limits.high == 0) | (limits.high == 1))).all()
        if grouped is None or not one_hot or not (grouped.sum(-1) >= 1).all():
            got = f"got {width} numbers from {limits.low.min():g} to {limits.high.max():g}"
            raise ConfigError(
                f"planner choices: {got}, expected one-hot actions of {choices}: low 0, high 1 (0 where ruled out)"
            )
        return (grouped / grouped.sum(-1, keepdim=True)).flatten(-2)

    def _one_hot(self, scores: Tensor) -> Tensor:
        grouped = rearrange(scores, "... (g c) -> ... g c", c=self.choices or scores.shape[-1])
        return torch.nn.functional.one_hot(grouped.argmax(-1), grouped.shape[-1]).to(scores.dtype).flatten(-2)


def coloured(noise: Tensor, colour: float) -> Tensor:
    """White noise (B, S, T, A) -> noise whose power falls with frequency over T as f ** -colour; deviation stays 1."""
    steps = noise.shape[2]
    frequency = torch.fft.rfftfreq(steps, dtype=noise.dtype, device=noise.device)
    gain = frequency.clamp_min(1 / steps) ** (-colour / 2)
    whole = torch.fft.fft(torch.fft.irfft(gain, n=steps)).real  # gain at all T frequencies, for Parseval's theorem
    gain = gain / whole.pow(2).mean().sqrt()
    return torch.fft.irfft(torch.fft.rfft(noise, dim=2) * gain[:, None], n=steps, dim=2)


def _first(limits: Limits, warm: Tensor | None, spread: float) -> Belief:
    mean = limits.middle if warm is None else warm
    return Belief(mean, torch.full_like(mean, spread), mean.new_zeros(len(mean), 0, *mean.shape[1:]))


def _around(belief: Belief, limits: Limits, noise: Tensor) -> Tensor:
    drawn = belief.mean[:, None] + (belief.spread * limits.half)[:, None] * noise
    return limits.clip(torch.cat([belief.mean[:, None], belief.kept, drawn], 1))


def _moved(belief: Belief, limits: Limits, chosen: Tensor, weight: Tensor, floor: float) -> Belief:
    """Mean and deviation of weighed elites; where none weighs anything, what was believed before."""
    by = weight[..., None, None]
    mean = (by * chosen).sum(1)
    half = limits.half.clamp_min(LEAST_RANGE)
    spread = ((by * (chosen - mean[:, None]).pow(2)).sum(1).sqrt() / half).clamp_min(floor)
    known = weight.any(1)[:, None, None]
    return Belief(
        torch.where(known, mean, belief.mean),
        torch.where(known, spread, belief.spread),
        belief.kept,
        belief.round + 1,
    )
