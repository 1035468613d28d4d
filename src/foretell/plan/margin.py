"""How much room a plan must leave, so that constraints hold as often as promised though the model errs. Numbers in and out.

Split conformal over whole plans: the score of a plan is the largest error of g over all its steps and constraints, each in
units of its usual size, so one quantile holds for all of them at once and nothing is lost to Bonferroni. If a new plan is
as likely to rank anywhere among the n plans calibrated on (they are exchangeable), then with probability 1 - delta or more
no g turns out larger than foretold by more than its margin. Source: Vovk et al., Algorithmic Learning in a Random World
(2005); the band over a horizon as in Stankeviciute et al., NeurIPS 2021.

Planners seek what a model gets wrong in their favour, so plans they chose are not exchangeable with recorded ones. Hence
margins are calibrated twice: on recordings to begin with, then on plans that the planner chose behind the first margins.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from foretell.errors import CalibrationError, CheckpointError, ShapeError
from foretell.log import write_whole
from foretell.surprise.calibrate import units_needed

VERSION = 1
FOR_SIZES = 4
"""Every so manyth plan tells the usual size of errors, and does not calibrate."""
Source = Literal["recorded", "planned"]


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Room to leave, at each step and for each constraint, and where it comes from."""

    room: tuple[tuple[float, ...], ...]
    """T rows of K numbers, 0 or more, in the units of each constraint."""
    delta: float
    """Share of plans of this kind whose g may turn out larger than foretold by more than `room`, anywhere."""
    plans: int
    """Plans that calibrated it; those that told the usual size of errors not counted."""
    source: Source
    """recorded: what was done in recordings. planned: what the planner chose."""
    constraints: tuple[str, ...]
    """What each of the K asks for."""

    @property
    def steps(self) -> int:
        """T, steps of the model over which it holds."""
        return len(self.room)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all. Raises DataError if it cannot be written."""
        content = asdict(self)
        write_whole(path, json.dumps({"version": VERSION, "checksum": _checksum(content), **content}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Margin:
        """Read what `save` wrote. Raises CheckpointError if it is missing, altered or of another version."""
        again = "calibrate the margins again"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version, checksum = content.pop("version"), content.pop("checksum")
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror}): {again}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: damaged or not margins: {again}") from error
        if version != VERSION:
            raise CheckpointError(f"{path}: got version {version}, expected {VERSION}: {again}, or use that foretell")
        if checksum != _checksum(content):
            raise CheckpointError(f"{path}: altered since it was written (checksum differs): {again}")
        room = tuple(map(tuple, content["room"]))
        return cls(**dict(content, room=room, constraints=tuple(content["constraints"])))


def calibrate_margin(
    truth: np.ndarray, foretold: np.ndarray, delta: float, source: Source, constraints: tuple[str, ...]
) -> Margin:
    """Margins from g as it came and as it was foretold, each (M, T, K): M plans of T steps, K constraints.

    Every fourth plan tells the usual size of errors, the rest calibrate. Raises ShapeError, CalibrationError if there are
    too few plans for delta or a number is not finite.
    """
    if truth.shape != foretold.shape or truth.ndim != 3 or truth.shape[2] != len(constraints):
        expected = f"twice (M, T, K) with K = {len(constraints)}"
        raise ShapeError(f"margins: got g of shape {truth.shape} and {foretold.shape}, expected {expected}")
    worse = truth.astype(np.float64) - foretold
    if not np.isfinite(worse).all():
        bad = int((~np.isfinite(worse)).any((1, 2)).sum())
        raise CalibrationError(
            f"margins: got {bad} of {len(worse)} plans with numbers that are not finite; leave them out"
        )
    for_sizes = np.arange(len(worse)) % FOR_SIZES == 0
    size = _usual_size(worse[for_sizes])
    scores = (
        (worse[~for_sizes] / size).max((1, 2), initial=-np.inf) if len(constraints) else np.zeros((~for_sizes).sum())
    )
    quantile = max(0.0, margin(scores, delta))  # room is never less than none
    room = tuple(map(tuple, (quantile * size).tolist()))
    return Margin(room=room, delta=delta, plans=len(scores), source=source, constraints=constraints)


def margin(scores: np.ndarray, delta: float) -> float:
    """The ceil((n + 1)(1 - delta))-th smallest of n scores (n,): a new one is above it with probability delta at most.

    Raises ConfigError unless 0 < delta < 1, CalibrationError if there are too few scores, saying how many are needed.
    """
    needed, plans = units_needed(delta), len(scores)
    if plans < needed:
        of = f"{needed} for calibration, so about {-(-needed * FOR_SIZES // (FOR_SIZES - 1)) + 1} in all"
        raise CalibrationError(
            f"delta {delta:g}: got {plans} plans, expected at least {of}: "
            f"record more episodes for calibration, or ask for delta {1 / (plans + 1):.4g} or more"
        )
    at_most = next(
        k for k in range(plans + 1, -1, -1) if k / (plans + 1) <= delta
    )  # the very arithmetic of units_needed
    return float(np.sort(np.asarray(scores, np.float64))[plans - at_most])


def _usual_size(worse: np.ndarray) -> np.ndarray:
    """Root mean square of errors (M, T, K) -> (T, K), never 0, so that a place without errors cannot stretch the rest."""
    size = np.sqrt((worse**2).mean(0)) if len(worse) else np.ones(worse.shape[1:])
    floor = np.maximum(0.01 * size.max(0, keepdims=True, initial=0), 1e-6)
    largest: np.ndarray = np.maximum(size, floor)
    return largest


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
