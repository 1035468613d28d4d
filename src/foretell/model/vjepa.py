"""V-JEPA 2 (arXiv 2506.09985) as a frozen encoder, from a local folder in the Hugging Face layout.

Each frame is encoded alone: it is repeated to fill its tubelet (2 frames), as V-JEPA 2-AC does, so that no latent knows a
later frame. What moves is for the predictor to find out.

Nothing that the folder holds is executed. Weights are read by safetensors alone, and of config.json only the numbers in
ARCHITECTURE are used. `from_pretrained` would also follow names of kernels and adapters to foreign code, and fill missing
tensors with random numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from einops import rearrange, reduce
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from foretell.errors import CheckpointError, ConfigError
from foretell.model.layers import LatentNorm

SETTINGS = "config.json"
WEIGHTS = "model.safetensors"
SIZES = (
    "crop_size",
    "patch_size",
    "tubelet_size",
    "in_chans",
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
)
ARCHITECTURE = (*SIZES, "mlp_ratio", "layer_norm_eps", "qkv_bias", "hidden_act")
"""What config.json may say about the network: it goes to transformers, and nothing else does."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PORTION = 32
"""Frames that go through the network at a time, so that memory does not grow with the batch."""


@dataclass(frozen=True, kw_only=True)
class VJepaConfig:
    """A frozen V-JEPA 2 network, and a trained projection of its tokens. The network stays in its own folder."""

    folder: str
    """Where config.json and model.safetensors of the network lie. Kept as an absolute path."""
    latent_width: int = 32
    """D, channels of one token after a trained projection. The network's own width (1024 for ViT-L) leaves the projection
    out: then nothing before the predictor learns, and latents cannot collapse."""
    settings_sha256: str = ""
    """SHA-256 of the folder's config.json. Left empty, it is taken from the file."""
    weights_sha256: str = ""
    """SHA-256 of the folder's model.safetensors. Left empty, it is taken from the file."""

    def __post_init__(self) -> None:
        if self.latent_width < 1:
            raise ConfigError(f"V-JEPA 2 latent_width: got {self.latent_width}, expected 1 or more")
        folder = Path(os.path.abspath(os.path.expanduser(self.folder)))
        settled = {
            "folder": str(folder),
            "settings_sha256": self.settings_sha256 or _file_sum(folder / SETTINGS),
            "weights_sha256": self.weights_sha256 or _file_sum(folder / WEIGHTS),
        }
        for (
            name,
            value,
        ) in settled.items():  # the sums must stand in the config, since that is what a model folder keeps
            object.__setattr__(self, name, value)


