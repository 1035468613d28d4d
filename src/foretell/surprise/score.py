"""From latent prediction error to surprise: per token, per step, per horizon; raw and whitened; streaming.

A step's surprise is how far its latents lie from what was foretold for them at several steps before, measured in the
directions in which normal footage rarely errs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, DataError
from foretell.model.carry import carried
from foretell.model.precision import mixed_precision
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import Foretold, WorldModel, scaled
from foretell.surprise.covariance import shrunk_covariance
from foretell.surprise.looks import fit_looks, look_errors, look_heat
from foretell.surprise.smooth import Smoother
from foretell.surprise.strange import Normal, Passing

PIECE = 64
"""Steps of a long clip that are looked at together, when whitening is fitted."""

Clips = Callable[[], Iterable[tuple[str, np.ndarray]]]
"""Gives (name, frames uint8 (T, H, W, 3)) one after another, from the start at each call."""


class Scores(NamedTuple):
    """What a scorer says of T steps; NaN where a step was not scored."""

    surprise: np.ndarray  # (T,) whitened error of each word at its worst tokens, mean over words: what is calibrated
    error: np.ndarray  # (T,) raw squared latent error, mean over words and tokens
    heat: np.ndarray  # (T, h, w) whitened error of every token, mean over words
    strange: np.ndarray  # (T,) how unlike anything normal the last steps are


class Scorer(Protocol):
    """Scores one video after another, in chunks of consecutive steps."""

    view: View
    context: int
    smooth: int

    def start(self) -> None:
        """Forget the last video."""
        ...

    def score(self, frames: np.ndarray) -> Scores:
        """The next steps of this video, uint8 (T, H, W, 3)."""
        ...


@dataclass(frozen=True, kw_only=True)
class SurpriseConfig:
    """What counts as surprise: the mean of the worst errors of several words about a step, spoken before it."""

    nearest: int = 4
    """Fewest steps ahead that a word must speak of. One step ahead nearly everything goes on as it did."""
    farthest: int = 16
    """Most steps ahead; a video that is shorter has fewer words about each step."""
    every: int = 4
    """A rollout starts at every so manyth step from `context` on: with 4 to 16 ahead, 3 or 4 words speak of each step."""
    context: int = 4
    """Steps to be seen before the first rollout."""
    neighbourhood: int = 3
    """Edge of the square of tokens over which error is averaged."""
    worst: float = 0.02
    """Share of a frame's tokens, the most wrong ones, of which the mean counts; one at least, as among the 64 of 64 px."""
    smooth: int = 1
    """Steps over which a video's surprise is averaged, half of them before and half after; 1: not at all."""

    def __post_init__(self) -> None:
        if not 1 <= self.nearest <= self.farthest or not 1 <= self.every <= self.farthest - self.nearest + 1:
            got = f"got {self.nearest} to {self.farthest} steps ahead, a rollout every {self.every}"
            raise ConfigError(f"surprise: {got}; expected 1 or more, and each step to be spoken of")
        if not 0 <= self.worst <= 1:
            raise ConfigError(f"surprise worst: got {self.worst}, expected a share of tokens, 0 to 1")
        Smoother(self.smooth)  # refuses an even number now, not after hours of training

    @property
    def horizons(self) -> range:
        """How far ahead words may speak, in steps."""
        return range(self.nearest, self.farthest + 1)

    def within(self, steps: int) -> SurpriseConfig:
        """The same for clips of so many steps: nothing is foretold from farther away than they are long."""
        farthest = max(self.nearest, min(self.farthest, steps - self.context - 1))
        return replace(self, farthest=farthest, every=min(self.every, farthest - self.nearest + 1))


class Whitening(NamedTuple):
    """What normal residuals look like, for each of H horizons."""

    precision: Tensor  # (H, D, D) inverse covariance, divided by D: the whitened error is 1 on average
    scale: Tensor  # (H,) whitened error of a frame's worst tokens that 1 in 20 exceed
    looks: Tensor  # (2,) contrast below which looks are not judged the more strictly; what is wrong with them in normal footage


