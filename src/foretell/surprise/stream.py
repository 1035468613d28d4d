"""One video passing by: what is seen of each step, and all words that were spoken about it before.

A rollout begins at every so manyth step, and its words are about the steps that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.errors import ConfigError
from foretell.model.carry import carried
from foretell.model.precision import mixed_precision
from foretell.model.world_model import Foretold, WorldModel, scaled
from foretell.surprise.looks import look_errors
from foretell.surprise.smooth import Smoother

PIECE = 64
"""Steps of a long clip that are looked at together, when whitening is fitted."""

Clips = Callable[[], Iterable[tuple[str, np.ndarray]]]
"""Gives (name, frames uint8 (T, H, W, 3)) one after another, from the start at each call."""


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
    expect: bool = False
    """Errors are held against those that the model expects of itself, told from its memory (surprise/expected.py): what it
    knows to be hard to foretell alarms less, and all else sooner. For models that keep a memory at every token."""
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


class Seen(NamedTuple):
    """T steps, and the W words that had been spoken of each; NaN where there was none."""

    happened: Tensor  # (T, P, D)
    said: Tensor  # (T, W, P, D)
    ahead: Tensor  # (T, W) how many steps before it was spoken; 0: no word
    look_error: Tensor  # (T, 2 rows, 2 columns) against the last frame, carried on; 0 where there is none
    contrast: Tensor  # (T, 2 rows, 2 columns) of that one
    next: Tensor  # (T, P, D) what was said of each one step before; NaN of a video's first
    frames: Tensor  # uint8 (T, H, W, 3)
    minds: (
        Tensor  # (T, W, P, ...) the memory of the rollout that spoke each word, then; (T, 0) unless errors are expected
    )
    memories: Tensor  # (T, P, ...) the memory just before each step; (T, 0) unless errors are expected

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
            before = self.model.predictor.start(1) if self.memory is None else self.memory
            foretold, self.memory = self.model.go_on(latents, self.memory)
            moves = self.model.drift(foretold.memories[0]) if self.model.carries else None
            happened = latents[0].float()
            next_ones = foretold.next[0].float()
            first = torch.full_like(next_ones[:1], torch.nan) if self.next_one is None else self.next_one
            said_before, self.next_one = torch.cat([first, next_ones[:-1]]), next_ones[-1:]
            slots = -(-self.config.farthest // self.config.every)
            said = happened.new_full((len(frames), slots, *happened.shape[1:]), torch.nan)
            ahead = torch.zeros(len(frames), slots, dtype=torch.long)
            minds = memories = happened.new_zeros(len(frames), 0)
            if self.config.expect:
                memories = torch.cat([before, foretold.memories[0, :-1]]).float()
                minds = memories.new_zeros(len(frames), slots, *memories.shape[1:])
            for t in range(len(frames)):
                for slot, begun in enumerate(self.begun):
                    if self.step - begun >= self.config.nearest:
                        said[t, slot], ahead[t, slot] = self.words[slot], self.step - begun
                        if self.config.expect:
                            minds[t, slot] = self.minds[slot]
                self._go_on(foretold, t)
                self.step += 1
        looks = self._looks(batch, moves)  # in full precision: they are small differences of large sums
        return Seen(happened, said, ahead, *looks, said_before, batch, minds, memories)

    def _looks(self, frames: Tensor, moves: Tensor | None) -> tuple[Tensor, Tensor]:
        """How the frames (T, H, W, 3) look, each against the one before it, moved on (T, 2, rows, columns): error and contrast."""
        rows, columns = self.model.grid
        nothing = torch.zeros(len(frames), 2 * rows, 2 * columns)
        if moves is None:
            return nothing, nothing
        pictures = scaled(rearrange(frames, "t h w c -> t c h w"))
        next_ones = carried(pictures, moves, mode="bicubic")
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


def foretold_clips(model: WorldModel, clips: Clips, config: SurpriseConfig) -> Iterator[Seen]:
    """Every step of each clip once, with what was foretold of it; long clips in pieces, with a run-up to each."""
    run_up = config.context + config.farthest
    for _, frames in clips():
        for at in range(0, max(1, len(frames) - run_up), PIECE):
            seen = Stream(model, config).next(frames[at : at + run_up + PIECE])
            yield Seen(*(part[run_up if at else 0 :] for part in seen))
