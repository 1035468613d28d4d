"""All that the folder of a model that acts holds, read once and passed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foretell.model.folder import load_model, read_config
from foretell.model.heads import Errors, Heads, load_heads
from foretell.model.upper import FILE, Upper, load_upper
from foretell.model.world_model import WorldModel


@dataclass(frozen=True, kw_only=True)
class Mind:
    """A model that acts, and what was learned on top of it."""

    folder: Path
    """Where it was read from."""
    model: WorldModel
    """In eval mode."""
    heads: Heads
    """Probe, inverse model and reach."""
    errors: Errors
    """How the model errs on clips that were set aside."""
    upper: Upper | None = None
    """The upper of two levels, if one was trained."""


def load_mind(folder: Path) -> Mind:
    """Read a model folder. Raises CheckpointError if the model only watches, or if a file is missing, altered or does not fit."""
    model = load_model(folder)
    heads, errors = load_heads(folder, model)
    upper = load_upper(folder, model) if FILE in read_config(folder)["sha256"] else None
    return Mind(folder=folder, model=model, heads=heads, errors=errors, upper=upper)
