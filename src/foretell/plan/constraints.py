"""Constraints on what is foretold: g <= 0 is allowed. And the rate at which actions may change, for planners."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from foretell.errors import ConfigError
from foretell.plan.guardrails import Guardrails

SAFER = 1.001
"""A planner keeps this much more than the margin, so that rounding does not veto what it found."""


class Constraints:
    """The state constraints of guardrails, on quantities that a probe reads or a world tells."""

    def __init__(self, guardrails: Guardrails, quantities: Sequence[str]) -> None:
        """quantities: names of the Q numbers. Raises ConfigError for constraints on something that is not among them."""
        named = [k.quantity for k in guardrails.keep] + [name for a in guardrails.avoid for name in a.quantities]
        lost = sorted(set(named) - set(quantities))
        if lost:
            known = ", ".join(quantities) or "none: nobody told the true states of what was trained on"
            raise ConfigError(f"guardrails: constraints on {', '.join(lost)}, which is not foretold; known are {known}")
        at = {name: index for index, name in enumerate(quantities)}
        self._edges = [
            (at[k.quantity], sign, sign * edge, f"{k.quantity} {'at most' if sign > 0 else 'at least'} {edge:g}")
            for k in guardrails.keep
            for sign, edge in ((-1.0, k.min), (1.0, k.max))
            if math.isfinite(edge)
        ]
        self._discs = [
            ([at[name] for name in a.quantities], a.centre, a.radius, _disc_name(a.quantities, a.centre, a.radius))
            for a in guardrails.avoid
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """What each of the K constraints asks for."""
        return tuple(name for *_, name in self._edges) + tuple(name for *_, name in self._discs)

    def g(self, quantities: Tensor) -> Tensor:
        """(..., Q) -> (..., K), each in its quantity's units: how far beyond what is allowed; 0 or less is allowed."""
        edges = [sign * quantities[..., index] - edge for index, sign, edge, _ in self._edges]
        discs = [
            radius - (quantities[..., index] - quantities.new_tensor(centre)).norm(dim=-1)
            for index, centre, radius, _ in self._discs
        ]
        return torch.stack(edges + discs, -1) if edges or discs else quantities.new_zeros((*quantities.shape[:-1], 0))

    def between(self, now: Tensor, foretold: Tensor, skip: int) -> Tensor:
        """Largest g on the way, by straight lines from now (..., Q) over what is foretold (..., T, Q): (..., T, K).

        A model's step lasts `skip` frames, and a disc may be crossed between two steps.
        """
        path = torch.cat([now[..., None, :], foretold], -2)
        shares = torch.arange(1, skip + 1, dtype=path.dtype, device=path.device)[:, None] / skip
        start, end = path[..., :-1, None, :], path[..., 1:, None, :]
        return self.g(start + shares * (end - start)).amax(-2)

    def worst_frames(self, frames: Tensor, skip: int) -> Tensor:
        """Largest g of the frames of each step, as they truly came: (..., T * skip, Q) -> (..., T, K)."""
        return rearrange(self.g(frames), "... (t k) c -> ... t k c", k=skip).amax(-2)


def _disc_name(quantities: Sequence[str], centre: Sequence[float], radius: float) -> str:
    return f"({', '.join(quantities)}) {radius:g} or more from ({', '.join(f'{c:g}' for c in centre)})"


def allowed(now: Tensor, room: Tensor, retreat: bool) -> Tensor:
    """Greatest g of each step that a plan may lead to: g now (..., K), room to leave (T, K) -> (..., T, K).

    retreat: where the room is overstepped already, it is enough to come no nearer, and to leave it by the last step.
    """
    most = (-room).expand(*now.shape[:-1], *room.shape)
    if not retreat:
        return most
    too_near = (now + room[0] > 0)[..., None, :] & (torch.arange(len(room), device=room.device) < len(room) - 1)[
        :, None
    ]
    return torch.where(too_near, torch.maximum(most, now[..., None, :]), most)


def state_excess(g: Tensor, most: Tensor) -> Tensor:
    """g (B, S, T, K) as foretold, what is allowed (B, T, K) -> by how much it is too near (B, S), over all T and K."""
    return (g - most[:, None]).clamp_min(0).sum((-2, -1))


def rate_excess(blocks: Tensor, last: Tensor, rate: Tensor) -> Tensor:
    """Blocks (B, S, T, skip * A), last (B, A) done before them, rate (A,) -> by how much actions change too fast (B, S)."""
    actions = rearrange(blocks, "b s t (k a) -> b s (t k) a", a=last.shape[-1])
    before = last.to(actions)[:, None, None].expand(-1, blocks.shape[1], -1, -1)
    change = torch.cat([before, actions], 2).double().diff(dim=2).abs()
    return (change - rate.to(change)).clamp_min(0).sum((-2, -1)).to(blocks)


def within_rate(blocks: Tensor, last: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Blocks (..., T, skip * A), followed as near as actions can that change no faster than `rate`; differentiable.

    For use inside a planner, before candidates are imagined: few candidates drawn at random change slowly by chance. It
    leaves alone what changes slowly already. last, which was done before them, low, high: (..., A); rate (A,).
    """
    greatest = torch.maximum(low.abs(), high.abs())
    slower = (rate.to(blocks) - torch.finfo(blocks.dtype).eps * (greatest + rate.to(blocks))).clamp_min(0)
    slower = torch.where(rate.isinf(), rate.to(blocks), slower)  # rounding must not carry it over the rate
    now, followed = last, []
    for wanted in rearrange(blocks, "... t (k a) -> (t k) ... a", a=rate.shape[-1]):
        slow_enough = (wanted.double() - now.double()).abs() <= rate
        step = torch.minimum(torch.maximum(wanted - now, -slower), slower)
        now = torch.where(slow_enough, wanted, now + step)
        now = torch.minimum(torch.maximum(now, low), high)
        followed.append(now)
    return rearrange(torch.stack(followed), "(t k) ... a -> ... t (k a)", t=blocks.shape[-2])
