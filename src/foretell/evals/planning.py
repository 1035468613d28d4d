"""How well was acted? Figures of tasks in which a goal was to be reached; numbers in, numbers out."""

from __future__ import annotations

import numpy as np

from foretell.evals.intervals import Figure, bootstrap, share


def success(reached: np.ndarray) -> Figure:
    """Share of tasks solved, of the steps until success (R, N), 0 for never: R planner seeds on the same N tasks.

    Seeds on one task are no further tasks: Wilson's interval counts the N alone.
    """
    return share((reached > 0).mean(0))


def steps_taken(reached: np.ndarray) -> Figure:
    """Median steps of those (R, N) that were solved, and the middle half of them; NaN if none was."""
    taken = reached[reached > 0]
    low, value, high = np.percentile(taken, [25, 50, 75]).tolist() if len(taken) else [float("nan")] * 3
    return {"value": value, "low": low, "high": high, "n": len(taken)}


def ahead_of(reached: np.ndarray, other: np.ndarray) -> Figure:
    """How much larger the share of solved tasks is than another's on the same N tasks, (R, N) and (R', N): paired."""
    gain = (reached > 0).mean(0) - (other > 0).mean(0)
    return bootstrap(lambda chosen: float(gain[chosen].mean()), len(gain), draws=2000)


def no_silent_failure(reached: np.ndarray, alarmed: np.ndarray) -> Figure:
    """Share of tasks (R, N) that were solved or in which whoever acted said that it had doubts."""
    return share(((reached > 0) | alarmed).mean(0))
