"""Is the doubt of a forecaster worth anything? Bands held against what came, errors ranked by doubt, odd clips noticed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from foretell.evals.detect import auroc
from foretell.evals.intervals import Figure, bootstrap, share
from foretell.evals.reliability import LEVELS, coverage, regression_ece
from foretell.evals.risk import risk_at, risk_coverage, share_of_gap

STEPS_SHOWN = 60
"""Points of a risk-coverage curve."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a forecaster said of N test clips over H steps, and what came. Units of the Q quantities."""

    truth: np.ndarray
    """(N, H, Q)."""
    mean: np.ndarray
    """(N, H, Q)."""
    spread: np.ndarray
    """(N, H, Q) stated deviation."""
    apart: np.ndarray
    """(N, H, Q) deviation between heads."""
    each: tuple[np.ndarray, np.ndarray]
    """Low and high (N, H, Q) of the bands that hold at their own step."""
    joint: tuple[np.ndarray, np.ndarray]
    """Low and high (N, H, Q) of the band that holds at all steps at once."""
    pit: np.ndarray
    """(N, H, Q) what it took for the probability of not more than came."""
    abstained: np.ndarray
    """(N, H) bool."""
    strange: np.ndarray
    """(N,) how unlike normal clips."""
    shell: np.ndarray
    """(N,) how far the length of latents is from that of normal ones."""

    @property
    def errors(self) -> np.ndarray:
        """Distance between forecast and truth, in the quantities' units (N, H)."""
        return np.asarray(np.linalg.norm(self.mean - self.truth, axis=-1))

    @property
    def doubts(self) -> np.ndarray:
        """Stated size of that error (N, H)."""
        return np.asarray(np.linalg.norm(self.spread, axis=-1))


def band_figures(said: Said, slices: np.ndarray, oracle: np.ndarray | None, level: float) -> dict[str, Figure]:
    """Coverage step by step and jointly, in the worst slice, calibration error, and width, beside the oracle's if it is known.

    slices (N,): labels. oracle (N, H, Q): the true deviation of what comes, given the true state at the last seen step; its bands
    are those of independent Gaussians, with the same coverage of all quantities at a step.
    """
    each, joint = coverage(said.truth, *said.each, slices), coverage(said.truth, *said.joint, slices)
    figures: dict[str, Figure] = {
        f"coverage, step {step}": figure for step, figure in enumerate(each.per_horizon, start=1)
    }
    figures["coverage, whole horizon"] = joint.joint
    if joint.worst is not None:
        figures[f"coverage, worst slice ({joint.worst})"] = joint.by_slice[joint.worst]
    units = len(said.truth)
    figures["calibration error"] = bootstrap(lambda at: regression_ece(said.pit[at].ravel()), units, draws=100)
    for step, width in enumerate(each.width.mean(-1), start=1):
        figures[f"width, step {step}"] = _exact(width, units)
    if oracle is not None:
        per_side = NormalDist().inv_cdf((1 + level ** (1 / said.truth.shape[-1])) / 2)
        best = 2 * per_side * oracle
        for step in range(best.shape[1]):
            ours = (said.each[1] - said.each[0])[:, step]
            figures[f"width over oracle, step {step + 1}"] = bootstrap(
                lambda at, ours=ours, best=best[:, step]: float(ours[at].mean() / best[at].mean()),  # type: ignore[misc]
                units,
                draws=100,
            )
    return figures


