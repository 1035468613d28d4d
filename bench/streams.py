"""Streams: bands that follow a drift, and an alarm that may be watched for a week. Simulated scores, no model.

    python bench/streams.py

Drift: 100,000 frames of scores (misses in stated spreads) whose scale wanders, swells and jumps; how far the share of
misses is from the target, overall and in the worst 2,000 frames on end, with the adaptive threshold and with one fixed
by 1,000 calibration scores. False alarms: whole weeks of one score every 10 s in which nothing changes; in how many of
them was there ever an alarm, with the conformal martingale, with a threshold held against every score, and with the
same bets on ranks among the calibration alone. Delay: units from a change to the martingale's alarm, by the size of the
change (in standard deviations of the normal log-score) and by how long all was quiet before.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
from result import write_result

from foretell.doubt.adaptive import AdaptiveThreshold
from foretell.doubt.martingale import BETS, StreamEvidence, log_rewards, safe
from foretell.evals.intervals import Figure, exact_share
from foretell.log import Samples, spread

FRAMES, CALIBRATION, TARGET, LOCAL = 100_000, 1000, 0.1, 2000
ADAPTIVE = {"adaptive": (0.01, 1000), "adaptive_all_past": (0.01, None)}
"""gamma and window."""
WEEK, UNITS, ALPHAS = 60_480, 500, (0.01, 0.05, 0.2)
SHIFTS, QUIET, WATCHED = (1.0, 2.0, 4.0), (100, 10_000, WEEK), 1000
BARS = {"adaptive_gap_points": 1.0, "false_alarms_0.05": 0.05}


def drifting(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Scores (T,) of a stream whose scale, 1 at first, wanders by a random walk, swells 14 times and jumps 20 times."""
    walk = np.cumsum(rng.normal(0, 0.003, frames))
    swell = 0.4 * np.sin(np.arange(frames) / frames * 28 * math.pi)
    jumps = np.zeros(frames)
    jumps[rng.integers(frames, size=20)] = rng.normal(0, 0.5, 20)
    return np.abs(rng.normal(size=frames)) * np.exp(walk + swell + np.cumsum(jumps))


def drift(seed: int, frames: int) -> dict[str, np.ndarray]:
    """Threshold by threshold, which frames missed, bool (T,); and where the adaptive band was infinite."""
    rng = np.random.default_rng([seed, 1])
    normal, stream = np.abs(rng.normal(size=CALIBRATION)), drifting(rng, frames)
    found = {"fixed": stream > np.sort(normal)[math.ceil((CALIBRATION + 1) * (1 - TARGET)) - 1]}
    for name, (gamma, window) in ADAPTIVE.items():
        threshold = AdaptiveThreshold(TARGET, gamma=gamma, scores=normal, window=window)
        lines, missed = np.empty(frames), np.empty(frames, bool)
        for t, score in enumerate(stream.tolist()):
            lines[t] = threshold.threshold
            missed[t] = threshold.add(score)
        assert abs(missed.mean() - TARGET) <= threshold.bound()
        found[name], found[f"{name}_infinite"] = missed, np.isinf(lines)
    return found


