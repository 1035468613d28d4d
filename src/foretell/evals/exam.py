"""The exam in intuitive physics: who sits it, what is asked, and the figures that come of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from foretell.data.clip import Clip
from foretell.errors import ConfigError
from foretell.evals.alarms import false_alarms, together, visible_violations
from foretell.evals.answers import Answers, code, joined
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
SEEDS = {
    "normal": 71_001,
    "calibration": 72_001,
    "quadruplets": 73_001,
    "possible": 74_001,
    "violations": 75_001,
    "familiar": 76_001,
}
"""Of all that the exam draws; recordings to train on have others, and, but for normal and familiar, another part of every range."""

AT_ONCE, PORTION = 200, 40
"""Possible clips, and quadruplets of a property, that one process takes at once."""


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
    """Fresh possible clips on which false alarms are counted; and as many of the training part."""
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

    def key(self, judge: str, size: int) -> str:
        """A name for all that the answers of a judge depend on, given all that it depends on itself."""
        apart = ("possible", "violations", "alpha")  # of the model's own alarms, and of figures made from answers
        asked = {name: value for name, value in self.protocol.items() if name not in apart}
        return hashlib.sha256(repr((judge, size, sorted(asked.items()), code())).encode()).hexdigest()[:12]


Figures = dict[str, dict[str, Figure]]
"""judge -> name of the figure -> figure."""


class Asked(NamedTuple):
    """Questions that other processes are at."""

    lines: dict[str, Future[Calibration]]
    """judge -> its alarm line, from the largest surprise of the same possible clips."""
    verdicts: dict[str, list[Future[dict[str, Verdicts]]]]
    """property -> portions of its quadruplets."""

    def answers(self) -> dict[str, Answers]:
        """Wait for all of them: judge -> answers."""
        found: dict[str, dict[str, Verdicts]] = {name: {} for name in self.lines}
        with progress(sum(map(len, self.verdicts.values())), ", ".join(found), "portion") as bar:
            for kind, futures in self.verdicts.items():
                portions = []
                for future in futures:
                    portions.append(future.result())
                    bar.update()
                for name, of_judge in found.items():
                    of_judge[kind] = joined(portion[name] for portion in portions)
        return {
            name: Answers(calibration=self.lines[name].result(), verdicts=of_judge) for name, of_judge in found.items()
        }


def ask(judges: Mapping[str, Judge], config: ExamConfig, size: int, pool: Executor) -> Asked:
    """Put all quadruplets before all judges, which are no slower for being together, and return at once."""
    world, total = config.world(config.part, size), config.quadruplets
    return Asked(
        {name: pool.submit(line, judge, config, size) for name, judge in judges.items()},
        {
            kind: [
                pool.submit(examine, judges, world, kind, min(total, at + PORTION), SEEDS["quadruplets"], at)
                for at in range(0, total, PORTION)
            ]
            for kind in PROPERTIES
        },
    )


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

    false_alarms, over all possible clips and of each kind; caught and delay (frames) of visible violations. The promise is
    about fresh clips like those that calibrated, so familiar_alarms are counted on as many of the training part.
    """
    calibration = panel.calibrations.get(MODEL)
    if calibration is None:
        return {}
    judged = (panel.scorers[MODEL], calibration.threshold(config.alpha))
    portions = [range(at, min(config.possible, at + AT_ONCE)) for at in range(0, config.possible, AT_ONCE)]
    world = config.world(config.part, size)
    wrong = pool.submit(visible_violations, *judged, world, config.violations, SEEDS["violations"])
    asked = {
        name: [pool.submit(false_alarms, *judged, whose, portion, SEEDS[drawn]) for portion in portions]
        for name, whose, drawn in (
            ("false_alarms", world, "possible"),
            ("familiar_alarms", config.world("train", size), "familiar"),
        )
    }
    found: dict[str, Figure] = {}
    for name, futures in asked.items():
        possible = together(future.result() for future in futures)
        slices = possible.by_kind()
        found |= {name: possible.all(), f"{name}/worst_slice": max(slices.values(), key=_value)}
        found |= {f"{name}/{kind}": figure for kind, figure in slices.items()}
    found |= {"visible/caught": wrong.result().all(), "visible/delay": wrong.result().delay()}
    return found | {f"visible/{name}": figure for name, figure in wrong.result().by_kind().items()}


def _value(figure: Figure) -> float:
    return float(np.nan_to_num(figure["value"]))
