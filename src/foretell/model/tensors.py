"""Tensors and a little JSON in one safetensors file: written atomically, read without executing code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foretell.errors import CheckpointError, DataError


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write `tensors` and JSON-able `metadata` so that at every moment the old file or the new one is there, whole.

    Raises DataError if the disk takes no more.
    """
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"foretell": json.dumps(metadata)})
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot write {len(data) / 1e6:.0f} MB ({error.strerror}): make room, then run the same command again to resume"
        ) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises CheckpointError if it is missing, cut or not such a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["foretell"])  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error}): bring it back, or train again") from error
