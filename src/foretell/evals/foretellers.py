"""One way to ask any world model: these frames were seen, what follows, where is the ball, and how sure are you?

A model of latents and a model of pixels are asked alike. Both paint (one with a decoder fitted on frozen latents of real
frames, one with what it learned to paint with), both are read in two ways (a probe of each token's neighbourhood on the
imagined latents; the referee on the painted frames), and both state their confidence by one recipe: a ridge regression on
what can be seen of a rollout, fitted to the logarithm of its error on clips of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from foretell.data.clip import Clip
from foretell.evals.place import LocalFit, LocalRidge, neighbourhoods
from foretell.evals.probe import Ridge, ridge_fit
from foretell.evals.referee import SIDE, look, set_stage
from foretell.evals.thrown import FRAME, places_of
from foretell.model.world_model import WorldModel

MEMBERS = 5
"""Probes, each fitted on a fifth of the clips: where they disagree, the rollout is off what they know."""
EVERY = 4
"""Of a clip's frames and steps the probe is fitted on one in four, other ones of each."""
FARTHEST = 64.0
"""Pixels; the error of a thing that is not to be seen, where an error must be a number."""
PENALTY = 1e-2
"""Of the confidence's ridge regression."""
_AT_ONCE = 16  # clips, so that memory stays small

ReadOut = Literal["probe", "referee"]
READ_OUTS: tuple[ReadOut, ...] = ("probe", "referee")
Floats = NDArray[np.float64]


class Said(NamedTuple):
    """What a model says of the steps that follow."""

    frames: np.ndarray  # uint8 (B, H, 64, 64, 3)
    places: Floats  # (B, H, 2): (x, y) in pixels, NaN where nothing is to be seen
    confidence: Floats  # (B, H): the higher, the surer; on no scale but its own


class Foreteller(Protocol):
    """Any world model."""

    def foretell(self, seen: np.ndarray, horizon: int) -> Said:
        """Frames uint8 (B, T, 64, 64, 3) -> what is said of the next `horizon` ones."""


class Flights(NamedTuple):
    """Clips of one length, and the truth."""

    frames: np.ndarray  # uint8 (B, T, 64, 64, 3)
    places: Floats  # (B, T, 2)
    radius: Floats  # (B,)


def flights_of(clips: Sequence[Clip], first: int, steps: int) -> Flights:
    """Steps `first` to `first + steps` of clips of one thing. Raises ShapeError, DataError as places_of does."""
    part = slice(first, first + steps)
    return Flights(
        np.stack([clip.frames[part] for clip in clips]),
        np.stack([places_of(clip, first + steps)[part] for clip in clips]),
        np.array([clip.states["radius"][0, 0] * FRAME / clip.frames.shape[2] for clip in clips]),
    )


class Heads(NamedTuple):
    """Probes of the place on frozen latents: one fitted on all clips, and MEMBERS on a part each."""

    whole: LocalRidge
    members: tuple[LocalRidge, ...]


