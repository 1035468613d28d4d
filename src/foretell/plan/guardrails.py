"""Guardrails: what may be done, where things may get to, when to doubt, and what to do then. Written by people, in TOML.

Nothing is limited by default, so nothing may be left out: a file that does not say what is asked for is refused, with
all its faults at once. docs/guardrails.md has an example.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from foretell.errors import ConfigError
from foretell.log import finite

LISTS = ("keep", "avoid")
SECTIONS = ("limits", "surprise", "watchdog", "fallback")


@dataclass(frozen=True, kw_only=True)
class ActionLimits:
    """Hard limits of every single action, in the world's units: one number for each of the action's A numbers."""

    low: tuple[float, ...]
    """Least value of each."""
    high: tuple[float, ...]
    """Greatest value of each."""
    rate: tuple[float, ...]
    """Largest change of each from one action to the next; inf where it may jump."""

    def __post_init__(self) -> None:
        counts = [len(self.low), len(self.high), len(self.rate)]
        if not 0 < counts[0] == counts[1] == counts[2]:
            raise ConfigError(
                f"got {counts[0]} lows, {counts[1]} highs and {counts[2]} rates, expected as many, 1 or more"
            )
        wrong = []
        if not all(-math.inf < low < high < math.inf for low, high in zip(self.low, self.high, strict=True)):
            wrong.append(
                f"got low {list(self.low)} and high {list(self.high)}, expected finite numbers, low below high"
            )
        if not all(rate > 0 for rate in self.rate):
            wrong.append(f"got rate {list(self.rate)}, expected more than 0, or inf")
        if wrong:
            raise ConfigError("; ".join(wrong))


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Keep one quantity between two values, both allowed."""

    quantity: str
    """Its name in the world's state."""
    min: float = -math.inf
    """Least value allowed, in the quantity's units; none unless given."""
    max: float = math.inf
    """Greatest value allowed."""

    def __post_init__(self) -> None:
        if not (self.min < self.max and (math.isfinite(self.min) or math.isfinite(self.max))):
            raise ConfigError(
                f"got min {self.min:g} and max {self.max:g}, expected one of them at least, min below max"
            )


@dataclass(frozen=True, kw_only=True)
class Avoid:
    """Keep two quantities, a place as a rule, out of a disc."""

    quantities: tuple[str, ...]
    """Their two names in the world's state; they share one unit."""
    centre: tuple[float, ...]
    """Centre of the disc."""
    radius: float
    """Its radius. What has a size of its own needs that much more."""

    def __post_init__(self) -> None:
        if len(self.quantities) != 2 or len(self.centre) != 2:
            got = f"{len(self.quantities)} quantities and a centre of {len(self.centre)} numbers"
            raise ConfigError(f"got {got}, expected two of each")
        if not (all(map(math.isfinite, self.centre)) and 0 < self.radius < math.inf):
            raise ConfigError(
                f"got centre {list(self.centre)} and radius {self.radius:g}, expected finite numbers, radius above 0"
            )


