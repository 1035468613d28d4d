"""Covariance from few samples."""

from __future__ import annotations

import torch
from torch import Tensor


def shrunk_covariance(residuals: Tensor) -> Tensor:
    """Ledoit-Wolf covariance (D, D) of residuals (N, D) about zero (J. Multivariate Analysis 88, 2004).

    The sample covariance is drawn towards a multiple of the identity, as far as its own noise suggests.
    """
    x = residuals.double()
    count, width = x.shape
    sample = x.T @ x / count
    mean_variance = sample.diagonal().mean()
    target = mean_variance * torch.eye(width, dtype=x.dtype)
    distance = (sample - target).pow(2).sum()
    noise = ((x.pow(2).sum(1).pow(2).sum() / count) - sample.pow(2).sum()) / count
    share = (noise / distance.clamp_min(1e-12)).clamp(0, 1)
    return (1 - share) * sample + share * target + 1e-6 * target
