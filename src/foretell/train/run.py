"""From a store to a model folder: split, train, choose the checkpoint, whiten, calibrate, and write the model card."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.data.sampler import WindowSampler
from foretell.data.split import Split, Stretch, split_stretches
from foretell.data.store import Store
from foretell.errors import CalibrationError, ConfigError, DataError
from foretell.log import write_whole
from foretell.model.actions import ActionConfig, Batch
from foretell.model.folder import load_model, renew_weights, save_model
from foretell.model.heads import save_heads
from foretell.model.likeness import LikenessConfig, save_likeness
from foretell.model.moments import MomentsEncoder
from foretell.model.predictors import SteeredConfig
from foretell.model.upper import UpperConfig, save_upper
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.collapse import monitors
from foretell.objectives.objective import build_objective, save_objective
from foretell.parallel import rank, world_size
from foretell.surprise.panel import Clips, fit_panel
from foretell.surprise.stream import SurpriseConfig
from foretell.train.card import write_card
from foretell.train.chooser import Chooser
from foretell.train.heads import HeadsConfig, cache_latents, fit_heads, measure_errors
from foretell.train.likeness import fit_likeness
from foretell.train.loop import TrainConfig, train_loop
from foretell.train.settled import SettledConfig, check_long_enough, settle
from foretell.train.upper import UpperTraining, check_enough, fit_upper

MONITOR_CLIPS = 32
"""Development windows that the monitors look at."""
FIT_STEPS = 2000
"""Training footage that whitening is fitted on, beside the development clips: for variety. What calibrates is apart from both."""
KEPT = 1_000_000_000
"""Bytes of what is seen of it that are kept meanwhile: 45 minutes of 64 px at 10 fps. Of more footage, some, spread over all."""
LOOKED_AT = 500
"""Frames that an encoder without weights finds its colours and scales in."""
LATER = ("upper", "surprise", "likeness")
"""Settings of what is learned when the weights are done: a run may get other ones when it goes on."""
UNTRAINED_SEED = 1_000_003
"""Start weights of the untrained control: not those of any run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a training run, but for the data."""

    model: ModelConfig
    """What is built; its view is replaced by the store's."""
    train: TrainConfig
    """How it is trained."""
    surprise: SurpriseConfig = dataclasses.field(default_factory=SurpriseConfig)
    """What will count as surprise."""
    skip: int = 1
    """Frames that a step of a model that acts lasts."""
    settled: SettledConfig | None = None
    """How long the predictor of a model that acts learns on alone, once its encoder is done; not at all unless given."""
    heads: HeadsConfig = dataclasses.field(default_factory=HeadsConfig)
    """What a model that acts learns on its frozen latents."""
    upper: UpperConfig | None = None
    """The upper of two levels of a model that acts, learned on the same latents; none unless given."""
    likeness: LikenessConfig | None = None
    """What a model that watches learns of how things keep their looks, on the same latents; nothing unless given."""
    hold_out: float = 0.2
    """Share of the footage set aside to calibrate; never trained on."""
    development: float = 0.1
    """Share of the footage set aside for monitors, choice of checkpoint and whitening; never trained on."""
    segment_seconds: float = 10.0
    """Length of a calibration unit where recordings are long."""
    gap_seconds: float = 2.0
    """Seconds left out between two such units."""
    start_from: str | None = None
    """A model folder whose weights the run begins with, of a model of the same build; unless given, random ones."""

    def __post_init__(self) -> None:
        if not (0 < self.hold_out < 1 and 0 < self.development < 1 and self.hold_out + self.development < 1):
            raise ConfigError(
                f"hold-out {self.hold_out} and development {self.development}: expected shares above 0 that leave something to train on"
            )
        if self.likeness is not None and self.train.window <= self.likeness.first:
            got = f"got windows of {self.train.window} steps, expected more than {self.likeness.first}"
            raise ConfigError(f"likeness: {got}: take a longer --window")


def run_training(store: Store, out: Path, config: RunConfig) -> Path:
    """Train on `store` and write the model folder `out`; a run that was killed there goes on. Returns `out`.

    Raises DataError if the store is damaged or too small, ConfigError if `out` holds a run of other settings or the weights
    to start from do not fit, CheckpointError if those are missing or altered.
    """
    store.verify()
    split = split_stretches(
        store.lengths,
        fps=store.view.fps,
        calibration=config.hold_out,
        development=config.development,
        seed=config.train.seed,
    )
    acts = action_config(store, split, config)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, view=store.view, actions=acts))
    if config.upper is not None:
        check_enough([s.length for s in split.train], config.upper, config.skip)
    if config.settled is not None:
        check_long_enough([s.length for s in split.train], config.settled, config.skip)
    same_run_or_stop(out, config, store)
    torch.set_num_threads(config.train.threads)
    torch.manual_seed(config.train.seed)
    model = WorldModel(config.model)
    if isinstance(model.encoder, MomentsEncoder):
        model.encoder.look_at(some_frames(store, split.train))
    if config.start_from is not None:
        take_weights(model, config.start_from)
    objective = build_objective(config.train.objective, model)
    chooser = Chooser(out, development_windows(store, split, config), config.train, objective)
    batches = window_batches(store, split, config.train, acts)
    train_loop(model, objective, batches, config.train, out, chooser)
    facts = run_facts(store, split, config) | {"chosen": chooser.restore(model), "untrained_seed": UNTRAINED_SEED}
    if rank() == 0:
        save_model(out, model, facts)
        save_objective(out, objective)
    finish = learn_to_watch if acts is None else learn_to_act
    finish(model, store, split, config, out)
    if rank() == 0:
        write_card(out)
    return out


