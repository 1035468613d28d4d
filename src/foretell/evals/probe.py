"""What can be read from latents with a straight line? Ridge regression, split by clip, never by frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from foretell.errors import ShapeError


class Ridge(NamedTuple):
    """A fitted probe: what it reads from latents (..., F) is latents @ weights + offset, float64 (..., K)."""

    weights: Tensor  # (F, K)
    offset: Tensor  # (K,)

    def read(self, latents: Tensor) -> Tensor:
        """latents (..., F) -> (..., K). Raises ShapeError."""
        if latents.shape[-1] != len(self.weights):
            raise ShapeError(f"ridge: got latents {tuple(latents.shape)}, fitted on {len(self.weights)} features")
        return latents.double() @ self.weights + self.offset


def ridge_fit(latents: Tensor, truth: Tensor, *, penalty: float = 1e-3) -> Ridge:
    """Ridge regression of truth (N, K) on latents (N, F), in float64.

    `penalty` is a share of the mean variance of the latents. Solved in whichever of N and F is smaller. Raises ShapeError.
    """
    if latents.ndim != 2 or truth.ndim != 2 or len(latents) != len(truth):
        raise ShapeError(
            f"ridge: got latents {tuple(latents.shape)} and truth {tuple(truth.shape)}; expected N F and N K"
        )
    x, y = latents.double(), truth.double()
    centre, mean = x.mean(0), y.mean(0)
    x, y = x - centre, y - mean
    strength = penalty * x.pow(2).mean() * len(x)
    if len(x) > x.shape[1]:
        weights = torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]), x.T @ y)
    else:
        weights = x.T @ torch.linalg.solve(x @ x.T + strength * torch.eye(len(x)), y)
    return Ridge(weights, mean - centre @ weights)


def ridge_r2(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, penalty: float = 1e-3) -> float:
    """R2 on `test` of ridge_fit on `train`; each is (latents (N, F), truth (N, K)), the K averaged. Raises ShapeError."""
    (x, y), (x_test, y_test) = train, test
    if y.shape[1:] != y_test.shape[1:] or len(x_test) != len(y_test):
        raise ShapeError(
            f"ridge: train {tuple(x.shape)} -> {tuple(y.shape)}, test {tuple(x_test.shape)} -> {tuple(y_test.shape)}"
        )
    y_test = y_test.double()
    residual = y_test - ridge_fit(x, y, penalty=penalty).read(x_test)
    return float((1 - residual.pow(2).sum(0) / (y_test - y_test.mean(0)).pow(2).sum(0)).mean())
