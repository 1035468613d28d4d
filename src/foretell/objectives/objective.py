"""The objectives to choose from, and the weights that one may own beside the model's.

Each is a module: `weights` names its terms, `terms` gives them; `before_step` is told how much of the training is done,
`after_step` lets follow what follows the weights.
"""

from __future__ import annotations

from pathlib import Path

from foretell.errors import CheckpointError, ForetellError
from foretell.model.folder import add_to_sums, chosen, read_config
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel
from foretell.objectives.masked import Masked, MaskedConfig
from foretell.objectives.next_latent import NextLatent, NextLatentConfig
from foretell.objectives.next_pixels import NextPixels, NextPixelsConfig

ObjectiveConfig = NextLatentConfig | NextPixelsConfig | MaskedConfig
Objective = NextLatent | NextPixels | Masked

VERSION = 1
FILE = "objective.safetensors"


def build_objective(config: ObjectiveConfig, model: WorldModel) -> Objective:
    """The objective that `config` describes, to train `model`. Raises ConfigError if the model does not suit it."""
    if isinstance(config, NextLatentConfig):
        return NextLatent(config, model)
    if isinstance(config, NextPixelsConfig):
        return NextPixels(config, model)
    return Masked(config, model)


def save_objective(folder: Path, objective: Objective) -> None:
    """Keep the weights that `objective` owns, if any, beside the model it was trained with. Raises DataError if the disk is full."""
    if objective.state_dict():
        save_tensors(folder / FILE, dict(objective.state_dict()), {"version": VERSION})
        add_to_sums(folder, [FILE])


def load_objective(folder: Path, model: WorldModel) -> Objective:
    """The objective that the folder's `model` was trained with, in eval mode. Raises CheckpointError if it does not fit."""
    try:
        objective = build_objective(chosen(ObjectiveConfig, read_config(folder)["run"]["train"]["objective"]), model)
        if objective.state_dict():
            objective.load_state_dict(load_tensors(folder / FILE)[0])
    except (RuntimeError, KeyError, TypeError, ForetellError) as error:
        raise CheckpointError(
            f"{folder}: {FILE} and config.json do not fit ({error}): bring them back, or train again"
        ) from error
    return objective.eval()
