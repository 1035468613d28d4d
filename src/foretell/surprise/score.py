"""From latent prediction error to surprise: per token, per step, per horizon; raw and whitened; streaming.

A step's surprise is how far its latents lie from what was foretold for them, one step before and several steps before,
measured in the directions in which normal footage rarely errs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, DataError
from foretell.model.precision import mixed_precision
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel

PIECE = 64
"""Steps of a long clip that are looked at together, when whitening is fitted."""

Clips = Callable[[], Iterable[tuple[str, np.ndarray]]]
"""Gives (name, frames uint8 (T, H, W, 3)) one after another, from the start at each call."""


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

    horizons: tuple[int, ...] = (1, 4, 8)
    """Steps ahead from which each step was foretold; the surprise is the largest over them, each on its own scale."""
    every: int = 2
    """A rollout starts at every so manyth step: half the work for a step's delay. One step ahead is foretold at each."""
    context: int = 4
    """Steps to be seen before the first foretelling that counts."""
    neighbourhood: int = 3
    """Edge of the square of tokens over which error is averaged."""

    def __post_init__(self) -> None:
        if not self.horizons or list(self.horizons) != sorted(set(self.horizons)) or self.horizons[0] < 1:
            raise ConfigError(f"surprise horizons: got {self.horizons}, expected steps ahead from 1 up, ascending")


class Whitening(NamedTuple):
    """What normal residuals look like, for each of H horizons."""

    precision: Tensor  # (H, D, D) inverse covariance, divided by D: the whitened error is 1 on average
    scale: Tensor  # (H,) largest token error of a frame that 1 in 20 normal frames exceeds


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


class Errors(NamedTuple):
    """What was foretold wrongly, for each of H horizons and every token; NaN where a step was not scored."""

    raw: Tensor  # (T, H, rows, columns) squared latent error, mean over D
    whitened: Tensor  # (T, H, rows, columns) in units of normal error, averaged over the neighbourhood


class LatentScorer:
    """Surprise of a world model: whitened error of what it foretold, streaming. The default Scorer."""

    def __init__(self, model: WorldModel, whitening: Whitening, config: SurpriseConfig) -> None:
        self.model, self.whitening, self.config = model.eval(), whitening, config
        self.view = model.config.view
        self.context = config.context + min(config.horizons)
        self.start()

    def start(self) -> None:
        """Forget the last video."""
        self.stream = Stream(self.model, self.config)
        self.held = torch.full((len(self.config.horizons), *self.model.grid), torch.nan)
        self.step = 0

    @torch.inference_mode()
    def score(self, frames: np.ndarray) -> Scores:
        """The next steps of this video, uint8 (T, H, W, 3). Raises ShapeError if the size is not the view's."""
        errors = self.errors(frames)
        whitened = errors.whitened.clone()
        for t in range(
            len(whitened)
        ):  # between two rollouts the last word of a horizon holds, or every other step would look calm
            whitened[t] = self.held = torch.where(whitened[t].isnan(), self.held, whitened[t])
        heat = whitened.nan_to_num(-torch.inf).amax(1)
        heat[heat == -torch.inf] = torch.nan
        return Scores(heat.amax((1, 2)).numpy(), errors.raw[:, 0].mean((1, 2)).numpy(), heat.numpy())

    @torch.inference_mode()
    def errors(self, frames: np.ndarray) -> Errors:
        """The same per token and per horizon, for who wants to look closer; moves on in the video like `score`."""
        seen = self.stream.next(frames)
        steps = torch.arange(self.step, self.step + len(frames))
        self.step += len(frames)
        raw = (seen.happened[:, None] - seen.said).pow(2).mean(-1)
        raw = rearrange(raw, "t h (y x) -> t h y x", y=self.model.grid[0])
        whitened = token_errors(seen, self.whitening.precision, self.config, self.model.grid)
        for number, horizon in enumerate(self.config.horizons):
            raw[steps < self.config.context + horizon, number] = torch.nan
            whitened[steps < self.config.context + horizon, number] = torch.nan
        return Errors(raw, whitened / self.whitening.scale[:, None, None])


