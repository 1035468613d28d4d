"""Judges: whoever says how surprising each step of a clip is. The world model, and the baselines that must stand beside it.

A judge looks at each frame once, and alone; clips that are made of the same frames are then put together from what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.clip import Clip
from foretell.evals.forecast import as_frames
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.surprise.score import shrunk_covariance

BATCH = 8
"""Clips that go through a network together."""


class Judge(Protocol):
    """What is seen of clips, (B, T, ...), and how surprising each step is."""

    def look(self, clips: Sequence[Clip]) -> Tensor:
        """Clips of one length -> what is seen of each frame, (B, T, ...)."""
        ...

    def surprise(self, seen: Tensor) -> Tensor:
        """(B, T, ...) -> float64 (B, T); NaN where a step is not scored."""
        ...


class PixelCopy:
    """Expects the same picture again. In whole numbers, so that ties are ties."""

    def look(self, clips: Sequence[Clip]) -> Tensor:
        """Frames uint8 (B, T, 3, H, W)."""
        return as_frames(clips)

    def surprise(self, seen: Tensor) -> Tensor:
        """Sum of the changes of all pixels."""
        change = (seen[:, 1:].int() - seen[:, :-1].int()).abs().flatten(2).sum(2)
        return from_step(1, change.double())


class Latents:
    """What all judges share that see through a model's encoder."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def look(self, clips: Sequence[Clip]) -> Tensor:
        """Latents (B, T, P, D), each frame encoded once."""
        seen = []
        for batch in as_frames(clips).split(BATCH):
            with mixed_precision("auto", batch.device):
                seen.append(self.model.encode(batch).float())
        return torch.cat(seen)


class LatentCopy(Latents):
    """Expects the same latents again."""

    def surprise(self, seen: Tensor) -> Tensor:
        """Squared change, mean over tokens."""
        return from_step(1, (seen[:, 1:] - seen[:, :-1]).double().pow(2).mean((2, 3)))


class LatentLine(Latents):
    """Expects latents to go on in a straight line."""

    def surprise(self, seen: Tensor) -> Tensor:
        """Squared distance from the line through the last two, mean over tokens."""
        line = 2 * seen[:, 1:-1] - seen[:, :-2]
        return from_step(2, (seen[:, 2:] - line).double().pow(2).mean((2, 3)))


class Foresight(Latents):
    """The world model: expects what it foretold, from one and from several steps before.

    Errors are measured in the directions in which normal footage rarely errs, for each horizon apart (whitened).
    """

    def __init__(self, model: WorldModel, normal: Sequence[Clip], horizons: Sequence[int]) -> None:
        super().__init__(model)
        self.horizons = tuple(horizons)
        seen = self.look(normal)
        parts = [[shrunk_covariance(r.flatten(0, 2)) for r in self._residuals(batch)] for batch in seen.split(BATCH)]
        covariances = [torch.stack(of_horizon).mean(0) for of_horizon in zip(*parts, strict=True)]
        self.precisions = [(torch.linalg.inv(c) / len(c)).float() for c in covariances]

    @torch.inference_mode()
    def surprise(self, seen: Tensor) -> Tensor:
        """Whitened error, mean over tokens and horizons; scored from the first step that all horizons speak of."""
        found = []
        for batch in seen.split(BATCH):
            first = max(self.horizons)
            errors = [
                ((r @ precision) * r).sum(-1).double().mean(2)[:, first - h :]
                for h, r, precision in zip(self.horizons, self._residuals(batch), self.precisions, strict=True)
            ]
            found.append(from_step(first, torch.stack(errors).mean(0)))
        return torch.cat(found)

    @torch.inference_mode()
    def _residuals(self, latents: Tensor) -> list[Tensor]:
        """latents (B, T, P, D) -> for each horizon h what was not foreseen, (B, T - h, P, D) for the steps from h on."""
        return [latents[:, h:] - said for h, said in words_ahead(self.model, latents, self.horizons)]