@torch.no_grad()
def fit_heads(model: WorldModel, flights: Flights, seen: int, *, penalty: float = 1e-4) -> Heads:
    """Fitted on latents of real frames and on the rollouts after `seen` ones, as fit_local_probe in evals/thrown.py."""
    fits = [LocalFit(model.grid, FRAME / model.grid[1]) for _ in range(MEMBERS)]
    for n in range(len(flights.frames)):
        real = model.encode(_as_frames(flights.frames[n : n + 1]))
        latents = torch.cat([real, model.rollout(real[:, :seen], real.shape[1] - seen)], 1)[0]
        places = torch.from_numpy(np.concatenate([flights.places[n], flights.places[n, seen:]]))
        few = slice(n // MEMBERS % EVERY, None, EVERY)
        fits[n % MEMBERS].add(latents[few], places[few])
    whole = LocalFit(model.grid, FRAME / model.grid[1])
    whole.squares, whole.products = sum(fit.squares for fit in fits), sum(fit.products for fit in fits)
    return Heads(whole.solve(penalty), tuple(fit.solve(penalty) for fit in fits))


class Imagined(NamedTuple):
    """A rollout, painted, read both ways, and what its confidence is told from."""

    frames: np.ndarray  # uint8 (B, H, 64, 64, 3)
    places: dict[ReadOut, Floats]  # (B, H, 2)
    features: Floats  # (B, H, F)


class Imagination:
    """A world model, asked by its rollouts. Judged once `settle` has fitted its confidence and chosen its read-out."""

    def __init__(self, model: WorldModel, paint: Callable[[Tensor], Tensor], heads: Heads) -> None:
        """`paint`: latents (B, T, P, D) -> frames uint8 (B, T, 3, H, W)."""
        self.model, self.paint, self.heads = model.eval(), paint, heads
        self.sureness: dict[ReadOut, Ridge] = {}
        self.reads: ReadOut = "probe"

    @torch.no_grad()
    def imagine(self, seen: np.ndarray, horizon: int) -> Imagined:
        """Frames uint8 (B, T, 64, 64, 3) -> the next `horizon` as the model has them."""
        parts = [self._imagine(seen[at : at + _AT_ONCE], horizon) for at in range(0, len(seen), _AT_ONCE)]
        frames, probe, referee, features = (np.concatenate(values) for values in zip(*parts, strict=True))
        return Imagined(frames, {"probe": probe, "referee": referee}, features)

    def settle(self, flights: Flights, seen: int) -> dict[ReadOut, float]:
        """Fit the confidence of each read-out, and take the one that errs by more than a radius less often at the last step.

        On clips that neither the model nor its heads were fitted on. Returns that share of each read-out.
        """
        imagined = self.imagine(flights.frames[:, :seen], flights.frames.shape[1] - seen)
        shares = {}
        for name in READ_OUTS:
            error = distance(imagined.places[name], flights.places[:, seen:])
            told = torch.from_numpy(np.log1p(np.minimum(error, FARTHEST))).reshape(-1, 1)
            self.sureness[name] = ridge_fit(_crossed(imagined.features).flatten(0, 1), told, penalty=PENALTY)
            shares[name] = float((error[:, -1] > flights.radius).mean())
        self.reads = min(READ_OUTS, key=lambda name: shares[name])
        return shares

    def state(self, imagined: Imagined, reads: ReadOut) -> Said:
        """The words of one read-out."""
        expected = self.sureness[reads].read(_crossed(imagined.features))[..., 0].numpy()
        return Said(imagined.frames, imagined.places[reads], -expected)

    def foretell(self, seen: np.ndarray, horizon: int) -> Said:
        """As a Foreteller."""
        return self.state(self.imagine(seen, horizon), self.reads)

    def _imagine(self, seen: np.ndarray, horizon: int) -> tuple[np.ndarray, Floats, Floats, Floats]:
        latents = self.model.rollout(self.model.encode(_as_frames(seen)), horizon)
        frames = rearrange(self.paint(latents), "b t c h w -> b t h w c").numpy()
        sight = look(frames, set_stage(seen))
        heads = (self.heads.whole, *self.heads.members)
        said = neighbourhoods(latents, heads[0].grid) @ torch.cat([head.weights for head in heads], 1)
        probe, *words = (head.place(part).numpy() for head, part in zip(heads, said.split(3, -1), strict=True))
        members, here = np.stack(words), said[..., 0].numpy()
        referee = sight.places.astype(np.float64)
        step = np.diff(np.pad(probe, ((0, 0), (1, 0), (0, 0)), mode="edge"), axis=1)
        bend = np.diff(np.pad(step, ((0, 0), (1, 0), (0, 0)), mode="edge"), axis=1)
        of_rollout = [
            np.broadcast_to(np.arange(1, horizon + 1) / horizon, probe.shape[:2]),
            np.log(members.std(0).mean(-1) + 1e-3),
            here.max(-1),
            here.sum(-1),
            np.linalg.norm(step, axis=-1),
            np.linalg.norm(bend, axis=-1),
            probe[..., 0],
            probe[..., 1],
        ]
        of_picture = [
            np.log1p(np.minimum(distance(probe, referee), FARTHEST)),
            sight.things != 1,
            *(np.nan_to_num(value) for value in (sight.strength, sight.radius, sight.corners)),
        ]
        return frames, probe, referee, np.stack([*of_rollout, *of_picture], -1).astype(np.float64)


class Copy:
    """The baseline that says that nothing moves any more, and is sure of it: the last frame, read by the referee."""

    def foretell(self, seen: np.ndarray, horizon: int) -> Said:
        """As a Foreteller."""
        last = look(seen[:, -1:], set_stage(seen)).places.astype(np.float64)
        frames = np.repeat(seen[:, -1:], horizon, axis=1)
        return Said(frames, np.repeat(last, horizon, axis=1), np.zeros((len(seen), horizon)))


def distance(places: Floats, truth: Floats) -> Floats:
    """Places (B, H, 2) -> pixels from the truth (B, H); infinite where nothing is to be seen."""
    far: Floats = np.linalg.norm(places - truth, axis=-1)
    return np.where(np.isnan(far), np.inf, far)


def _crossed(features: Floats) -> Tensor:
    """Features (B, H, F), and the products of each two of them, at the scale of one: (B, H, F + F (F + 1) / 2)."""
    scaled = torch.from_numpy(features / SCALES - CENTRES)
    one, other = np.triu_indices(features.shape[-1])
    return torch.cat([scaled, scaled[..., one] * scaled[..., other]], -1)


CENTRES = np.array([0.5, -0.5, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 1.0, 0.5, 0.5])
SCALES = np.array([1.0, 2.0, 1.0, 4.0, 3.0, 1.0, SIDE, SIDE, 2.0, 1.0, 1.0, 16.0, 0.2])
"""Of the features, so that none of them is large; fixed, so that both models are told alike."""


def _as_frames(frames: np.ndarray) -> Tensor:
    return rearrange(torch.from_numpy(frames), "b t h w c -> b t c h w")
