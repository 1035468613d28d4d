"""Several futures of one past: a discrete code says which, and how likely each is follows from what was seen.

A finished model foretells one future; where the world branches, that is the mean of all of them, and none. Here a code is
drawn once, when a rollout begins, and a copy of the predictor hears of it at every step: K codes, K rollouts. A small prior
reads from memory how likely each code is: a few readers, and the mean of what they say. It is a mixture whose parts are
whole rollouts, after mixture density networks (Bishop 1994) and the discrete latents of arXiv 2010.02193. Trained on frozen
latents (train/branches.py), it lies beside the model in its folder.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from foretell.errors import CheckpointError, ConfigError, ShapeError
from foretell.model.folder import add_to_sums
from foretell.model.predictors import SLOPE, RecurrentPredictor
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel

FILE = "branches.safetensors"
READERS, WIDTH, LOOKS = 4, 48, 4
"""Of the prior: readers, and of each the channels that it reads from a token, and the places that it looks at."""
WAYS = 0.3
"""Deviation of the codes' first words to the predictor."""
FOLLOWS = 0.05
"""How fast the spread follows the errors of a batch."""


@dataclass(frozen=True, kw_only=True)
class BranchesConfig:
    """How many futures there may be, and how far they go."""

    codes: int = 2
    """K, futures that are told apart; in training at most, and those of which the world has no need are dropped."""
    horizon: int = 18
    """Steps of the rollouts that it learns from."""
    weight: float = 40.0
    """Independent numbers that a whole rollout counts as, when futures are told apart (train/branches.py)."""

    def __post_init__(self) -> None:
        if not 1 <= self.codes <= 64 or self.horizon < 2 or self.weight <= 0:
            got = f"{self.codes} codes, horizon {self.horizon} and weight {self.weight}"
            raise ConfigError(f"branches: got {got}; expected 1 to 64, 2 or more, and a weight above 0")


class Past(NamedTuple):
    """What rollouts go on from: the last latents seen, and the memory from before they were taken in and after it."""

    latents: Tensor  # (N, P, D)
    before: Tensor  # (N, P, hidden)
    after: Tensor  # (N, P, hidden)

    @property
    def tokens(self) -> Tensor:
        """What the prior reads: latents and what is remembered with them, (N, P, D + hidden)."""
        return torch.cat([self.latents, self.after], -1)


class Futures(NamedTuple):
    """Samples of what follows, of each of N pasts."""

    latents: Tensor  # (N, S, H, P, D)
    codes: Tensor  # (N, S) int64
    probabilities: Tensor  # (N, S): how likely the code of each sample is, of all codes


class Branches(nn.Module):
    """A copy of a model's predictor that is told one of K codes, and the prior of the codes."""

    spread: Tensor

    def __init__(self, config: BranchesConfig, model: WorldModel) -> None:
        """Raises ConfigError for a model whose predictor has no ways to be told: only the recurrent one has."""
        super().__init__()
        settings = model.config
        if not isinstance(model.predictor, RecurrentPredictor):
            raise ConfigError(
                f"branches: got a model with {type(settings.predictor).__name__}, expected a recurrent predictor: train one "
                "that watches, with --preset dense"
            )
        self.config = config
        hidden, width = model.predictor.hidden, settings.encoder.latent_width
        self.predictor = RecurrentPredictor(settings.predictor, width, model.grid)  # type: ignore[arg-type]
        self.predictor.load_state_dict(model.predictor.state_dict())
        self.predictor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ways = nn.Parameter(WAYS * torch.randn(config.codes, hidden))
        self.prior = Prior(width + hidden, config.codes)
        self.register_buffer(
            "spread", torch.zeros(config.horizon)
        )  # mean squared error of the code that came, each step

    def chances(self, past: Past) -> Tensor:
        """How likely each code is, (N, K), as logarithms."""
        chances: Tensor = self.prior(past.tokens)
        return chances

    def rollout(self, past: Past, codes: Tensor, horizon: int) -> Tensor:
        """What follows each past, with one code for each (N,): (N, H, P, D)."""
        now, memory, said = past.latents, past.before, []
        ways = self.ways[codes]
        for _ in range(horizon):
            now, memory = self.predictor.step_along(now, memory, ways)
            said.append(now)
        return torch.stack(said, 1)

    def rollouts(self, past: Past, horizon: int) -> Tensor:
        """What follows each past with every code: (N, K, H, P, D)."""
        count, codes = len(past.latents), self.config.codes
        every = Past(*(repeat(part, "n ... -> (n k) ...", k=codes) for part in past))
        told = torch.arange(codes).repeat(count)
        return rearrange(self.rollout(every, told, horizon), "(n k) h p d -> n k h p d", k=codes)

    def follow(self, errors: Tensor) -> None:
        """Learn the spread from the errors (N, K, H) of a batch: those of the code that came nearest."""
        nearest = errors.mean(-1).argmin(1)
        now = errors[torch.arange(len(errors)), nearest].mean(0)
        self.spread.copy_(torch.lerp(self.spread, now, FOLLOWS) if self.spread.any() else now)

    def keep(self, codes: list[int]) -> None:
        """Drop all codes but these, and what the prior knew of any."""
        self.config = replace(self.config, codes=len(codes))
        self.ways = nn.Parameter(self.ways.detach()[codes].clone())
        self.prior = Prior(self.prior.features, len(codes))

    def apart(self, errors: Tensor) -> Tensor:
        """How far rollouts are from others, or from what came, in units of the spread: (N, K) of squared errors (N, K, H)."""
        return (errors / self.spread[: errors.shape[-1]]).mean(-1)

    def evidence(self, errors: Tensor) -> Tensor:
        """How well each code explains what came, (N, K), log likelihoods but for a constant, from errors (N, K, H).

        A Gaussian of the learned spread, in which a rollout counts as `weight` independent numbers.
        """
        return -self.config.weight / 2 * self.apart(errors)

    def sample(self, past: Past, samples: int, horizon: int, generator: torch.Generator) -> Futures:
        """Draw codes of each past as likely as they are, and roll out: N pasts, S samples, H steps."""
        chances = self.chances(past).exp()
        codes = torch.multinomial(chances, samples, replacement=True, generator=generator)
        every = self.rollouts(past, horizon)
        picked = every[torch.arange(len(codes))[:, None], codes]
        return Futures(picked, codes, chances.gather(1, codes))


