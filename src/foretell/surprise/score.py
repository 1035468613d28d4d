"""From latent prediction error to surprise: per token, per step, per horizon; raw and whitened; streaming.

A step's surprise is how far its latents lie from what was foretold for them, one step before and several steps before,
measured in the directions in which normal footage rarely errs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from foretell.data.clip import View
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel


class Scores(NamedTuple):
    """What a scorer says of T steps; NaN where a step was not scored."""

    surprise: np.ndarray  # (T,) whitened; the number that is calibrated
    error: np.ndarray  # (T,) raw squared latent error of the shortest horizon, mean over tokens
    heat: np.ndarray  # (T, h, w) surprise of every token


class Scorer(Protocol):
    """Scores one video after another, in chunks of consecutive steps."""

    view: View
    context: int

    def start(self) -> None:
        """Forget the last video."""
        ...

    def score(self, frames: np.ndarray) -> Scores:
        """The next steps of this video, uint8 (T, H, W, 3)."""
        ...


@dataclass(frozen=True, kw_only=True)
class SurpriseConfig:
    """What counts as surprise."""

    horizons: tuple[int, ...] = (1, 4)
    """Steps ahead from which each step was foretold; the surprise is the mean over them."""
    context: int = 4
    """Steps to be seen before the first foretelling that counts."""
    neighbourhood: int = 3
    """Edge of the square of tokens whose surprise is averaged before the largest is taken."""
    smooth: int = 1
    """Steps, up to the present one, over which surprise is averaged."""


class Whitening(NamedTuple):
    """Per horizon: what normal residuals look like. precision (D, D); scale, the mean of r' precision r over tokens."""

    precision: dict[int, Tensor]
    scale: dict[int, float]


def shrunk_covariance(residuals: Tensor) -> Tensor:
    """Ledoit-Wolf covariance (D, D) of residuals (N, D) about zero (J. Multivariate Analysis 88, 2004).

    The sample covariance is drawn towards a multiple of the identity, as far as its own noise suggests.
    """
    x = residuals.double()
    count, width = x.shape
    sample = x.T @ x / count
    mean_variance = sample.diagonal().mean()
    target = mean_variance * torch.eye(width, dtype=x.dtype)
    distance = (sample - target).pow(2).sum()
    noise = ((x.pow(2).sum(1).pow(2).sum() / count) - sample.pow(2).sum()) / count
    share = (noise / distance.clamp_min(1e-12)).clamp(0, 1)
    return (1 - share) * sample + share * target + 1e-6 * target


class LatentScorer:
    """Surprise of a world model: whitened error of what it foretold, streaming. The default Scorer."""

    def __init__(self, model: WorldModel, whitening: Whitening, config: SurpriseConfig) -> None:
        self.model, self.whitening, self.config = model.eval(), whitening, config
        self.view = model.config.view
        self.context = config.context + min(config.horizons)
        self.start()

    def start(self) -> None:
        """Forget the last video."""
        self.residuals = Residuals(self.model, max(self.config.horizons))
        self.recent = torch.empty(0, *self.model.grid)
        self.step = 0

    def score(self, frames: np.ndarray) -> Scores:
        """The next steps of this video, uint8 (T, H, W, 3). Raises ShapeError if the size is not the view's."""
        residuals = self.residuals.next(frames)
        token = torch.stack([self._whitened(residuals[:, h - 1], h) for h in self.config.horizons]).nanmean(0)
        steps = torch.arange(self.step, self.step + len(frames))
        token[steps < self.context] = torch.nan
        self.step += len(frames)
        heat = self._smoothed(rearrange(token, "t (h w) -> t h w", h=self.model.grid[0]))
        around = torch.nn.functional.avg_pool2d(
            heat[:, None], self.config.neighbourhood, 1, self.config.neighbourhood // 2, count_include_pad=False
        )
        surprise = reduce(around, "t 1 h w -> t", "max")
        error = residuals[:, min(self.config.horizons) - 1].pow(2).mean((1, 2))
        return Scores(surprise.numpy(), error.numpy(), heat.numpy())

    def _whitened(self, residual: Tensor, horizon: int) -> Tensor:
        """r' precision r / scale for residuals (T, P, D) -> (T, P); 1 on average on normal footage."""
        precision, scale = self.whitening.precision[horizon], self.whitening.scale[horizon]
        return ((residual @ precision) * residual).sum(-1) / scale

    def _smoothed(self, heat: Tensor) -> Tensor:
        """Mean over the last `smooth` scored steps up to each of heat (T, h, w)."""
        known = torch.cat([self.recent, heat])
        before, self.recent = len(self.recent), known[max(0, len(known) - self.config.smooth + 1) :]
        window = [known[max(0, before + t + 1 - self.config.smooth) : before + t + 1] for t in range(len(heat))]
        return torch.stack([torch.where(w[-1].isnan(), w[-1], w.nanmean(0)) for w in window])


