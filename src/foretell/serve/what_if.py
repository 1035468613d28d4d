"""The verb what-if: one past, several futures side by side, and in words what each of them changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tyro.conf import Positional

from foretell.data.actions import ACTIONS, ActionSpace, read_actions, read_csv
from foretell.data.clip import View
from foretell.data.readers import TruncatedVideo, find_sources, read
from foretell.errors import ConfigError, DataError
from foretell.log import write_whole
from foretell.model.actions import ActionConfig
from foretell.model.decoder import Decoder
from foretell.model.folder import load_model
from foretell.model.heads import Errors, Heads, load_heads
from foretell.model.world_model import WorldModel
from foretell.plan.counterfactual import Futures, Past, imagine_futures, take_in, without
from foretell.plan.effects import (
    ALPHA,
    DOUBT,
    Bands,
    Effect,
    effect,
    fit_bands,
    misses_of_differences,
    misses_of_futures,
    together,
)
from foretell.serve.fitted import fitted_decoder
from foretell.serve.what_if_page import Story, Told, in_words, render

PAST = 40
"""Steps of the model that are seen, at most."""
SHOWN = 3
"""Of these, how many are shown."""


@dataclass(frozen=True, kw_only=True)
class WhatIfSummary:
    """What was imagined, for the command line."""

    page: str
    """The file written."""
    lines: list[str]
    """The effects, in words."""
    notes: list[str]
    """What must be known before trusting them."""

    def __str__(self) -> str:
        """In words."""
        return "\n".join([f"-> {self.page}", *self.lines, *(f"note: {note}" for note in self.notes)])


def what_if(
    model: Positional[Path],
    clip: Positional[Path],
    *,
    actions: tuple[Path, ...],
    out: Path = Path("what_if.html"),
    start: int | None = None,
    remove: str | None = None,
    data: Path | None = None,
) -> WhatIfSummary:
    """Imagine what follows if something else is done, or if a thing were not there: one page to look at.

    The first sequence is what the others are compared with. What was done before `start` is read from CLIP.csv, or from the
    recording that the clip belongs to.

    Args:
        model: A folder of a model that acts.
        clip: A video whose beginning is the past.
        actions: Csv files, a header and then one action a frame in the world's units, all of one length.
        out: The page to write.
        start: Frame that is seen last, at the model's rate; the last one of the clip unless given.
        remove: X0,Y0,X1,Y1: a box in pixels of the model's view that is painted over in the past.
        data: Store to fit the decoder on, if the one of the training is gone.
    """
    folder, clip, out = Path(model), Path(clip), Path(out)
    if out.suffix.lower() != ".html":
        raise ConfigError(f"{out}: expected a name that ends in .html")
    box = None if remove is None else parse_box(remove)
    steered = load_model(folder)
    heads, errors = load_heads(folder, steered)
    acts = steered.config.actions
    assert acts is not None
    notes: list[str] = []
    names, sequences = _sequences(actions, acts, notes, alone=box is not None)
    frames, length = _frames(clip, steered.config.view, start, sequences.shape[1] * acts.skip, notes)
    now = length - 1 if start is None else start
    done = known_actions(clip, acts, length, notes)
    at, blocks = _past_steps(now, done, acts)
    if not len(blocks):
        notes.append(
            "the past is one frame and an empty memory: motion and what is hidden cannot be known from it"
            + ("" if done is not None else f"; put {clip.stem}.csv beside the clip, with what was done in it")
        )
    seen = take_in(steered, frames[at], blocks)
    told = [
        _Way(name, seen, one, None if k == 0 else 0) for k, (name, one) in enumerate(zip(names, sequences, strict=True))
    ]
    removed = None
    if box is not None:
        edited, removed = without(frames[: now + 1], box)
        gone = take_in(steered, edited[at], blocks)
        told += [_Way(f"{w.name}, without it", gone, w.actions, k, edited[at]) for k, w in enumerate(told)]
        notes.append(
            "no recording that the bands were calibrated on has been painted over: for what is removed they are a guide"
        )
    kept = fitted_decoder(folder, steered, frames, data, notes)
    story = _story(steered, heads, errors, kept.decoder, frames, at, told, notes)
    facts = {
        "Clip": str(clip),
        "Model": str(folder),
        "Past": f"{len(at)} frames, {acts.skip} apart, the last one frame {now} of {length}",
        "Removed": "nothing" if removed is None else f"the box {remove}, painted in {removed}",
        "Decoder": f"fitted on {kept.fitted_on}",
        "Bands": f"hold at all steps at once but for {100 * ALPHA:g}% of cases like the {len(errors.truth)} stretches set aside, "
        f"sure to {100 * (1 - DOUBT):g}%",
    }
    write_whole(out, render(story, facts, notes).encode("utf-8", "backslashreplace").decode())
    return WhatIfSummary(page=str(out), lines=in_words(story), notes=notes)


@dataclass(frozen=True)
class _Way:
    """One future to be: from which past, what is done, and which of the others it is compared with."""

    name: str
    past: Past
    actions: Tensor  # (T, A')
    other: int | None
    edited: np.ndarray | None = None  # uint8 (K, H, W, 3): what was seen, if it was painted over


def parse_box(text: str) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of "4,8,12,16". Raises ConfigError."""
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"remove: got {text!r}, expected four whole numbers, as 4,8,12,16") from error
    return left, top, right, bottom