class Errors(NamedTuple):
    """How wrong each of W words was about each step and token; NaN where there was no word."""

    raw: Tensor  # (T, W, rows, columns) squared latent error, mean over D
    whitened: Tensor  # (T, W, rows, columns) in units of normal error, mean over the neighbourhood
    ahead: Tensor  # (T, W) how many steps before it was spoken; 0: no word
    looks: Tensor  # (T, rows, columns) how wrong it looks, in units of normal; 0 where the model carries no picture on


class LatentScorer:
    """Surprise of a world model: whitened error of what it foretold, streaming. The default Scorer."""

    def __init__(
        self, model: WorldModel, whitening: Whitening, config: SurpriseConfig, normal: Normal | None = None
    ) -> None:
        """`normal` is what normal stretches are like; without it nothing is said of how strange a video is."""
        self.model, self.whitening, self.config, self.normal = model.eval(), whitening, config, normal
        self.view = model.config.view
        self.context, self.smooth = config.context + config.nearest, config.smooth
        self.start()

    def start(self) -> None:
        """Forget the last video."""
        self.stream = Stream(self.model, self.config)
        self.passing = None if self.normal is None else Passing(self.normal)

    @torch.inference_mode()
    def score(self, frames: np.ndarray) -> Scores:
        """The next steps of this video, uint8 (T, H, W, 3). Raises ShapeError if the size is not the view's."""
        seen = self.stream.next(frames)
        errors = self._errors(seen)
        strange = torch.full((len(frames),), torch.nan) if self.passing is None else self.passing.next(*seen.passing)
        # words about one thing may miss it in different places
        wrong = worst_tokens(errors.whitened, self.config.worst).nanmean(1)
        surprise, heat = wrong.maximum(errors.looks.amax((1, 2))), errors.whitened.nanmean(1).maximum(errors.looks)
        return Scores(surprise.numpy(), errors.raw.nanmean((1, 2, 3)).numpy(), heat.numpy(), strange.numpy())

    @torch.inference_mode()
    def errors(self, frames: np.ndarray) -> Errors:
        """The same for each word and token, for who wants to look closer; moves on in the video like `score`."""
        return self._errors(self.stream.next(frames))

    def _errors(self, seen: Seen) -> Errors:
        raw = (seen.happened[:, None] - seen.said).pow(2).mean(-1)
        raw = rearrange(raw, "t w (y x) -> t w y x", y=self.model.grid[0])
        whitened = token_errors(seen, self.whitening.precision, self.config, self.model.grid)
        scale = self.whitening.scale[_number(seen.ahead, self.config)]
        floor, normal = self.whitening.looks
        looks = look_heat(seen.look_error, seen.contrast, floor) / normal
        return Errors(raw, whitened / scale[:, :, None, None], seen.ahead, looks)


class Seen(NamedTuple):
    """T steps, and the W words that had been spoken of each; NaN where there was none."""

    happened: Tensor  # (T, P, D)
    said: Tensor  # (T, W, P, D)
    ahead: Tensor  # (T, W) how many steps before it was spoken; 0: no word
    look_error: Tensor  # (T, 2 rows, 2 columns) against the last frame, carried on; 0 where there is none
    contrast: Tensor  # (T, 2 rows, 2 columns) of that one
    next: Tensor  # (T, P, D) what was said of each one step before; NaN of a video's first
    frames: Tensor  # uint8 (T, H, W, 3)

    @property
    def passing(self) -> tuple[Tensor, Tensor, Tensor]:
        """What tells how strange they are (surprise/strange.py)."""
        return self.happened, self.next, self.frames


