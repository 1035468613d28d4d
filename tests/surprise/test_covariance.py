"""Covariance from few samples: theory, and the paper."""

from __future__ import annotations

import torch

from foretell.surprise.covariance import shrunk_covariance


def normal(count: int, covariance: torch.Tensor, seed: int = 0) -> torch.Tensor:
    root = torch.linalg.cholesky(covariance)
    return torch.randn(count, len(root), generator=torch.Generator().manual_seed(seed), dtype=root.dtype) @ root.T


SPREAD = torch.diag(torch.tensor([9.0, 4.0, 1.0, 0.25], dtype=torch.float64)) + 0.1


def test_covariance_of_many_residuals_is_that_of_the_sample() -> None:
    x = normal(40_000, SPREAD)
    torch.testing.assert_close(shrunk_covariance(x), x.T @ x / len(x), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(shrunk_covariance(x), SPREAD, rtol=0.05, atol=0.05)


def test_covariance_of_few_residuals_is_drawn_to_the_identity_and_can_be_inverted() -> None:
    x = normal(3, SPREAD)
    found, sample = shrunk_covariance(x), x.T @ x / 3
    assert torch.linalg.matrix_rank(sample) == 3
    assert torch.linalg.eigvalsh(found).min() > 0
    assert torch.linalg.cond(found) < 100 < torch.linalg.cond(sample)
    torch.testing.assert_close(found.trace(), sample.trace(), rtol=1e-5, atol=0)  # drawn, not shrunk


def test_covariance_is_nearer_to_the_truth_than_the_sample() -> None:
    """What it was made for (Ledoit and Wolf 2004, theorem 3.2), on mean over draws."""
    gains = []
    for seed in range(20):
        x = normal(8, SPREAD, seed)
        gains.append((x.T @ x / 8 - SPREAD).pow(2).sum() - (shrunk_covariance(x) - SPREAD).pow(2).sum())
    assert torch.stack(gains).mean() > 0


def test_covariance_against_the_paper_term_by_term() -> None:
    x = normal(11, SPREAD, seed=4)
    sample = x.T @ x / 11
    middle = sample.trace() / 4 * torch.eye(4, dtype=x.dtype)
    distance = (sample - middle).pow(2).sum()
    noise = sum((torch.outer(row, row) - sample).pow(2).sum() for row in x) / 11**2
    share = min(float(noise), float(distance)) / float(distance)
    assert 0 < share < 1
    torch.testing.assert_close(shrunk_covariance(x), (1 - share) * sample + share * middle, rtol=1e-5, atol=1e-5)
