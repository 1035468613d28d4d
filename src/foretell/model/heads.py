"""Small networks on frozen latents of a model that acts: what stands where, what to do to get there, how far it is.

All read pooled latents (..., P, D), the last axes of which are flattened. They are trained once the model is done
(train/heads.py) and lie beside it in the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foretell.errors import CheckpointError
from foretell.model.actions import ActionConfig
from foretell.model.folder import add_to_sums
from foretell.model.layers import GatedBlock
from foretell.model.predictors import SteeredConfig
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel

FILE = "heads.safetensors"
HIDDEN = 256


class Probe(nn.Module):
    """latents (..., P, D) -> quantities (..., Q) in their own units: an MLP, for places are folded into pooled latents."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int, names: tuple[str, ...], blocks: int = 0) -> None:
        super().__init__()
        self.names = names
        self.net = _mlp(features, len(names), blocks)
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("std", torch.ones(len(names)))

    def forward(self, latents: Tensor) -> Tensor:
        read: Tensor = self.net(latents.flatten(-2))
        return read * self.std + self.mean


class InverseModel(nn.Module):
    """What to do now, to be at a goal in so many steps: an amortised planner (goal-conditioned inverse dynamics)."""

    middle: Tensor
    reach: Tensor

    def __init__(self, features: int, actions: ActionConfig, farthest: int, blocks: int = 0) -> None:
        super().__init__()
        self.farthest = farthest
        self.net = _mlp(2 * features + 1, actions.width, blocks)
        self.register_buffer("middle", (actions.low + actions.high) / 2)
        self.register_buffer("reach", (actions.high - actions.low) / 2)

    def forward(self, now: Tensor, goal: Tensor, steps: Tensor) -> Tensor:
        """now, goal (..., P, D), steps (...) of the model -> a block of actions (..., A'), world units, within limits."""
        left = (steps / self.farthest).clamp(0, 1)[..., None]
        said = self.net(torch.cat([now.flatten(-2), goal.flatten(-2), left.to(now.dtype)], -1))
        blocks: Tensor = self.middle + self.reach * torch.tanh(said)
        return blocks


class Reach(nn.Module):
    """How many steps of the model it takes from here to there, about as fast as anything trained on went.

    The distance of latents is flat far away; this is not, as far as clips are long. Beyond `farthest` it says `farthest`.
    """

    def __init__(self, features: int, farthest: int) -> None:
        super().__init__()
        self.farthest = farthest
        self.net = _mlp(3 * features, 1)

    def forward(self, now: Tensor, goal: Tensor) -> Tensor:
        """now, goal (..., P, D) -> steps (...), 0 to `farthest`."""
        now, goal = now.flatten(-2), goal.flatten(-2)
        said: Tensor = self.net(torch.cat([now, goal, (now - goal).abs()], -1))[..., 0]
        return self.farthest * torch.sigmoid(said)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How a model that acts errs on calibration clips, which nothing was trained on."""

    precision: Tensor
    """(P * D, P * D) inverse covariance of errors one step ahead, divided by its width."""
    mean: Tensor
    """(P, D) of all that was seen."""
    familiar: Tensor
    """(P * D, P * D) inverse covariance of what was seen, so scaled that its largest distance in a clip is usually as large as the
    largest whitened error."""
    surprises: Tensor
    """(N,) largest strangeness of one step in each clip, rising."""
    truth: Tensor
    """(M, H, Q) quantities as they truly came, in M stretches of H steps."""
    foretold: Tensor
    """(M, H, Q) as the probe read them from what was imagined at their start."""
    now: Tensor
    """(M, Q) as the probe read them at the start."""
    between: Tensor
    """(M, H * skip, Q) quantities as they truly came at every frame, the last of each step with it."""

    def strangeness(self, foreseen: Tensor | None, latents: Tensor) -> Tensor:
        """How strange latents (B, P, D) are: how far from what was foreseen for them, or from all that was ever seen: (B,).

        The greater of the two (Mahalanobis, 1936). A picture in other colours may go on just as foreseen, and yet be
        nothing that the model knows. Where nothing was foreseen, the second alone.
        """
        far = whitened_error(self.mean, latents, self.familiar)
        return far if foreseen is None else torch.maximum(far, whitened_error(foreseen, latents, self.precision))


def whitened_error(foreseen: Tensor, latents: Tensor, precision: Tensor) -> Tensor:
    """How far latents (B, P, D) lie from what was foreseen for them, in directions that rarely err: (B,).

    precision (P * D, P * D): inverse covariance of usual errors, divided by its width; about 1 on average.
    """
    error = (latents - foreseen).flatten(1)
    return ((error @ precision) * error).sum(-1)


class Heads(nn.Module):
    """All of them, with how the model errs. `probe` is None where nobody told the true states."""

    def __init__(self, model: WorldModel, quantities: tuple[str, ...], farthest: int) -> None:
        super().__init__()
        actions = model.config.actions
        assert actions is not None
        features = model.grid[0] * model.grid[1] * model.config.encoder.latent_width
        steered = model.config.predictor
        # Two are built as the predictor is. Reach stays plain: it is a cost, and search finds whatever a sharper one gets wrong
        # (Push-T, 100 development tasks in which the block must move: 69% reached with gated blocks in it, 92% without).
        blocks = steered.blocks if isinstance(steered, SteeredConfig) else 0
        self.probe = Probe(features, quantities, blocks) if quantities else None
        self.inverse = InverseModel(features, actions, farthest, blocks)
        self.reach = Reach(features, farthest)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what the probe reads."""
        return () if self.probe is None else self.probe.names


def save_heads(folder: Path, heads: Heads, errors: Errors) -> None:
    """Write them into a model folder. Raises DataError if the disk takes no more."""
    facts: dict[str, Any] = {"quantities": heads.quantities, "farthest": heads.reach.farthest}
    save_tensors(folder / FILE, dict(heads.state_dict()) | {f"errors.{k}": v for k, v in vars(errors).items()}, facts)
    add_to_sums(folder, [FILE])


def load_heads(folder: Path, model: WorldModel) -> tuple[Heads, Errors]:
    """What `save_heads` wrote for this model. Raises CheckpointError if it is missing or does not fit."""
    if model.config.actions is None:
        raise CheckpointError(f"{folder}: this model only watches: train one that acts, with --preset act")
    tensors, facts = load_tensors(folder / FILE)
    try:
        heads = Heads(model, tuple(facts["quantities"]), int(facts["farthest"]))
        errors = Errors(**{k.removeprefix("errors."): tensors.pop(k) for k in list(tensors) if k.startswith("errors.")})
        heads.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / FILE}: does not fit ({error}): bring it back, or train again") from error
    return heads.eval(), errors


def _mlp(features: int, out: int, blocks: int = 0) -> nn.Sequential:
    deeper: list[nn.Module] = [GatedBlock(HIDDEN) for _ in range(blocks)]
    plain = [nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU()]
    return nn.Sequential(nn.Linear(features, HIDDEN), *(deeper or plain), nn.Linear(HIDDEN, out))
