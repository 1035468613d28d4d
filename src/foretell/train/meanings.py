"""What the monitors of the chosen checkpoint mean, in plain words, and what the diary says was wrong on the way."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from foretell.objectives.collapse import HORIZONS, Alarm


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """One monitor: what it measures, and between what it is healthy (`low` to `high`, as `objectives.collapse.alarms`)."""

    key: str
    name: str
    meaning: str
    low: float = -math.inf
    high: float = math.inf

    @property
    def healthy(self) -> str:
        """The range in words."""
        if self.low > -math.inf and self.high < math.inf:
            return f"{self.low:g} to {self.high:g}"
        if self.low > -math.inf:
            return f"{self.low:g} or more"
        return f"{self.high:g} or less" if self.high < math.inf else "no alarm on it"

    def judge(self, value: float | None) -> str:
        """in range, out of range, unknown; empty for a monitor without a range."""
        if value is None:
            return "unknown"
        if self.low == -math.inf and self.high == math.inf:
            return ""
        return "in range" if self.low <= value <= self.high else "out of range"


def monitors_of(latent_width: int, *, acting: bool = False, learned: bool = True) -> list[Monitor]:
    """The monitors beside the errors, for latents of this width; of a model that acts one more.

    Of latents that nobody learned only those that speak of the footage and of actions.
    """
    shuffled = Monitor(
        key="action_shuffle_ratio",
        name="Action shuffle ratio",
        low=1.1,
        meaning="Error if it is told what was done in another clip, over the usual one. Near 1, it does not listen.",
    )
    of_latents = [
        Monitor(
            key="rank",
            name="Effective rank",
            low=0.25 * latent_width,
            meaning=f"How many of the {latent_width} dimensions of a latent are in use. Few: it says nearly the same of everything.",
        ),
        Monitor(
            key="rank_of_variance",
            name="Directions that matter",
            low=min(7, 0.4 * latent_width),
            meaning="The same, each direction counted by how much latents differ along it.",
        ),
        Monitor(
            key="std_median",
            name="Deviation, middle dimension",
            meaning="How much latents differ, over all held-out frames. The encoder's norm makes it 1 in training.",
        ),
        Monitor(key="std_min", name="Deviation, least dimension", low=0.8, meaning="Near 0, a dimension lies idle."),
        Monitor(
            key="std_max",
            name="Deviation, largest dimension",
            high=1.5,
            meaning="Far above the middle one, a dimension rules.",
        ),
        Monitor(
            key="std_within",
            name="Deviation inside clips",
            low=0.1,
            meaning="The same inside one clip, where the picture moves. Near 0, latents say which clip it is and nothing else.",
        ),
        Monitor(
            key="sigreg_over_gaussian",
            name="Distance from a Gaussian",
            meaning="How unevenly latents are spread, against samples that truly are Gaussian (1).",
        ),
    ]
    return [
        *(of_latents if learned else []),
        Monitor(
            key="order",
            name="Order of time",
            high=0.8,
            meaning="Change over one step against change over many. Near 1, the order of frames tells nothing.",
        ),
        Monitor(
            key="motion",
            name="Motion in the footage",
            low=0.05,
            meaning="Mean change of a pixel from step to step, in grey levels of 255. Near 0, nothing happens to learn from.",
        ),
        *([shuffled] if acting else []),
    ]


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """Errors `steps` ahead, all in units of the error of repeating the last latent (a copy is 1)."""

    steps: int
    model: float | None
    straight: float | None
    """Going on in a straight line."""


def foresight(line: dict[str, Any]) -> list[Foresight]:
    """The errors of one look, by horizon, as far as it has them."""
    found = []
    for steps in HORIZONS:
        if f"error_over_copy_{steps}" in line:
            model, over_linear = (
                measured(line, f"error_over_copy_{steps}"),
                measured(line, f"error_over_linear_{steps}"),
            )
            straight = model / over_linear if model is not None and over_linear else None
            found.append(Foresight(steps=steps, model=model, straight=straight))
    return found


def measured(line: dict[str, Any], key: str) -> float | None:
    """A monitor of one look; None where it is missing, null or not finite."""
    value = line.get(key)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class Raised:
    """An alarm of the run: its last wording, when it was raised, and whether the chosen checkpoint still has it."""

    alarm: Alarm
    steps: list[int]
    stands: bool


def raised_alarms(looks: list[dict[str, Any]], chosen_step: int) -> list[Raised]:
    """The alarms of all looks by name; those of the chosen checkpoint first."""
    by_name: dict[str, list[tuple[int, Alarm]]] = {}
    for line in looks:
        for alarm in read_alarms(line.get("alarms") or ""):
            by_name.setdefault(alarm.name, []).append((line["step"], alarm))
    raised = []
    for told in by_name.values():
        of_chosen = [alarm for step, alarm in told if step == chosen_step]
        alarm = of_chosen[0] if of_chosen else told[-1][1]
        raised.append(Raised(alarm=alarm, steps=[step for step, _ in told], stands=bool(of_chosen)))
    return sorted(raised, key=lambda one: (not one.stands, one.steps[0]))


def read_alarms(text: str) -> list[Alarm]:
    """The alarms that the diary holds as their sentences, joined by "; "."""
    found = []
    for sentence in re.split(r"(?<=\.); ", text) if text else []:
        name, _, rest = sentence.partition(": ")
        meaning, _, remedy = rest.removesuffix(".").partition(". Try: ")
        found.append(Alarm(name, meaning, remedy))
    return found
