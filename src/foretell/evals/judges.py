"""Judges: whoever says how surprising each step of a clip is. The world model, and the baselines that must stand beside it.

A judge looks at each frame once, and alone; clips that are made of the same frames are then put together from what it saw.
An impossible clip begins as a possible one does: as far as they are alike, what was foretold in the one holds in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.clip import Clip
from foretell.evals.forecast import as_frames
from foretell.model.likeness import Likeness
from foretell.model.precision import mixed_precision
from foretell.model.world_model import Foretold, WorldModel
from foretell.surprise.covariance import shrunk_covariance

BATCH = 8
"""Clips that go through a network together."""
LOOKS = 3.0
"""What a likeness weighs beside all words together, whoever has one. Chosen once, on the development part (docs/physics.md)."""


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
        change = (seen[:, 1:].short() - seen[:, :-1].short()).abs_().flatten(2).sum(2)
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

    Errors are measured in the directions in which normal footage rarely errs, for each horizon apart (whitened). If it has
    learned a likeness, how unlike itself what moves looks counts LOOKS times as much as all words together.
    """

    def __init__(
        self, model: WorldModel, normal: Sequence[Clip], horizons: Sequence[int], likeness: Likeness | None = None
    ) -> None:
        super().__init__(model)
        self.horizons = tuple(horizons)
        seen = self.look(normal)
        self.unlikeness = None if likeness is None else Unlikeness(likeness, seen)
        with torch.inference_mode():
            parts = [
                [shrunk_covariance(r.flatten(0, 2)) for _, r in residuals(batch, self._words(batch))]
                for batch in seen.split(BATCH)
            ]
        covariances = [torch.stack(of_horizon).mean(0) for of_horizon in zip(*parts, strict=True)]
        self.precisions = [(torch.linalg.inv(c) / len(c)).float() for c in covariances]

    @torch.inference_mode()
    def surprise(self, seen: Tensor) -> Tensor:
        """Whitened error, mean over tokens and horizons; scored from the first step that all horizons speak of."""
        return torch.cat([self._scored(batch, self._words(batch)) for batch in seen.split(BATCH)])

    @torch.inference_mode()
    def surprise_of_fours(self, first: Tensor, second: Tensor, order: np.ndarray) -> Tensor:
        """The same of n quadruplets, (4, n, T), from what is seen of their possible clips, (n, T, P, D); see `compose`."""
        words = words_of_fours(self.model, self.horizons, first, second, order)
        return scored_fours(self._scored, words, first, second, order)

    def _scored(self, latents: Tensor, words: Words) -> Tensor:
        """(B, T, P, D) and what was foretold of them -> (B, T)."""
        first = max(self.horizons)
        errors = [
            ((r @ precision) * r).sum(-1).double().mean(2)[:, first - h :]
            for (h, r), precision in zip(residuals(latents, words), self.precisions, strict=True)
        ]
        of_words = torch.stack(errors).mean(0)
        if self.unlikeness is None:
            return from_step(first, of_words)
        later = max(first, self.unlikeness.first)
        of_looks = self.unlikeness(latents)[:, later - self.unlikeness.first :]
        return from_step(later, (of_words[:, later - first :] + LOOKS * of_looks) / (1 + LOOKS))

    def _words(self, latents: Tensor) -> Words:
        with mixed_precision("auto", latents.device):
            foretold = self.model.predict(latents)
        return words_ahead(self.model, foretold, self.horizons)