def risk_figures(said: Said, odd: Mapping[str, Said]) -> dict[str, Figure]:
    """How much of the way from random to oracle its doubt goes: all steps together, within a step, and with odd clips among them."""
    errors, doubts = said.errors, said.doubts
    units = len(errors)
    figures = {
        "gap closed, all steps": bootstrap(
            lambda at: share_of_gap(errors[at].ravel(), doubts[at].ravel()), units, draws=100
        ),
        "gap closed, within a step": bootstrap(
            lambda at: float(np.mean([share_of_gap(errors[at, h], doubts[at, h]) for h in range(errors.shape[1])])),
            units,
            draws=50,
        ),
    }
    if odd:
        parts = [said, *odd.values()]
        mixed, doubt = (np.concatenate(of) for of in zip(*((p.errors, mixed_doubt(p)) for p in parts), strict=True))
        figures["gap closed, odd clips among them"] = bootstrap(
            lambda at: share_of_gap(mixed[at].ravel(), doubt[at].ravel()), len(mixed), draws=100
        )
    for part, risk in risk_at(errors.ravel(), doubts.ravel()).items():
        figures[f"error of the surest {part:.0%}"] = _exact(risk, units)
    return figures


def mixed_doubt(said: Said) -> np.ndarray:
    """Doubt (N, H) where clips may be strange: the stated error, up to twice as much the stranger the clip (to 1: not at all).

    No more than twice, settled on development episodes: the strangest clips, noisy ones, are often foretold as well as any.
    """
    return said.doubts * np.clip(said.strange, 1.0, 2.0)[:, None]


def odd_figures(said: Said, odd: Mapping[str, Said]) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """AUROC of normal against odd clips by kind: of strangeness; and, as baselines, of stated spread and of heads apart."""
    ours, others = {}, {}
    for kind, clips in odd.items():
        ours[f"AUROC, {kind}"] = _auroc(said.strange, clips.strange)
        for name in ("spread", "apart"):
            normal, strange = (np.linalg.norm(getattr(part, name), axis=-1).mean(1) for part in (said, clips))
            others[f"{name}/AUROC, {kind}"] = _auroc(normal, strange)
    return ours, others


def shell_figures(said: Said, odd: Mapping[str, Said]) -> dict[str, Figure]:
    """AUROC of the length of latents alone, by kind: the cheapest signal in the field."""
    return {f"shell/AUROC, {kind}": _auroc(said.shell, clips.shell) for kind, clips in odd.items()}


def answer_figures(said: Said) -> dict[str, Figure]:
    """Of all steps of all clips: claimed and inside the band, claimed and outside (wrong), "I don't know"."""
    inside = ((said.joint[0] <= said.truth) & (said.truth <= said.joint[1])).all(-1)
    told = {"right": inside & ~said.abstained, "wrong": ~inside & ~said.abstained, "abstained": said.abstained}
    return {name: share(of.mean(1)) for name, of in told.items()}


def reliability_curve(said: Said) -> tuple[np.ndarray, np.ndarray]:
    """Stated probability, and share of truths that were not above the value it was stated for, (20,) each."""
    return LEVELS, np.searchsorted(np.sort(said.pit.ravel()), LEVELS, side="right") / said.pit.size


def risk_curves(said: Said) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> coverage and mean error of the surest so many: by its doubt, by the errors themselves, at random."""
    errors, doubts = said.errors.ravel(), said.doubts.ravel()
    at = np.unique(np.linspace(0, len(errors) - 1, STEPS_SHOWN + 1).astype(int)[1:])
    curves = {"its doubt": risk_coverage(errors, doubts), "oracle": risk_coverage(errors, errors)}
    shown = {name: (share_kept[at], risk[at]) for name, (share_kept, risk) in curves.items()}
    return shown | {"random": (shown["oracle"][0], np.full(len(at), errors.mean()))}


def _auroc(normal: np.ndarray, odd: np.ndarray) -> Figure:
    """With the interval of Hanley and McNeil (Radiology 143, 1982)."""
    labels = np.r_[np.zeros(len(normal), bool), np.ones(len(odd), bool)]
    area = auroc(np.r_[normal, odd], labels)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (len(odd) - 1) * (q1 - area**2) + (len(normal) - 1) * (q2 - area**2)
    half = 1.96 * math.sqrt(max(variance, 0.0) / (len(odd) * len(normal)))
    return {"value": area, "low": max(0.0, area - half), "high": min(1.0, area + half), "n": len(labels)}


def _exact(value: float, n: int) -> Figure:
    return {"value": float(value), "low": float(value), "high": float(value), "n": n}
