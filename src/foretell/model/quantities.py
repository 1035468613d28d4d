"""What a quantity will be, and how sure that is: an ensemble of mixture heads on imagined latents.

A head says a mixture of Gaussians for every step ahead: what is open, however well the world is known (aleatoric). Several
heads learn from other weights on other clips (Lakshminarayanan et al., arXiv 1612.01474): where they differ, too little was
learned (epistemic). Stated spreads are a guess; doubt/bands.py makes a promise of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import log_softmax, silu, softplus

from foretell.errors import ConfigError, ShapeError

LOOKS = 4
"""Places of the grid that a head can look at, softly."""
AROUND = 5
"""Tokens of a side of the square that is looked at. A place is told by the tokens around a thing (evals/place.py reads it so,
too): squares of 3 told it less sharply."""
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
LEAST_STD = 1e-3
"""Of a component, in deviations of the quantity."""


@dataclass(frozen=True, kw_only=True)
class QuantitiesConfig:
    """What is foretold, and by how many."""

    names: tuple[str, ...]
    """The Q quantities."""
    context: int = 8
    """Steps that are seen before anything is foretold."""
    horizon: int = 10
    """Steps that are foretold, H."""
    heads: int = 5
    """In the ensemble."""
    components: int = 2
    """Gaussians in the mixture of one head."""
    hidden: int = 32
    """Channels of a head."""

    def __post_init__(self) -> None:
        least = {"context": 2, "horizon": 1, "heads": 2, "components": 1, "hidden": 1}
        wrong = {name: getattr(self, name) for name, floor in least.items() if getattr(self, name) < floor}
        if wrong or not self.names or len(set(self.names)) < len(self.names):
            raise ConfigError(
                f"quantities: got {self.names} and {wrong}; expected different names, and at least {least}"
            )


class Mixture(NamedTuple):
    """Gaussians with weights, diagonal in the quantities. Units are those of the quantities."""

    weights: Tensor  # (..., C), their sum is 1
    means: Tensor  # (..., C, Q)
    stds: Tensor  # (..., C, Q)

    @property
    def mean(self) -> Tensor:
        """(..., Q)."""
        return (self.weights[..., None] * self.means).sum(-2)

    @property
    def variance(self) -> Tensor:
        """(..., Q): mean of the variances, and variance of the means."""
        spread = self.stds.square() + (self.means - self.mean[..., None, :]).square()
        return (self.weights[..., None] * spread).sum(-2)

    def cdf(self, values: Tensor) -> Tensor:
        """Probability (..., Q) that a quantity is not above `values` (..., Q), each by itself."""
        normal = torch.special.ndtr((values[..., None, :] - self.means) / self.stds)
        return (self.weights[..., None] * normal).sum(-2).clamp(max=1.0)  # weights add up to 1 but for rounding

    def log_density(self, values: Tensor) -> Tensor:
        """Of each quantity by itself at `values` (..., Q), (..., Q)."""
        away = (values[..., None, :] - self.means) / self.stds
        each = -0.5 * away.square() - self.stds.log() - HALF_LOG_TAU
        return torch.logsumexp(self.weights.clamp_min(1e-9).log()[..., None] + each, -2)


class QuantityHead(nn.Module):
    """Imagined latents (N, P, D) and how far ahead they are -> a mixture of the quantities, in deviations.

    It reads tokens with those around them alike all over the grid, softly at a few places, and knows which places these were:
    so a place is told by which token it is near to, and by how far from that one, and need not be learned for each token anew.
    """

    centres: Tensor

    def __init__(self, config: QuantitiesConfig, latent_width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        hidden, numbers = config.hidden, config.components * (1 + 2 * len(config.names))
        self.grid, self.components = grid, config.components
        self.enter = nn.Conv2d(latent_width, hidden, AROUND, padding=AROUND // 2, padding_mode="replicate")
        self.mix = nn.Conv2d(hidden, hidden, 1)
        self.where = nn.Conv2d(hidden, LOOKS, 1)
        self.likely = nn.Parameter(torch.zeros(LOOKS, grid[0] * grid[1]))
        rows, columns = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in grid)
        self.register_buffer("centres", torch.cartesian_prod(rows, columns), persistent=False)
        self.ahead = nn.Embedding(config.horizon, hidden)
        read = LOOKS * (hidden + 2) + hidden
        self.speak = nn.Sequential(nn.Linear(read, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, numbers))
        self.straight = nn.Linear(read, numbers)

    def forward(self, latents: Tensor, ahead: Tensor) -> Mixture:
        maps = rearrange(latents, "n (h w) d -> n d h w", h=self.grid[0])
        seen = silu(self.mix(silu(self.enter(maps))))
        looks = (self.where(seen).flatten(2) + self.likely).softmax(-1)
        there = torch.einsum("nlp,ncp->nlc", looks, seen.flatten(2))
        read = torch.cat([there.flatten(1), (looks @ self.centres).flatten(1), self.ahead(ahead)], -1)
        said = (self.speak(read) + self.straight(read)).unflatten(-1, (self.components, -1))
        width = (said.shape[-1] - 1) // 2
        return Mixture(
            log_softmax(said[..., 0], -1).exp(), said[..., 1 : 1 + width], softplus(said[..., 1 + width :]) + LEAST_STD
        )


class Quantities(nn.Module):
    """The ensemble. What it was fitted on, and how its spreads are to be read, lies beside it (train/quantities.py)."""

    mean: Tensor
    std: Tensor
    stretch: Tensor

    def __init__(self, config: QuantitiesConfig, latent_width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        self.heads = nn.ModuleList(QuantityHead(config, latent_width, grid) for _ in range(config.heads))
        self.register_buffer("mean", torch.zeros(len(config.names)))
        self.register_buffer("std", torch.ones(len(config.names)))
        self.register_buffer("stretch", torch.ones(config.horizon, len(config.names)))

    def forward(self, latents: Tensor) -> Mixture:
        """Imagined latents (B, H, P, D), H up to the horizon -> what is said of each step, (B, H, heads * components).

        Spreads of heads and how far heads are apart are stretched alike, by a number for each step and quantity. Raises
        ShapeError.
        """
        steps = latents.shape[1]
        if latents.ndim != 4 or not 1 <= steps <= self.config.horizon:
            expected = f"(B, H, P, D) with H from 1 to {self.config.horizon}"
            raise ShapeError(f"quantities: got latents {tuple(latents.shape)}, expected {expected}")
        ahead = torch.arange(steps, device=latents.device).repeat(len(latents))
        flat = latents.flatten(0, 1).float()
        said = [head(flat, ahead) for head in self.heads]
        weights, means, stds = (torch.cat(part, 1) for part in zip(*said, strict=True))
        one = Mixture(weights / len(said), means * self.std + self.mean, stds * self.std)
        whole = Mixture(*(part.unflatten(0, (-1, steps)) for part in one))
        middle, stretch = whole.mean[..., None, :], self.stretch[:steps, None]
        return whole._replace(means=middle + stretch * (whole.means - middle), stds=stretch * whole.stds)

    def apart(self, said: Mixture) -> Tensor:
        """How far heads are apart, (B, H, Q): the deviation of their means, which more footage would make smaller."""
        each = self.config.components
        weights, means = said.weights.unflatten(-1, (-1, each)), said.means.unflatten(-2, (-1, each))
        of_heads = (weights[..., None] * means).sum(-2) * self.config.heads
        return of_heads.std(-2, correction=0)
