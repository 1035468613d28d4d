"""What is written down: metrics as JSON lines, results of one form, progress bars. Rank zero only.

A number that is not finite (NaN, an overflow) has no place in JSON and is written as null.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import CheckpointError, ConfigError, DataError
from foretell.parallel import rank

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

Samples = float | Sequence[float] | Mapping[str, Any]
"""One number, the numbers of several runs or seeds, or a figure that has its value, low, high and n already."""


class Metrics:
    """The run's diary: `folder/metrics.jsonl`, one JSON object a line with its step, in the file once written."""

    def __init__(self, folder: Path, *, resumed_step: int | None = None, tensorboard: bool = False) -> None:
        """Begin a new diary, or go on after `resumed_step`: what a killed run wrote beyond that step is cut off.

        Raises ConfigError if TensorBoard is asked for and not installed, CheckpointError if the diary to go on with is
        damaged or missing.
        """
        self.path = folder / "metrics.jsonl"
        self._tensorboard = _tensorboard(folder, resumed_step) if tensorboard and rank() == 0 else None
        if rank() == 0:
            kept = (
                []
                if resumed_step is None
                else [line for line in read_metrics(self.path) if line["step"] <= resumed_step]
            )
            write_whole(self.path, "".join(_json(line) + "\n" for line in kept))

    def write(self, step: int, values: Mapping[str, bool | int | float | str | None]) -> None:
        """Add one line. Raises DataError if the disk takes no more."""
        if rank() != 0:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_json({"step": step, **values}) + "\n")
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot write step {step} ({error.strerror}): make room, then resume"
            ) from error
        if self._tensorboard is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        """Hand TensorBoard what it still holds back."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics file, without a last one that a kill cut in half; other damage raises CheckpointError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}): bring it back, or start a new run") from error
    lines = []
    for number, line in enumerate(
        text.split("\n")[:-1], start=1
    ):  # what follows the last line break is empty or half a line
        try:
            lines.append(dict(json.loads(line), step=int(json.loads(line)["step"])))
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{path}: line {number} is not a line of metrics: remove that line, or start a new run"
            ) from error
    return lines


def progress(total: float | None, what: str, unit: str, *, done: float = 0) -> tqdm:
    """A bar of `total` units with rate and time left, on rank zero; `bar.set_postfix(name=value)` shows monitors on it.

    In a log file, where a bar cannot redraw itself, it speaks every half minute only.
    """
    from tqdm import tqdm

    pause_seconds = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        initial=done,
        mininterval=pause_seconds,
        disable=rank() != 0,
        dynamic_ncols=True,
    )


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Several runs or seeds of one number as a figure: median, lowest, highest, how many."""
    return {"value": statistics.median(samples), "low": min(samples), "high": max(samples), "n": len(samples)}


def write_result(
    path: Path,
    *,
    command: str,
    protocol: Mapping[str, Any],
    seeds: Sequence[int],
    metrics: Mapping[str, Samples],
    baselines: Mapping[str, Samples],
) -> None:
    """Write one result in the form that every evaluation and bench shares.

    protocol: every setting that could change a number. metrics and baselines: name -> number, numbers of several runs
    (written as their median, low and high), or a mapping with value, low, high and n. Raises ConfigError for a figure
    of any other form, DataError if the file cannot be written.
    """
    if rank() != 0:
        return
    stated = json.dumps(protocol, sort_keys=True, default=str)
    result = {
        "command": command,
        "protocol": json.loads(stated),
        "protocol_hash": hashlib.sha256(stated.encode()).hexdigest()[:16],
        "seeds": list(seeds),
        "machine": machine(),
        "metrics": {name: _figure(name, samples) for name, samples in metrics.items()},
        "baselines": {name: _figure(name, samples) for name, samples in baselines.items()},
    }
    write_whole(path, json.dumps(finite(result), indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What a number was measured on: cores, threads, load over 1, 5 and 15 minutes, versions."""
    torch = sys.modules.get("torch")  # never imported for this: a bench of the store runs without it
    versions = {name: metadata.version(name) for name in ("foretell", "numpy", "torch", "av")}
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "threads": torch.get_num_threads() if torch else 1,
        "load": [round(load, 2) for load in os.getloadavg()],
        "versions": {"python": platform.python_version(), **versions},
    }


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, that is seen whole or not at all, even if killed. Raises DataError if it cannot be written."""
    half = path.with_name(path.name + ".half")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}): make room or choose a folder you may write to"
        ) from error


def write_sealed(path: Path, content: Mapping[str, Any], version: int) -> None:
    """Write JSON with its version and a checksum of its content, whole or not at all. Raises DataError if it cannot be written."""
    sealed = {"version": version, "checksum": _checksum(content), **content}
    write_whole(path, json.dumps(sealed, indent=1) + "\n")


def read_sealed(path: Path, version: int, what: str, again: str) -> dict[str, Any]:
    """The content that `write_sealed` wrote; `what` it is and how to make it `again` are for the message.

    Raises CheckpointError if it is missing, altered or of another version.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found, checksum = content.pop("version"), content.pop("checksum")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): {again}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged or not {what}: {again}") from error
    if found != version:
        raise CheckpointError(f"{path}: got version {found}, expected {version}: {again}, or use that foretell")
    if checksum != _checksum(content):
        raise CheckpointError(f"{path}: altered since it was written (checksum differs): {again}")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """The same mappings, lists and values, ready for JSON: every number that is not finite is None."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _figure(name: str, samples: Samples) -> dict[str, Any]:
    if isinstance(samples, Mapping):
        if set(samples) != {"value", "low", "high", "n"}:
            raise ConfigError(f"result {name}: got the keys {sorted(samples)}, expected value, low, high and n")
        return dict(samples)
    numbers = [float(number) for number in samples] if isinstance(samples, Sequence) else [float(samples)]
    if not numbers:
        raise ConfigError(f"result {name}: got no numbers, expected one a run")
    return spread(numbers)


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(finite(line), allow_nan=False)


def _tensorboard(folder: Path, resumed_step: int | None) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError('TensorBoard is not installed: pip install "foretell[track]", or train without it') from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=None if resumed_step is None else resumed_step + 1)
