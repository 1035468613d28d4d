"""foretell: world models from unlabelled video. See README.md; `foretell --help` for the command line.

The verbs are functions here: record, ingest, train_model, calibrate, watch, evaluate, imagine, branch, quantify, predict,
track, plan_and_act, evaluate_planning, evaluate_uncertainty, what_if, audit (foretell.train and foretell.plan are folders). Names
are loaded when they are first used: importing foretell does no work.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "record": "verbs",
    "ingest": "verbs",
    "train_model": "training",
    "calibrate": "verbs",
    "watch": "verbs",
    "imagine": "verbs",
    "branch": "verbs",
    "evaluate": "evaluating",
    "quantify": "predicting",
    "predict": "predicting",
    "track": "tracking",
    "evaluate_planning": "acting",
    "evaluate_uncertainty": "uncertain",
    "plan_and_act": "acting",
    "what_if": "serve.what_if",
    "audit": "acting",
    "Store": "data.store",
    "View": "data.clip",
    "Clip": "data.clip",
    "Physics": "worlds.physics",
    "WorldModel": "model.world_model",
    "load_model": "model.folder",
    "load_panel": "surprise.panel",
    "Calibration": "surprise.calibrate",
    "TrainConfig": "train.loop",
    "ForetellError": "errors",
}

_ALIASES = {"train_model": "train", "plan_and_act": "plan"}
"""foretell.train and foretell.plan are folders."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"foretell has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"foretell.{_HOMES[name]}"), _ALIASES.get(name, name))
