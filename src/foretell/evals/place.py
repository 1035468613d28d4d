"""Where is it? A ridge probe that looks at each token with its neighbours, and is the same everywhere on the grid.

A ridge probe of all tokens at once has to learn each place of the grid anew, and must say the place in one sum, whatever the
contrast. This one is asked of each token, linearly, how much the thing is here (a bump around its place) and how far it
lies from here, times that much; the place is the mean of what tokens say, those that are surest above all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad, unfold

from foretell.errors import ShapeError

EDGE = 5
"""Tokens of a side of the square that is looked at."""
BUMP = 6.0
"""Deviation of the bump, in pixels: those of a token of 8."""
SURE = 3
"""Power of its own "here" with which a token's word weighs. Both, and EDGE, were settled on development episodes."""
LEAST = 1e-3
"""Of "here", so that a thing that is nowhere is in the middle."""


class LocalRidge(NamedTuple):
    """A fitted probe."""

    weights: Tensor  # (EDGE * EDGE * D + 1, 3)
    grid: tuple[int, int]
    token: float  # its width in the pixels that places are told in

    def read(self, latents: Tensor) -> Tensor:
        """latents (..., P, D) -> places (x, y) float64 (..., 2). Raises ShapeError."""
        return self.place(neighbourhoods(latents, self.grid) @ self.weights)

    def place(self, said: Tensor) -> Tensor:
        """What each token says, (..., P, 3): how much it is here, and how far it lies, times that -> places (..., 2)."""
        here = said[..., :1].clamp_min(LEAST)
        sure = here**SURE
        places = (sure * (here * centres(self.grid, self.token) + said[..., 1:])).sum(-2)
        return (places / (sure * here).sum(-2)).double()


class LocalFit:
    """Ridge regression that takes in a few latents at a time."""

    def __init__(self, grid: tuple[int, int], token: float) -> None:
        self.grid, self.token, self.count = grid, token, 0
        self.squares: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def add(self, latents: Tensor, places: Tensor) -> None:
        """Latents (N, P, D), and where the thing is in each of them, (N, 2). Raises ShapeError."""
        if len(latents) != len(places) or places.shape[1:] != (2,):
            raise ShapeError(f"local ridge: got latents {tuple(latents.shape)} and places {tuple(places.shape)}")
        away = places[:, None].float() - centres(self.grid, self.token)
        here = (-away.pow(2).sum(-1, keepdim=True) / (2 * (BUMP * self.token / 8) ** 2)).exp()
        truth = torch.cat([here, here * away], -1).flatten(0, 1)
        seen = neighbourhoods(latents, self.grid).flatten(0, 1)
        self.squares = self.squares + (seen.T @ seen).double()
        self.products = self.products + (seen.T @ truth).double()
        self.count += len(seen)

    def solve(self, penalty: float = 1e-4) -> LocalRidge:
        """The probe; `penalty` is a share of the mean square of what is seen."""
        assert isinstance(self.squares, Tensor)
        assert isinstance(self.products, Tensor)
        strength = penalty * self.squares.diagonal().mean()
        weights = torch.linalg.solve(self.squares + strength * torch.eye(len(self.squares)), self.products)
        return LocalRidge(weights.float(), self.grid, self.token)


def centres(grid: tuple[int, int], token: float) -> Tensor:
    """Middles (x, y) of tokens, (P, 2)."""
    rows, columns = ((torch.arange(n) + 0.5) * token for n in grid)
    return torch.stack([columns.repeat(grid[0]), rows.repeat_interleave(grid[1])], -1)


def neighbourhoods(latents: Tensor, grid: tuple[int, int]) -> Tensor:
    """latents (..., P, D) -> of each token the tokens around it, and a one: (..., P, EDGE * EDGE * D + 1).

    Beyond the edge of the grid its last row or column goes on. Raises ShapeError.
    """
    if latents.ndim < 2 or latents.shape[-2] != grid[0] * grid[1]:
        raise ShapeError(f"local ridge: got latents {tuple(latents.shape)}, expected {grid[0] * grid[1]} tokens")
    maps = rearrange(latents.float().reshape(-1, *latents.shape[-2:]), "n (h w) d -> n d h w", h=grid[0])
    around = unfold(pad(maps, (EDGE // 2,) * 4, mode="replicate"), EDGE)
    seen = rearrange(around, "n f p -> n p f").reshape(*latents.shape[:-1], -1)
    return pad(seen, (0, 1), value=1.0)