@dataclass(frozen=True, kw_only=True)
class SurpriseGate:
    """When what is seen no longer fits what was foreseen."""

    alpha: float
    """Share of normal episodes in which the gate may close once or more; 0 < alpha < 1."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError(f"got alpha {self.alpha:g}, expected more than 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class Watchdog:
    """When plans or pictures come too late, or a camera stands still."""

    plan_seconds: float
    """Longest time that a plan may take."""
    frame_seconds: float
    """Greatest age of a frame when it is looked at."""
    frozen_frames: int
    """Equal frames in a row, while something was done, that mean a frozen camera: 2 or more.

    A real camera never shows the same picture twice; in a simulated world, who pushes against a wall sees no change.
    """

    def __post_init__(self) -> None:
        wrong = [
            f"got {name} {getattr(self, name):g}, expected more than 0 and finite"
            for name in ("plan_seconds", "frame_seconds")
            if not 0 < getattr(self, name) < math.inf
        ]
        if self.frozen_frames < 2:
            wrong.append(f"got frozen_frames {self.frozen_frames}, expected 2 or more")
        if wrong:
            raise ConfigError("; ".join(wrong))


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """What is done in doubt. That it is safe in the world is for people to know; that it keeps the limits is checked."""

    kind: Literal["hold", "stop", "action"]
    """hold: do zeros, until the doubt is gone. stop: the same, until a person begins anew. action: `value`, as hold."""
    value: tuple[float, ...] = ()
    """The action, in the world's units, where zeros are not what is safe: for kind action, and stop if given."""
    retreat: bool = False
    """Where a constraint's margin is overstepped already: whether a plan that only leads away may be done instead.

    As foretold, no frame of it is nearer than now, and its last step keeps the margin. Else the fallback is done, and stays.
    """

    def __post_init__(self) -> None:
        if self.kind not in ("hold", "stop", "action"):
            raise ConfigError(f"got kind {self.kind!r}, expected hold, stop or action")
        if bool(self.value) not in {"hold": (False,), "stop": (False, True), "action": (True,)}[self.kind]:
            expected = "a value" if self.kind == "action" else "no value: use kind action"
            raise ConfigError(f"got kind {self.kind} and value {list(self.value)}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class Guardrails:
    """All that people laid down. Raises ConfigError if parts of it contradict each other."""

    limits: ActionLimits
    """Of every action."""
    surprise: SurpriseGate
    """When to doubt what is seen."""
    watchdog: Watchdog
    """When to doubt that things work."""
    fallback: Fallback
    """What to do in doubt."""
    keep: tuple[Keep, ...] = ()
    """Quantities that must stay between values."""
    avoid: tuple[Avoid, ...] = ()
    """Discs to stay out of."""
    delta: float | None = None
    """Share of plans that may be carried out and break any constraint at any step; needed where there is a constraint."""

    def __post_init__(self) -> None:
        wrong = _contradictions(self.limits, self.fallback, bool(self.keep or self.avoid), self.delta)
        if wrong:
            raise ConfigError("guardrails: " + "; ".join(wrong))

    @property
    def width(self) -> int:
        """A, numbers of one action."""
        return len(self.limits.low)

    @property
    def rest(self) -> tuple[float, ...]:
        """The action of the fallback, (A,)."""
        return self.fallback.value or (0.0,) * self.width

    @property
    def settings(self) -> dict[str, Any]:
        """Everything, ready for JSON; a rate of inf is None."""
        return dict(finite(asdict(self)))

    @property
    def sum(self) -> str:
        """A hash of all settings: equal sums, equal guardrails."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Guardrails:
        """Read guardrails.toml. Raises ConfigError that names every fault of the file, or that there is none."""
        refuses = "without guardrails nothing is done; docs/guardrails.md has an example"
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}): {refuses}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: is not TOML ({error}): {refuses}") from error
        if not content:
            raise ConfigError(f"{path}: says nothing: {refuses}")
        faults: list[str] = []
        found = _read(content, faults)
        if not faults:
            return cls(**found)
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise ConfigError(
            f"{path}: {len(faults)} fault{'s' * (len(faults) > 1)}, nothing is done until mended:{listed}"
        )


def _contradictions(
    limits: ActionLimits | None, fallback: Fallback | None, constrained: bool, delta: float | None
) -> list[str]:
    """What parts say against each other; None is a part that could not be read."""
    wrong = []
    if delta is not None and not 0 < delta < 1:
        wrong.append(f"delta: got {delta:g}, expected more than 0 and less than 1")
    if (delta is None) == constrained:
        got = "constraints and no delta" if delta is None else "delta and no constraint"
        wrong.append(f"delta: got {got}, expected both or neither, since it promises how seldom constraints are broken")
    if limits is None or fallback is None:
        return wrong
    action = fallback.value or (0.0,) * len(limits.low)
    if len(action) != len(limits.low):
        wrong.append(f"fallback.value: got {len(action)} numbers, expected {len(limits.low)} as in limits.low")
    elif not all(low <= x <= high for low, x, high in zip(limits.low, action, limits.high, strict=True)):
        bounds = f"{list(limits.low)} to {list(limits.high)}"
        wrong.append(f"fallback: its action {list(action)} breaks the limits {bounds}, and must be allowed itself")
    return wrong


def _read(content: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """The parts of a file; what is wrong with each is added to `faults`."""
    known = ("delta", *SECTIONS, *LISTS)
    faults += [f"{key}: unknown, expected one of {', '.join(known)}" for key in content if key not in known]
    found: dict[str, Any] = {}
    kinds = dict(zip(SECTIONS, (ActionLimits, SurpriseGate, Watchdog, Fallback), strict=True))
    for key, kind in kinds.items():
        if key in content:
            found[key] = _part(kind, content[key], key, faults)
        else:
            faults.append(f"[{key}]: missing, expected {', '.join(f.name for f in fields(kind))}")
    for key, one in zip(LISTS, (Keep, Avoid), strict=True):
        tables = content.get(key, [])
        if not isinstance(tables, list):
            faults.append(f"{key}: expected tables that begin with [[{key}]]")
            continue
        found[key] = tuple(_part(one, t, f"{key}[{n}]", faults) for n, t in enumerate(tables, start=1))
    constrained = any(content.get(key) for key in LISTS)
    if "delta" in content:
        found["delta"] = _value("float", content["delta"], "delta", faults)
    if "delta" not in content or found["delta"] is not None:
        faults += _contradictions(found.get("limits"), found.get("fallback"), constrained, found.get("delta"))
    return found


Part = TypeVar("Part", ActionLimits, SurpriseGate, Watchdog, Fallback, Keep, Avoid)


def _part(kind: Callable[..., Part], table: Any, key: str, faults: list[str]) -> Part | None:
    """One table of the file; None if anything is wrong with it."""
    if not isinstance(table, Mapping):
        faults.append(f"{key}: got {table!r}, expected a table")
        return None
    asked = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    faults += [f"{key}.{name}: unknown, expected one of {', '.join(asked)}" for name in table if name not in asked]
    before = len(faults)
    faults += [f"{key}.{name}: missing" for name, f in asked.items() if f.default is MISSING and name not in table]
    values = {n: _value(str(asked[n].type), value, f"{key}.{n}", faults) for n, value in table.items() if n in asked}
    if len(faults) > before:
        return None
    try:
        return kind(**values)
    except ConfigError as error:
        faults += [f"{key}: {wrong}" for wrong in str(error).split("; ")]
        return None


def _number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and not math.isnan(x)


def _value(kind: str, value: Any, key: str, faults: list[str]) -> Any:
    """A value of the kind that a field is declared with."""
    if kind.startswith("Literal"):
        kind = "str"
    fits: dict[str, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
        "float": ("a number", _number, float),
        "bool": ("true or false", lambda x: isinstance(x, bool), bool),
        "int": ("a whole number", lambda x: isinstance(x, int) and not isinstance(x, bool), int),
        "str": ("a text", lambda x: isinstance(x, str), str),
        "tuple[float, ...]": ("numbers in [ ]", _all(_number), lambda x: tuple(map(float, x))),
        "tuple[str, ...]": ("texts in [ ]", _all(lambda x: isinstance(x, str)), tuple),
    }
    expected, right, made = fits[kind]
    if not right(value):
        faults.append(f"{key}: got {value!r}, expected {expected}")
        return None
    return made(value)


def _all(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, Sequence) and not isinstance(x, str) and all(map(right, x))
