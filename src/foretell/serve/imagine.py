"""Imagine: see the first steps of a clip, foretell the rest in latents alone, and show it beside what happened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.clip import View
from foretell.data.readers import TruncatedVideo, find_sources, read
from foretell.data.writers import write_video
from foretell.errors import ConfigError, DataError
from foretell.log import finite, write_whole
from foretell.model.decoder import Decoder
from foretell.model.folder import load_model
from foretell.model.world_model import WorldModel
from foretell.serve.fitted import fitted_decoder
from foretell.serve.horizon import Chart, Curve, draw_charts
from foretell.serve.panels import Imagination, panels, strip
from foretell.serve.pictures import write_png
from foretell.serve.summary import number

RED, GREY, PALE = "#d63a2f", "#626c73", "#a3a9a5"


@dataclass(frozen=True, kw_only=True)
class ImagineSummary:
    """What was imagined and how far off it was. Errors are lists with one number for every step that the clip still has."""

    clip: str
    start: int
    """Steps that were seen: 0 to start - 1."""
    horizon: int
    """Steps that were imagined: start to start + horizon - 1."""
    fps: float
    """Steps a second."""
    latent_error: dict[str, list[float]]
    """Mean squared error of the latents, of which each dimension deviates by about 1. imagined: the model's; copy: the last
    seen latent repeated; linear: the last two seen gone on with in a straight line."""
    pixel_error: dict[str, list[float]]
    """Mean absolute error of the picture in grey levels (0 to 255). imagined: decoded from the imagined latents; decoder: from the true
    ones, the least that this decoder can reach; copy: the last seen picture repeated."""
    decoder: str
    """What the decoder was fitted on."""
    notes: list[str]
    """What must be known before trusting the pictures."""
    files: list[str]
    """Video, film strip, curves and numbers."""

    def __str__(self) -> str:
        """In words, for the command line."""
        ahead = f"{number(self.horizon / self.fps)} s"
        lines = [f"{self.clip}: saw {self.start} steps, imagined {self.horizon} ({ahead}) -> {', '.join(self.files)}"]
        errors = self.latent_error
        for step in [h for h in (1, 4, 8, 16) if h <= len(errors["imagined"])]:
            mine, *others = (errors[name][step - 1] for name in ("imagined", "copy", "linear"))
            words = f"copying the last step {number(others[0])}, a straight line {number(others[1])}"
            lines.append(f"  {step} ahead: latent error {number(mine)} ({words})")
        return "\n".join([*lines, f"decoder: {self.decoder}", *(f"note: {note}" for note in self.notes)])


def imagine(
    model_folder: Path, clip: Path, out: Path, *, start: int = 8, horizon: int = 16, data: Path | None = None
) -> ImagineSummary:
    """See steps 0 to start - 1 of `clip`, imagine `horizon` more; write `out` (.mp4) and beside it .png, .svg and .json.

    The decoder is fitted on first use and kept in the model folder (see `fitted_decoder`, also for `data`). A clip shorter than
    start + horizon is imagined beyond its end, with errors only as far as it goes.
    Raises ConfigError for an impossible start, horizon or name, DataError if the clip cannot be read, has fewer than `start`
    steps, or `out` cannot be written, and CheckpointError if the model folder is damaged.
    """
    check_wishes(out, start, horizon)
    model = load_model(model_folder)
    view, notes = model.config.view, list[str]()
    frames = seen_steps(clip, view, start, horizon, notes)
    kept = fitted_decoder(model_folder, model, frames, data, notes)
    found = imagine_frames(model, kept.decoder, frames, start=start, horizon=horizon)
    files = {suffix: out.with_suffix(suffix) for suffix in (".mp4", ".png", ".svg", ".json")}
    summary = ImagineSummary(
        clip=str(clip),
        start=start,
        horizon=horizon,
        fps=view.fps,
        latent_error=found.latent_error,
        pixel_error=found.pixel_error,
        decoder=kept.fitted_on,
        notes=notes,
        files=[str(path) for path in files.values()],
    )
    write_video(files[".mp4"], panels(found.pictures), view.fps)
    write_png(files[".png"], strip(found.pictures))
    write_whole(files[".svg"], draw_charts(*_charts(summary)))
    write_whole(files[".json"], json.dumps(finite(asdict(summary)), indent=1, allow_nan=False) + "\n")
    return summary


def check_wishes(out: Path, start: int, horizon: int) -> None:
    """Refuse at once what cannot come to an end."""
    if start < 2 or horizon < 1:
        raise ConfigError(
            f"imagine: got start {start} and horizon {horizon}, expected to see at least 2 steps (one shows no motion) and "
            "to imagine at least 1"
        )
    if out.suffix.lower() != ".mp4":
        raise ConfigError(
            f"{out}: expected a name that ends in .mp4; film strip, curves and numbers are named after it"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.with_name(f".{out.name[:40]}.part")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose a folder that is writable") from error


def seen_steps(clip: Path, view: View, start: int, horizon: int, notes: list[str]) -> np.ndarray:
    """Up to `start` + `horizon` steps of a clip, uint8 (T, H, W, 3). That it is shorter is noted.

    Raises DataError if it cannot be read, or has fewer than `start`.
    """
    frames = _first_steps(clip, view, start + horizon, notes)
    if len(frames) < start:
        raise DataError(
            f"{clip}: has {len(frames)} steps at {view.fps:g} a second, expected at least the {start} to be seen: "
            f"give a longer clip, or a start of {len(frames)} or less (2 at least)"
        )
    if len(frames) < start + horizon:
        notes.append(
            f"{clip} has {len(frames)} steps: what is imagined beyond is beside nothing true, and errors end there"
        )
    return frames


def _first_steps(clip: Path, view: View, steps: int, notes: list[str]) -> np.ndarray:
    """Up to the first `steps` steps: uint8 (T, H, W, 3). What broke off early is noted. Raises DataError."""
    sources = find_sources(clip)
    if len(sources) != 1:
        raise DataError(f"{clip}: holds {len(sources)} files, expected one clip: name a single video")
    found: list[np.ndarray] = [np.empty((0, view.height, view.width, 3), np.uint8)]
    try:
        for chunk in read(sources[0], view):
            found.append(chunk.frames)
            if sum(map(len, found)) >= steps:
                break
    except TruncatedVideo as error:
        notes.append(f"{error}; what came before was used")
    return np.concatenate(found)[:steps]


class Imagined(NamedTuple):
    """What was imagined, and how far off it was, as in `ImagineSummary`."""

    pictures: Imagination
    latent_error: dict[str, list[float]]
    pixel_error: dict[str, list[float]]


@torch.no_grad()
def imagine_frames(model: WorldModel, decoder: Decoder, frames: np.ndarray, *, start: int, horizon: int) -> Imagined:
    """Encode the first `start` steps, roll out, decode, and compare with what is known of the rest.

    frames: uint8 (T, H, W, 3), T of `start` or more. Neither latents nor pictures that are imagined depend on frames from `start` on.
    """
    latents = model.encode(rearrange(torch.from_numpy(frames), "t h w c -> 1 t c h w"))
    said = model.rollout(latents[:, :start], horizon)
    redrawn, pictured = _pictures(decoder, latents), _pictures(decoder, said)
    decoded = np.concatenate([redrawn[:start], pictured])
    future, last = latents[0, start:], latents[0, start - 1]
    ahead = torch.arange(1, len(future) + 1)[:, None, None]
    latent_error = {
        "imagined": _mean_square(said[0, : len(future)] - future),
        "copy": _mean_square(last - future),
        "linear": _mean_square(last + ahead * (last - latents[0, start - 2]) - future),
    }
    true = frames[start:]
    pixel_error = {
        "imagined": _mean_absolute(pictured[: len(true)], true),
        "decoder": _mean_absolute(redrawn[start:], true),
        "copy": _mean_absolute(frames[start - 1], true),
    }
    pictures = Imagination(true=frames, decoded=decoded, start=start, fps=model.config.view.fps)
    return Imagined(pictures, latent_error, pixel_error)


def _pictures(decoder: Decoder, latents: Tensor) -> np.ndarray:
    """latents (1, T, P, D) -> uint8 (T, H, W, 3)."""
    return rearrange(decoder.decode(latents), "1 t c h w -> t h w c").numpy()


def _mean_square(difference: Tensor) -> list[float]:
    errors: list[float] = difference.square().mean((1, 2)).tolist()
    return errors


def _mean_absolute(pictures: np.ndarray, true: np.ndarray) -> list[float]:
    return [float(error) for error in np.abs(pictures.astype(np.float32) - true).mean((1, 2, 3))]


def _charts(summary: ImagineSummary) -> tuple[list[Chart], str]:
    latent, pixel = summary.latent_error, summary.pixel_error
    latents = Chart(
        title="Latents: how far off",
        unit="mean squared error",
        curves=[
            Curve(name="imagined", values=latent["imagined"], colour=RED),
            Curve(name="copy", values=latent["copy"], colour=GREY),
            Curve(name="straight line", values=latent["linear"], colour=PALE, dashes="5 5", may_leave=True),
        ],
    )
    pictures = Chart(
        title="Pictures: how far off",
        unit="mean absolute error, grey levels of 255",
        curves=[
            Curve(name="imagined", values=pixel["imagined"], colour=RED),
            Curve(name="copy", values=pixel["copy"], colour=GREY),
            Curve(name="decoder alone", values=pixel["decoder"], colour=PALE, dashes="1 5"),
        ],
    )
    seen = (
        f"{Path(summary.clip).name}: {summary.start} steps seen, {summary.horizon} imagined, {summary.fps:g} a second"
    )
    return [latents, pictures], seen