def read_sequence(path: Path, space: ActionSpace) -> np.ndarray:
    """Actions of a csv: a header, then one a frame; float32 (T, A).

    Raises DataError if it holds none, ConfigError if an action is outside the space.
    """
    found = read_csv(path)
    if found.shape[1] != space.width:
        raise ConfigError(f"{path}: got {found.shape[1]} columns, expected {space.width}, as the model's actions have")
    for row, action in enumerate(found):
        space.check(action, f"{path}, row {row + 2}")
    return found


def known_actions(clip: Path, acts: ActionConfig, length: int, notes: list[str]) -> np.ndarray | None:
    """What was done in the clip's frames, (T, A), by its csv or its recording; None if nothing says so.

    Raises DataError if there is not one action a frame.
    """
    beside = clip.with_suffix(".csv")
    if beside.exists():
        done = read_sequence(beside, acts.space)
    elif (clip.parent / ACTIONS).exists():
        log = read_actions(clip.parent)
        assert log is not None
        acts.must_match(log.space, str(clip.parent))
        if clip.name not in log.actions:
            notes.append(f"{clip.name} is not in the recording that lies beside it: what was done in it is not known")
            return None
        done = log.actions[clip.name]
    else:
        return None
    if len(done) != length:
        raise DataError(f"{clip}: has {length} frames at the model's rate and {len(done)} actions, expected as many")
    return done


