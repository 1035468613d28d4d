"""What a plan is for: costs of imagined futures. Each takes latents (B, S, T, P, D) and actions (B, S, T, A), gives (B, S).

No goal image is needed: a cost may speak of any quantity that a probe reads off the latents. All are differentiable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from torch import Tensor

from foretell.errors import ConfigError, ShapeError

Cost = Callable[[Tensor, Tensor], Tensor]
"""Latents (B, S, T, P, D) of the imagined steps, actions (B, S, T, A) -> cost (B, S)."""
Over = Literal["last", "sum", "least"]
"""Which of the T steps count: the last one, all of them, or the best one (the goal need only be passed)."""
Read = Callable[[Tensor], Tensor]
"""A probe: latents (..., P, D) -> quantities (..., Q) in their own units."""


def over_steps(of_step: Tensor, over: Over) -> Tensor:
    """Cost of each step (B, S, T) -> of the whole (B, S)."""
    if over == "last":
        return of_step[..., -1]
    return of_step.sum(-1) if over == "sum" else of_step.amin(-1)


@dataclass(frozen=True, eq=False)
class GoalLatent:
    """Be where the goal's latents are: squared distance, mean over tokens and width."""

    goal: Tensor
    """(B, P, D), the latents of the goal image."""
    _: KW_ONLY
    over: Over = "last"
    """Which steps count."""

    def __post_init__(self) -> None:
        _check_goal(self.goal)

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, S, T, P, D) -> (B, S)."""
        return over_steps((latents - self.goal[:, None, None]).pow(2).mean((-2, -1)), self.over)


@dataclass(frozen=True, eq=False)
class Reach:
    """Be few steps from the goal, as a head says: latent distance is flat far from the goal, steps are not."""

    head: Callable[[Tensor, Tensor], Tensor]
    """Latents here (..., P, D) and there (..., P, D) -> expected steps between them (...)."""
    goal: Tensor
    """(B, P, D), the latents of the goal image."""
    _: KW_ONLY
    over: Over = "last"
    """Which steps count."""

    def __post_init__(self) -> None:
        _check_goal(self.goal)

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, S, T, P, D) -> (B, S), in steps."""
        return over_steps(self.head(latents, self.goal[:, None, None].expand_as(latents)), self.over)


@dataclass(frozen=True, eq=False)
class Region:
    """Be inside a box of quantities: squared distance to it, 0 inside; each quantity in units of its scale.

    A set-point is a box whose edges are equal.
    """

    read: Read
    """Gives the quantities (..., Q) of latents (..., P, D)."""
    indices: tuple[int, ...]
    """Which K of the Q quantities."""
    low: tuple[float, ...]
    """K lower edges; -inf for none."""
    high: tuple[float, ...]
    """K upper edges; inf for none."""
    scale: tuple[float, ...] | None = None
    """K differences that matter, each costs 1; 1 unless given."""
    _: KW_ONLY
    over: Over = "last"
    """Which steps count."""

    def __post_init__(self) -> None:
        _check_box(self.indices, self.low, self.high, self.scale)

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, S, T, P, D) -> (B, S)."""
        below, above = _beyond_edges(self.read(latents), self.indices, self.low, self.high, self.scale)
        return over_steps((below.clamp_min(0) + above.clamp_min(0)).pow(2).sum(-1), self.over)


@dataclass(frozen=True, eq=False)
class Forbidden:
    """Keep out of a box of quantities: how deep inside, which is the shortest way out; 0 outside.

    This is a wish, weighed against other costs. What must never happen is a constraint of guardrails.py.
    """

    read: Read
    """Gives the quantities (..., Q) of latents (..., P, D)."""
    indices: tuple[int, ...]
    """Which K of the Q quantities."""
    low: tuple[float, ...]
    """K lower edges; -inf for none."""
    high: tuple[float, ...]
    """K upper edges; inf for none."""
    scale: tuple[float, ...] | None = None
    """K depths that matter, each costs 1; 1 unless given."""
    _: KW_ONLY
    over: Over = "sum"
    """Which steps count."""

    def __post_init__(self) -> None:
        _check_box(self.indices, self.low, self.high, self.scale)

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, S, T, P, D) -> (B, S)."""
        below, above = _beyond_edges(self.read(latents), self.indices, self.low, self.high, self.scale)
        return over_steps((-torch.maximum(below, above)).amin(-1).clamp_min(0), self.over)


@dataclass(frozen=True, eq=False)
class Effort:
    """Do little: squared action in units of `scale`, mean over its numbers, sum over the steps."""

    scale: float | tuple[float, ...] = 1.0
    """An action that costs 1; one for all A numbers, or A of them."""

    def __post_init__(self) -> None:
        _check_scales(self.scale if isinstance(self.scale, tuple) else (self.scale,))

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """actions (B, S, T, A) -> (B, S)."""
        return (actions / actions.new_tensor(self.scale)).pow(2).mean(-1).sum(-1)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Several costs at once, each times its weight."""

    parts: tuple[tuple[float, Cost], ...]
    """(weight, cost) of each."""

    def __post_init__(self) -> None:
        if not self.parts or not all(0 <= weight < float("inf") for weight, _ in self.parts):
            weights = [weight for weight, _ in self.parts]
            raise ConfigError(f"costs: got the weights {weights}, expected one or more, finite and not below 0")

    def __call__(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, S, T, P, D), actions (B, S, T, A) -> (B, S)."""
        return torch.stack([weight * cost(latents, actions) for weight, cost in self.parts]).sum(0)


def _beyond_edges(
    found: Tensor,
    indices: tuple[int, ...],
    low: tuple[float, ...],
    high: tuple[float, ...],
    scale: tuple[float, ...] | None,
) -> tuple[Tensor, Tensor]:
    """Quantities (..., Q) -> how far below the lower edges and above the upper ones, (..., K) each, negative inside."""
    chosen = found[..., list(indices)]
    unit = chosen.new_tensor(scale or (1.0,) * len(indices))
    return (chosen.new_tensor(low) - chosen) / unit, (chosen - chosen.new_tensor(high)) / unit


def _check_goal(goal: Tensor) -> None:
    if goal.ndim != 3:
        raise ShapeError(f"goal: expected axes (B, P, D), got shape {tuple(goal.shape)}")


def _check_scales(scales: tuple[float, ...]) -> None:
    if not all(0 < scale < float("inf") for scale in scales):
        raise ConfigError(f"cost scale: got {scales}, expected finite numbers above 0")


def _check_box(
    indices: tuple[int, ...], low: tuple[float, ...], high: tuple[float, ...], scale: tuple[float, ...] | None
) -> None:
    counts = {len(indices), len(low), len(high)} | ({len(scale)} if scale is not None else set())
    if counts != {len(indices)} or not indices:
        raise ConfigError(f"cost region: got {len(indices)} indices and edges or scales of {counts}, expected as many")
    if not all(below <= above for below, above in zip(low, high, strict=True)):
        raise ConfigError(f"cost region: got low {low} and high {high}, expected low not above high")
    _check_scales(scale or (1.0,))
