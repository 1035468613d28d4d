"""Hard limits of actions: nothing beyond them is ever sent, to the bit. And the way from here to the fallback."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError
from foretell.plan.decisions import Reason
from foretell.plan.guardrails import Guardrails

Actions = NDArray[np.float32]


class HardLimits:
    """What people allow of the actions of one world. Actions are float32; all checks are done in float64."""

    def __init__(self, guardrails: Guardrails, world: ActionSpace) -> None:
        """Raises ConfigError for guardrails of another world."""
        _check_world(guardrails, world)
        self.guardrails, self.discrete = guardrails, world.discrete
        limits = guardrails.limits
        self.low = _rounded(np.array(limits.low), towards=np.inf)
        """(A,) least values, rounded to float32 so that nothing above them breaks a limit."""
        self.high = _rounded(np.array(limits.high), towards=-np.inf)
        """(A,) greatest values, alike."""
        self.rate = np.array(limits.rate)
        """(A,) largest changes, float64."""
        self.rest: Actions = np.clip(np.array(guardrails.rest, np.float32), self.low, self.high)
        """(A,) the action of the fallback."""

    def against(self, actions: Actions, last: Actions) -> list[Reason]:
        """What is against doing actions (N, A), one after another, after `last` (A,). Everything sent must pass."""
        values = actions.astype(np.float64)
        if not np.isfinite(values).all():
            return [Reason("not finite", "actions are not finite")]
        found, limits = [], self.guardrails.limits
        beyond = np.maximum(np.array(limits.low) - values, values - np.array(limits.high)).max()
        if beyond > 0:
            found.append(Reason("action limit", f"an action is beyond its limit by {beyond:.3g}"))
        if self.discrete and not (((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()):
            found.append(Reason("action limit", "an action is not one of the choices"))
        too_fast = (np.abs(np.diff(np.concatenate([last[None].astype(np.float64), values]), axis=0)) - self.rate).max()
        if too_fast > 0:
            found.append(Reason("rate limit", f"actions change faster than allowed by {too_fast:.3g}"))
        return found

    def fallback(self, last: Actions, count: int) -> Actions:
        """`count` actions (count, A) after `last` (A,): the fallback's at once, or nearing it as fast as rates allow."""
        actions = []
        for _ in range(count):
            before = last.astype(np.float64)
            wanted: Actions = (before + np.clip(self.rest - before, -self.rate, self.rate)).astype(np.float32)
            rounded_up = np.abs(wanted.astype(np.float64) - before) > self.rate
            last = np.where(rounded_up, np.nextafter(wanted, last), wanted)
            actions.append(last)
        return np.stack(actions)

    def share(self, actions: Actions) -> float:
        """The largest number of actions (N, A), as a share of the greatest that is allowed of it."""
        return float((np.abs(actions) / np.maximum(np.abs(self.low), np.abs(self.high))).max())

    def check_last(self, last: Actions, batch: int) -> None:
        """Raise ConfigError unless actions (B, A) lie within: from elsewhere no way back is known."""
        if last.shape != (batch, len(self.rest)) or not ((last >= self.low) & (last <= self.high)).all():
            bounds = f"{self.low.tolist()} to {self.high.tolist()}"
            raise ConfigError(f"guard: got last actions {last.tolist()}, expected {batch} rows from {bounds}")


def _rounded(exact: NDArray[np.float64], *, towards: float) -> Actions:
    near = exact.astype(np.float32)
    outside = near < exact if towards > 0 else near > exact
    return np.where(outside, np.nextafter(near, np.float32(towards)), near)


def _check_world(guardrails: Guardrails, world: ActionSpace) -> None:
    limits = guardrails.limits
    if guardrails.width != world.width:
        raise ConfigError(f"guardrails: limits of {guardrails.width} numbers, the world's actions have {world.width}")
    pairs = zip(limits.low, world.low, limits.high, world.high, strict=True)
    if not all(low >= least and high <= most for low, least, high, most in pairs):
        got = f"limits from {list(limits.low)} to {list(limits.high)}"
        raise ConfigError(f"guardrails: {got}, the world allows no more than {list(world.low)} to {list(world.high)}")
    if world.discrete and (sorted(guardrails.rest) != [0.0] * (world.width - 1) + [1.0] or min(limits.rate) < 1):
        raise ConfigError(
            "guardrails: actions are choices: give fallback.value one of them (one 1, else 0) and rate inf"
        )
