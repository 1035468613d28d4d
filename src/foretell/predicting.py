"""The verbs that foretell quantities: quantify, predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from foretell.data.readers import UnreadableSource, find_sources, read
from foretell.data.truth import read_truth
from foretell.errors import ConfigError, DataError
from foretell.log import progress
from foretell.model.folder import load_model
from foretell.model.quantities import QuantitiesConfig
from foretell.model.world_model import WorldModel
from foretell.serve.prediction import Prediction, write_prediction
from foretell.train.forecaster import Forecaster, ForecasterConfig, fit_forecaster
from foretell.train.quantities import Told, imagine_windows, parted
from foretell.verbs import one_thread


@dataclass(frozen=True, kw_only=True)
class QuantifySummary:
    """What was learned, as the command line prints it."""

    model: Path
    """The model folder."""
    names: tuple[str, ...]
    """Quantities."""
    clips: tuple[int, int, int]
    """To learn from, to scale spreads on, to calibrate on."""
    left_out: int
    """Files that could not be read."""
    widths: np.ndarray
    """(H, Q) mean width of the band over the whole horizon, on calibration clips."""
    level: float
    """Share of new clips whose quantities stay inside."""

    def __str__(self) -> str:
        """In words."""
        parts = ", ".join(
            f"{n} to {what}" for n, what in zip(self.clips, ("learn from", "scale", "calibrate"), strict=True)
        )
        lines = [f"{self.model}: foretells {', '.join(self.names)}; clips: {parts}; {self.left_out} could not be read"]
        for step in (1, len(self.widths)):
            wide = ", ".join(
                f"{name} {width:.3g}" for name, width in zip(self.names, self.widths[step - 1], strict=True)
            )
            lines.append(f"  band of {self.level:.0%}, {step} ahead, width: {wide}")
        return "\n".join(lines)


def quantify(
    model: Positional[Path],
    recording: Positional[Path],
    *,
    names: tuple[str, ...],
    context: int = 8,
    horizon: int = 10,
    level: float = 0.9,
    seed: int = 0,
) -> QuantifySummary:
    """Learn to foretell quantities that are known in some clips, with a band that keeps a promise.

    The model is left as it is; small heads learn on what it imagines. Clips are dealt out: half to learn from, a tenth to scale
    spreads on, the rest to calibrate. For a promise the model should not have been trained on them.

    Args:
        model: The model folder.
        recording: Videos with states.parquet, or NAME.csv (a header, a row for each frame) beside each NAME.mp4.
        names: Columns of the tables: numbers that are known in every frame; of worlds with objects, of the first one.
        context: Steps that are seen before anything is foretold.
        horizon: Steps that are foretold.
        level: Share of new clips whose quantities stay inside the band over the whole horizon.
        seed: Of the heads, and of who is dealt what.
    """
    one_thread()
    folder = Path(model)
    network = load_model(folder)
    check_watches(network)
    config = QuantitiesConfig(names=tuple(names), context=context, horizon=horizon)
    told = ForecasterConfig(level=level, seed=seed)
    footage = Footage(network, Path(recording), config)
    learn, scale, calibrate = (
        footage.windows(part, told.every if number == 0 else None)
        for number, part in enumerate(parted(len(footage.files), told.parts, seed))
    )
    forecaster = fit_forecaster(network, learn, scale, calibrate, config, told)
    forecaster.save(folder)
    said = forecaster(calibrate)
    low, high = forecaster.band.interval(said.mean, said.spread)
    counts = tuple(len(part.clip.unique()) for part in (learn, scale, calibrate))
    return QuantifySummary(
        model=folder,
        names=config.names,
        clips=counts,  # type: ignore[arg-type]
        left_out=footage.left_out,
        widths=(high - low).mean(0),
        level=level,
    )


def predict(
    model: Positional[Path],
    clip: Positional[Path],
    out: Path = Path("predicted.html"),
    *,
    at: int | None = None,
    samples: int = 20,
) -> Prediction:
    """Foretell the quantities of a clip from one moment on: mean, band, possible courses, and "I don't know" where it does not.

    Writes a page, and beside it the numbers as JSON.

    Args:
        model: A model folder that foretell quantify has dealt with.
        clip: A video.
        out: The page to write.
        at: Step from which on it is foretold; only what came before is looked at. The end of the clip unless given.
        samples: Possible courses that are drawn.
    """
    one_thread()
    network = load_model(Path(model))
    forecaster = Forecaster.load(Path(model), network)
    config = forecaster.quantities.config
    frames = one_clip(Path(clip), network)
    end = len(frames) if at is None else at
    if not config.context <= end <= len(frames):
        raise ConfigError(f"--at {end}: {clip} has {len(frames)} steps, expected {config.context} to {len(frames)}")
    seen = frames[end - config.context : end]
    unknown = np.full((config.horizon, len(config.names)), np.nan)
    blank = np.zeros((config.horizon, *seen.shape[1:]), np.uint8)  # never looked at: windows are cut from whole clips
    told = imagine_windows(
        network,
        [(np.concatenate([seen, blank]), np.concatenate([np.zeros((config.context, len(config.names))), unknown]))],
        config,
        every=None,
    )
    return write_prediction(
        Path(out), Path(clip), seen, frames[end : end + config.horizon], forecaster, forecaster(told), end, samples,
        network.config.view.fps,
    )  # fmt: skip


class Footage:
    """Clips of a recording and the quantities that are known of them; each file is decoded when its part is asked for."""

    def __init__(self, model: WorldModel, recording: Path, config: QuantitiesConfig) -> None:
        """Raises DataError if nothing tells the quantities, or of no video."""
        self.model, self.config, self.left_out = model, config, 0
        truth = read_truth(recording, config.names)
        self.files = [(source, truth[source.name]) for source in find_sources(recording) if source.name in truth]
        if not self.files:
            raise DataError(f"{recording}: the tables speak of none of its videos: look at the names in them")

    def windows(self, part: list[int], every: int | None) -> Told:
        """What the model saw and imagined of these files. Raises DataError if none can be used."""
        clips = ((frames, truth) for _, frames, truth in self.clips(part, "quantify"))
        return imagine_windows(self.model, clips, self.config, every=every)

    def clips(self, part: Sequence[int], doing: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Name, frames uint8 (T, H, W, 3) and truth (T, Q) of these files; what cannot be read is told and counted."""
        with progress(len(part), doing, "file") as bar:
            for number in part:
                source, truth = self.files[number]
                bar.update()
                try:
                    frames = np.concatenate([chunk.frames for chunk in read(source, self.model.config.view)])
                except UnreadableSource as error:
                    self.left_out += 1
                    bar.write(f"skipped {source.name}: {error.reason}")
                    continue
                if len(frames) != len(truth):
                    raise DataError(
                        f"{source.name}: {len(frames)} steps at the model's {self.model.config.view.fps:g} a second, and "
                        f"{len(truth)} rows of truth; expected as many: record at that rate"
                    )
                yield source.name, frames, truth


def check_watches(model: WorldModel) -> None:
    """Raise ConfigError for a model that acts: what it foretells hangs on what is done; its own probe reads quantities."""
    if model.config.actions is not None:
        raise ConfigError("this model acts: its heads read quantities already (evaluate planning, plan, what-if)")


def one_clip(clip: Path, model: WorldModel) -> np.ndarray:
    """All steps of one video, uint8 (T, H, W, 3). Raises DataError."""
    sources = find_sources(clip)
    if len(sources) != 1:
        raise DataError(f"{clip}: holds {len(sources)} files, expected one clip: name a single video")
    return np.concatenate([chunk.frames for chunk in read(sources[0], model.config.view)])
