"""Every decision, written down: JSON lines, each bound to all before it by a hash, and an audit that finds any change.

A line's hash is sha256 of the hash before it and the line itself in canonical form. Without a key this proves that the
lines belong together, not who wrote them: whoever rewrites the whole log can make a new chain. So note the closing hash
elsewhere, and have the audit compare with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from foretell.errors import DataError
from foretell.log import finite

if TYPE_CHECKING:
    import numpy as np

FORMAT = "foretell decisions 1"
DIGITS = 6
"""Significant digits of what was seen and foreseen; what was done is written to the bit."""


class Reason(NamedTuple):
    """Why a plan was not carried out."""

    kind: str  # few words, the same each time: the audit counts them
    words: str  # what exactly, with numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What was decided in one step of one environment, and why."""

    step: int
    """Steps of the model since the beginning, from 0."""
    environment: int
    """Which of the environments that began together."""
    time: float
    """Seconds on the guard's clock."""
    action: np.ndarray
    """float32 (skip, A), to be done now: the actions of one step of the model, in the world's units."""
    status: Literal["plan", "fallback"]
    """Whether it is the plan's or the fallback's."""
    doubts: tuple[Reason, ...]
    """Against what was seen."""
    vetoes: tuple[Reason, ...]
    """Against the plan."""
    seen: tuple[float, ...]
    """(Q,) quantities now, as probed."""
    broken: tuple[str, ...]
    """Constraints that are broken already, by what was seen."""
    foreseen: tuple[tuple[float, ...], ...]
    """(T, Q) quantities that the plan leads to; empty where there was none."""
    room: float | None
    """Least room between what is foreseen and what is allowed, margin counted; below 0: too near. None without either."""
    retreat: bool
    """Whether the plan leads out of a margin that was overstepped already."""
    seconds: float
    """That the plan took; 0 where none was asked for."""

    @property
    def line(self) -> dict[str, Any]:
        """As the log has it."""
        return {
            "step": self.step,
            "environment": self.environment,
            "time": self.time,
            "action": self.action.tolist(),
            "status": self.status,
            "doubts": [list(reason) for reason in self.doubts],
            "vetoes": [list(reason) for reason in self.vetoes],
            "seen": _short(self.seen),
            "broken": list(self.broken),
            "foreseen": [_short(row) for row in self.foreseen],
            "room": None if self.room is None else _short([self.room])[0],
            "retreat": self.retreat,
            "seconds": _short([self.seconds])[0],
        }


class DecisionLog:
    """Writes decisions to a new file; what is written is never touched again.

    Every line is handed to the system at once, so that it outlives this process. It is forced onto the disk at the
    beginning, whenever status changes, and at the end: a power cut may take the lines since then, and the audit says so.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """header: what decisions rest on (guardrails, margins, sums of model and heads). Raises DataError if path exists."""
        self.path, self.hash, self.count = path, "", 0
        self._status: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")
        except FileExistsError as error:
            raise DataError(
                f"{path}: exists, and a decision log is never written over: choose another place"
            ) from error
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}): choose another place") from error
        self._add("begin", {"format": FORMAT, **header}, force=True)

    def write(self, decision: Decision) -> None:
        """Add a decision. Raises DataError if the disk takes no more: then nothing may be done."""
        self._add("decision", decision.line, force=decision.status != self._status)
        self._status = decision.status
        self.count += 1

    def close(self) -> str:
        """End the log and give its closing hash, which should be noted elsewhere."""
        if not self._file.closed:
            self._add("end", {"decisions": self.count}, force=True)
            self._file.close()
        return self.hash

    def __enter__(self) -> DecisionLog:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """Close it; a run that an error ended gets no closing line, so that nobody takes it for a whole one."""
        if error is None:
            self.close()
        self._file.close()

    def _add(self, kind: str, content: Mapping[str, Any], *, force: bool) -> None:
        body = {"kind": kind, **finite(content)}
        self.hash = _hash(self.hash, body)
        try:
            self._file.write(_canonical({**body, "hash": self.hash}) + b"\n")
            self._file.flush()
            if force:
                os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:  # ValueError: it was closed
            raise DataError(f"{self.path}: cannot be written ({error}): nothing more is done") from error


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found. Counts are of the lines before the first fault."""

    path: Path
    """The log."""
    fault: str | None
    """The first line that is not as it was written, and why; None if there is none."""
    decisions: int
    """Decisions read."""
    fallbacks: int
    """Those that were the fallback."""
    broken: int
    """Those at which a constraint was broken already, by what was seen."""
    retreats: int
    """Those that were a plan to lead out of a margin overstepped already: for these nothing is promised."""
    doubts: Mapping[str, int] = field(default_factory=dict)
    """Decisions with each kind of doubt."""
    vetoes: Mapping[str, int] = field(default_factory=dict)
    """Decisions with each kind of veto."""
    hash: str | None = None
    """The closing hash, of a log without fault."""
    expected: bool = False
    """Whether it was compared with a hash noted elsewhere."""

    @property
    def valid(self) -> bool:
        """Whether every line is as it was written, and none is missing."""
        return self.fault is None

    def __str__(self) -> str:
        """What the command line prints."""
        counted = (
            f"{self.decisions} decisions, {self.fallbacks} of them the fallback, {self.retreats} a retreat; "
            f"{self.broken} with a constraint broken"
        )
        lines = [f"{self.path}: {'whole' if self.valid else f'NOT TO BE TRUSTED: {self.fault}'}", counted]
        for what, kinds in (("doubts", self.doubts), ("vetoes", self.vetoes)):
            listed = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items(), key=lambda k: (-k[1], k[0])))
            lines.append(f"{what}: {listed or 'none'}")
        if not self.valid:
            lines[1] += ", before that line"
        elif self.expected:
            lines.append(f"closing hash {self.hash}, as expected")
        else:
            lines.append(
                f"closing hash {self.hash}\nThis shows that no line was changed after the others were written. Whoever "
                "rewrites all of it is found only with the hash noted when the run ended: --expect HASH"
            )
        return "\n".join(lines)


