"""How well does a model foretell what it has not seen? Error over copy and straight line, rank, and what latents hold of position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.clip import Clip
from foretell.evals.probe import ridge_r2
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.objectives.collapse import monitors


def as_frames(clips: Sequence[Clip]) -> Tensor:
    """Clips of one length -> frames uint8 (B, T, 3, H, W)."""
    return rearrange(torch.from_numpy(np.stack([clip.frames for clip in clips])), "b t h w c -> b t c h w")


def forecast_figures(model: WorldModel, clips: Sequence[Clip]) -> dict[str, float]:
    """The monitors of objectives/collapse.py on fresh clips of one length."""
    frames = as_frames(clips)
    with mixed_precision("auto", frames.device):
        return monitors(model.eval(), frames)


@torch.no_grad()
def position_r2(model: WorldModel, train: Sequence[Clip], test: Sequence[Clip]) -> float:
    """Ridge R2 of the place (x, y) of the only object, read from the latents of one frame; split by clip."""
    return ridge_r2(*(_latents_and_places(model.eval(), clips) for clips in (train, test)))


def _latents_and_places(model: WorldModel, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
    latents, places = [], []
    for clip in clips:
        with mixed_precision("auto", torch.device("cpu")):
            seen = model.encode(as_frames([clip]))
        latents.append(seen[0].float().flatten(1))
        places.append(torch.from_numpy(np.stack([clip.states["x"][:, 0], clip.states["y"][:, 0]], 1)))
    return torch.cat(latents), torch.cat(places)
