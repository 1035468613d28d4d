"""Encoders: frames (B, T, C, H, W) in [-2, 2] -> latents (B, T, P, D). Each frame is encoded alone, and once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.errors import ConfigError
from foretell.model.layers import ConvResidual, LatentNorm, TransformerBlock
from foretell.model.moments import MomentsConfig, MomentsEncoder
from foretell.model.vjepa import VJepaConfig, VJepaEncoder, vjepa_grid


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """A small CNN with a patch stem; one token for every 8x8 pixels. The default for video."""

    latent_width: int = 32
    """D, channels of one token."""
    stem_channels: int = 64
    """Channels after the 4x4 patch stem."""
    channels: int = 128
    """Channels at token resolution."""
    keep_colour: bool = False
    """Three of the D channels are a token's mean colour, given and not learned. What is hard to foretell, an encoder that
    learns by foretelling leaves out; colour is the first to go, and then nobody sees it change."""


@dataclass(frozen=True, kw_only=True)
class PooledConfig:
    """The same CNN, flattened into one token a frame: fast, for small worlds that are fully visible."""

    latent_width: int = 64
    """D, width of the one token."""
    channels: int = 32
    """Channels of the stem; doubled at each halving."""
    hidden: int = 256
    """Width of the layer before the latent."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer; one token for every 8x8 pixels."""

    latent_width: int = 32
    """D, channels of one token."""
    width: int = 192
    """Width of the transformer."""
    depth: int = 6
    """Transformer blocks."""
    heads: int = 3
    """Attention heads."""


EncoderConfig = DenseConfig | PooledConfig | ViTConfig | VJepaConfig | MomentsConfig

TOKEN_PIXELS = 8
"""Edge of the square of pixels that one token of a dense encoder stands for."""
OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (1.0, 0.0, -1.0), (-0.5, 1.0, -0.5))
"""Brightness, red against blue, green against both: far less alike than red, green and blue are."""


def latent_grid(config: EncoderConfig, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tokens (P = rows * columns) for frames of `height` x `width` pixels."""
    if isinstance(config, PooledConfig | MomentsConfig):
        return 1, 1
    if isinstance(config, VJepaConfig):
        return vjepa_grid(config, height, width, TOKEN_PIXELS)
    return height // TOKEN_PIXELS, width // TOKEN_PIXELS


class DenseEncoder(nn.Module):
    """Patch stem to a grid of tokens (fully convolutional: any size that is a multiple of 8)."""

    def __init__(self, config: DenseConfig) -> None:
        super().__init__()
        self.keep_colour = config.keep_colour
        learned = config.latent_width - (len(OPPONENT) if config.keep_colour else 0)
        self.body = nn.Sequential(
            nn.Conv2d(3, config.stem_channels, 4, stride=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.stem_channels, config.channels, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            ConvResidual(config.channels),
            nn.Conv2d(config.channels, learned, 1),
        )
        self.norm = LatentNorm(config.latent_width)

    def forward(self, frames: Tensor) -> Tensor:
        images = _images(frames)
        maps = self.body(images)
        if self.keep_colour:
            maps = torch.cat([maps, mean_colours(images).to(maps.dtype)], 1)
        latents: Tensor = self.norm(rearrange(maps, "(b t) d h w -> b t (h w) d", b=frames.shape[0]))
        return latents


def mean_colours(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) -> of each token its mean brightness and two differences of colour, (N, 3, rows, columns)."""
    means = torch.nn.functional.avg_pool2d(images.float(), TOKEN_PIXELS)
    return torch.einsum("oc,nchw->nohw", torch.tensor(OPPONENT, device=images.device), means)


class PooledEncoder(nn.Module):
    """Patch stem, two halvings, flattened into one token (P = 1)."""

    def __init__(self, config: PooledConfig, height: int, width: int) -> None:
        super().__init__()
        c, cells = config.channels, (height // 16) * (width // 16)
        if height % 16 or width % 16:
            raise ConfigError(f"pooled encoder: got a view of {height}x{width}, expected multiples of 16")
        self.body = nn.Sequential(
            nn.Conv2d(3, c, 4, stride=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * c, 4 * c, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(4 * c * cells, config.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(config.hidden, config.latent_width),
        )
        self.norm = LatentNorm(config.latent_width)

    def forward(self, frames: Tensor) -> Tensor:
        tokens = self.body(_images(frames))
        latents: Tensor = self.norm(rearrange(tokens, "(b t) d -> b t 1 d", b=frames.shape[0]))
        return latents


class ViTEncoder(nn.Module):
    """Patches of 8x8 pixels, transformer blocks over the tokens of one frame."""

    def __init__(self, config: ViTConfig, height: int, width: int) -> None:
        super().__init__()
        rows, columns = latent_grid(config, height, width)
        self.patches = nn.Conv2d(3, config.width, TOKEN_PIXELS, stride=TOKEN_PIXELS)
        self.position = nn.Parameter(0.02 * torch.randn(1, rows * columns, config.width))
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads) for _ in range(config.depth))
        self.project = nn.Linear(config.width, config.latent_width)
        self.norm = LatentNorm(config.latent_width)

    def forward(self, frames: Tensor) -> Tensor:
        tokens = rearrange(self.patches(_images(frames)), "n d h w -> n (h w) d") + self.position
        for block in self.blocks:
            tokens, _ = block(tokens)
        latents: Tensor = self.norm(rearrange(self.project(tokens), "(b t) p d -> b t p d", b=frames.shape[0]))
        return latents


Encoder = DenseEncoder | PooledEncoder | ViTEncoder | VJepaEncoder | MomentsEncoder


def build_encoder(config: EncoderConfig, height: int, width: int) -> Encoder:
    """The encoder that `config` describes, for frames of `height` x `width` pixels."""
    if isinstance(config, DenseConfig):
        return DenseEncoder(config)
    if isinstance(config, PooledConfig):
        return PooledEncoder(config, height, width)
    if isinstance(config, MomentsConfig):
        return MomentsEncoder(config, height, width)
    if isinstance(config, VJepaConfig):
        return VJepaEncoder(config, latent_grid(config, height, width))
    return ViTEncoder(config, height, width)


def _images(frames: Tensor) -> Tensor:
    """(B, T, C, H, W) -> (B*T, C, H, W), channels last in memory, as the convolutions want it."""
    return rearrange(frames, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