def _sequences(
    paths: tuple[Path, ...], acts: ActionConfig, notes: list[str], *, alone: bool
) -> tuple[list[str], Tensor]:
    """Names and blocks (S, T, A') of the csv files. Raises ConfigError if they are too few, too short or of unlike length."""
    if len(paths) < (1 if alone else 2):
        raise ConfigError(f"what-if: got {len(paths)} csv files, expected two or more, or one and --remove")
    found = [read_sequence(Path(path), acts.space) for path in paths]
    lengths = sorted({len(one) for one in found})
    steps, left = divmod(lengths[0], acts.skip)
    if len(lengths) > 1 or not steps:
        got = f"sequences of {', '.join(map(str, lengths))} actions"
        raise ConfigError(f"what-if: got {got}, expected one length of {acts.skip} or more, a step of the model")
    if left:
        notes.append(f"the last {left} actions do not fill a step of the model, {acts.skip} frames, and are left out")
    stems = [Path(path).stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    return names, torch.from_numpy(np.stack([one[: steps * acts.skip].reshape(steps, -1) for one in found]))


def _frames(clip: Path, view: View, start: int | None, ahead: int, notes: list[str]) -> tuple[np.ndarray, int]:
    """The frames needed, uint8 (T, H, W, 3), and how many the clip has. Raises DataError or ConfigError."""
    sources = find_sources(clip)
    if len(sources) != 1:
        raise DataError(f"{clip}: holds {len(sources)} files, expected one clip: name a single video")
    found: list[np.ndarray] = [np.empty((0, view.height, view.width, 3), np.uint8)]
    length = 0
    try:
        for chunk in read(sources[0], view):
            if start is None or length <= start + ahead:
                found.append(chunk.frames)
            length += len(chunk.frames)
    except TruncatedVideo as error:
        notes.append(f"{error}; what came before was used")
    if not length or (start is not None and not 0 <= start < length):
        got = f"start {start} in a clip of {length} frames at {view.fps:g} a second"
        raise ConfigError(f"what-if: got {got}, expected 0 <= start < {length}")
    return np.concatenate(found), length


def _past_steps(now: int, done: np.ndarray | None, acts: ActionConfig) -> tuple[np.ndarray, Tensor]:
    """Which frames are seen, a step of the model apart up to `now`, and the blocks (K - 1, A') between them."""
    steps = 0 if done is None else min(PAST, now // acts.skip)
    first = now - steps * acts.skip
    at = np.arange(first, now + 1, acts.skip)
    if done is None or not steps:
        return at, torch.zeros(0, acts.width)
    return at, torch.from_numpy(done[first:now].reshape(steps, acts.width))


def _story(
    model: WorldModel,
    heads: Heads,
    errors: Errors,
    decoder: Decoder,
    frames: np.ndarray,
    at: np.ndarray,
    ways: list[_Way],
    notes: list[str],
) -> Story:
    """Everything that the page tells."""
    acts = model.config.actions
    assert acts is not None
    steps = len(ways[0].actions)
    futures = [imagine_futures(model, heads.probe, way.past, way.actions[None]) for way in ways]
    std = torch.ones(0) if heads.probe is None else heads.probe.std
    single = fit_bands(misses_of_futures(errors, std))
    between = {
        painted: fit_bands(misses_of_differences(errors, std, one_past=not painted)) for painted in (False, True)
    }
    _warn(heads, errors, steps, single, notes)
    shown = at[-SHOWN:]
    told = []
    for way, future in zip(ways, futures, strict=True):
        past = frames[shown] if way.edited is None else way.edited[-SHOWN:]
        pictures = rearrange(decoder.decode(future.latents), "1 t c h w -> t h w c").numpy()
        told.append(
            Told(
                name=way.name,
                film=np.concatenate([past, pictures]),
                past=_read(heads, way.past.seen[-SHOWN:]),
                quantities=future.quantities[0].numpy(),
                margin=single.margin(future.gone[0]).numpy(),
                other=way.other,
                effect=None
                if way.other is None
                else _effect(future, futures[way.other], between[way.edited is not None]),
            )
        )
    after = at[-1] + acts.skip * np.arange(1, steps + 1)
    came = frames[np.concatenate([shown, after])] if after[-1] < len(frames) else None
    return Story(
        told=told,
        came=came,
        removed=any(way.edited is not None for way in ways),
        seen=len(shown),
        names=heads.quantities,
        seconds=acts.skip / model.config.view.fps,
    )


@torch.no_grad()
def _read(heads: Heads, latents: Tensor) -> np.ndarray:
    read: np.ndarray = np.zeros((len(latents), 0)) if heads.probe is None else heads.probe(latents).numpy()
    return read


def _effect(future: Futures, other: Futures, bands: Bands) -> Effect:
    margin = bands.margin(together(future.gone[0], other.gone[0]))
    return effect(future.quantities[0], other.quantities[0], margin)


def _warn(heads: Heads, errors: Errors, steps: int, single: Bands, notes: list[str]) -> None:
    calibrated = errors.truth.shape[1]
    if heads.probe is None:
        notes.append("nobody told the model true states, so there are pictures and no quantities")
    elif single.least.isinf().any():
        notes.append(
            f"{len(errors.truth)} stretches were set aside, too few for bands: no effect can be told from chance"
        )
    elif steps > calibrated:
        notes.append(f"bands were calibrated for {calibrated} steps of the model: effects are judged up to there")
