"""Planning: try candidates in imagination, keep the best, refine. One loop; refine.py has the ways.

A planner knows neither model nor latents. It is given a judge, and never shows it an action outside the limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foretell.errors import ConfigError, PlanError, ShapeError
from foretell.plan.candidates import Judged, Limits, order
from foretell.plan.refine import CategoricalConfig, CEMConfig, GradientConfig, ICEMConfig, MPPIConfig

PlannerConfig = CEMConfig | ICEMConfig | MPPIConfig | GradientConfig | CategoricalConfig

Judge = Callable[[Tensor], Judged]
"""Actions (B, S, T, A) -> what they cost and by how much they break constraints, each (B, S)."""


class Plan(NamedTuple):
    """The best candidate that was ever judged, for each of B environments."""

    actions: Tensor  # (B, T, A) within the limits to the bit
    cost: Tensor  # (B,)
    excess: Tensor  # (B,) 0: it breaks no constraint. Above 0: none was found that breaks none
    evaluated: int  # candidates judged for each environment


def make_plan(
    config: PlannerConfig,
    judge: Judge,
    low: Tensor,
    high: Tensor,
    *,
    batch: int,
    horizon: int,
    generator: torch.Generator,
    warm: Tensor | None = None,
) -> Plan:
    """Search for the actions of `horizon` steps that cost least, for `batch` environments at once.

    low, high (A,), or any shape that broadcasts to (B, T, A): limits of each environment and step. `warm` (B, T, A) is a
    proposal, brought within the limits: it is judged first, so the plan is never worse than it. Feasible candidates come
    before all others, however cheap; one whose cost or excess is not finite is never chosen. All chance comes from
    `generator`. Raises PlanError if the proposal is not finite, or if no candidate of an environment has a finite cost;
    ConfigError for impossible limits; ShapeError if the judge answers in another shape.
    """
    limits = _limits(low, high, batch, horizon)
    way: Any = config  # each way has a belief of its own kind, which only it reads
    with torch.set_grad_enabled(isinstance(config, GradientConfig)):
        belief = way.start(limits, _proposal(warm, limits), generator)
        best, evaluated = None, 0
        for _ in range(config.iterations):
            actions = way.candidates(belief, limits, generator)
            judged = _comparable(judge(actions), actions)
            evaluated += actions.shape[1]
            best = _best(best, actions.detach(), Judged(judged.cost.detach(), judged.excess.detach()))
            belief = way.learn(belief, limits, actions, judged)
    assert best is not None
    lost = (~best.cost.isfinite()).nonzero().flatten().tolist()
    if lost:
        raise PlanError(
            f"plan: none of {evaluated} candidates has a finite cost, in environments {lost[:8]} of {batch}: "
            "look for NaN in what the model was shown and in the cost"
        )
    return Plan(best.actions, best.cost, best.excess, evaluated)


def shifted(actions: Tensor, steps: int = 1) -> Tensor:
    """A plan (B, T, A) after its first steps are done: the next proposal, with its last action repeated."""
    last = actions[:, -1:].expand(-1, min(steps, actions.shape[1]), -1)
    return torch.cat([actions[:, steps:], last], 1)


class _Best(NamedTuple):
    actions: Tensor
    cost: Tensor
    excess: Tensor


def _best(before: _Best | None, actions: Tensor, judged: Judged) -> _Best:
    """The best of a round and of all before; at equal cost the earlier one stays."""
    first = order(judged)[:, 0]
    rows = torch.arange(len(first), device=first.device)
    now = _Best(actions[rows, first], judged.cost[rows, first], judged.excess[rows, first])
    if before is None:
        return now
    better = (now.excess < before.excess) | ((now.excess == before.excess) & (now.cost < before.cost))
    chosen = torch.where(better[:, None, None], now.actions, before.actions)
    return _Best(chosen, torch.where(better, now.cost, before.cost), torch.where(better, now.excess, before.excess))


def _comparable(judged: Judged, actions: Tensor) -> Judged:
    """Verdicts that can be ranked: whatever is not finite is infinitely bad."""
    shape = actions.shape[:2]
    if judged.cost.shape != shape or judged.excess.shape != shape:
        got = f"cost {tuple(judged.cost.shape)} and excess {tuple(judged.excess.shape)}"
        raise ShapeError(f"judge: got {got}, expected (B, S), here {tuple(shape)}")
    bad = ~(judged.cost.isfinite() & judged.excess.isfinite())
    return Judged(judged.cost.masked_fill(bad, torch.inf), judged.excess.clamp_min(0).masked_fill(bad, torch.inf))


def _limits(low: Tensor, high: Tensor, batch: int, horizon: int) -> Limits:
    if batch < 1 or horizon < 1:
        raise ConfigError(f"plan: got {batch} environments and {horizon} steps, expected 1 or more of each")
    try:
        low, high = (bound.expand(batch, horizon, bound.shape[-1]) for bound in (low, high))
    except (RuntimeError, IndexError) as error:
        got = f"{tuple(low.shape)} and {tuple(high.shape)}"
        raise ShapeError(f"limits: got {got}, expected (A,) or what broadcasts to ({batch}, {horizon}, A)") from error
    if low.shape != high.shape or not low.is_floating_point() or low.dtype != high.dtype:
        got = f"{tuple(low.shape)} {low.dtype} and {tuple(high.shape)} {high.dtype}"
        raise ShapeError(f"limits: got {got}, expected as many numbers, both of one floating-point type")
    if not (low.isfinite() & high.isfinite() & (low <= high)).all():
        raise ConfigError("limits: expected finite numbers, none of the lows above its high")
    return Limits(low, high)


def _proposal(warm: Tensor | None, limits: Limits) -> Tensor | None:
    if warm is None:
        return None
    if warm.shape != limits.low.shape:
        raise ShapeError(f"warm: got {tuple(warm.shape)}, expected (B, T, A), here {tuple(limits.low.shape)}")
    if not warm.isfinite().all():
        raise PlanError("warm: the proposal is not finite: leave it out, or look at what proposed it")
    return limits.clip(warm.detach().to(limits.low)[:, None])[:, 0]
