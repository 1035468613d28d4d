"""The upper of two levels: it knows few, long steps, a way to act in each of a few numbers, and places it has seen.

It lives on the latents of a finished model that acts (train/upper.py) and lies beside it in the folder. A stretch of what
was done is drawn together into a macro-action (arXiv 2604.03208), held close to a standard normal law (arXiv 1312.6114), so
that whatever is drawn from that law is something that can be done.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from foretell.errors import CheckpointError, ConfigError
from foretell.model.actions import ActionConfig
from foretell.model.folder import add_to_sums
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel

FILE = "upper.safetensors"
HIDDEN = 256
WIDEST = 8
"""Numbers of a macro-action at most: in more, a search leaves what can be done."""


@dataclass(frozen=True, kw_only=True)
class UpperConfig:
    """How long a step of the upper level is, and what it keeps."""

    stride: int = 4
    """Steps of the model in one of the upper level."""
    macro: int = 4
    """Numbers of a macro-action, 8 at most."""
    places: int = 512
    """Latents that are kept as places to go to, spread over all that was seen."""

    def __post_init__(self) -> None:
        if self.stride < 2 or not 1 <= self.macro <= WIDEST or self.places < 2:
            got = f"stride {self.stride}, macro {self.macro}, places {self.places}"
            raise ConfigError(f"upper level: got {got}; expected 2 or more, 1 to {WIDEST}, 2 or more")


class Upper(nn.Module):
    """Latents and macro-actions -> latents a stride later; and places that were seen, with the steps between them."""

    mean: Tensor
    std: Tensor
    places: Tensor
    apart: Tensor

    def __init__(self, config: UpperConfig, features: int, tokens: int, actions: ActionConfig) -> None:
        """features: numbers of one frame's latents, tokens * width."""
        super().__init__()
        self.config, self.actions = config, actions
        self.encoder = _mlp(2 * features + config.stride * actions.width, 2 * config.macro)
        self.predictor = _mlp(features + config.macro, features)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("places", torch.zeros(config.places, tokens, features // tokens))
        self.register_buffer(
            "apart", torch.zeros(config.places, config.places)
        )  # [i, j]: steps of the model from i to j

    def macro_actions(self, now: Tensor, later: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """What a stretch amounts to: latents now and a stride later (N, P, D), blocks between (N, K, A') -> mean, log std (N, M)."""
        done = self.actions.normalised(blocks).flatten(1)
        said = self.encoder(torch.cat([self._even(now), self._even(later), done], -1))
        mean, log_std = said.chunk(2, -1)
        return mean, log_std.clamp(-5, 2)

    def step(self, latents: Tensor, macros: Tensor) -> Tensor:
        """Latents (..., P, D) and macro-actions (..., M) -> latents a stride later (..., P, D)."""
        change: Tensor = self.predictor(torch.cat([self._even(latents), macros], -1))
        return latents + (change * self.std).view(latents.shape)

    def imagine(self, latents: Tensor, macros: Tensor) -> Tensor:
        """Latents (..., P, D), macro-actions (..., T, M) -> what follows, a stride apart (..., T, P, D)."""
        said = []
        for macro in macros.unbind(-2):
            latents = self.step(latents, macro)
            said.append(latents)
        return torch.stack(said, -3)

    def distances(self, latents: Tensor) -> Tensor:
        """How unlike each of the places latents (N, P, D) look, in deviations (N, places)."""
        return torch.cdist(self._even(latents), self._even(self.places))

    def nearest(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The place that looks most like latents (..., P, D): its index (...), and how unlike it is (...)."""
        unlike, index = self.distances(latents.reshape(-1, *latents.shape[-2:])).min(-1)
        return index.view(latents.shape[:-2]), unlike.view(latents.shape[:-2])

    def _even(self, latents: Tensor) -> Tensor:
        """(..., P, D) -> (..., P * D) in deviations."""
        return (latents.flatten(-2) - self.mean) / self.std


def new_upper(config: UpperConfig, model: WorldModel) -> Upper:
    """One that knows nothing yet, for a model that acts. Raises ConfigError if it only watches."""
    actions, tokens = model.config.actions, model.grid[0] * model.grid[1]
    if actions is None:
        raise ConfigError("upper level: this model only watches: train one that acts, with --preset act")
    return Upper(config, tokens * model.config.encoder.latent_width, tokens, actions)


def save_upper(folder: Path, upper: Upper) -> None:
    """Write it into a model folder. Raises DataError if the disk takes no more."""
    save_tensors(folder / FILE, dict(upper.state_dict()), asdict(upper.config))
    add_to_sums(folder, [FILE])


def load_upper(folder: Path, model: WorldModel) -> Upper:
    """What `save_upper` wrote for this model. Raises CheckpointError if it is missing or does not fit."""
    tensors, facts = load_tensors(folder / FILE)
    try:
        upper = new_upper(UpperConfig(**facts), model)
        upper.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder / FILE}: does not fit ({error}): bring it back, or train again") from error
    return upper.eval()


def _mlp(features: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, out)
    )