class VJepaEncoder(nn.Module):
    """The frozen network's tokens of one frame, averaged onto `grid`, projected, normed: (B, T, 3, H, W) -> (B, T, P, D).

    Only the projection learns, and only if there is one. It could collapse like any encoder's last layer, and the norm does
    not prevent that: it fixes each dimension's deviation at 1, so that the loss cannot be lowered by shrinking latents, but
    dimensions that all say the same would pass it. Against those stand the objective's isotropy and within-clip terms, and
    the monitors (rank, error over copy, deviation inside clips), which look at the latents after the projection.
    """

    def __init__(self, config: VJepaConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        settings = read_settings(config)
        self.own = settings["crop_size"] // settings["patch_size"]
        self.crop, self.tubelet, self.grid = settings["crop_size"], settings["tubelet_size"], grid
        # In a tuple, where torch does not look for modules: so it is not copied into model.safetensors and checkpoints, not
        # handed to the optimizer, and kept out of train() and of the change to channels last, which its Conv3d cannot take.
        self.frozen = (load_network(config),)
        width = settings["hidden_size"]
        self.project = nn.Identity() if config.latent_width == width else nn.Linear(width, config.latent_width)
        self.norm = LatentNorm(config.latent_width)

    def forward(self, frames: Tensor) -> Tensor:
        rows, columns = self.grid
        tokens = rearrange(self.features(frames), "b t (h w) d -> (b t) h w d", h=self.own)
        # the mean of each neighbourhood; of one token, where the grid is the network's own
        tokens = reduce(tokens, "n (h a) (w b) d -> n (h w) d", "mean", h=rows, w=columns)
        latents: Tensor = self.norm(rearrange(self.project(tokens), "(b t) p d -> b t p d", b=frames.shape[0]))
        return latents

    @torch.no_grad()
    def features(self, frames: Tensor) -> Tensor:
        """What the frozen network says: frames (B, T, 3, H, W) in [-2, 2] -> its own tokens (B, T, own * own, its width)."""
        network = self.frozen[0].to(frames.device)  # a module that torch does not know of does not follow model.to()
        images = self.pictures(rearrange(frames, "b t c h w -> (b t) c h w"))
        videos = images[:, None].expand(-1, self.tubelet, -1, -1, -1)
        tokens = torch.cat([network(portion).last_hidden_state for portion in videos.split(PORTION)])
        return rearrange(tokens, "(b t) p d -> b t p d", b=frames.shape[0])

    def pictures(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-2, 2] -> (N, 3, crop, crop), normalised by ImageNet's mean and deviation of each colour.

        All of the view is kept: one that is not square is stretched, for the network knows square grids only.
        """
        brightness = (images.float() * 64 + 128) / 255  # undoes what WorldModel.encode does, and brings it to 0 .. 1
        if images.shape[-2:] != (self.crop, self.crop):
            brightness = nn.functional.interpolate(brightness, (self.crop, self.crop), mode="bilinear", antialias=True)
        mean, std = (brightness.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (brightness - mean) / std


def vjepa_grid(config: VJepaConfig, height: int, width: int, token_pixels: int) -> tuple[int, int]:
    """Rows and columns of latents: the network's own, or fewer, so that each stands for `token_pixels` of the view or more.

    Raises ConfigError if neither tokens nor pixels can be shared out evenly, CheckpointError as `read_settings` does.
    """
    settings = read_settings(config)
    own = settings["crop_size"] // settings["patch_size"]
    grid = min(own, height // token_pixels), min(own, width // token_pixels)
    if any(
        own % tokens or pixels % (tokens * token_pixels) for tokens, pixels in zip(grid, (height, width), strict=True)
    ):
        raise ConfigError(
            f"V-JEPA 2 encoder: got a view of {height}x{width}, which {own}x{own} tokens do not fit: take edges that are "
            f"multiples of {own * token_pixels}, or {token_pixels} times a divisor of {own}"
        )
    return grid


def read_settings(config: VJepaConfig) -> dict[str, Any]:
    """What the folder's config.json says of the network, and only that.

    Raises CheckpointError if the file is missing, altered since `config` was made, or not that of a V-JEPA 2 network.
    """
    path = Path(config.folder) / SETTINGS
    _check_sum(path, config.settings_sha256)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind = values.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}): bring it back") from error
    if kind != "vjepa2":
        raise CheckpointError(
            f"{path}: got model_type {kind!r}, expected 'vjepa2': give the folder of a V-JEPA 2 network"
        )
    settings = {name: values[name] for name in ARCHITECTURE if name in values}
    for name in SIZES:
        if type(settings.get(name)) is not int or settings[name] < 1:
            raise CheckpointError(f"{path}: got {name} {settings.get(name)!r}, expected a whole number from 1 up")
    if settings["in_chans"] != 3 or settings["crop_size"] % settings["patch_size"]:
        raise CheckpointError(
            f"{path}: got {settings['in_chans']} colours and a crop of {settings['crop_size']} in patches of "
            f"{settings['patch_size']}, expected 3 colours and a crop that is a multiple of the patch"
        )
    return settings


def load_network(config: VJepaConfig) -> nn.Module:
    """The network of the folder, without its predictor: in eval mode, in float32, and no weight asks for a gradient.

    Raises CheckpointError if a file is missing, altered, no safetensors or does not fit; ConfigError without transformers.
    """
    path = Path(config.folder) / WEIGHTS
    settings = read_settings(config)
    _check_sum(path, config.weights_sha256)
    tensors = _read_encoder(path)
    transformers = _import_transformers()
    try:
        with torch.device("meta"):  # no random start weights: they would cost time and draws
            network: nn.Module = transformers.VJEPA2Model(transformers.VJEPA2Config(**settings)).encoder
        network.load_state_dict(tensors, assign=True)
    except Exception as error:  # transformers has errors of its own for settings that it does not take
        raise CheckpointError(
            f"{path}: does not fit {SETTINGS} beside it ({error}): bring both back from one download"
        ) from error
    return network.requires_grad_(False).eval()


def _read_encoder(path: Path) -> dict[str, Tensor]:
    prefix = "encoder."
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            # a copy: what safetensors hands out still lies in the file
            return {name[len(prefix) :]: file.get_tensor(name).to(torch.float32, copy=True) for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: damaged or no safetensors file ({error}): bring it back; a pickle is not read, since it can run code"
        ) from error


def _check_sum(path: Path, expected: str) -> None:
    found = _file_sum(path)
    if found != expected:
        raise CheckpointError(
            f"{path}: altered (sum {found[:12]}, expected {expected[:12]}): the model was trained on the other file: "
            "bring it back, or train again"
        )


def _file_sum(path: Path) -> str:
    """SHA-256 of a file of the network's folder. Not `folder.file_sum`: that file imports this one's encoder."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        pickles = ", ".join(sorted(p.name for p in path.parent.glob("*") if p.suffix in {".bin", ".pt", ".pth"}))
        found = f"; {pickles} beside it is a pickle and not read, since it can run code" if pickles else ""
        raise CheckpointError(
            f"{path}: missing ({error.strerror}{found}): the V-JEPA 2 encoder needs a folder with {SETTINGS} and {WEIGHTS}: "
            "bring it back, or, if it was moved, write its new place as the encoder's `folder` in the model's config.json"
        ) from error


def _import_transformers() -> ModuleType:
    try:
        import transformers
        from transformers import VJEPA2Config, VJEPA2Model  # noqa: F401  # found on first use, which may fail
    except ImportError as error:
        raise ConfigError(
            'the V-JEPA 2 encoder needs transformers, which is not installed: pip install "foretell[hf]"'
        ) from error
    return transformers
