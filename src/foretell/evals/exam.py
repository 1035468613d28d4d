"""The exam in intuitive physics: who sits it, what is asked, and the figures that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError
from foretell.evals.alarms import false_alarms, together, visible_violations
from foretell.evals.intervals import Figure
from foretell.evals.intuitive_physics import Verdicts, examine
from foretell.evals.judges import Judge
from foretell.log import progress
from foretell.surprise.calibrate import Calibration, calibrate, units_needed
from foretell.surprise.panel import MODEL, Panel
from foretell.worlds.physics import Physics
from foretell.worlds.record import episode_seed
from foretell.worlds.stage import PROPERTIES, Part

HORIZONS = (1, 4)
"""Steps before, from which a step is foretold. Fixed once, on the development part, where 1, 2, 4 and 8 told no more."""
SEEDS = {"normal": 71_001, "calibration": 72_001, "quadruplets": 73_001, "possible": 74_001, "violations": 75_001}
"""Of all that the exam draws; recordings to train on have others, and another part of every range."""

AT_ONCE = 200
"""Possible clips that one process watches before it takes others."""


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    """How much is asked."""

    part: Part = "test"
    """Ranges of the scenes: test, or development while a model is being made."""
    quadruplets: int = 200
    """Matched quadruplets of each property."""
    normal: int = 128
    """Possible clips of the training part on which errors are whitened."""
    calibration: int = 300
    """Possible clips of the development part that set each judge's alarm line."""
    possible: int = 2000
    """Fresh possible clips on which false alarms are counted."""
    violations: int = 100
    """Clips of each visible violation."""
    oracle_clips: int = 3000
    """Possible clips that the state oracle learns from."""
    oracle_steps: int = 1500
    """Its training steps."""
    alpha: float = 0.05
    """The false-alarm rate promised."""
    frames: int = 24
    """Frames of a clip, 10 a second."""

    def __post_init__(self) -> None:
        for name in ("quadruplets", "normal", "possible", "violations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"exam {name}: got {getattr(self, name)}, expected 1 or more")
        if self.calibration < units_needed(self.alpha):  # now, not after the controls are trained
            got = f"got {self.calibration} for alpha {self.alpha:g}"
            raise ConfigError(f"exam calibration: {got}, expected {units_needed(self.alpha)} or more")

    def world(self, part: Part, size: int) -> Physics:
        """Staged scenes of a part."""
        return Physics(scenario="staged", part=part, size=size, frames=self.frames)

    @property
    def protocol(self) -> dict[str, Any]:
        """Every setting that could change a number."""
        return {**asdict(self), "horizons": HORIZONS, "seeds": SEEDS}


Figures = dict[str, dict[str, Figure]]
"""judge -> name of the figure -> figure."""


def sit(
    judges: Mapping[str, Judge], config: ExamConfig, size: int, pool: Executor
) -> tuple[Figures, dict[str, dict[str, Verdicts]]]:
    """All judges before all quadruplets: figures of each judge, and the verdicts, property by property.

    Every judge has its own alarm line, from the largest surprise of the same possible clips.
    """
    lines = pool.map(line, judges.values(), repeat(config), repeat(size))
    calibrations = dict(zip(judges, lines, strict=True))
    figures: Figures = {name: {} for name in judges}
    verdicts: dict[str, dict[str, Verdicts]] = {}
    questions = (repeat(config.world(config.part, size)), PROPERTIES, repeat(config.quadruplets))
    answers = pool.map(examine, repeat(judges), *questions, repeat(SEEDS["quadruplets"]))
    with progress(len(PROPERTIES) * config.quadruplets, "quadruplets", "quadruplet") as bar:
        for kind, of_kind in zip(PROPERTIES, answers, strict=True):
            verdicts[kind] = of_kind
            for name, verdict in of_kind.items():
                found = verdict.figures(calibrations[name], config.alpha)
                figures[name] |= {f"{kind}/{figure}": value for figure, value in found.items()}
            bar.update(config.quadruplets)
    return figures, verdicts


def line(judge: Judge, config: ExamConfig, size: int) -> Calibration:
    """The largest surprise of possible clips that are neither trained on nor asked."""
    clips = possible_clips(config.world("development", size), config.calibration, SEEDS["calibration"])
    surprise = judge.surprise(judge.look(clips)).numpy()
    return calibrate({clip.name: of_clip for clip, of_clip in zip(clips, surprise, strict=True)}, fps=clips[0].fps)


def possible_clips(world: Physics, count: int, seed: int) -> list[Clip]:
    """The first `count` episodes of a seed."""
    return [world.episode(episode_seed(seed, i)) for i in range(count)]


def watchfulness(panel: Panel, config: ExamConfig, size: int, pool: Executor) -> dict[str, Figure]:
    """Single clips, each alone, scored as `foretell watch` scores them, at the model's own calibration.

    false_alarms, over all possible clips and of each kind; caught and delay (frames) of visible violations.
    """
    calibration = panel.calibrations.get(MODEL)
    if calibration is None:
        return {}
    ask = (panel.scorers[MODEL], calibration.threshold(config.alpha), config.world(config.part, size))
    portions = [range(at, min(config.possible, at + AT_ONCE)) for at in range(0, config.possible, AT_ONCE)]
    asked = [pool.submit(false_alarms, *ask, portion, SEEDS["possible"]) for portion in portions]
    wrong = pool.submit(visible_violations, *ask, config.violations, SEEDS["violations"])
    possible = together(future.result() for future in asked)
    slices = possible.by_kind()
    found = {"false_alarms": possible.all(), "false_alarms/worst_slice": max(slices.values(), key=_value)}
    found |= {f"false_alarms/{kind}": figure for kind, figure in slices.items()}
    found |= {"visible/caught": wrong.result().all(), "visible/delay": wrong.result().delay()}
    return found | {f"visible/{name}": figure for name, figure in wrong.result().by_kind().items()}


def _value(figure: Figure) -> float:
    return float(np.nan_to_num(figure["value"]))
