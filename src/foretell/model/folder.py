"""The model folder: `model.safetensors` and the `config.json` that rebuilds it. Read without executing code.

config.json also holds the sums of all files of the folder, so that a missing or altered one is found out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from pathlib import Path
from typing import Any

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import CheckpointError, ForetellError
from foretell.log import write_whole
from foretell.model.actions import ActionConfig
from foretell.model.encoders import EncoderConfig
from foretell.model.predictors import PredictorConfig
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import ModelConfig, WorldModel

VERSION = 2
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_model(folder: Path, model: WorldModel, facts: dict[str, Any]) -> None:
    """Write the weights, and config.json with the model's settings and JSON-able `facts` (data, training, foretell's version).

    Raises DataError if the disk takes no more.
    """
    save_tensors(folder / WEIGHTS, dict(model.state_dict()), {"version": VERSION})
    config = {"version": VERSION, "model": config_to_json(model.config), **facts}
    write_whole(
        folder / CONFIG, json.dumps(config | {"sha256": {WEIGHTS: file_sum(folder / WEIGHTS)}}, indent=2) + "\n"
    )


def renew_weights(folder: Path, model: WorldModel, chosen: dict[str, Any]) -> None:
    """Write the weights of a model folder anew, their sum, and what their monitors say. Raises DataError if the disk takes no more."""
    save_tensors(folder / WEIGHTS, dict(model.state_dict()), {"version": VERSION})
    facts = read_config(folder)
    facts["chosen"] |= chosen
    write_whole(folder / CONFIG, json.dumps(facts, indent=2) + "\n")
    add_to_sums(folder, [WEIGHTS])


def add_to_sums(folder: Path, names: list[str]) -> None:
    """Put the sums of further files of the folder into config.json."""
    facts = read_config(folder)
    facts["sha256"] |= {name: file_sum(folder / name) for name in names}
    write_whole(folder / CONFIG, json.dumps(facts, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder. Raises CheckpointError if it is missing, damaged or of another version."""
    path = folder / CONFIG
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, _ = facts["version"], dict(facts["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: missing or damaged ({error}): is this a model folder? Bring it back, or train again"
        ) from error
    if version != VERSION:
        raise CheckpointError(
            f"{path}: version {version}, expected {VERSION}: use the foretell that wrote it, or train again"
        )
    return facts


def load_model(folder: Path | str) -> WorldModel:
    """The model of a folder, in eval mode. Raises CheckpointError if a file is missing, altered or does not fit."""
    folder = Path(folder)
    facts = read_config(folder)
    for name, expected in facts["sha256"].items():
        found = file_sum(folder / name)
        if found != expected:
            raise CheckpointError(
                f"{folder / name}: altered (sum {found[:12]}, expected {expected[:12]}): bring it back, or train again"
            )
    tensors, _ = load_tensors(folder / WEIGHTS)
    try:
        model = WorldModel(config_from_json(facts["model"]))
        model.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError, ForetellError) as error:
        raise CheckpointError(
            f"{folder}: weights and config.json do not fit ({error}): bring them back, or train again"
        ) from error
    return model.eval()


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """Settings as JSON-able values; a choice is written with the name of its class."""
    return {
        "view": dataclasses.asdict(config.view),
        "encoder": {"class": type(config.encoder).__name__, **dataclasses.asdict(config.encoder)},
        "predictor": {"class": type(config.predictor).__name__, **dataclasses.asdict(config.predictor)},
        "actions": None if config.actions is None else dataclasses.asdict(config.actions),
    }


def config_from_json(values: dict[str, Any]) -> ModelConfig:
    """The inverse of `config_to_json`. Raises KeyError, TypeError or ConfigError on unknown names and impossible values."""
    return ModelConfig(
        view=View(**values["view"]),
        encoder=chosen(EncoderConfig, values["encoder"]),
        predictor=chosen(PredictorConfig, values["predictor"]),
        actions=_actions_from_json(values.get("actions")),
    )


def _actions_from_json(values: dict[str, Any] | None) -> ActionConfig | None:
    if values is None:
        return None
    mean, std = tuple(values["mean"]), tuple(values["std"])
    return ActionConfig(space=ActionSpace.from_json(values["space"]), skip=values["skip"], mean=mean, std=std)


def file_sum(path: Path) -> str:
    """SHA-256 of a file. Raises CheckpointError if it is missing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: missing ({error.strerror}): bring it back, or train again") from error


def chosen(union: Any, values: dict[str, Any]) -> Any:
    """The settings that `values` hold, of the class of `union` that they name. Raises KeyError, TypeError or ConfigError."""
    classes = {choice.__name__: choice for choice in typing.get_args(union)}
    return classes[values["class"]](**{k: v for k, v in values.items() if k != "class"})
