"""What is known of quantities in every frame of videos: a recording's table of states, or NAME.csv beside NAME.mp4."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from foretell.data.actions import STATES
from foretell.errors import ConfigError, DataError


def read_truth(folder: Path, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """File -> float64 (T, Q), a row for each frame; of worlds with objects those of the first one, NaN where it is not to be seen.

    Raises DataError if there is no table, a quantity is not in it, or is no number.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of videos with {STATES}, or NAME.csv beside NAME.mp4")
    if recordings := sorted(folder.rglob(STATES)):  # one, or several in folders below
        return {
            (table.parent.relative_to(folder) / file).as_posix(): rows
            for table in recordings
            for file, rows in _of_recording(table, names).items()
        }
    videos = sorted(path for path in folder.rglob("*.*") if path.suffix != ".csv" and path.with_suffix(".csv").exists())
    if not videos:
        raise DataError(f"{folder}: nothing tells true quantities: expected {STATES}, or NAME.csv beside NAME.mp4")
    return {str(video.relative_to(folder)): _of_csv(video.with_suffix(".csv"), names) for video in videos}


def _of_csv(path: Path, names: Sequence[str]) -> np.ndarray:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        _check_names(path, names, rows[0] if rows else {})
        return np.array([[float(row[name] or "nan") for name in names] for row in rows], np.float64)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: holds no quantities ({error}): expected a header, then a row of numbers a frame"
        ) from error


def _of_recording(path: Path, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError('reading states needs pyarrow: pip install "foretell[sim]"') from error
    try:
        table = parquet.read_table(path)
        _check_names(path, names, table.column_names)
        files, frames = np.array(table["file"].to_pylist()), table["frame"].to_numpy()
        values = np.stack([table[name].to_numpy().astype(np.float64) for name in names], 1)
        first = table["object"].to_numpy() == 0 if "object" in table.column_names else np.ones(len(files), bool)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}): record it again") from error
    files, frames, values = files[first], frames[first], values[first]
    order = np.lexsort((frames, files))
    found, starts = np.unique(files[order], return_index=True)
    parts = zip(found.tolist(), np.split(frames[order], starts[1:]), np.split(values[order], starts[1:]), strict=True)
    return {name: _every_frame(at, rows) for name, at, rows in parts}


def _every_frame(at: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """An object that is not there at first has no row then: NaN."""
    whole = np.full((int(at[-1]) + 1, rows.shape[1]), np.nan)
    whole[at] = rows
    return whole


def _check_names(path: Path, names: Sequence[str], known: Sequence[str] | Mapping[str, str]) -> None:
    lost = [name for name in names if name not in known]
    if lost:
        raise DataError(f"{path}: has no {', '.join(lost)}; it has {', '.join(known)}")