def token_errors(seen: Seen, precision: Tensor, config: SurpriseConfig, grid: tuple[int, int]) -> Tensor:
    """r' precision r for the residual r of every token, averaged over its neighbourhood: (T, H, rows, columns)."""
    residual = seen.happened[:, None] - seen.said
    error = ((residual @ precision) * residual).sum(-1)
    maps = rearrange(error, "t h (y x) -> t h y x", y=grid[0])
    return torch.nn.functional.avg_pool2d(
        maps, config.neighbourhood, 1, config.neighbourhood // 2, count_include_pad=False
    )


class Seen(NamedTuple):
    """T steps, and what had been foretold of them at each of H horizons; NaN where nothing had."""

    happened: Tensor  # (T, P, D)
    said: Tensor  # (T, H, P, D)


class Stream:
    """One video passing by, chunk after chunk; a frame is encoded once."""

    def __init__(self, model: WorldModel, config: SurpriseConfig) -> None:
        self.model, self.config, self.longest = model, config, max(config.horizons)
        self.memory: Tensor | None = None
        self.step = 0
        tokens, width = model.grid[0] * model.grid[1], model.config.encoder.latent_width
        self.said = torch.full((self.longest, self.longest, tokens, width), torch.nan)

    @torch.inference_mode()
    def next(self, frames: np.ndarray) -> Seen:
        """The next steps, uint8 (T, H, W, 3)."""
        batch = torch.from_numpy(np.array(frames))  # a copy: the store's pages cannot be written to
        starts = [t for t in range(len(frames)) if (self.step + t) % self.config.every == 0]
        said = torch.full((len(frames), *self.said.shape[1:]), torch.nan)
        with mixed_precision("auto", batch.device):
            latents = self.model.encode(rearrange(batch, "t h w c -> 1 t c h w"))
            foretold, self.memory = self.model.go_on(latents, self.memory)
            said[:, 0] = foretold.next[0].float()
            if starts and self.longest > 1:
                said[starts] = self.model.rollouts(foretold, starts, self.longest)[0].float()
        known, now = torch.cat([self.said, said]), self.longest + torch.arange(len(frames))
        self.said, self.step = known[-self.longest :], self.step + len(frames)
        return Seen(latents[0].float(), torch.stack([known[now - h, h - 1] for h in self.config.horizons], 1))


def fit_whitening(model: WorldModel, development: Clips, config: SurpriseConfig) -> Whitening:
    """Whitening from normal development clips, that were not trained on and do not calibrate.

    Raises DataError if all of them are too short to be foretold.
    """
    width, known = model.config.encoder.latent_width, torch.zeros(len(config.horizons))
    covariance = torch.zeros(len(config.horizons), width, width, dtype=torch.float64)
    for seen in foretold_clips(model, development, config):
        residual = seen.happened[:, None] - seen.said
        foretold = ~residual.isnan().any(-1).any(-1)
        for number in range(len(config.horizons)):
            kept = residual[foretold[:, number], number]
            if not len(kept):
                continue
            covariance[number] += len(kept) * shrunk_covariance(kept.flatten(0, 1))
        known += foretold.sum(0)
    if not known.all():
        needed = config.context + max(config.horizons)
        raise DataError(f"development clips: none has more than {needed} steps: give longer videos, or a higher --fps")
    precision = (torch.linalg.inv(covariance / known[:, None, None]) / width).float()
    errors = [token_errors(seen, precision, config, model.grid) for seen in foretold_clips(model, development, config)]
    largest = torch.cat([reduce(clip, "t h y x -> t h", "max") for clip in errors])
    return Whitening(precision, largest.nanquantile(0.95, dim=0))


def foretold_clips(model: WorldModel, clips: Clips, config: SurpriseConfig) -> Iterator[Seen]:
    """What was foretold in each clip, without the first steps, in which nothing counts yet."""
    first = config.context + max(config.horizons)
    for _, frames in clips():
        for at in range(0, max(1, len(frames) - first), PIECE):
            seen = Stream(model, config).next(frames[at : at + first + PIECE])
            if len(seen.happened) > first:
                yield Seen(*(part[first:] for part in seen))


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
    save_tensors(path, whitening._asdict(), asdict(config))


def load_whitening(path: Path) -> tuple[Whitening, SurpriseConfig]:
    """Read what `save_whitening` wrote. Raises CheckpointError if it is missing or damaged."""
    tensors, facts = load_tensors(path)
    try:
        return Whitening(**tensors), SurpriseConfig(**facts | {"horizons": tuple(facts["horizons"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no whitening ({error}): bring it back, or train again") from error