class Stream:
    """One video passing by, chunk after chunk; a frame is encoded once.

    The rollouts under way go on together, one step at every step of the video: none takes longer than another.
    """

    def __init__(self, model: WorldModel, config: SurpriseConfig) -> None:
        self.model, self.config = model, config
        self.memory: Tensor | None = None
        self.carried: Tensor | None = None  # (1, 3, H, W) the last frame, carried on
        self.next_one: Tensor | None = None  # (1, P, D) said of the step to come
        self.step = 0
        tokens, width = model.grid[0] * model.grid[1], model.config.encoder.latent_width
        self.begun: list[int] = []  # (R) the steps that rollouts under way were begun at, oldest first
        self.words = torch.zeros(0, tokens, width)  # (R, P, D) what they say of the next step
        self.minds = model.predictor.start(0)  # (R, ...) their memories

    @torch.inference_mode()
    def next(self, frames: np.ndarray) -> Seen:
        """The next steps, uint8 (T, H, W, 3)."""
        batch = torch.from_numpy(np.array(frames))  # a copy: the store's pages cannot be written to
        with mixed_precision("auto", batch.device):
            latents = self.model.encode(rearrange(batch, "t h w c -> 1 t c h w"))
            foretold, self.memory = self.model.go_on(latents, self.memory)
            looks = self._looks(batch, foretold)
            happened = latents[0].float()
            next_ones = foretold.next[0].float()
            first = torch.full_like(next_ones[:1], torch.nan) if self.next_one is None else self.next_one
            said_before, self.next_one = torch.cat([first, next_ones[:-1]]), next_ones[-1:]
            slots = -(-self.config.farthest // self.config.every)
            said = happened.new_full((len(frames), slots, *happened.shape[1:]), torch.nan)
            ahead = torch.zeros(len(frames), slots, dtype=torch.long)
            for t in range(len(frames)):
                for slot, begun in enumerate(self.begun):
                    if self.step - begun >= self.config.nearest:
                        said[t, slot], ahead[t, slot] = self.words[slot], self.step - begun
                self._go_on(foretold, t)
                self.step += 1
        return Seen(happened, said, ahead, *looks, said_before, batch)

    def _looks(self, frames: Tensor, foretold: Foretold) -> tuple[Tensor, Tensor]:
        """How the frames (T, H, W, 3) look, each against the one before it, carried on: error and contrast."""
        rows, columns = self.model.grid
        nothing = torch.zeros(len(frames), 2 * rows, 2 * columns)
        if not self.model.carries:
            return nothing, nothing
        pictures = scaled(rearrange(frames, "t h w c -> t c h w"))
        next_ones = carried(pictures, self.model.drift(foretold.memories[0]), mode="bicubic")
        known = self.carried is not None
        said = torch.cat([pictures[:1] if self.carried is None else self.carried, next_ones[:-1]])
        self.carried = next_ones[-1:]
        error, contrast = look_errors(pictures, said)
        return (error, contrast) if known else (torch.cat([nothing[:1], error[1:]]), contrast)

    def _go_on(self, foretold: Foretold, t: int) -> None:
        """Let the rollouts speak of the next step: end those that have gone far enough, begin one where it is time."""
        predictor, config = self.model.predictor, self.config
        if self.begun and self.step - self.begun[0] >= config.farthest:
            self.begun, self.words, self.minds = self.begun[1:], self.words[1:], self.minds[1:]
        if self.begun:
            self.words, self.minds = predictor.step(self.words, self.minds)
        if self.step >= config.context and (self.step - config.context) % config.every == 0:
            self.begun.append(self.step)
            self.words = torch.cat([self.words, foretold.next[0, [t]]])
            self.minds = torch.cat([self.minds, predictor.memory_after(foretold.memories, [t])[0]])


def token_errors(seen: Seen, precision: Tensor, config: SurpriseConfig, grid: tuple[int, int]) -> Tensor:
    """Whitened errors r' precision r of every word and token, averaged over its neighbourhood: (T, W, rows, columns)."""
    residual = seen.happened[:, None] - seen.said
    whole = ((residual @ precision[_number(seen.ahead, config)]) * residual).sum(-1)
    maps = rearrange(whole, "t w (y x) -> (t w) 1 y x", y=grid[0])
    edge = config.neighbourhood
    pooled = torch.nn.functional.avg_pool2d(maps, edge, 1, edge // 2, count_include_pad=False)
    return rearrange(pooled, "(t w) 1 y x -> t w y x", t=len(seen.happened))


def worst_tokens(errors: Tensor, share: float) -> Tensor:
    """Mean over this share of the tokens, the most wrong ones: errors (T, W, rows, columns) -> (T, W)."""
    tokens = errors.flatten(2)
    return tokens.topk(max(1, round(share * tokens.shape[2])), 2).values.mean(2)


def _number(ahead: Tensor, config: SurpriseConfig) -> Tensor:
    """Which of the H horizons each word speaks from; any for no word, which is NaN."""
    return (ahead - config.nearest).clamp_min(0)


def fit_whitening(model: WorldModel, normal: Clips, config: SurpriseConfig) -> Whitening:
    """Whitening from normal clips that do not calibrate. Raises DataError if all of them are too short to be foretold."""
    width, horizons = model.config.encoder.latent_width, config.horizons
    covariance = torch.zeros(len(horizons), width, width, dtype=torch.float64)
    known = torch.zeros(len(horizons))
    for seen in foretold_clips(model, normal, config):
        residual = seen.happened[:, None] - seen.said
        for number, horizon in enumerate(horizons):
            kept = residual[seen.ahead == horizon]
            if len(kept):
                covariance[number] += len(kept) * shrunk_covariance(kept.flatten(0, 1))
                known[number] += len(kept)
    if not known.all():
        needed = config.context + config.farthest
        raise DataError(f"development clips: none has more than {needed} steps: give longer videos, or a higher --fps")
    precision = (torch.linalg.inv(covariance / known[:, None, None]) / width).float()
    largest: list[list[Tensor]] = [[] for _ in horizons]
    looks = []
    for seen in foretold_clips(model, normal, config):
        judged = (seen.ahead > 0).any(1)
        looks.append((seen.look_error[judged], seen.contrast[judged]))
        errors = worst_tokens(token_errors(seen, precision, config, model.grid), config.worst)
        for number, horizon in enumerate(horizons):
            largest[number].append(errors[seen.ahead == horizon])
    scale = torch.stack([torch.cat(of_horizon).quantile(0.95) for of_horizon in largest])
    return Whitening(precision, scale, fit_looks(looks))


def foretold_clips(model: WorldModel, clips: Clips, config: SurpriseConfig) -> Iterator[Seen]:
    """Every step of each clip once, with what was foretold of it; long clips in pieces, with a run-up to each."""
    run_up = config.context + config.farthest
    for _, frames in clips():
        for at in range(0, max(1, len(frames) - run_up), PIECE):
            seen = Stream(model, config).next(frames[at : at + run_up + PIECE])
            yield Seen(*(part[run_up if at else 0 :] for part in seen))


class MotionScorer:
    """The control that learns nothing: how much the pixels change from step to step, where they change most."""

    def __init__(self, view: View, grid: tuple[int, int], config: SurpriseConfig) -> None:
        self.view, self.grid, self.context, self.smooth = view, grid, 1, config.smooth
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
        return Scores(heat.max((1, 2)), change.mean((1, 2)), heat, np.full(len(frames), np.nan))


def save_whitening(path: Path, whitening: Whitening, config: SurpriseConfig) -> None:
    """Write whitening and settings to one safetensors file. Raises DataError if the disk takes no more."""
    save_tensors(path, whitening._asdict(), asdict(config))


def load_whitening(path: Path) -> tuple[Whitening, SurpriseConfig]:
    """Read what `save_whitening` wrote. Raises CheckpointError if it is missing or damaged."""
    tensors, facts = load_tensors(path)
    try:
        tensors["scale"] = tensors["scale"].flatten()  # (H, 1) for a while
        tensors.setdefault("looks", torch.ones(2))  # before looks were judged
        facts.setdefault("worst", 0.0)  # when one token counted
        return Whitening(**tensors), SurpriseConfig(**facts)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: holds no whitening ({error}): bring it back, or train again") from error