class Unlikeness:
    """How unlike what moved before it looks what changes: whitened error of a likeness, 1 on average."""

    def __init__(self, likeness: Likeness, normal: Tensor) -> None:
        """`normal`: latents (B, T, P, D) that normal errors are taken from."""
        self.likeness, self.first = likeness.eval(), likeness.config.first
        missed = [self._missed(batch).flatten(0, 2) for batch in normal.split(BATCH)]
        covariance = torch.stack([shrunk_covariance(of_batch) for of_batch in missed]).mean(0)
        self.precision = (torch.linalg.inv(covariance) / len(covariance)).float()

    @torch.inference_mode()
    def __call__(self, latents: Tensor) -> Tensor:
        """(B, T, P, D) -> float64 (B, T - first), mean over the tokens asked for."""
        missed = self._missed(latents)
        return ((missed @ self.precision) * missed).sum(-1).double().mean(2)

    @torch.inference_mode()
    def _missed(self, latents: Tensor) -> Tensor:
        with mixed_precision("auto", latents.device):
            said = self.likeness(latents)
        return said.came - said.looks


Words = Iterable[tuple[int, Tensor]]
"""Of each horizon h, in rising order, what is said of the steps from h on, h steps before: (B, T - h, P, D)."""


def residuals(latents: Tensor, words: Words) -> Iterator[tuple[int, Tensor]]:
    """latents (B, T, P, D) -> for each horizon h what was not foreseen, (B, T - h, P, D) for the steps from h on."""
    for h, said in words:
        yield h, latents[:, h:] - said