def audit(path: Path, *, expect: str | None = None) -> Audit:
    """Check a decision log from its first line to its last, and count what it says.

    Found are lines altered, deleted, inserted, doubled or out of order, a log without its end, and, with `expect`, one
    whose closing hash is another than the one noted. Raises DataError if the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): give the decisions.jsonl of a run") from error
    lines = data.split(b"\n")
    half, fault, chain = lines.pop(), None, ""
    bodies: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        body, fault = _check(line, chain, number, bodies)
        if fault is not None:
            break
        bodies.append(body)
        chain = _hash(chain, body)
    if fault is None:
        fault = _check_end(bodies, half, chain, expect)
    said = [body for body in bodies if body["kind"] == "decision"]
    return Audit(
        path=path,
        fault=fault,
        decisions=len(said),
        fallbacks=sum(body["status"] == "fallback" for body in said),
        broken=sum(bool(body["broken"]) for body in said),
        retreats=sum(body["retreat"] for body in said),
        doubts=Counter(kind for body in said for kind in {kind for kind, _ in body["doubts"]}),
        vetoes=Counter(kind for body in said for kind in {kind for kind, _ in body["vetoes"]}),
        hash=chain if fault is None else None,
        expected=expect is not None,
    )


def _check(line: bytes, chain: str, number: int, before: list[dict[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """A line without its hash, and what is wrong with it."""
    where = f"line {number}"
    try:
        body = json.loads(line)
        told = body.pop("hash")
        if _canonical({**body, "hash": told}) != line:
            return body, f"{where} was altered: it is not in the form it was written in"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, f"{where} was altered: it is not a line of a decision log"
    if told != _hash(chain, body):
        return (
            body,
            f"{where} does not follow from those before it: it was altered, or a line beside it is missing or new",
        )
    kind = body.get("kind")
    if (kind == "begin") != (number == 1) or (number == 1 and body.get("format") != FORMAT):
        return body, f"{where} is no place for {kind!r}: expected one beginning, {FORMAT!r}, in line 1"
    if before and before[-1]["kind"] == "end":
        return body, f"{where} comes after the end"
    if not (kind in ("begin", "end") or (kind == "decision" and _is_decision(body))):
        return body, f"{where} is not a decision: something else wrote it"
    return body, None


def _is_decision(body: dict[str, Any]) -> bool:
    reasons = [reason for against in ("doubts", "vetoes") for reason in body.get(against, [None])]
    told = body.get("status") in ("plan", "fallback") and isinstance(body.get("broken"), list)
    told = told and isinstance(body.get("retreat"), bool)
    return told and all(isinstance(r, list) and len(r) == 2 and isinstance(r[0], str) for r in reasons)


def _check_end(bodies: list[dict[str, Any]], half: bytes, chain: str, expect: str | None) -> str | None:
    where = f"line {len(bodies) + 1}"
    if half:
        return f"{where} is half a line: the log was cut, or the run was killed"
    if not bodies or bodies[-1]["kind"] != "end":
        return f"{where} is missing: there is no closing line, so the log was cut, or the run did not come to its end"
    said = sum(body["kind"] == "decision" for body in bodies)
    if bodies[-1].get("decisions") != said:
        return f"line {len(bodies)} closes {bodies[-1].get('decisions')} decisions, there are {said}"
    if expect is not None and expect.strip().lower() != chain:
        return f"the closing hash is {chain}, expected {expect}: all of it was written anew, or it is the log of another run"
    return None


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _hash(before: str, body: Mapping[str, Any]) -> str:
    return hashlib.sha256(before.encode() + _canonical(body)).hexdigest()


def _short(values: Any) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
