"""What keeps latents from collapsing: SIGReg, variance-covariance, and the within-clip variance that stops slow features."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from foretell.parallel import mean_over_ranks

KNOTS = 17
LAST_KNOT = 3.0
SIGREG_FLOOR = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
"""N * sigreg of N samples that truly are N(0, I): 1.06 for every N."""


def unit_directions(count: int, width: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors (width, count), drawn on the CPU so that every device draws the same."""
    directions = torch.randn(width, count, generator=generator)
    return directions / directions.norm(dim=0)


def sigreg(latents: Tensor, directions: Tensor) -> Tensor:
    """Distance of latents (N, D) from N(0, I): Epps-Pulley statistic over N, averaged over `directions` (D, M).

    mean_m of the integral of |phi_N(t) - exp(-t^2/2)|^2 exp(-t^2/2) dt, with phi_N the empirical characteristic
    function of the latents along direction m (LeJEPA, arXiv 2511.08544). Divided by N, so that a weight chosen at one
    batch size holds at another; phi_N is a mean over all ranks, so that it holds at another number of ranks.
    """
    knots = torch.linspace(0, LAST_KNOT, KNOTS, device=latents.device)
    trapezoid = torch.full_like(knots, 2 * LAST_KNOT / (KNOTS - 1))  # doubled: the integrand is even
    trapezoid[[0, -1]] /= 2
    gauss = torch.exp(-(knots**2) / 2)
    angle = (latents.float() @ directions.to(latents.device)) * knots[1]
    real, imaginary = (mean_over_ranks(part) for part in _Characteristic.apply(angle))
    gap = (real - gauss[:, None]) ** 2 + imaginary**2
    return ((trapezoid * gauss)[:, None] * gap).sum(0).mean()


class _Characteristic(torch.autograd.Function):
    """angle (N, M) -> means over N of cos(k angle) and sin(k angle), k = 0 .. KNOTS-1, each (KNOTS, M).

    From one sine and cosine (Chebyshev), three times as fast as all of them; its own gradient, twice as fast again.
    """

    @staticmethod
    def forward(ctx: Any, angle: Tensor) -> tuple[Tensor, Tensor]:
        cosines, sines = [torch.ones_like(angle), torch.cos(angle)], [torch.zeros_like(angle), torch.sin(angle)]
        twice = 2 * cosines[1]
        while len(cosines) < KNOTS:
            cosines.append((twice * cosines[-1]).sub_(cosines[-2]))
            sines.append((twice * sines[-1]).sub_(sines[-2]))
        ctx.save_for_backward(*cosines, *sines)
        return torch.stack([c.mean(0) for c in cosines]), torch.stack([s.mean(0) for s in sines])

    @staticmethod
    def backward(ctx: Any, of_real: Tensor, of_imaginary: Tensor) -> Tensor:
        cosines, sines = ctx.saved_tensors[:KNOTS], ctx.saved_tensors[KNOTS:]
        gradient = torch.zeros_like(cosines[0])
        for k in range(1, KNOTS):
            gradient.addcmul_(sines[k], of_real[k], value=-k / len(gradient))
            gradient.addcmul_(cosines[k], of_imaginary[k], value=k / len(gradient))
        return gradient


def variance_covariance(latents: Tensor, *, floor: float = 1.0) -> tuple[Tensor, Tensor]:
    """VICReg's two terms for latents (N, D): mean relu(floor - std), and the squared off-diagonal covariance over D.

    Source: arXiv 2105.04906; covariance is over N, not N - 1, so that it is the same on any number of ranks.
    """
    centred = latents.float() - mean_over_ranks(latents.float().mean(0))
    covariance = mean_over_ranks(centred.T @ centred / len(centred))
    deviation = (covariance.diagonal() + 1e-4).sqrt()
    off_diagonal = covariance - covariance.diagonal().diag()
    return torch.relu(floor - deviation).mean(), (off_diagonal**2).sum() / latents.shape[1]


def within_clip(latents: Tensor, *, floor: float) -> Tensor:
    """mean relu(floor - std over time within a clip) for latents (N clips or tokens, T, D).

    Isotropy alone is satisfied by a code that says which clip this is and never changes inside it; this term is not.
    """
    deviation = (latents.float().var(1) + 1e-4).sqrt()
    return torch.relu(floor - deviation).mean()