class Residuals:
    """Latents minus what was foretold for them, streaming over one video; a frame is encoded once."""

    def __init__(self, model: WorldModel, longest: int) -> None:
        self.model, self.longest = model, longest
        self.memory: Tensor | None = None
        tokens, width = model.grid[0] * model.grid[1], model.config.encoder.latent_width
        self.said = torch.full((longest, longest, tokens, width), torch.nan)

    @torch.inference_mode()
    def next(self, frames: np.ndarray) -> Tensor:
        """frames uint8 (T, H, W, 3) -> residuals (T, longest, P, D); [t, h - 1]: as foretold h steps before. NaN: not foretold."""
        batch = torch.from_numpy(np.array(frames))  # a copy: the store's pages cannot be written to
        latents = self.model.encode(rearrange(batch, "t h w c -> 1 t c h w"))
        foretold, self.memory = self.model.go_on(latents, self.memory)
        said = self.model.rollouts(foretold, list(range(len(frames))), self.longest)[0].float()
        self.said = torch.cat([self.said, said])
        steps = torch.arange(len(frames))
        residuals = torch.stack(
            [latents[0].float() - self.said[self.longest + steps - h, h - 1] for h in range(1, self.longest + 1)], 1
        )
        self.said = self.said[-self.longest :]
        return residuals


def fit_whitening(model: WorldModel, clips: Iterable[np.ndarray], config: SurpriseConfig) -> Whitening:
    """Whitening from normal clips, uint8 (T, H, W, 3) each, that were not trained on and do not calibrate."""
    kept: dict[int, list[Tensor]] = {h: [] for h in config.horizons}
    for frames in clips:
        residuals = Residuals(model.eval(), max(config.horizons)).next(frames)
        for h in config.horizons:
            kept[h].append(residuals[config.context + h :, h - 1].flatten(0, 1))
    precision, scale = {}, {}
    for h, parts in kept.items():
        all_residuals = torch.cat(parts)
        precision[h] = torch.linalg.inv(shrunk_covariance(all_residuals)).float()
        scale[h] = ((all_residuals @ precision[h]) * all_residuals).sum(-1).mean().item()
    return Whitening(precision, scale)


class MotionScorer:
    """The control that learns nothing: how much the pixels change from step to step, where they change most."""

    def __init__(self, view: View, grid: tuple[int, int], config: SurpriseConfig) -> None:
        self.view, self.grid, self.config, self.context = view, grid, config, 1
        self.start()

    def start(self) -> None:
        """Forget the last video."""
        self.last: np.ndarray | None = None

    def score(self, frames: np.ndarray) -> Scores:
        """The next steps of this video, uint8 (T, H, W, 3)."""
        grey = frames.astype(np.float32).mean(3)
        before = np.full_like(grey[:1], np.nan) if self.last is None else self.last
        change = np.abs(np.diff(np.concatenate([before, grey]), axis=0))
        self.last = grey[-1:]
        heat = reduce(change, "t (h y) (w x) -> t h w", "mean", h=self.grid[0], w=self.grid[1])
        return Scores(heat.max((1, 2)), change.mean((1, 2)), heat)


def save_whitening(path: Path, whitening: Whitening, config: SurpriseConfig) -> None:
    """Write whitening and settings to one safetensors file. Raises DataError if the disk takes no more."""
    save_tensors(
        path, {str(h): p for h, p in whitening.precision.items()}, {"scale": whitening.scale, "config": asdict(config)}
    )


def load_whitening(path: Path) -> tuple[Whitening, SurpriseConfig]:
    """Read what `save_whitening` wrote. Raises CheckpointError if it is missing or damaged."""
    tensors, facts = load_tensors(path)
    config = SurpriseConfig(**facts["config"] | {"horizons": tuple(facts["config"]["horizons"])})
    return Whitening({int(h): p for h, p in tensors.items()}, {int(h): s for h, s in facts["scale"].items()}), config
