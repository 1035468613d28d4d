"""The decoder: latents (B, T, P, D) -> pictures, so that a person can see what the model means. The model never learns from it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.errors import CheckpointError
from foretell.model.encoders import TOKEN_PIXELS, latent_grid
from foretell.model.folder import WEIGHTS, file_sum
from foretell.model.layers import ConvResidual
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import ModelConfig
from foretell.shapes import check_axes

VERSION = 1
FILE = "decoder.safetensors"
CHANNELS = 96


class Decoder(nn.Module):
    """Convolutions that double the grid of tokens three times. It paints what differs from `background`.

    A pooled latent is first spread over the grid by one linear layer. Fully convolutional but for that and the background.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        view, c = config.view, CHANNELS
        self.grid = latent_grid(config.encoder, view.height, view.width)
        spread = (view.height // TOKEN_PIXELS // self.grid[0], view.width // TOKEN_PIXELS // self.grid[1])
        self.body = nn.Sequential(
            nn.ConvTranspose2d(config.encoder.latent_width, c, spread, stride=spread),
            ConvResidual(c),
            _Double(c, c // 2),
            ConvResidual(c // 2),
            _Double(c // 2, c // 4),
            nn.Conv2d(c // 4, 4 * 3, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.background = nn.Parameter(torch.zeros(3, view.height, view.width))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, latents: Tensor) -> Tensor:
        """latents (B, T, P, D) -> brightness (B, T, 3, H, W), 0 to 1 but not held to it. Raises ShapeError."""
        check_axes(latents, f"B T {self.grid[0] * self.grid[1]} D", "latents")
        maps = rearrange(latents, "b t (h w) d -> (b t) d h w", h=self.grid[0])
        painted: Tensor = self.body(maps.contiguous(memory_format=torch.channels_last))
        return rearrange(painted + self.background, "(b t) c h w -> b t c h w", b=latents.shape[0])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, T, P, D) -> frames uint8 (B, T, 3, H, W). Raises ShapeError."""
        brightness: Tensor = self(latents)
        return brightness.float().mul(255).round().clamp(0, 255).byte()


class _Double(nn.Sequential):
    """(N, C, h, w) -> (N, out, 2h, 2w): four neighbours said at once, then laid side by side."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(nn.Conv2d(channels, 4 * out, 3, padding=1), nn.PixelShuffle(2), nn.ReLU())


class KeptDecoder(NamedTuple):
    """A decoder from a model folder, and what it was fitted on."""

    decoder: Decoder
    fitted_on: str


def save_decoder(folder: Path, decoder: Decoder, fitted_on: str) -> None:
    """Keep `decoder` beside the model it was fitted for. Raises DataError if the disk takes no more."""
    metadata = {"version": VERSION, "model_sha256": file_sum(folder / WEIGHTS), "fitted_on": fitted_on}
    save_tensors(folder / FILE, dict(decoder.state_dict()), metadata)


def load_decoder(folder: Path, config: ModelConfig) -> KeptDecoder:
    """The decoder of a model folder. Raises CheckpointError if it is damaged, or was fitted for another model."""
    tensors, metadata = load_tensors(folder / FILE)
    theirs, ours = metadata.get("model_sha256", "none"), file_sum(folder / WEIGHTS)
    if metadata.get("version") != VERSION or theirs != ours:
        raise CheckpointError(
            f"{folder / FILE}: fitted for another model (weights {theirs[:12]}, here {ours[:12]}) or by another foretell "
            f"(version {metadata.get('version')}, expected {VERSION}): delete it, and it is fitted again when needed"
        )
    decoder = Decoder(config)
    try:
        decoder.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder / FILE}: does not fit ({error}): delete it, and it is fitted again when needed"
        ) from error
    return KeptDecoder(decoder.eval(), str(metadata.get("fitted_on")))
