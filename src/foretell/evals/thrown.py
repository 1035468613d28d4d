"""A thrown ball, foreseen: where it will be after a few seen frames, beside what a line, a parabola and a copy would say.

The model never hears of places. A ridge probe reads them from its latents, fitted on episodes that nothing is judged on:
of all tokens at once, or of each token's neighbourhood (evals/place.py), which reads them four times as sharply.
What a rollout says is a little off all latents of real frames, in directions that a probe fitted on real ones alone has
never met and misreads; so it is fitted on rollouts of its own episodes, too. It is one map of one frame's latents, the
same for frames and for every step ahead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretell.data.clip import Clip
from foretell.errors import ConfigError, DataError, ShapeError
from foretell.evals.forecast import as_frames
from foretell.evals.intervals import Figure, bootstrap
from foretell.evals.place import LocalFit
from foretell.evals.probe import ridge_fit
from foretell.model.world_model import WorldModel

SEEN = 8
"""Frames that the model sees of a flight."""
FRAME = 64.0
"""Pixels of a side of the frame that errors are told in, whatever the size of the clips."""
_AT_ONCE = 16  # clips, so that memory stays small


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Flights and what was said of them. Places are (x, y) in pixels of a 64 px frame, y downward.

    Of `said`, model is the rollout read by the probe; probe reads the latents of the very frames that came, so that it
    is the floor of what can be read; linear, parabola and copy go on from the true seen places; linear_read and
    parabola_read from those that the probe reads, as the model has to.
    """

    seen: np.ndarray
    """(B, T, 2): true places of the seen frames."""
    truth: np.ndarray
    """(B, H, 2): true places of those that follow."""
    said: dict[str, np.ndarray]
    """Who says it -> (B, H, 2)."""

    @property
    def errors(self) -> dict[str, np.ndarray]:
        """Who says it -> distance from the truth in pixels, (B, H)."""
        return {name: np.linalg.norm(places - self.truth, axis=-1) for name, places in self.said.items()}


Reader = Callable[[Tensor], Tensor]
"""Latents of frames (..., P, D) -> places (..., 2)."""


def fit_place_probe(
    model: WorldModel, clips: Sequence[Clip], *, horizon: int, seen: int = SEEN, penalty: float = 1e-2
) -> Reader:
    """The probe of the place of a clip's first object from the latents of one frame, P and D flattened.

    Fitted on all frames of `clips` and on the rollout of `horizon` steps after the first `seen`; with horizon 0 on frames
    alone. `penalty` is that of ridge_fit; of 0.1, 0.01 and 0.001 the middle one read other models in another world best.
    Raises ShapeError for clips too short or no frames for the model, DataError if the object is not to be seen in all.
    """
    parts = [(latents.flatten(1), places) for latents, places in _latents_and_places(model, clips, horizon, seen)]
    latents, places = (torch.cat(one) for one in zip(*parts, strict=True))
    probe = ridge_fit(latents, places, penalty=penalty)
    return lambda latents: probe.read(latents.flatten(-2))


def fit_local_probe(
    model: WorldModel, clips: Sequence[Clip], *, horizon: int, seen: int = SEEN, every: int = 1, penalty: float = 1e-4
) -> Reader:
    """The same from each token's neighbourhood; of the frames and steps of each clip, one in `every` is taken in."""
    fit = LocalFit(model.grid, FRAME / model.grid[1])
    for number, (latents, places) in enumerate(_latents_and_places(model, clips, horizon, seen)):
        fit.add(latents[number % every :: every], places[number % every :: every])
    return fit.solve(penalty).read


