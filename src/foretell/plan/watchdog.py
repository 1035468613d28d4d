"""Whether what is seen may be trusted: fresh, moving, not blank, finite, and near what was foreseen one step before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from foretell.errors import CalibrationError, ShapeError
from foretell.plan.decisions import Reason
from foretell.plan.guardrails import Guardrails
from foretell.surprise.calibrate import units_needed

FLAT = 3.0
"""A frame whose grey levels deviate less than this, of 255, shows nothing: a lid on the lens, a dead sensor."""
MOVES = 0.1
"""Who did this share of the largest action, or more, may expect the picture to change."""


class Seen(NamedTuple):
    """How B environments look now, and what was made of it."""

    frames: np.ndarray  # uint8 (B, H, W, 3)
    time: float  # seconds on the guard's clock when they were taken, not when they arrived
    latents: Tensor  # (B, P, D)
    quantities: Tensor  # (B, Q) as probed
    surprise: Tensor | None  # (B,) strangeness of these latents (Errors); None where nobody said: the first step


class Watch:
    """Watches B environments from step to step; says of each why it should not be trusted."""

    def __init__(self, guardrails: Guardrails, surprises: np.ndarray) -> None:
        """surprises (N,): largest strangeness in each normal episode. Raises CalibrationError if alpha needs more."""
        self.watchdog, self.alpha = guardrails.watchdog, guardrails.surprise.alpha
        self.surprises = np.sort(np.asarray(surprises, np.float64))
        needed = units_needed(self.alpha)
        if len(self.surprises) < needed or not np.isfinite(self.surprises).all():
            raise CalibrationError(
                f"surprise gate, alpha {self.alpha:g}: got {len(self.surprises)} normal episodes, expected at least "
                f"{needed}, all finite: record more, or ask for alpha {1 / (len(self.surprises) + 1):.4g} or more"
            )
        self.begin(0)

    def begin(self, batch: int) -> None:
        """Nothing was seen yet."""
        self._frames: np.ndarray | None = None
        self._time = -np.inf
        self._equal: np.ndarray = np.ones(batch, int)  # frames in a row that were the same although something was done

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these environments alone."""
        self._equal = self._equal[rows]
        self._frames = None if self._frames is None else self._frames[rows]

    def p_values(self, surprise: Tensor) -> np.ndarray:
        """(B,) share of normal episodes, this one counted, that came as far; NaN for NaN."""
        score = surprise.detach().cpu().double().numpy()
        at_least = len(self.surprises) - np.searchsorted(self.surprises, score, side="left")
        return np.where(np.isnan(score), np.nan, (1 + at_least) / (len(self.surprises) + 1))

    def doubts(self, seen: Seen, now: float, done: np.ndarray) -> list[list[Reason]]:
        """Reasons for doubt, a list for each environment; now: the guard's clock.

        done (B,): largest share of an action's greatest size that was done since the last frame. Raises ShapeError if
        something is not of B environments.
        """
        batch = len(self._equal)
        for name, value in (("frames", seen.frames), ("latents", seen.latents), ("quantities", seen.quantities)):
            if len(value) != batch:
                raise ShapeError(f"guard: got {name} of {len(value)} environments, expected {batch}")
        of_time = self._of_time(seen.time, now)
        found = [list(of_time) for _ in range(batch)]
        first = self._frames is None
        self._look(seen.frames, done, found)
        for name, numbers in (("latents", seen.latents), ("quantities", seen.quantities)):
            for row in (~numbers.isfinite().flatten(1).all(1)).nonzero().flatten().tolist():
                found[row].append(Reason("not finite", f"{name} of what is seen are not finite"))
        self._gate(seen.surprise, first, found)
        return found

    def _of_time(self, time: float, now: float) -> list[Reason]:
        age, newer, found = now - time, time > self._time, []
        if not 0 <= age <= self.watchdog.frame_seconds:
            words = f"the frame is {age:.3g} s old, at most {self.watchdog.frame_seconds:g} s are allowed"
            found.append(Reason("stale frame", words if not age < 0 else f"the frame is from {-age:.3g} s ahead"))
        elif not newer:
            found.append(Reason("stale frame", "the frame is no newer than the last one"))
        self._time = max(self._time, time) if age >= 0 else self._time  # no stamp from ahead may age what follows
        return found

    def _look(self, frames: np.ndarray, done: np.ndarray, found: list[list[Reason]]) -> None:
        if (
            frames.dtype != np.uint8
            or frames.ndim != 4
            or (self._frames is not None and frames.shape != self._frames.shape)
        ):
            for reasons in found:
                reasons.append(Reason("flat frame", f"got frames {frames.dtype} {frames.shape}, not like those before"))
            return
        if self._frames is not None:
            same = (frames == self._frames).all((1, 2, 3))
            self._equal = np.where(same, self._equal + (done >= MOVES), 1)
        self._frames = frames.copy()
        for row, deviation in enumerate(frames.astype(np.float32).std((1, 2)).max(-1)):
            if not deviation >= FLAT:
                found[row].append(
                    Reason("flat frame", f"the frame shows nothing: it deviates by {deviation:.2g} of 255")
                )
        for row, equal in enumerate(self._equal.tolist()):
            if equal >= self.watchdog.frozen_frames:
                found[row].append(Reason("frozen camera", f"{equal} equal frames, though something was done"))

    def _gate(self, surprise: Tensor | None, first: bool, found: list[list[Reason]]) -> None:
        if surprise is None:
            if not first:
                for reasons in found:
                    reasons.append(Reason("surprise", "nobody compared what is seen with what was foreseen"))
            return
        if surprise.shape != (len(found),):
            raise ShapeError(f"guard: got surprise {tuple(surprise.shape)}, expected ({len(found)},)")
        for row, (score, p) in enumerate(zip(torch.as_tensor(surprise).tolist(), self.p_values(surprise), strict=True)):
            if not np.isfinite(score):
                found[row].append(Reason("not finite", "the surprise is not finite"))
            elif p <= self.alpha:
                words = f"{p:.2g} of normal episodes held anything as strange, {self.alpha:g} is the bar"
                found[row].append(Reason("surprise", words))
