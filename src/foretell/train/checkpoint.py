"""A run that was killed goes on where it stood: model, optimizer and step in one safetensors file, written atomically.

Schedules, samples and random draws are functions of (seed, step), so nothing else needs to be remembered. The file is
read without executing code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

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
        raise DataError(f"{path}: cannot write {len(data) / 1e6:.0f} MB ({error.strerror}): make room, then run the same command again to resume") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises CheckpointError if it is missing, cut or not such a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["foretell"])  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error}): bring it back, or train again") from error


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """All that a run needs to go on: weights, optimizer moments, and `progress` (step and what was decided so far)."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": v for k, v in state.items()}
    save_tensors(path, tensors, progress)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put `model` and `optimizer` back as they were saved; returns the progress. Raises CheckpointError."""
    tensors, progress = load_tensors(path)
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            state.setdefault(int(number), {})[name] = value
    try:
        model.load_state_dict(weights)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit this model ({error}): resume with the same settings, or start a new run") from error
    return progress
