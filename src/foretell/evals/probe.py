"""What can be read from latents with a straight line? Ridge regression, split by clip, never by frame."""

from __future__ import annotations

import torch
from torch import Tensor

from foretell.errors import ShapeError


def ridge_r2(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, penalty: float = 1e-3) -> float:
    """R2 on `test` of ridge regression fitted on `train`; each is (latents (N, F), truth (N, K)), the K averaged.

    `penalty` is a share of the mean variance of the latents. Solved in whichever of N and F is smaller. Raises ShapeError.
    """
    (x, y), (x_test, y_test) = ((a.double(), b.double()) for a, b in (train, test))
    if x.shape[1] != x_test.shape[1] or y.shape[1] != y_test.shape[1] or len(x) != len(y) or len(x_test) != len(y_test):
        raise ShapeError(
            f"ridge: train {tuple(x.shape)} -> {tuple(y.shape)}, test {tuple(x_test.shape)} -> {tuple(y_test.shape)}"
        )
    centre, offset = x.mean(0), y.mean(0)
    x, x_test = x - centre, x_test - centre
    strength = penalty * x.pow(2).mean() * len(x)
    if len(x) > x.shape[1]:
        weights = torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]), x.T @ (y - offset))
    else:
        weights = x.T @ torch.linalg.solve(x @ x.T + strength * torch.eye(len(x)), y - offset)
    residual = y_test - offset - x_test @ weights
    return float((1 - residual.pow(2).sum(0) / (y_test - y_test.mean(0)).pow(2).sum(0)).mean())
