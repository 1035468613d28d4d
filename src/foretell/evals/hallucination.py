"""How often does a model say, and say with confidence, what does not happen? Three rates, for any world model.

HR-div: the share of rollouts whose thing is read more than a radius from where it is. HR-phys: the share of rollouts in
which the referee sees something that cannot happen. HR-conf, the headline: the share of steps that are both off by more
than a radius and stated with more confidence than the threshold below which the model abstains. That threshold is taken on
clips of its own, so that a stated share of them, the coverage, is answered; at full coverage HR-conf is HR-div.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ConfigError, ShapeError
from foretell.evals.foretellers import Flights, Floats, Foreteller, Said, distance
from foretell.evals.intervals import Figure
from foretell.evals.referee import impossible, look, set_stage

COVERAGES = (0.8, 0.9, 1.0)
TIE = 1e-12
"""Shares nearer to each other than this are equal: they are sums, in whatever order."""
Flags = NDArray[np.bool_]


class Verdict(NamedTuple):
    """What became of each rollout of a model."""

    error: Floats  # (B, H) pixels, infinite where nothing is to be seen
    diverged: Flags  # (B, H): off by more than a radius
    confidence: Floats  # (B, H)
    events: dict[str, Flags]  # (B, H) each, by name: what cannot happen

    @property
    def impossible(self) -> Flags:
        """Whether anything in a rollout cannot happen, (B,)."""
        return np.any([flags.any(1) for flags in self.events.values()], axis=0)

    def confidently_wrong(self, thresholds: Floats) -> Flags:
        """Off by more than a radius, and not abstained from: (B, H), from the thresholds (H,) of `abstention`."""
        if thresholds.shape != self.confidence.shape[1:]:
            raise ShapeError(
                f"thresholds: got {thresholds.shape}, expected one for each of {self.confidence.shape[1]} steps"
            )
        return self.diverged & (self.confidence >= thresholds)


def judge(foreteller: Foreteller, flights: Flights, seen: int, gravity: float) -> Verdict:
    """Ask, and hold against what came. `gravity` in pixels per frame squared."""
    said = foreteller.foretell(flights.frames[:, :seen], flights.frames.shape[1] - seen)
    return verdict(said, flights, seen, events_in(said.frames, flights, seen, gravity))


def events_in(frames: np.ndarray, flights: Flights, seen: int, gravity: float) -> dict[str, Flags]:
    """What cannot happen in frames (B, H, 64, 64, 3) said to follow the first `seen` ones: (B, H) each, by name."""
    past = flights.frames[:, :seen]
    stage = set_stage(past)
    return impossible(look(past, stage), look(frames, stage), stage, gravity)


def verdict(said: Said, flights: Flights, seen: int, events: dict[str, Flags]) -> Verdict:
    """What was said of flights after their first `seen` frames, held against what came."""
    error = distance(said.places, flights.places[:, seen:])
    return Verdict(error, error > flights.radius[:, None], said.confidence, events)


def abstention(confidence: Floats, coverage: float) -> Floats:
    """Of each step, the confidence (H,) that a share `coverage` of calibration clips reaches: confidence (B, H).

    A threshold of each step, so that what lies far ahead is answered as often as what is near. Raises ConfigError.
    """
    if not 0 < coverage <= 1:
        raise ConfigError(f"coverage: got {coverage}, expected above 0 and at most 1")
    if coverage == 1:
        return np.full(confidence.shape[1], -np.inf)
    answered = max(1, round(coverage * len(confidence)))
    thresholds: Floats = np.sort(confidence, axis=0)[-answered]
    return thresholds


class Paired(NamedTuple):
    """Two models on the same clips: the share of each, and how sure it is that one has so much less."""

    ours: Figure
    theirs: Figure
    ratio: Figure
    p_less: float
    """Of shares drawn anew, how many do not have ours below theirs."""
    p_half: float
    """And how many have ours above half of theirs."""


def paired_bootstrap(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], *, draws: int = 4000, seed: int = 0
) -> Paired:
    """Shares of outcomes of S training seeds, (B,) each on the same clips; seeds and clips are drawn anew together.

    A clip that is drawn counts for both models and for all drawn seeds: it may be hard for all of them. One-sided p
    values with the usual one added above and below, so that none is 0. Raises ShapeError.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape or a.ndim != 2 or not a.size:
        raise ShapeError(f"paired bootstrap: got {a.shape} and {b.shape}, expected both (S, B)")
    rng = np.random.default_rng(seed)
    seeds, clips = (rng.multinomial(n, np.full(n, 1 / n), size=draws) / n for n in a.shape)  # how often each is drawn
    drawn = np.stack([((seeds @ outcomes) * clips).sum(1) for outcomes in (a, b)], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn_ratio, ratio = drawn[:, 0] / drawn[:, 1], np.divide(a.mean(), b.mean())

    def figure(value: float, values: np.ndarray) -> Figure:
        known = values[np.isfinite(values)]
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
        return {"value": float(value), "low": float(low), "high": float(high), "n": int(a.size)}

    def p(missed: np.ndarray) -> float:
        return float((missed.sum() + 1) / (draws + 1))

    return Paired(
        figure(a.mean(), drawn[:, 0]),
        figure(b.mean(), drawn[:, 1]),
        figure(float(ratio), drawn_ratio),
        p(drawn[:, 0] >= drawn[:, 1] - TIE),
        p(drawn[:, 0] > 0.5 * drawn[:, 1] + TIE),
    )