@torch.inference_mode()
def words_ahead(model: WorldModel, latents: Tensor, horizons: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """latents (B, T, P, D) -> of each horizon h what is said of the steps from h on, h steps before, (B, T - h, P, D).

    Rollouts from all steps go on together, and each ends with the clip. Horizons in rising order.
    """
    with mixed_precision("auto", latents.device):
        foretold = model.predict(latents)
        said, steps = foretold.next, latents.shape[1]
        memory = model.predictor.memory_after(foretold.memories, range(steps))
        for h in range(1, max(horizons) + 1):
            said, memory = said[:, : steps - h], memory[:, : steps - h]
            if h > 1:
                now, kept = model.predictor.step(said.flatten(0, 1), memory.flatten(0, 1))
                said, memory = now.view(said.shape), kept.view(memory.shape)
            if h in horizons:
                yield h, said.float()


def from_step(first: int, scores: Tensor) -> Tensor:
    """(B, T - first) -> (B, T), the first steps not scored (NaN)."""
    return torch.cat([scores.new_full((len(scores), first), torch.nan), scores], 1)


def compose(first: Tensor, second: Tensor, order: np.ndarray) -> Tensor:
    """What is seen of n pairs of possible clips -> of n quadruplets: (4, n, T, ...), the two impossible ones last.

    first, second (n, T, ...); order int (n, T): 0 where the first impossible clip takes its step from the first.
    """
    taken = torch.from_numpy(order).bool().view(*order.shape, *[1] * (first.ndim - 2))
    return torch.stack([first, second, torch.where(taken, second, first), torch.where(taken, first, second)])


def surprise_of_quadruplets(judge: Judge, pairs: Sequence[tuple[Clip, Clip]], order: np.ndarray) -> np.ndarray:
    """Surprise float64 (4, n, T) of n quadruplets: two possible clips, two impossible ones."""
    first, second = (judge.look([pair[which] for pair in pairs]) for which in (0, 1))
    together = rearrange(compose(first, second, order), "four n ... -> (four n) ...")
    return judge.surprise(together).reshape(4, len(pairs), -1).numpy()


class PixelForesight:
    """A network that foretells pixels: expects the frames that it painted, from one and from several steps before."""

    def __init__(
        self, model: WorldModel, decode: Callable[[Tensor], Tensor], normal: Sequence[Clip], horizons: Sequence[int]
    ) -> None:
        self.model, self.decode, self.horizons = model.eval(), decode, tuple(horizons)
        self.usual = [1.0] * len(self.horizons)
        errors = self._errors(self.look(normal))
        self.usual = [float(e.mean()) for e in errors]

    def look(self, clips: Sequence[Clip]) -> Tensor:
        """Frames uint8 (B, T, 3, H, W)."""
        return as_frames(clips)

    def surprise(self, seen: Tensor) -> Tensor:
        """Squared error of brightness, mean over pixels, over its usual value; mean over horizons."""
        first = max(self.horizons)
        errors = self._errors(seen)
        scaled = [e[:, first - h :] / usual for h, e, usual in zip(self.horizons, errors, self.usual, strict=True)]
        return from_step(first, torch.stack(scaled).mean(0))

    @torch.inference_mode()
    def _errors(self, frames: Tensor) -> list[Tensor]:
        """For each horizon h the error (B, T - h) of the steps from h on."""
        found: list[list[Tensor]] = []
        for batch in frames.split(BATCH):
            with mixed_precision("auto", batch.device):
                latents = self.model.encode(batch)
            of_batch = []
            for h, said in words_ahead(self.model, latents, self.horizons):
                of_batch.append((self.decode(said) - batch[:, h:] / 255).pow(2).double().mean((2, 3, 4)))
            found.append(of_batch)
        return [torch.cat(of_horizon) for of_horizon in zip(*found, strict=True)]
