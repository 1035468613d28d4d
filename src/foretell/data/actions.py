"""What may be done, and what was done: the actions that belong to the clips of a store."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import ConfigError, DataError
from foretell.log import write_whole

ACTIONS, STATES, RECORDING = "actions.parquet", "states.parquet", "recording.json"
KEPT = "actions.npz"
"""Where a store keeps them, beside its frames."""
KINDS = ("actions/", "states/")


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """What may be done in a world, in its own units. Actions are float32 (..., A)."""

    low: tuple[float, ...]
    """Least value of each of the A numbers."""
    high: tuple[float, ...]
    """Greatest value of each."""
    discrete: bool = False
    """One of A choices, given one-hot; then every low is 0 and every high is 1."""

    def __post_init__(self) -> None:
        lows, highs = self.low, self.high
        if not lows or len(lows) != len(highs):
            raise ConfigError(f"actions: got {len(lows)} lows and {len(highs)} highs, expected as many, 1 or more")
        if not all(-np.inf < low < high < np.inf for low, high in zip(lows, highs, strict=True)):
            raise ConfigError(f"actions: got low {lows} and high {highs}, expected finite numbers, low below high")

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ActionSpace:
        """From what a JSON file holds of its fields. Raises KeyError, TypeError or ConfigError."""
        return ActionSpace(low=tuple(values["low"]), high=tuple(values["high"]), discrete=bool(values["discrete"]))

    @property
    def width(self) -> int:
        """A, numbers of one action."""
        return len(self.low)

    def clip(self, actions: np.ndarray) -> np.ndarray:
        """Actions (..., A), each number brought between low and high; for policies, never to hide a fault."""
        return np.clip(actions, self.low, self.high).astype(np.float32)

    def check(self, action: np.ndarray, what: str) -> None:
        """Raise ConfigError unless actions (..., A) are finite and within the space."""
        lies = action.shape[-1:] == (self.width,) and bool(
            np.all(np.isfinite(action) & (action >= np.subtract(self.low, 1e-6)) & (action <= np.add(self.high, 1e-6)))
        )
        if not lies:
            worst = action if action.size <= 8 else f"{action.shape} from {action.min()} to {action.max()}"
            expected = f"expected {self.width} finite numbers from {self.low} to {self.high}"
            raise ConfigError(f"{what}: got the action {worst}, {expected}")


@dataclass(frozen=True, kw_only=True)
class ActionLog:
    """What was done in every clip of a store, and, of a simulated world, how things truly stood."""

    space: ActionSpace
    """What may be done."""
    actions: Mapping[str, np.ndarray]
    """Clip's name -> float32 (T, A): what was done after each frame, which leads to the next one."""
    quantities: tuple[str, ...] = ()
    """Names of the numbers of a state; none for people's own videos."""
    states: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Clip's name -> float64 (T, S)."""


def read_actions(folder: Path) -> ActionLog | None:
    """What was done in the videos of a folder; None if nothing says so.

    Read are actions.parquet and recording.json of a recording, or of several in folders below; or NAME.csv beside each
    NAME.mp4: a header, then a row for every frame; the space is then the range of what was done. Raises DataError if
    these are damaged or not of one kind.
    """
    if not folder.is_dir():
        return None
    recordings = sorted(table.parent for table in folder.rglob(ACTIONS))
    if recordings:
        return _joined(folder, {one: _read_recording(one) for one in recordings})
    tables = {
        str(video.relative_to(folder)): table
        for video in sorted(folder.rglob("*.*"))
        if (table := _csv_of(video)) is not None
    }
    if not tables:
        return None
    widths = {table.shape[1] for table in tables.values()}
    if len(widths) > 1:
        raise DataError(f"{folder}: the csv files beside the videos have {sorted(widths)} columns, expected one number")
    everything = np.concatenate(list(tables.values()))
    low, high = everything.min(0), everything.max(0)
    still = low == high  # a number that never changed tells nothing of its range
    space = ActionSpace(low=tuple((low - still).tolist()), high=tuple((high + still).tolist()))
    return ActionLog(space=space, actions=tables)