@torch.no_grad()
def _latents_and_places(
    model: WorldModel, clips: Sequence[Clip], horizon: int, seen: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each clip latents (N, P, D) of its frames and then of its rollout, and places (N, 2)."""
    model.eval()
    for clip in clips:
        truth = torch.from_numpy(places_of(clip, max(len(clip.frames), seen + horizon)))
        real = model.encode(as_frames([clip]))
        latents, places = [real[0]], [truth]
        if horizon:
            latents.append(model.rollout(real[:, :seen], horizon)[0])
            places.append(truth[seen : seen + horizon])
        yield torch.cat(latents), torch.cat(places)


@torch.no_grad()
def foresee(model: WorldModel, probe: Reader, clips: Sequence[Clip], *, horizon: int, seen: int = SEEN) -> Forecast:
    """What is said of the `horizon` steps after the first `seen` ones of each clip, of its first object.

    Raises ConfigError for fewer than 3 seen steps (a parabola has three unknowns) or no step ahead, ShapeError if a clip
    is too short or no frame for the model, DataError if the object is not to be seen at every step.
    """
    if seen < 3 or horizon < 1 or not clips:
        got = f"{seen} seen steps, horizon {horizon}, {len(clips)} clips"
        raise ConfigError(f"foresee: got {got}; expected at least 3, 1 and 1")
    model.eval()
    truth = np.stack([places_of(clip, seen + horizon) for clip in clips])
    cut = [dataclasses.replace(clip, frames=clip.frames[: seen + horizon]) for clip in clips]
    parts = [_read(model, probe, as_frames(cut[at : at + _AT_ONCE]), seen) for at in range(0, len(cut), _AT_ONCE)]
    foretold, read = (np.concatenate(places) for places in zip(*parts, strict=True))
    past = truth[:, :seen]
    return Forecast(
        seen=past,
        truth=truth[:, seen:],
        said={
            "model": foretold,
            "probe": read[:, seen:],
            "parabola": fitted_parabola(past, horizon),
            "linear": straight_on(past, horizon),
            "copy": np.repeat(past[:, -1:], horizon, axis=1),
            "parabola_read": fitted_parabola(read[:, :seen], horizon),
            "linear_read": straight_on(read[:, :seen], horizon),
        },
    )


def straight_on(places: np.ndarray, horizon: int) -> np.ndarray:
    """Seen places (B, T, 2) -> the next `horizon` (B, horizon, 2) at the speed of the last step."""
    last = places[:, -1:]
    return last + np.arange(1, horizon + 1)[:, None] * (last - places[:, -2:-1])


def fitted_parabola(places: np.ndarray, horizon: int) -> np.ndarray:
    """Seen places (B, T, 2) -> the next (B, horizon, 2) on the throw that fits all seen ones best, in least squares.

    Of a throw x goes on evenly, and y falls ever faster: one is a line in time, the other a parabola.
    """
    polynomial = np.polynomial.polynomial
    times = np.arange(1 - places.shape[1], 1)
    ahead = np.arange(1, horizon + 1)
    axes = [polynomial.polyval(ahead, polynomial.polyfit(times, places[:, :, k].T, k + 1)) for k in range(2)]
    return np.stack(axes, axis=-1)


def mean_figure(errors: np.ndarray, over: np.ndarray | None = None) -> Figure:
    """Mean of errors (B,), or its share of the mean of `over` (B,) of the same clips; 95% interval over whole clips."""
    below = np.ones_like(errors) if over is None else over
    return bootstrap(lambda drawn: float(errors[drawn].mean() / below[drawn].mean()), len(errors), draws=1000)


def places_of(clip: Clip, steps: int) -> np.ndarray:
    """True places (steps, 2) of a clip's first object, in pixels of a 64 px frame. Raises ShapeError, DataError."""
    if len(clip.frames) < steps:
        raise ShapeError(f"{clip.name}: got {len(clip.frames)} frames, expected at least {steps}")
    scale = FRAME / clip.frames.shape[2]
    places = np.stack([clip.states[axis][:steps, 0] for axis in ("x", "y")], axis=1) * scale
    if not np.isfinite(places).all():
        raise DataError(
            f"{clip.name}: the first object is not to be seen in all {steps} frames; take clips in which it is"
        )
    return places


def _read(model: WorldModel, probe: Reader, frames: Tensor, seen: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (B, H, 2) read from the rollout after `seen` frames, and (B, T, 2) from the latents of all frames."""
    past = model.encode(frames[:, :seen])  # alone, so that nothing of what follows can be in it
    came = model.encode(frames[:, seen:])
    foretold = model.rollout(past, came.shape[1])
    places = [probe(latents).numpy() for latents in (foretold, torch.cat([past, came], 1))]
    return places[0], places[1]
