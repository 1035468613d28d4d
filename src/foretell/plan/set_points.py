"""Goals without a picture: where some of the probed quantities should be. Asked for in words, judged on the true state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foretell.errors import ConfigError
from foretell.model.heads import Probe
from foretell.plan.costs import Cost, Effort, Region, Weighted
from foretell.worlds.world import ActWorld

NEAR = 0.25
"""Deviations of a quantity, over what the probe was trained on, that count as there unless it is said otherwise."""


@dataclass(frozen=True, kw_only=True)
class SetPoints:
    """Where K quantities should be, each in its own units."""

    names: tuple[str, ...]
    """What they are called in the world's state."""
    low: tuple[float, ...]
    """From where on each should be."""
    high: tuple[float, ...]
    """Up to where; the same for a single value."""
    within: tuple[float, ...]
    """How far from there each may truly be to count as there; 0 for a region."""

    def __str__(self) -> str:
        """In words."""
        return ", ".join(
            f"{name} from {low:g} to {high:g}" if low < high else f"{name} at {low:g} (within {near:.3g})"
            for name, low, high, near in self._parts()
        )

    def cost(self, probe: Probe, effort: float = 0.0, most: tuple[float, ...] = (1.0,)) -> Cost:
        """Squared distance of what the probe reads from there, in its deviations, summed over quantities and steps.

        And `effort` for every step in which each number of the action is at its `most`, (A,).
        """
        indices = tuple(probe.names.index(name) for name in self.names)
        scale = tuple(float(probe.std[index]) for index in indices)
        there: Cost = Region(probe, indices, self.low, self.high, scale, over="sum")
        return Weighted(((1.0, there), (effort, Effort(most)))) if effort else there

    def unknown_in(self, world: ActWorld) -> list[str]:
        """Quantities that the world does not tell: then nobody can say whether it is there."""
        return [name for name in self.names if name not in world.quantities]

    def hold(self, world: ActWorld) -> bool:
        """Whether each quantity is where it should be, by the world's true state. What the world does not tell never is."""
        if self.unknown_in(world):
            return False
        state = dict(zip(world.quantities, world.state().tolist(), strict=True))
        return all(low - near <= state[name] <= high + near for name, low, high, near in self._parts())

    def _parts(self) -> Iterator[tuple[str, float, float, float]]:
        return zip(self.names, self.low, self.high, self.within, strict=True)


def read_set_points(texts: Sequence[str], within: float | None, probe: Probe | None) -> SetPoints:
    """NAME=VALUE or NAME=LOW..HIGH of each -> set-points; `within` is for all values, a quarter of each one's deviation
    unless given.

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
    edges: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in probe.names:
            raise ConfigError(
                f"{said}: got {text!r}, expected NAME=VALUE or NAME=LOW..HIGH, NAME one of {', '.join(probe.names)}"
            )
        if name in edges:
            raise ConfigError(f"{said}: {name} is there twice, expected one value of it")
        low, region, high = number.partition("..")
        edges[name] = _finite(low, said), _finite(high if region else low, said)
        if region and edges[name][0] >= edges[name][1]:
            raise ConfigError(f"{said}: got {text!r}, expected the lower edge of {name} first")
    deviations = dict(zip(probe.names, probe.std.tolist(), strict=True))
    near = [NEAR * deviations[name] if within is None else within for name in edges]
    lows, highs = zip(*edges.values(), strict=True)
    is_value = [low == high for low, high in edges.values()]
    allowed = tuple(of if one else 0.0 for of, one in zip(near, is_value, strict=True))
    return SetPoints(names=tuple(edges), low=lows, high=highs, within=allowed)


def _finite(text: str, said: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{said}: got the value {text!r}, expected a finite number, in the quantity's own units")
    return value