class Prior(nn.Module):
    """Tokens (N, P, C) -> how likely each code is (N, K), as logarithms: the mean of what several readers say.

    Each reader is surer than a few thousand clips allow, of other things; their mean is less so (arXiv 1612.01474).
    """

    def __init__(self, features: int, codes: int) -> None:
        super().__init__()
        self.features = features
        self.readers = nn.ModuleList(Reader(features, codes) for _ in range(READERS))

    def forward(self, tokens: Tensor) -> Tensor:
        said = torch.stack([reader(tokens).log_softmax(-1) for reader in self.readers])
        return said.logsumexp(0) - math.log(len(said))


class Reader(nn.Module):
    """Tokens (N, P, C) -> a score for each code (N, K): it looks at a few places, each its own mean of tokens."""

    def __init__(self, features: int, codes: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, WIDTH), nn.LeakyReLU(SLOPE))
        self.where = nn.Linear(WIDTH, LOOKS)
        self.weigh = nn.Sequential(nn.Linear(LOOKS * WIDTH, WIDTH), nn.LeakyReLU(SLOPE), nn.Linear(WIDTH, codes))
        last = self.weigh[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.read(tokens.float())
        looks = torch.einsum("npl,npc->nlc", self.where(seen).softmax(1), seen)
        scores: Tensor = self.weigh(looks.flatten(1))
        return scores


def past_of(model: WorldModel, latents: Tensor) -> Past:
    """What the model remembers of latents (N, T, P, D) that were all seen, T of 2 or more. Raises ShapeError."""
    if latents.ndim != 4 or latents.shape[1] < 2:
        raise ShapeError(f"past: got latents {tuple(latents.shape)}, expected (N, T, P, D) of at least 2 steps")
    memories = model.predict(latents).memories[:, -2:]
    return Past(latents[:, -1], memories[:, 0], memories[:, 1])


def save_branches(folder: Path, branches: Branches) -> None:
    """Write them into a model folder. Raises DataError if the disk takes no more."""
    save_tensors(folder / FILE, dict(branches.state_dict()), asdict(branches.config))
    add_to_sums(folder, [FILE])


def load_branches(folder: Path, model: WorldModel) -> Branches:
    """What `save_branches` wrote for this model. Raises CheckpointError if it is missing or does not fit."""
    if not (folder / FILE).exists():
        raise CheckpointError(
            f"{folder}: foretells one future, and has no {FILE} to draw several from: learn them first, with "
            f"foretell branch {folder}"
        )
    tensors, facts = load_tensors(folder / FILE)
    try:
        branches = Branches(BranchesConfig(**facts), model)
        branches.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder / FILE}: does not fit ({error}): bring it back, or learn again") from error
    return branches.eval()
