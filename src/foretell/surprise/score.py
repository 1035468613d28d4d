"""From latent prediction error to surprise: per token, per step, per horizon; raw and whitened; streaming.

A step's surprise is how far its latents lie from what was foretold for them at several steps before, measured in the
directions in which normal footage rarely errs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, DataError
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel
from foretell.surprise.covariance import shrunk_covariance
from foretell.surprise.expected import Examples, Expected, expected_of, fit_expected, load_expected
from foretell.surprise.looks import fit_looks, look_heat
from foretell.surprise.strange import Normal, Passing
from foretell.surprise.stream import Clips, Seen, Stream, SurpriseConfig, foretold_clips


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


class Whitening(NamedTuple):
    """What normal residuals look like, for each of H horizons."""

    precision: Tensor  # (H, D, D) inverse covariance, divided by D: the whitened error is 1 on average
    scale: Tensor  # (H,) whitened error of a frame's worst tokens that 1 in 20 exceed
    looks: Tensor  # (2,) contrast below which looks are not judged the more strictly; what is wrong with them in normal footage
    of_words: Expected | None = None  # how wrong the model expects its words to be; None: nobody asked
    of_looks: Expected | None = None  # and what it foretold of looks


EXPECTED = ("of_words", "of_looks")


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
        errors = errors_of(seen, self.model, self.whitening, self.config)
        strange = torch.full((len(frames),), torch.nan) if self.passing is None else self.passing.next(*seen.passing)
        # words about one thing may miss it in different places
        wrong = worst_tokens(errors.whitened, self.config.worst).nanmean(1)
        surprise, heat = wrong.maximum(errors.looks.amax((1, 2))), errors.whitened.nanmean(1).maximum(errors.looks)
        return Scores(surprise.numpy(), errors.raw.nanmean((1, 2, 3)).numpy(), heat.numpy(), strange.numpy())

    @torch.inference_mode()
    def errors(self, frames: np.ndarray) -> Errors:
        """The same for each word and token, for who wants to look closer; moves on in the video like `score`."""
        return errors_of(self.stream.next(frames), self.model, self.whitening, self.config)


def errors_of(seen: Seen, model: WorldModel, whitening: Whitening, config: SurpriseConfig) -> Errors:
    """How wrong the words about these steps were, and how wrong they look."""
    raw = (seen.happened[:, None] - seen.said).pow(2).mean(-1)
    raw = rearrange(raw, "t w (y x) -> t w y x", y=model.grid[0])
    scale = whitening.scale[_number(seen.ahead, config)]
    whitened = token_errors(seen, whitening.precision, config, model.grid) / scale[:, :, None, None]
    floor, normal = whitening.looks
    looks = look_heat(seen.look_error, seen.contrast, floor) / normal
    if whitening.of_words is not None:
        whitened = whitened / whitening.of_words(seen.minds.flatten(0, 1)).unflatten(0, seen.ahead.shape)
    if whitening.of_looks is not None:
        looks = looks / whitening.of_looks(seen.memories)
    return Errors(raw, whitened, seen.ahead, looks)


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


def fit_whitening(model: WorldModel, few: Sequence[Seen], many: Clips, config: SurpriseConfig) -> Whitening:
    """Whitening from normal clips that do not calibrate: from a few, as they were foretold; how wrong the model expects to be,
    if that is asked, from many.

    Raises DataError if all of the few are too short to be foretold, ConfigError if errors are to be expected and the model has
    no memory to tell them from.
    """
    if config.expect:
        expected_of(model)
    width, horizons = model.config.encoder.latent_width, config.horizons
    covariance = torch.zeros(len(horizons), width, width, dtype=torch.float64)
    known = torch.zeros(len(horizons))
    for seen in few:
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
    for seen in few:
        judged = (seen.ahead > 0).any(1)
        looks.append((seen.look_error[judged], seen.contrast[judged]))
        errors = worst_tokens(token_errors(seen, precision, config, model.grid), config.worst)
        for number, horizon in enumerate(horizons):
            largest[number].append(errors[seen.ahead == horizon])
    scale = torch.stack([torch.cat(of_horizon).quantile(0.95) for of_horizon in largest])
    whitening = Whitening(precision, scale, fit_looks(looks))
    return with_expected(whitening, model, many, config) if config.expect else whitening


def with_expected(whitening: Whitening, model: WorldModel, normal: Clips, config: SurpriseConfig) -> Whitening:
    """The same, and how wrong the model expects to be: fitted on all words about normal clips, and on how these look."""
    of_words, of_looks = Examples(), Examples()
    for seen in foretold_clips(model, normal, config):
        errors, spoken = errors_of(seen, model, whitening, config), seen.ahead > 0
        of_words.add(seen.minds[spoken], errors.whitened[spoken])
        of_looks.add(seen.memories[spoken.any(1)], errors.looks[spoken.any(1)])
    whitening = whitening._replace(of_words=fit_expected(model, of_words))
    return whitening._replace(of_looks=fit_expected(model, of_looks)) if model.carries else whitening


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
    tensors = {name: part for name, part in whitening._asdict().items() if isinstance(part, Tensor)}
    for name in EXPECTED:
        expected = getattr(whitening, name)
        tensors |= {} if expected is None else {f"{name}.{key}": part for key, part in expected.state_dict().items()}
    save_tensors(path, tensors, asdict(config))


def load_whitening(path: Path, model: WorldModel) -> tuple[Whitening, SurpriseConfig]:
    """Read what `save_whitening` wrote for this model. Raises CheckpointError if it is missing or damaged."""
    tensors, facts = load_tensors(path)
    try:
        parts = {name: [key for key in tensors if key.startswith(f"{name}.")] for name in EXPECTED}
        found: dict[str, Any] = {
            name: load_expected(model, {key.removeprefix(f"{name}."): tensors.pop(key) for key in keys})
            for name, keys in parts.items()
            if keys
        }
        horizons = len(tensors["precision"])
        tensors["scale"] = tensors["scale"].view(horizons)  # (H, 1 + C) while C kept channels were judged apart
        tensors.setdefault("looks", torch.ones(2))  # before looks were judged
        facts.setdefault("worst", 0.0)  # when one token counted
        return Whitening(**(tensors | found)), SurpriseConfig(**facts)
    except (KeyError, TypeError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: holds no whitening ({error}): bring it back, or train again") from error
