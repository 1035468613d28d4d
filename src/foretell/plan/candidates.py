"""Candidates: between what limits they lie, how they are ranked, and where their chance comes from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from foretell.errors import ConfigError


class Judged(NamedTuple):
    """What a judge says of candidates."""

    cost: Tensor  # (B, S) less is better
    excess: Tensor  # (B, S) by how much constraints are broken, 0: feasible


class Limits(NamedTuple):
    """Between what every action must lie."""

    low: Tensor  # (B, T, A)
    high: Tensor  # (B, T, A)

    @property
    def half(self) -> Tensor:
        """Half of the range of every action (B, T, A)."""
        return (self.high - self.low) / 2

    @property
    def middle(self) -> Tensor:
        """The middle of the range of every action (B, T, A)."""
        return (self.low + self.high) / 2

    def shape_of(self, samples: int) -> tuple[int, ...]:
        """Shape of so many candidates, (B, S, T, A)."""
        batch, steps, width = self.low.shape
        return batch, samples, steps, width

    def clip(self, candidates: Tensor) -> Tensor:
        """Candidates (B, S, T, A), each number brought to the nearest one within."""
        return candidates.maximum(self.low[:, None]).minimum(self.high[:, None])


def order(judged: Judged) -> Tensor:
    """Candidates from best to worst (B, S): feasible ones by cost, then the others by excess; not finite ones last."""
    by_cost = judged.cost.argsort(dim=1, stable=True)
    by_excess = judged.excess.gather(1, by_cost).argsort(dim=1, stable=True)
    return by_cost.gather(1, by_excess)


def best_of(actions: Tensor, judged: Judged, count: int) -> tuple[Tensor, Tensor]:
    """The best `count` of candidates (B, S, T, A), best first, and what each weighs (B, count).

    They weigh alike and 1 together, but those whose cost is not finite weigh nothing.
    """
    chosen = order(judged)[:, :count]
    elites = actions.gather(1, chosen[..., None, None].expand(-1, -1, *actions.shape[2:]))
    weight = judged.cost.gather(1, chosen).isfinite().to(actions.dtype)
    return elites, weight / weight.sum(1, keepdim=True).clamp_min(1)


def normal_noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the type of `like`. All chance comes from here and from `even_noise`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def even_noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers drawn evenly between 0 and 1, neither of them reached."""
    info = torch.finfo(like.dtype)
    drawn = torch.rand(shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.clamp(info.tiny, 1 - info.eps).to(like.device)


def check_counts(config: object, **least: int) -> None:
    """Raise ConfigError if a field of a planner's settings is less than it may be."""
    for name, bound in least.items():
        if getattr(config, name) < bound:
            raise ConfigError(f"planner {name}: got {getattr(config, name)}, expected {bound} or more")


def check_elites(elites: int, samples: int) -> None:
    """Raise ConfigError if there are more elites than candidates."""
    if elites > samples:
        raise ConfigError(f"planner elites: got {elites} of {samples} samples, expected no more than there are")


def check_share(name: str, value: float, most: float) -> None:
    """Raise ConfigError unless `value` lies from 0 to `most`."""
    if not 0 <= value <= most:
        raise ConfigError(f"planner {name}: got {value}, expected 0 to {most:g}")
