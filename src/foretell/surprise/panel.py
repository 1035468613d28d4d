"""The panel that watches: the model and, beside it, the two controls that keep its score honest, each calibrated alike.

motion learns nothing and sees pixels change. The untrained network has the model's build and random weights. What they
catch, too, needed no world model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError, DataError
from foretell.model.folder import add_to_sums, load_model, read_config
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.surprise.calibrate import Calibration, calibrate
from foretell.surprise.score import (
    LatentScorer,
    MotionScorer,
    Scorer,
    fit_whitening,
    load_whitening,
    save_whitening,
)
from foretell.surprise.smooth import Smoother
from foretell.surprise.strange import Normal, fit_passing
from foretell.surprise.stream import Clips, Seen, SurpriseConfig, foretold_clips

MODEL, MOTION, UNTRAINED = "model", "motion", "untrained network"
STRANGE = "strangeness"
"""Not a scorer: what the model says of how unlike anything normal a video is, calibrated like a score."""
CALIBRATIONS = {
    MODEL: "calibration.json",
    MOTION: "controls/motion.json",
    UNTRAINED: "controls/untrained.json",
    STRANGE: "strange.json",
}
WHITENINGS = {MODEL: "surprise.safetensors", UNTRAINED: "controls/untrained.safetensors"}
NORMAL = "strange.safetensors"


@dataclasses.dataclass
class Panel:
    """Scorers by name, and their calibrations where there are any."""

    scorers: dict[str, Scorer]
    calibrations: dict[str, Calibration]

    @property
    def view(self) -> View:
        """How all of them look at videos."""
        return self.scorers[MODEL].view

    @property
    def controls(self) -> dict[str, tuple[Scorer, Calibration | None]]:
        """The scorers beside the model, each with its calibration."""
        return {name: (s, self.calibrations.get(name)) for name, s in self.scorers.items() if name != MODEL}

    def calibrate(self, clips: Iterable[tuple[str, np.ndarray]], *, segment_seconds: float, gap_seconds: float) -> None:
        """Score normal clips, each a name and uint8 (T, H, W, 3), with all scorers, and calibrate them.

        Several stretches may bear the name of one file. Raises CalibrationError if one of the scorers can score none;
        then all stay as they were.
        """
        scores: dict[str, dict[str, np.ndarray]] = {name: {} for name in (*self.scorers, STRANGE)}
        names: list[str] = []
        for number, (clip, frames) in enumerate(clips):
            names.append(clip)
            for name, scorer in self.scorers.items():
                scores[name][str(number)], strange = scores_of(scorer, frames)
                if name == MODEL:
                    scores[STRANGE][str(number)] = strange
        calibrations = {}
        for name, of_clips in scores.items():
            if name == STRANGE and np.isnan(np.concatenate(list(of_clips.values()))).all():
                continue  # it says nothing of that, or all were too short for it
            found = calibrate(of_clips, fps=self.view.fps, segment_seconds=segment_seconds, gap_seconds=gap_seconds)
            seen = tuple(dict.fromkeys(names[int(number)] for number in found.names))
            calibrations[name] = dataclasses.replace(found, names=seen)
        self.calibrations = calibrations

    def save(self, folder: Path) -> None:
        """Write whitenings and calibrations into the model folder. Raises DataError if the disk takes no more."""
        (folder / "controls").mkdir(exist_ok=True)
        for name, file in WHITENINGS.items():
            scorer = self.scorers[name]
            assert isinstance(scorer, LatentScorer)
            save_whitening(folder / file, scorer.whitening, scorer.config)
        files = list(WHITENINGS.values())
        model = self.scorers[MODEL]
        if isinstance(model, LatentScorer) and model.normal is not None:
            save_tensors(folder / NORMAL, model.normal._asdict(), {})
            files.append(NORMAL)
        add_to_sums(folder, files)
        self.save_calibrations(folder)

    def save_calibrations(self, folder: Path) -> None:
        """Write the calibrations alone."""
        for name, calibration in self.calibrations.items():
            calibration.save(folder / CALIBRATIONS[name])


def fit_panel(model: WorldModel, few: Clips, many: Clips, config: SurpriseConfig, seed: int) -> Panel:
    """Scorers whitened on a few clips, which are looked at once and kept meanwhile: not those that calibrate.

    Errors that are expected, if they are, are learned from many. `seed` is that of the untrained network's weights.
    """
    scorers: dict[str, Scorer] = {MOTION: MotionScorer(model.config.view, model.grid, config)}
    for name, network in ((MODEL, model), (UNTRAINED, untrained_model(model.config, seed))):
        seen = list(foretold_clips(network, few, dataclasses.replace(config, expect=False)))
        normal = normal_of(seen) if name == MODEL else None
        scorers[name] = LatentScorer(network, fit_whitening(network, seen, many, config), config, normal)
    return Panel(scorers, {})


def normal_of(seen: Sequence[Seen]) -> Normal | None:
    """What normal stretches are like; None if all are shorter than what is judged together: who watches is told that it cannot say."""
    try:
        return fit_passing(lambda: (one.passing for one in seen))
    except DataError:
        return None


def load_panel(folder: Path | str) -> Panel:
    """The panel of a model folder. Raises CheckpointError if a file is missing or altered; calibrations may be absent."""
    folder = Path(folder)
    model, seed = load_model(folder), int(read_config(folder).get("untrained_seed", 0))
    if model.config.actions is not None:
        raise CheckpointError(
            f"{folder}: this model acts: its surprise needs what was done. Guardrails watch it (foretell plan); to watch "
            "videos, train with a preset that only watches"
        )
    networks = {MODEL: model, UNTRAINED: untrained_model(model.config, seed)}
    scorers: dict[str, Scorer] = {}
    for name, network in networks.items():
        whitening, config = load_whitening(folder / WHITENINGS[name], network)
        scorers[name] = LatentScorer(network, whitening, config, load_normal(folder) if name == MODEL else None)
    scorers[MOTION] = MotionScorer(model.config.view, model.grid, config)
    found = {name: folder / file for name, file in CALIBRATIONS.items() if (folder / file).exists()}
    if found and MODEL not in found:
        raise CheckpointError(
            f"{folder / CALIBRATIONS[MODEL]}: missing, though the controls are calibrated: calibrate again"
        )
    return Panel(scorers, {name: Calibration.load(path) for name, path in found.items()})


def untrained_model(config: ModelConfig, seed: int) -> WorldModel:
    """The model's build with random weights, a function of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WorldModel(config).eval()


def load_normal(folder: Path) -> Normal | None:
    """What normal stretches are like; None for a model that was trained before it learned that. Raises CheckpointError."""
    if not (folder / NORMAL).exists():
        return None
    tensors, _ = load_tensors(folder / NORMAL)
    try:
        return Normal(**tensors)
    except TypeError as error:
        raise CheckpointError(f"{folder / NORMAL}: does not fit ({error}): bring it back, or train again") from error


def surprise_of(scorer: Scorer, frames: np.ndarray, chunk: int = 64) -> np.ndarray:
    """Surprise (T,) of one whole clip, uint8 (T, H, W, 3), smoothed as the scorer's settings say, in bounded memory."""
    return scores_of(scorer, frames, chunk)[0]


def scores_of(scorer: Scorer, frames: np.ndarray, chunk: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The same, and how strange its last steps are (T,); NaN where that is not said."""
    scorer.start()
    smoother, surprise, strange = Smoother(scorer.smooth), [], []
    for at in range(0, len(frames), chunk):
        scores = scorer.score(frames[at : at + chunk])
        surprise.append(smoother.add(scores.surprise))
        strange.append(scores.strange)
    return np.concatenate([*surprise, smoother.end()]), np.concatenate(strange)
