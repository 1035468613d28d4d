"""The local ridge probe: sharp, the same everywhere on the grid, and not misled by contrast."""

import pytest
import torch
from torch import Tensor

from foretell.errors import ShapeError
from foretell.evals.place import LocalFit, centres, neighbourhoods

GRID, TOKEN = (8, 8), 8.0


def balls(count: int, left: float, right: float, seed: int) -> tuple[Tensor, Tensor]:
    """Latents (N, P, D) of a ball of any contrast, a smooth function of where it lies from each token, and its places."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 2, generator=generator) * torch.tensor([right - left, 40.0]) + torch.tensor([left, 12.0])
    away = (places[:, None] - centres(GRID, TOKEN)) / TOKEN
    near = (-away.pow(2).sum(-1)).exp()
    phases = torch.arange(3) * torch.pi / 3
    parts = [near[..., None] * (axis[..., None] + phases).cos() for axis in away.unbind(-1)]
    contrast = 0.5 + torch.rand(count, 1, 1, generator=generator)
    noise = 0.01 * torch.randn(count, 64, 6, generator=generator)
    return contrast * torch.cat(parts, -1) + noise, places


def test_it_reads_where_it_was_never_fitted() -> None:
    fit = LocalFit(GRID, TOKEN)
    for seed in range(4):
        fit.add(*balls(200, 10, 30, seed))
    probe = fit.solve()
    for left, right in ((10, 30), (34, 54)):
        latents, places = balls(200, left, right, 9)
        assert (probe.read(latents) - places).norm(dim=-1).mean() < 0.5


def test_portions_and_shapes_change_nothing() -> None:
    latents, places = balls(60, 10, 54, 0)
    whole, parts = LocalFit(GRID, TOKEN), LocalFit(GRID, TOKEN)
    whole.add(latents, places)
    for at in (0, 20, 40):
        parts.add(latents[at : at + 20], places[at : at + 20])
    read = whole.solve().read(latents)
    torch.testing.assert_close(read, parts.solve().read(latents), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whole.solve().read(latents.unflatten(0, (6, 10))).flatten(0, 1), read)
    assert read.dtype == torch.float64


def test_what_is_nowhere_is_in_the_middle() -> None:
    fit = LocalFit(GRID, TOKEN)
    fit.add(torch.zeros(3, 64, 2), torch.full((3, 2), -500.0))
    assert fit.solve().read(torch.zeros(64, 2)).tolist() == pytest.approx([32, 32], abs=1e-3)


def test_neighbourhoods_are_rows_and_columns_around_a_token() -> None:
    seen = neighbourhoods(torch.arange(12.0)[:, None], (3, 4))
    assert seen.shape == (12, 26)
    rows = [[max(0, min(2, 1 + dy)) * 4 + max(0, min(3, 1 + dx)) for dx in range(-2, 3)] for dy in range(-2, 3)]
    assert seen[5, :25].tolist() == [token for row in rows for token in row]
    assert (seen[:, 25] == 1).all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="expected 64 tokens"):
        neighbourhoods(torch.zeros(2, 63, 4), GRID)
    with pytest.raises(ShapeError, match="places"):
        LocalFit(GRID, TOKEN).add(torch.zeros(2, 64, 4), torch.zeros(3, 2))
