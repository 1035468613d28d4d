"""How much room a plan must leave, so that constraints hold as often as promised though the model errs. Numbers in and out.

Split conformal over whole plans: the score of a plan is the largest error of g over all its steps and constraints, each in
units of its usual size, so one quantile holds for all of them at once and nothing is lost to Bonferroni. If a new plan is
as likely to rank anywhere among the n plans calibrated on (they are exchangeable), then with probability 1 - delta or more
no g turns out larger than foretold by more than its margin. Source: Vovk et al., Algorithmic Learning in a Random World
(2005); the band over a horizon as in Stankeviciute et al., NeurIPS 2021.

A step of a model lasts several frames. g as it came is the worst of its frames; g as foretold is the worst on straight
lines between steps. What lines leave out is part of the error, and so of the margin.

Planners seek what a model gets wrong in their favour, so plans they chose are not exchangeable with recorded ones. Hence
margins are calibrated twice: on recordings to begin with, then on plans that the planner chose behind the first margins.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from foretell.errors import CalibrationError, ShapeError
from foretell.log import read_sealed, write_sealed
from foretell.plan.constraints import Constraints
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
        write_sealed(path, asdict(self), VERSION)

    @classmethod
    def load(cls, path: Path) -> Margin:
        """Read what `save` wrote. Raises CheckpointError if it is missing, altered or of another version."""
        content = read_sealed(path, VERSION, "margins", "calibrate the margins again")
        room = tuple(map(tuple, content["room"]))
        return cls(**dict(content, room=room, constraints=tuple(content["constraints"])))


def calibrate_margin(
    constraints: Constraints, now: Tensor, foretold: Tensor, frames: Tensor, delta: float, source: Source
) -> Margin:
    """Margins from M plans of T steps: quantities at their start as probed, as foretold, and as they truly came.

    now (M, Q), foretold (M, T, Q), frames (M, T * skip, Q). Raises ShapeError, and CalibrationError if there are too few
    plans for delta or a number is not finite.
    """
    plans, steps = foretold.shape[:2]
    skip = frames.shape[1] // max(1, steps)
    if not plans == len(now) == len(frames) or not steps or frames.shape[1] != skip * steps or not skip:
        got = f"{tuple(now.shape)}, {tuple(foretold.shape)} and {tuple(frames.shape)}"
        raise ShapeError(f"margins: got {got}, expected (M, Q), (M, T, Q) and (M, T * skip, Q)")
    said = constraints.between(now.double(), foretold.double(), skip)
    worse = (constraints.worst_frames(frames.double(), skip) - said).cpu().numpy()
    room, count = band(worse, delta)
    rows = tuple(map(tuple, room.tolist()))
    return Margin(room=rows, delta=delta, plans=count, source=source, constraints=constraints.names)


def band(worse: np.ndarray, delta: float) -> tuple[np.ndarray, int]:
    """Errors (M, T, K) of plans -> the room (T, K) that a new plan's errors stay within at once, and plans it rests on.

    Every fourth plan tells the usual size of errors, the rest calibrate. Raises CalibrationError.
    """
    if not np.isfinite(worse).all():
        bad = int((~np.isfinite(worse)).any((1, 2)).sum())
        raise CalibrationError(
            f"margins: got {bad} of {len(worse)} plans with numbers that are not finite; look for NaN"
        )
    for_sizes = np.arange(len(worse)) % FOR_SIZES == 0
    size = _usual_size(worse[for_sizes])
    scores = (worse[~for_sizes] / size).max((1, 2), initial=-np.inf)
    return max(0.0, margin(scores, delta)) * size, len(scores)  # never less than no room


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
    never_zero: np.ndarray = np.maximum(size, floor)
    return never_zero
