"""Goals without a picture: values that some of the probed quantities should have. Asked for in words, judged on the true state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foretell.errors import ConfigError
from foretell.model.heads import Probe
from foretell.plan.costs import Cost, SetPoint, Weighted
from foretell.worlds.world import ActWorld

NEAR = 0.25
"""Deviations of a quantity, over what the probe was trained on, that count as there unless it is said otherwise."""


@dataclass(frozen=True, kw_only=True)
class SetPoints:
    """Where K quantities should be, each in its own units."""

    names: tuple[str, ...]
    """What they are called in the world's state."""
    values: tuple[float, ...]
    """Where each should be."""
    within: tuple[float, ...]
    """How far from there each may truly be to count as there."""

    def __str__(self) -> str:
        """In words."""
        parts = zip(self.names, self.values, self.within, strict=True)
        return ", ".join(f"{name} at {value:g} (within {near:.3g})" for name, value, near in parts)

    def cost(self, probe: Probe) -> Cost:
        """Squared differences of what the probe reads, in its deviations, summed over quantities and steps."""
        parts = []
        for name, value in zip(self.names, self.values, strict=True):
            index = probe.names.index(name)
            parts.append((1.0, SetPoint(probe, index, value, float(probe.std[index]), over="sum")))
        return Weighted(tuple(parts))

    def unknown_in(self, world: ActWorld) -> list[str]:
        """Quantities that the world does not tell: then nobody can say whether it is there."""
        return [name for name in self.names if name not in world.quantities]

    def hold(self, world: ActWorld) -> bool:
        """Whether each quantity is where it should be, by the world's true state. What the world does not tell never is."""
        if self.unknown_in(world):
            return False
        state = dict(zip(world.quantities, world.state().tolist(), strict=True))
        parts = zip(self.names, self.values, self.within, strict=True)
        return all(abs(state[name] - value) <= near for name, value, near in parts)


def read_set_points(texts: Sequence[str], within: float | None, probe: Probe | None) -> SetPoints:
    """NAME=VALUE of each -> set-points; `within` is for all of them, a quarter of each one's deviation unless given.

    Raises ConfigError for a model without a probe, a quantity that it does not read, and what is no number.
    """
    said = f"--to {' '.join(texts)}"
    if probe is None:
        raise ConfigError(
            f"{said}: nobody told this model true states, so it reads no quantities; "
            "train on a recording that has them, or leave --to out"
        )
    if within is not None and not 0 < within < math.inf:
        raise ConfigError(f"--within {within:g}: expected a number above 0, in the units of the quantities")
    values: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in probe.names:
            raise ConfigError(f"{said}: got {text!r}, expected NAME=VALUE, NAME one of {', '.join(probe.names)}")
        if name in values:
            raise ConfigError(f"{said}: {name} is there twice, expected one value of it")
        values[name] = _finite(number, said)
    deviations = dict(zip(probe.names, probe.std.tolist(), strict=True))
    near = tuple(NEAR * deviations[name] if within is None else within for name in values)
    return SetPoints(names=tuple(values), values=tuple(values.values()), within=near)


def _finite(text: str, said: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{said}: got the value {text!r}, expected a finite number, in the quantity's own units")
    return value