def drift_figures(runs: list[dict[str, np.ndarray]]) -> dict[str, Samples]:
    """Gaps in points, overall and in the worst stretch; how many bands were infinite."""
    figures: dict[str, Samples] = {}
    for name in runs[0]:
        shares = [run[name].mean() for run in runs]
        if name.endswith("infinite"):
            figures[f"{name}_share"] = shares
            continue
        figures[f"{name}_gap_points"] = [100 * abs(share - TARGET) for share in shares]
        local = [
            [part.mean() for part in run[name][: len(run[name]) // LOCAL * LOCAL].reshape(-1, LOCAL)] for run in runs
        ]
        figures[f"{name}_worst_local_gap_points"] = [
            100 * max(abs(share - TARGET) for share in parts) for parts in local
        ]
    return figures


def quiet(seed: int, steps: int) -> dict[str, float]:
    """Highest log evidence over a stream without change; the same of ranks among the calibration alone; lowest p."""
    rng = np.random.default_rng([seed, 2])
    normal, stream = np.sort(rng.normal(size=UNITS)), rng.normal(size=steps)
    evidence = StreamEvidence(normal, seed=seed)
    for score in stream.tolist():
        evidence.add(score)
    above = UNITS - np.searchsorted(normal, stream)
    return {
        "martingale": evidence.highest_log_evidence,
        "fixed_ranks": highest_of((above + 1 - rng.random(steps)) / (UNITS + 1)),
        "lowest_p": float((above.min() + 1) / (UNITS + 1)),
    }


def highest_of(p: np.ndarray) -> float:
    """Highest log evidence of the same bets on given p-values (T,)."""
    won = np.cumsum(log_rewards(p), axis=0)
    left = 1 / np.log2(2 + np.arange(len(p) + 1))
    stakes = np.log((left[:-1] - left[1:]) / len(BETS))
    before = np.concatenate([np.zeros((1, len(BETS))), won[:-1]])
    on_bets = won + np.logaddexp.accumulate(stakes[:, None] - before, axis=0)
    return max(0.0, float(np.logaddexp(np.logaddexp.reduce(on_bets, axis=1), np.log(left[1:])).max()))


def delay(seed: int, before: int, shift: float, alpha: float) -> float:
    """Units from a change after `before` quiet ones to the alarm; NaN if none within WATCHED, inf if it came too early."""
    rng = np.random.default_rng([seed, 3, before, int(10 * shift)])
    evidence = StreamEvidence(rng.normal(size=UNITS), seed=seed)
    for score in rng.normal(size=before).tolist():
        evidence.add(score)
    if evidence.alarm(alpha):
        return math.inf
    for unit, score in enumerate((rng.normal(size=WATCHED) + shift).tolist(), start=1):
        evidence.add(score)
        if evidence.alarm(alpha):
            return float(unit)
    return math.nan


def delay_figures(streams: int, alpha: float = 0.05) -> dict[str, Samples]:
    """Median delay of those found in time and how many were, by change and quiet before."""
    figures: dict[str, Samples] = {}
    for before in QUIET:
        for shift in SHIFTS:
            delays = np.array([delay(seed, before, shift, alpha) for seed in range(streams)])
            found = delays[np.isfinite(delays)]
            name = f"after_{before}_shift_{shift:g}"
            figures[f"found_{name}"] = exact_share(len(found), int((~np.isposinf(delays)).sum()))
            if len(found):
                low, middle, high = np.quantile(found, [0.05, 0.5, 0.95])
                figures[f"delay_units_{name}"] = {"value": middle, "low": low, "high": high, "n": len(found)}
    return figures


def main() -> None:
    """Draw the streams, count, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="drifting streams")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--weeks", type=int, default=500, help="streams without change")
    parser.add_argument("--units", type=int, default=WEEK, help="scores in each of them")
    parser.add_argument("--changes", type=int, default=40, help="streams for each change and time")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "streams.json")
    arguments = parser.parse_args()
    drifts = drift_figures([drift(seed, arguments.frames) for seed in range(arguments.seeds)])
    began = time.process_time()
    calm = [quiet(seed, arguments.units) for seed in range(arguments.weeks)]
    spent = (time.process_time() - began) / (arguments.weeks * arguments.units)

    def ever(name: str, alpha: float) -> Figure:
        return exact_share(sum(one[name] >= -math.log(alpha) for one in calm), len(calm))

    at_every_step = exact_share(sum(one["lowest_p"] <= min(ALPHAS) for one in calm), len(calm))
    write_result(
        arguments.out,
        protocol={
            "drift": {"frames": arguments.frames, "calibration": CALIBRATION, "target": TARGET, "local": LOCAL},
            "adaptive": {name: {"gamma": gamma, "window": window} for name, (gamma, window) in ADAPTIVE.items()},
            "quiet": {"streams": arguments.weeks, "units": arguments.units, "calibration_units": UNITS},
            "change": {"shifts": SHIFTS, "quiet_before": QUIET, "watched": WATCHED, "alpha": 0.05},
            "bets": BETS.tolist(),
            "safe_after_all_units": safe(arguments.units),
            "bars": BARS,
        },
        seeds=range(arguments.seeds),
        metrics={
            **{name: figure for name, figure in drifts.items() if not name.startswith("fixed")},
            **{f"false_alarms_{alpha:g}": ever("martingale", alpha) for alpha in ALPHAS},
            "highest_log_evidence_of_quiet_streams": spread([one["martingale"] for one in calm]),
            **delay_figures(arguments.changes),
            "microseconds_a_unit": 1e6 * spent,
        },
        baselines={
            **{name: figure for name, figure in drifts.items() if name.startswith("fixed")},
            f"threshold_at_every_step_false_alarms_{min(ALPHAS):g}": at_every_step,
            **{f"fixed_ranks_false_alarms_{alpha:g}": ever("fixed_ranks", alpha) for alpha in ALPHAS},
        },
    )


if __name__ == "__main__":
    main()
