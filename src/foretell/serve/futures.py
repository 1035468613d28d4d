"""Imagine several futures: see the first steps of a clip, and show the different ways in which it may go on, with their chances.

A code gives one rollout (model/branches.py), so that the futures need not be drawn by lot: each is rolled out once, those
that go on alike are one, and their chances add up.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.writers import write_video
from foretell.errors import ConfigError
from foretell.log import finite, write_whole
from foretell.model.branches import Branches, Past, load_branches, past_of
from foretell.model.decoder import Decoder
from foretell.model.folder import load_model
from foretell.model.world_model import WorldModel
from foretell.serve.fitted import fitted_decoder
from foretell.serve.imagine import check_wishes, seen_steps
from foretell.serve.panels import Fan, panels, strip
from foretell.serve.pictures import write_png
from foretell.serve.summary import number
from foretell.train.branches import ALIKE, rollout_errors

MOST = 12
"""Futures in one picture."""


@dataclass(frozen=True, kw_only=True)
class FutureSummary:
    """One of the ways in which a clip may go on."""

    probability: float
    """Given what was seen; those of all futures add up to 1."""
    codes: list[int]
    """Which of the model's codes lead there."""
    latent_error: list[float]
    """Mean squared error of its latents, of every step that the clip still has."""


@dataclass(frozen=True, kw_only=True)
class FuturesSummary:
    """The ways in which a clip may go on, the likeliest first."""

    clip: str
    start: int
    """Steps that were seen: 0 to start - 1."""
    horizon: int
    """Steps that were imagined: start to start + horizon - 1."""
    fps: float
    """Steps a second."""
    futures: list[FutureSummary]
    """As many as were asked for at most."""
    not_shown: float
    """Probability of the futures beyond those."""
    decoder: str
    """What the decoder was fitted on."""
    notes: list[str]
    """What must be known before trusting the pictures."""
    files: list[str]
    """Video, film strip and numbers."""

    def __str__(self) -> str:
        """In words, for the command line."""
        ahead = f"{number(self.horizon / self.fps)} s"
        lines = [f"{self.clip}: saw {self.start} steps, imagined {self.horizon} ({ahead}) -> {', '.join(self.files)}"]
        for count, future in enumerate(self.futures, 1):
            known = (
                f": latent error {number(future.latent_error[-1])} at the last known step"
                if future.latent_error
                else ""
            )
            lines.append(f"  future {count}: {percent(future.probability)}{known}")
        if self.not_shown > 0:
            lines.append(f"  others, not shown: {percent(self.not_shown)}")
        return "\n".join([*lines, f"decoder: {self.decoder}", *(f"note: {note}" for note in self.notes)])


class Ways(NamedTuple):
    """The different futures of one clip, the likeliest first."""

    latents: Tensor  # (F, H, P, D)
    probabilities: list[float]  # of each of the F futures; together 1
    codes: list[list[int]]  # the model's codes that lead there, of each


def imagine_futures(
    model_folder: Path,
    clip: Path,
    out: Path,
    *,
    samples: int,
    start: int = 8,
    horizon: int = 16,
    data: Path | None = None,
) -> FuturesSummary:
    """See steps 0 to start - 1 of `clip`, imagine up to `samples` different ways in which it goes on; write `out` (.mp4),
    and beside it a film strip .png and .json.

    Raises as `imagine` does, ConfigError if `samples` is not 1 to 12, and CheckpointError if the model has no branches.
    """
    check_wishes(out, start, horizon)
    if not 1 <= samples <= MOST:
        raise ConfigError(f"imagine samples: got {samples}, expected 1 to {MOST} futures")
    model = load_model(model_folder)
    branches = load_branches(model_folder, model)
    view, notes = model.config.view, list[str]()
    frames = seen_steps(clip, view, start, horizon, notes)
    if horizon > branches.config.horizon:
        notes.append(f"futures were learned for {branches.config.horizon} steps, and told apart by those")
    kept = fitted_decoder(model_folder, model, frames, data, notes)
    ways, fan = imagine_ways(model, branches, kept.decoder, frames, start=start, horizon=horizon, samples=samples)
    latents = _encode(model, frames)
    errors = [
        (way[: len(latents) - start] - latents[start:]).square().mean((1, 2)).tolist() for way in ways.latents[:samples]
    ]
    files = {suffix: out.with_suffix(suffix) for suffix in (".mp4", ".png", ".json")}
    summary = FuturesSummary(
        clip=str(clip),
        start=start,
        horizon=horizon,
        fps=view.fps,
        futures=[
            FutureSummary(probability=chance, codes=codes, latent_error=error)
            for chance, codes, error in zip(ways.probabilities, ways.codes, errors, strict=False)
        ],
        not_shown=sum(ways.probabilities[samples:]),
        decoder=kept.fitted_on,
        notes=notes,
        files=[str(path) for path in files.values()],
    )
    write_video(files[".mp4"], panels(fan), view.fps)
    write_png(files[".png"], strip(fan))
    write_whole(files[".json"], json.dumps(finite(asdict(summary)), indent=1, allow_nan=False) + "\n")
    return summary


@torch.no_grad()
def imagine_ways(
    model: WorldModel,
    branches: Branches,
    decoder: Decoder,
    frames: np.ndarray,
    *,
    start: int,
    horizon: int,
    samples: int,
) -> tuple[Ways, Fan]:
    """The ways on from the first `start` steps of frames uint8 (T, H, W, 3), and pictures of up to `samples` of them.

    Neither depends on frames from `start` on.
    """
    seen = _encode(model, frames[:start])
    ways = different_ways(branches, past_of(model, seen[None]), seen[None], horizon)
    pictures = [
        rearrange(decoder.decode(way[None]), "1 t c h w -> t h w c").numpy() for way in (seen, *ways.latents[:samples])
    ]
    names = [percent(chance) for chance in ways.probabilities[:samples]]
    decoded_ways = {
        f"{number} {name}": np.concatenate([pictures[0], way])
        for number, (name, way) in enumerate(zip(names, pictures[1:], strict=True), 1)
    }
    return ways, Fan(true=frames, ways=decoded_ways, start=start, fps=model.config.view.fps)


@torch.no_grad()
def different_ways(branches: Branches, past: Past, seen: Tensor, horizon: int) -> Ways:
    """Roll out every code of one past (N = 1) after latents `seen` (1, T, P, D), and make one of those that go on alike."""
    rollouts = branches.rollouts(past, horizon)[0]
    chances = branches.chances(past)[0].exp()
    judged = rollouts[:, : branches.config.horizon]
    ways: list[list[int]] = []
    for code in chances.argsort(descending=True).tolist():
        alike = branches.apart(rollout_errors(judged[None], seen, judged[code][None]))[0] <= ALIKE
        same = next((way for way in ways if alike[way[0]]), None)
        if same is None:
            ways.append([code])
        else:
            same.append(code)
    total = [float(chances[way].sum()) for way in ways]
    order = np.argsort(total)[::-1].tolist()
    return Ways(rollouts[[ways[i][0] for i in order]], [total[i] for i in order], [ways[i] for i in order])


def percent(share: float) -> str:
    """0.62 -> 62%; what is rare, but not nothing, is below 1%."""
    return "<1%" if 0 < share < 0.005 else f"{100 * share:.0f}%"


def _encode(model: WorldModel, frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) -> latents (T, P, D)."""
    with torch.no_grad():
        return model.encode(rearrange(torch.from_numpy(frames), "t h w c -> 1 t c h w"))[0]