def keep_actions(store: Path, log: ActionLog, lengths: Mapping[str, int]) -> None:
    """Write into a store's folder what was done in its clips, of so many frames each.

    Raises DataError if a clip has none or not one for every frame: then video and actions do not belong together.
    """
    for name, frames in lengths.items():
        if name not in log.actions:
            raise DataError(f"{store}: no actions for the clip {name}: expected one for every frame of every video")
        if len(log.actions[name]) != frames:
            got = f"{name} has {frames} frames at the store's rate and {len(log.actions[name])} actions"
            raise DataError(f"{store}: {got}, expected as many: leave out --fps, or give one action a frame")
        log.space.check(log.actions[name], f"{store}: clip {name}")
    arrays = {f"actions/{name}": log.actions[name] for name in lengths}
    arrays |= {f"states/{name}": log.states[name] for name in lengths if name in log.states}
    facts = json.dumps({"space": asdict(log.space), "quantities": log.quantities})
    write_whole(store / KEPT, _packed(arrays | {"facts": np.array(facts)}))


def parse_actions(data: bytes, where: str) -> ActionLog:
    """The content of a file that `keep_actions` wrote. Raises DataError if it is damaged."""
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        facts = json.loads(str(arrays.pop("facts")))
        of_kind = {kind: {k.removeprefix(kind): v for k, v in arrays.items() if k.startswith(kind)} for kind in KINDS}
        return ActionLog(
            space=ActionSpace.from_json(facts["space"]),
            actions=of_kind[KINDS[0]],
            quantities=tuple(facts["quantities"]),
            states=of_kind[KINDS[1]],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{where}: damaged ({error}): ingest the recording again") from error


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()


def _csv_of(video: Path) -> np.ndarray | None:
    """The numbers of the csv beside a video, float32 (T, A)."""
    path = video.with_suffix(".csv")
    return None if video.suffix == ".csv" or not path.exists() else read_csv(path)


def read_csv(path: Path) -> np.ndarray:
    """Actions of a csv, a header and then one a frame: float32 (T, A). Raises DataError if it holds none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if all(_is_number_written(cell) for cell in header):
            raise ValueError("the first row is numbers, expected a header as action_0,action_1")
        table = np.array([[float(cell) for cell in row] for row in rows], np.float32)
        if table.ndim != 2:
            raise ValueError("expected a header, then rows of as many numbers")
        if not np.isfinite(table).all():
            raise ValueError(f"row {2 + int(np.argmin(np.isfinite(table).all(1)))} is not finite")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: holds no actions ({error})") from error
    return table


def _is_number_written(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_recording(folder: Path) -> ActionLog:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError('reading actions needs pyarrow: pip install "foretell[sim]"') from error
    try:
        facts: dict[str, Any] = json.loads((folder / RECORDING).read_text(encoding="utf-8"))["actions"]
        space = ActionSpace.from_json(facts)
        columns = [f"action_{k}" for k in range(space.width)]
        actions = _by_file(parquet.read_table(folder / ACTIONS), columns, np.float32)
        if not (folder / STATES).exists():
            return ActionLog(space=space, actions=actions)
        table = parquet.read_table(folder / STATES)
        apart = {"episode", "file", "frame", "object"}
        quantities = tuple(n for n in table.column_names if n not in apart and _is_number(table.schema.field(n).type))
        return ActionLog(
            space=space, actions=actions, quantities=quantities, states=_by_file(table, list(quantities), np.float64)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: actions cannot be read ({error}): record it again") from error


def _joined(folder: Path, logs: Mapping[Path, ActionLog]) -> ActionLog:
    """Several recordings as one: whatever may be done, and is known, in the first must be the same in all of them."""
    (first, log), *others = logs.items()
    for path, other in others:
        if (other.space, other.quantities) != (log.space, log.quantities):
            raise DataError(
                f"{path}: other actions or quantities than {first.name} has: record one world, or train on one"
            )
    at = {path: path.relative_to(folder) for path in logs}
    return ActionLog(
        space=log.space,
        actions={
            (at[path] / name).as_posix(): done for path, one in logs.items() for name, done in one.actions.items()
        },
        quantities=log.quantities,
        states={
            (at[path] / name).as_posix(): state for path, one in logs.items() for name, state in one.states.items()
        },
    )


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _by_file(table: Any, columns: list[str], kind: type) -> dict[str, np.ndarray]:
    """Rows of a table as (T, len(columns)), one array for each file, in the order of frames."""
    files, frames = np.array(table["file"].to_pylist()), table["frame"].to_numpy()
    values: np.ndarray = np.stack([table[name].to_numpy() for name in columns], 1).astype(kind)
    order = np.lexsort((frames, files))
    names, starts = np.unique(files[order], return_index=True)
    return dict(zip(names.tolist(), np.split(values[order], starts[1:]), strict=True))