@torch.inference_mode()
def words_ahead(model: WorldModel, foretold: Foretold, horizons: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """What `foretold` of T steps leads to. Rollouts from all steps go on together, and each ends with the clip."""
    steps = foretold.next.shape[1]
    with mixed_precision("auto", foretold.next.device):
        said, memory = foretold.next, model.predictor.memory_after(foretold.memories, range(steps))
        for h in range(1, max(horizons) + 1):
            said, memory = said[:, : max(0, steps - h)], memory[:, : max(0, steps - h)]
            if h > 1 and said.shape[1]:
                now, kept = model.predictor.step(said.flatten(0, 1), memory.flatten(0, 1))
                said, memory = now.view(said.shape), kept.view(memory.shape)
            if h in horizons:
                yield h, said.float()


def words_of_fours(
    model: WorldModel, horizons: Sequence[int], first: Tensor, second: Tensor, order: np.ndarray
) -> Iterator[tuple[np.ndarray, Words]]:
    """What is foretold of n quadruplets: their possible clips whole, their impossible ones from the swap on.

    first, second: latents (n, T, P, D) of the possible clips. Pairs that part at one step go through the network together:
    their numbers, int (m,), and words about (4 m, T, P, D), in the order of `compose`.
    """
    swaps = order.argmax(1)
    for swap in np.unique(swaps).tolist():
        numbers = np.flatnonzero(swaps == swap)
        for alike in np.array_split(numbers, -(-2 * len(numbers) // BATCH)):
            four = compose(first[alike], second[alike], order[alike])
            possible, impossible = (rearrange(pair, "two n ... -> (two n) ...") for pair in (four[:2], four[2:]))
            with torch.inference_mode(), mixed_precision("auto", possible.device):
                foretold = model.predict(possible)
                memory = model.predictor.memory_after(foretold.memories, [swap - 1])[:, 0]
                tail, _ = model.go_on(impossible[:, swap:], memory)
            both = zip(words_ahead(model, foretold, horizons), words_ahead(model, tail, horizons), strict=True)
            yield (
                alike,
                [(h, torch.cat([whole, torch.cat([whole[:, :swap], end], 1)])) for (h, whole), (_, end) in both],
            )


def from_step(first: int, scores: Tensor) -> Tensor:
    """(B, T - first) -> (B, T), the first steps not scored (NaN)."""
    return torch.cat([scores.new_full((len(scores), first), torch.nan), scores], 1)


def compose(first: Tensor, second: Tensor, order: np.ndarray) -> Tensor:
    """What is seen of n pairs of possible clips -> of n quadruplets: (4, n, T, ...), the two impossible ones last.

    first, second (n, T, ...); order int (n, T): 0 where the first impossible clip takes its step from the first.
    """
    taken = torch.from_numpy(order).bool().view(*order.shape, *[1] * (first.ndim - 2))
    return torch.stack([first, second, torch.where(taken, second, first), torch.where(taken, first, second)])


def scored_fours(
    scored: Callable[[Tensor, Words], Tensor],
    words: Iterable[tuple[np.ndarray, Words]],
    first: Tensor,
    second: Tensor,
    order: np.ndarray,
) -> Tensor:
    """Surprise (4, n, T) of n quadruplets from `words_of_fours`, by a judge that holds words against what it saw."""
    found = torch.empty(4, *first.shape[:2], dtype=torch.float64)
    for alike, of_alike in words:
        four = compose(first[alike], second[alike], order[alike])
        found[:, alike] = scored(four.flatten(0, 1), of_alike).unflatten(0, (4, len(alike)))
    return found


def surprise_of_quadruplets(judge: Judge, pairs: Sequence[tuple[Clip, Clip]], order: np.ndarray) -> np.ndarray:
    """Surprise float64 (4, n, T) of n quadruplets: two possible clips, two impossible ones."""
    first, second = (judge.look([pair[which] for pair in pairs]) for which in (0, 1))
    if isinstance(judge, Foresight | PixelForesight):
        return judge.surprise_of_fours(first, second, order).numpy()
    together = rearrange(compose(first, second, order), "four n ... -> (four n) ...")
    return judge.surprise(together).reshape(4, len(pairs), -1).numpy()


class PixelForesight:
    """A network that foretells pixels: expects the frames that it painted, from one and from several steps before."""

    def __init__(
        self, model: WorldModel, decode: Callable[[Tensor], Tensor], normal: Sequence[Clip], horizons: Sequence[int]
    ) -> None:
        self.model, self.decode, self.horizons = model.eval(), decode, tuple(horizons)
        with torch.inference_mode():
            seen = self.look(normal).split(BATCH)
            errors = [self._errors(batch, self._words(self._latents(batch))) for batch in seen]
        self.usual = [float(torch.cat(of_horizon).mean()) for of_horizon in zip(*errors, strict=True)]

    def look(self, clips: Sequence[Clip]) -> Tensor:
        """Frames uint8 (B, T, 3, H, W)."""
        return as_frames(clips)

    @torch.inference_mode()
    def surprise(self, seen: Tensor) -> Tensor:
        """Squared error of brightness, mean over pixels, over its usual value; mean over horizons."""
        return torch.cat([self._scored(batch, self._words(self._latents(batch))) for batch in seen.split(BATCH)])

    @torch.inference_mode()
    def surprise_of_fours(self, first: Tensor, second: Tensor, order: np.ndarray) -> Tensor:
        """The same of n quadruplets, (4, n, T), from frames (n, T, 3, H, W) of their possible clips; see `compose`."""
        one, other = (torch.cat([self._latents(batch) for batch in frames.split(BATCH)]) for frames in (first, second))
        words = words_of_fours(self.model, self.horizons, one, other, order)
        return scored_fours(self._scored, words, first, second, order)

    def _scored(self, frames: Tensor, words: Words) -> Tensor:
        """Frames (B, T, 3, H, W) and what was foretold of their latents -> (B, T)."""
        first = max(self.horizons)
        errors = zip(self.horizons, self._errors(frames, words), self.usual, strict=True)
        return from_step(first, torch.stack([e[:, first - h :] / usual for h, e, usual in errors]).mean(0))

    def _errors(self, frames: Tensor, words: Words) -> list[Tensor]:
        """For each horizon h the error (B, T - h) of the steps from h on."""
        return [(self.decode(said) - frames[:, h:] / 255).pow(2).double().mean((2, 3, 4)) for h, said in words]

    def _latents(self, frames: Tensor) -> Tensor:
        with mixed_precision("auto", frames.device):
            return self.model.encode(frames)

    def _words(self, latents: Tensor) -> Words:
        with mixed_precision("auto", latents.device):
            foretold = self.model.predict(latents)
        return words_ahead(self.model, foretold, self.horizons)