def learn_to_watch(model: WorldModel, store: Store, split: Split, config: RunConfig, out: Path) -> None:
    """Whiten surprise on development clips and some of the trained ones, and calibrate on those set aside; then likeness, if asked."""
    normal = (*split.development, *few_stretches(split.train, FIT_STEPS))
    few = few_stretches(normal, KEPT // bytes_seen(model))
    surprise = config.surprise.within(max(s.length for s in few))
    panel = fit_panel(model, stretch_clips(store, few), stretch_clips(store, normal), surprise, UNTRAINED_SEED)
    if rank() == 0:
        try:
            clips = stretch_clips(store, split.calibration)
            panel.calibrate(clips(), segment_seconds=config.segment_seconds, gap_seconds=config.gap_seconds)
        except CalibrationError as error:
            print(f"not calibrated: {error}")
        panel.save(out)
        if config.likeness is not None:
            batches = window_batches(store, split, config.train)
            likeness = fit_likeness(model, lambda step: batches(step).frames, config.likeness, seed=config.train.seed)
            save_likeness(out, likeness)


def bytes_seen(model: WorldModel) -> int:
    """Of a step that is kept as it was seen: its frame, its latents, and those that were said of it, twice."""
    view, tokens = model.config.view, model.grid[0] * model.grid[1]
    return 3 * view.height * view.width + 3 * 4 * tokens * model.config.encoder.latent_width


def learn_to_act(model: WorldModel, store: Store, split: Split, config: RunConfig, out: Path) -> None:
    """On latents that no longer change: the predictor learns on, if asked, then heads, then the upper level.

    How the model errs is measured on clips that were set aside.
    """
    if rank() != 0:
        return
    assert store.log is not None
    trained, held_out, aside = (
        cache_latents(model, store, s) for s in (split.train, split.development, split.calibration)
    )
    if config.settled is not None:
        settle(model, trained, config.settled, config.train.seed, out)
        frames, actions = development_windows(store, split, config)
        renew_weights(out, model, monitors(model, frames, None, actions))
    heads = fit_heads(model, trained, store.log.quantities, config.heads, config.train.seed)
    save_heads(out, heads, measure_errors(model, heads, held_out, aside, config.heads.horizon))
    if config.upper is not None:
        save_upper(out, fit_upper(model, trained, config.upper, UpperTraining(), config.train.seed))


def action_config(store: Store, split: Split, config: RunConfig) -> ActionConfig | None:
    """What a steered model is told of the store's actions, at the scale of those trained on; None for one that only watches.

    Raises DataError if nothing says what was done.
    """
    if not isinstance(config.model.predictor, SteeredConfig):
        return None
    log = store.log
    if log is None:
        raise DataError(
            f"{store.where}: nothing says what was done in these clips: record a world with a policy, put NAME.csv beside "
            "each NAME.mp4, or take a preset that only watches"
        )
    done = np.concatenate([log.actions[store.clips[s.clip].name][s.start : s.start + s.length] for s in split.train])
    std = np.maximum(done.std(0), 1e-3 * np.subtract(log.space.high, log.space.low))
    return ActionConfig(space=log.space, skip=config.skip, mean=tuple(done.mean(0).tolist()), std=tuple(std.tolist()))


def some_frames(store: Store, stretches: tuple[Stretch, ...]) -> Tensor:
    """LOOKED_AT frames spread over some stretches, uint8 (N, 3, H, W); fewer if there are not as many."""
    places = [(s.clip, s.start + i) for s in stretches for i in range(s.length)]
    chosen = [places[i] for i in np.linspace(0, len(places) - 1, min(LOOKED_AT, len(places))).astype(int)]
    return as_batch([store.window(clip, at, 1) for clip, at in chosen])[:, 0]


def take_weights(model: WorldModel, folder: str) -> None:
    """Put the weights of a model folder into `model`.

    Raises CheckpointError if the folder is missing or altered, ConfigError if its weights have other names or shapes.
    """
    try:
        model.load_state_dict(load_model(folder).state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"start from {folder}: its weights do not fit the model to train ({error}): choose the preset and size of that one"
        ) from error


def window_batches(
    store: Store, split: Split, config: TrainConfig, acts: ActionConfig | None = None
) -> Callable[[int], Batch]:
    """batches(step) -> what a training step sees, a function of (seed, step, rank)."""
    span = config.window * (1 if acts is None else acts.skip)
    sampler = WindowSampler(
        [s.length for s in split.train],
        window=span,
        batch=config.batch,
        seed=config.seed,
        rank=rank(),
        world_size=world_size(),
    )

    def batches(step: int) -> Batch:
        chosen = [(split.train[i], start) for i, start in sampler.at(step)]
        return batch_of(store, [(s.clip, s.start + start) for s, start in chosen], span, acts)

    return batches


def batch_of(store: Store, places: list[tuple[int, int]], span: int, acts: ActionConfig | None) -> Batch:
    """Windows of `span` frames of a store, each a clip and its first frame; with what was done, at the steps of a model that acts."""
    if acts is None:
        return Batch(as_batch([store.window(clip, start, span) for clip, start in places]))
    assert store.log is not None
    steps = span // acts.skip
    frames = as_batch([store.window(clip, start, steps, acts.skip) for clip, start in places])
    done = [store.log.actions[store.clips[clip].name][start : start + span] for clip, start in places]
    return Batch(frames, rearrange(torch.from_numpy(np.stack(done)), "b (t k) a -> b t (k a)", k=acts.skip))


def development_windows(store: Store, split: Split, config: RunConfig) -> Batch:
    """Windows of development stretches for the monitors, as long as the shortest allows up to 2 training windows.

    Raises DataError if no stretch is long enough for a window, or to whiten surprise on once training is done.
    """
    acts, surprise = config.model.actions, config.surprise
    skip = 1 if acts is None else acts.skip
    window = config.train.window * skip
    needed = window if acts is not None else max(window, surprise.context + surprise.nearest + 1)
    fitting = [s for s in split.development if s.length >= needed]
    if not fitting:
        advice = "longer videos" if needed > window else "a shorter --window or longer videos"
        raise DataError(f"store: no development stretch has {needed} steps: take {advice}")
    length = min(2 * window, min(s.length for s in fitting)) // skip * skip
    windows = [(s, at) for s in fitting for at in range(0, s.length - length + 1, length)]
    chosen = [windows[i] for i in np.linspace(0, len(windows) - 1, min(MONITOR_CLIPS, len(windows))).astype(int)]
    return batch_of(store, [(s.clip, s.start + at) for s, at in chosen], length, acts)


def few_stretches(stretches: tuple[Stretch, ...], steps: int) -> tuple[Stretch, ...]:
    """Some of them, spread over all, of `steps` together at most; at least one, and that cut short if need be."""
    mean = sum(s.length for s in stretches) / len(stretches)
    count = max(1, min(len(stretches), max(int(steps / mean), steps // 100)))  # of long recordings a hundred steps each
    chosen = [stretches[i] for i in np.linspace(0, len(stretches) - 1, count).astype(int)]
    return tuple(dataclasses.replace(s, length=min(s.length, steps // count)) for s in chosen)


def stretch_clips(store: Store, stretches: tuple[Stretch, ...]) -> Clips:
    """The name of the source and the frames of each stretch, one after another."""

    def clips() -> Iterator[tuple[str, np.ndarray]]:
        for s in stretches:
            yield store.clips[s.clip].name, store.window(s.clip, s.start, s.length)

    return clips


def as_batch(windows: list[np.ndarray]) -> Tensor:
    """uint8 (T, H, W, 3) each -> (B, T, 3, H, W), channels last in memory."""
    return rearrange(torch.from_numpy(np.stack(windows)), "b t h w c -> b t c h w")


def run_facts(store: Store, split: Split, config: RunConfig) -> dict[str, Any]:
    """What config.json says of the run, beside the model's settings."""
    parts = {
        name: [{"name": store.clips[s.clip].name, "start": s.start, "length": s.length} for s in getattr(split, name)]
        for name in ("train", "development", "calibration")
    }
    data = {
        "store": store.where,
        "clips": len(store),
        "frames": store.statistics.frames,
        "mean": store.statistics.mean,
        "std": store.statistics.std,
    }
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "model"}
    settings["train"]["objective"]["class"] = type(config.train.objective).__name__
    return {"foretell": metadata.version("foretell"), "data": data, "run": settings, "split": parts}


def same_run_or_stop(out: Path, config: RunConfig, store: Store) -> None:
    """Note the settings of a new run in `out`, or check that the run to go on with has the same."""
    settings = dataclasses.asdict(config) | {"clips": [[c.name, c.frames, c.crc32] for c in store.clips]}
    for later in LATER:
        del settings[later]
    text = json.dumps(settings, default=str, sort_keys=True)
    path = out / "run.json"
    if not os.path.exists(path):  # os's, which says no to a name too long for the disk, where pathlib's raises
        write_whole(path, text + "\n")
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
    before = {name: its for name, its in before.items() if name not in LATER}
    if before != now:
        changed = sorted(k for k in now if before.get(k) != now[k])
        raise ConfigError(
            f"{out}: holds a run with other settings ({', '.join(changed)}): choose another --out, or delete it"
        )
