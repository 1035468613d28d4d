"""A picture carried on: by whole pixels it is the same picture elsewhere, and what is drawn up has a gradient to follow."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import mse_loss

from foretell.model.carry import carried


def picture() -> torch.Tensor:
    return torch.randn(1, 3, 16, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_without_drift_it_is_a_copy(mode: str) -> None:
    torch.testing.assert_close(carried(picture(), torch.zeros(1, 2, 2, 4), mode), picture(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-2, -1)])
def test_whole_pixels_move_it_as_it_is(right: int, down: int) -> None:
    drift = torch.tensor([right, down]).view(1, 2, 1, 1).expand(1, 2, 2, 4)
    inner = (..., slice(3, -3), slice(3, -3))
    moved = picture().roll((down, right), (2, 3))
    torch.testing.assert_close(carried(picture(), drift)[inner], moved[inner], rtol=1e-4, atol=1e-4)


def test_beyond_the_edge_the_edge_goes_on() -> None:
    moved = carried(picture(), torch.tensor([5.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 4))
    torch.testing.assert_close(moved[..., :5], picture()[..., :1].expand(1, 3, 16, 5))


def test_drift_is_learned_from_what_came() -> None:
    blob = torch.exp(-((torch.arange(32) - 12.0) ** 2) / 18).expand(1, 3, 16, 32).contiguous()
    drift = torch.zeros(1, 2, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([drift], 0.1)
    for _ in range(80):
        optimizer.zero_grad()
        mse_loss(carried(blob, drift.expand(1, 2, 2, 4)), blob.roll(2, 3)).backward()
        optimizer.step()
    assert drift.flatten().tolist() == pytest.approx([2, 0], abs=0.05)
