"""The decoder of a model folder: taken from there if it is kept, otherwise fitted, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.clip import View
from foretell.data.sampler import WindowSampler
from foretell.data.split import Stretch
from foretell.data.store import Store
from foretell.errors import CheckpointError, DataError
from foretell.model.decoder import FILE, KeptDecoder, load_decoder, save_decoder
from foretell.model.folder import read_config
from foretell.model.world_model import WorldModel
from foretell.train.decoder import fit_decoder

STEPS, SEED = 3200, 0
PIXELS_PER_STEP = 8 * 64 * 64
"""8 frames of 64 x 64; larger frames come in smaller batches, so that a step costs the same (all of them about 70 CPU-s).
Many small steps learn faster: on the physics world 2,400 of 8 frames left two thirds of the error (3.3 grey levels against
4.9, 64 CPU-s against 46) that 300 of 64 frames left."""


def fitted_decoder(
    folder: Path, model: WorldModel, clip: np.ndarray, data: Path | None, notes: list[str]
) -> KeptDecoder:
    """A decoder for `model`, and what it was fitted on; what the user must know is added to `notes`.

    The one kept in `folder`, if it belongs to this model (and to the store `data`, if given). Else it is fitted on the store
    `data`, or on the clips that the model was trained on, and kept. If that store cannot be used, it is fitted on `clip`,
    uint8 (T, H, W, 3), and not kept. Raises DataError if `data` is no store, or one of another view.
    """
    kept = _kept(folder, model, notes)
    if kept and (data is None or kept.fitted_on == str(data.resolve())):
        return kept
    view = model.config.view
    try:
        store, stretches = _everything(data, view) if data is not None else _training(folder, view)
    except DataError as error:
        if data is not None:
            raise
        notes.append(
            "the decoder was fitted on this clip alone, on its future too, so it can paint nothing else: what the model "
            f"was trained on cannot be read ({error}). Give a store of the same view with --data"
        )
        alone = _batches([len(clip)], lambda _, at: clip[at : at + 1], view)
        return KeptDecoder(fit_decoder(model, alone, steps=STEPS, seed=SEED), "this clip alone")
    batches = _batches(
        [s.length for s in stretches], lambda i, at: store.window(stretches[i].clip, stretches[i].start + at, 1), view
    )
    fitted_on = str(data.resolve()) if data is not None else f"what the model was trained on ({store.where})"
    decoder = fit_decoder(model, batches, steps=STEPS, seed=SEED)
    try:
        save_decoder(folder, decoder, fitted_on)
    except DataError as error:
        notes.append(f"the decoder could not be kept, and will be fitted again next time ({error})")
    return KeptDecoder(decoder, fitted_on)


def _kept(folder: Path, model: WorldModel, notes: list[str]) -> KeptDecoder | None:
    if not (folder / FILE).exists():
        return None
    try:
        return load_decoder(folder, model.config)
    except CheckpointError as error:
        notes.append(f"the decoder that was kept could not be used, and was fitted again ({error})")
        return None


def _everything(data: Path | str, view: View) -> tuple[Store, list[Stretch]]:
    """All clips of a store. Raises DataError."""
    store = Store.open(data)
    if store.view != view:
        raise DataError(
            f"{data}: its view is {store.view}, expected the model's, {view}: ingest with the same settings"
        )
    return store, [Stretch(clip=clip, start=0, length=length) for clip, length in enumerate(store.lengths)]


def _training(folder: Path, view: View) -> tuple[Store, list[Stretch]]:
    """What the model was trained on, and nothing that was set aside, as config.json remembers it. Raises DataError."""
    facts = read_config(folder)
    where = facts.get("data", {}).get("store")
    if where is None:
        raise DataError(f"{folder}: config.json names no store")
    inside = folder / Path(where).name  # a model folder that was moved, with the store it made from a folder of videos
    remote = "://" in where
    store, everything = _everything(inside if not remote and not Path(where).exists() else where, view)
    numbers = {clip.name: number for number, clip in enumerate(store.clips)}
    chosen = facts.get("split", {}).get("train")
    if chosen is None:
        return store, everything
    try:
        return store, [Stretch(clip=numbers[s["name"]], start=s["start"], length=s["length"]) for s in chosen]
    except KeyError as error:
        raise DataError(f"{where}: the training clip {error} is not in this store any more") from error


def _batches(lengths: Sequence[int], frame: Callable[[int, int], np.ndarray], view: View) -> Callable[[int], Tensor]:
    """batches(step) -> single frames uint8 (B, 1, 3, H, W), every one once an epoch. frame(i, at): uint8 (1, H, W, 3)."""
    batch = max(1, PIXELS_PER_STEP // (view.height * view.width))
    sampler = WindowSampler(lengths, window=1, batch=batch, seed=SEED)

    def batches(step: int) -> Tensor:
        frames = np.stack([frame(i, at) for i, at in sampler.at(step)])
        return rearrange(torch.from_numpy(frames), "b t h w c -> b t c h w")

    return batches
