"""A run that was killed goes on where it stood: all that learns, and the step, in one safetensors file, written atomically.

Schedules, samples and random draws are functions of (seed, step), so nothing else needs to be remembered. The file is
read without executing code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foretell.errors import CheckpointError
from foretell.model.tensors import load_tensors, save_tensors


def save_checkpoint(path: Path, learner: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """All that a run needs to go on: weights (`learner` holds those of model and objective), optimizer moments, and
    `progress` (step and what was decided so far)."""
    tensors = dict(learner.state_dict())
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": v for k, v in state.items()}
    save_tensors(path, tensors, progress)


def load_checkpoint(path: Path, learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put `learner` and `optimizer` back as they were saved; returns the progress. Raises CheckpointError."""
    tensors, progress = load_tensors(path)
    weights = {k: v for k, v in tensors.items() if not k.startswith("optimizer.")}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            state.setdefault(int(number), {})[name] = value
    try:
        learner.load_state_dict(weights)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: does not fit this model ({error}): resume with the same settings, or start a new run"
        ) from error
    return progress
