"""Ridge regression against numpy's least squares and against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretell.errors import ShapeError
from foretell.evals.probe import ridge_r2


def linear(n: int, width: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(width, 2, generator=torch.Generator().manual_seed(99))
    x = torch.randn(n, width, generator=generator)
    return x, x @ weights + 3 + noise * torch.randn(n, 2, generator=generator) * weights.norm(dim=0)


@pytest.mark.parametrize("rows", [40, 400])  # both ways of solving
def test_reads_what_is_linear(rows: int) -> None:
    width = 60 if rows == 40 else 12
    r2 = ridge_r2(linear(rows, width, 0.0), linear(200, width, 0.0, seed=1), penalty=1e-8)
    assert r2 > 0.999 if rows > width else r2 < 0.95


def test_noise_costs_its_share() -> None:
    r2 = ridge_r2(linear(4000, 8, 0.5), linear(4000, 8, 0.5, seed=1))
    assert r2 == pytest.approx(1 / 1.25, abs=0.02)


def test_both_ways_of_solving_agree() -> None:
    x, y = linear(30, 30, 0.3)
    test = linear(50, 30, 0.3, seed=1)
    tall = ridge_r2((torch.cat([x, x]), torch.cat([y, y])), test, penalty=0.1)
    assert ridge_r2((x, y), test, penalty=0.1) == pytest.approx(tall, abs=1e-6)


def test_unrelated_latents_read_nothing() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 20)))
    _, y = linear(500, 20, 0.0)
    assert ridge_r2((x[:400], y[:400]), (x[400:], y[400:])) < 0.1


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError):
        ridge_r2(linear(20, 4, 0), linear(20, 5, 0))
