"""Which weights of a run are kept: looks at the monitors on held-out clips, without any label."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from foretell.log import read_metrics
from foretell.model.actions import Batch
from foretell.model.precision import mixed_precision
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel
from foretell.objectives.collapse import OF_LEARNED_LATENTS, alarms, monitors
from foretell.objectives.next_pixels import NextPixels
from foretell.objectives.objective import Objective
from foretell.parallel import rank
from foretell.train.loop import TrainConfig

OWNED = "objective."
"""Before the names of the objective's weights, in the file of the best ones."""


class Chooser:
    """Looks at the monitors of development clips, names alarms, and keeps the best weights, without any label.

    Best: the lowest error over copy among looks whose effective rank is at least 0.8 of the best rank so far. Never the loss.
    Once the encoder rests, only looks since then count: the predictor no longer learns to be right where nothing changes.
    What the objective owns is kept with them: a decoder reads the latents of its own step.
    """

    def __init__(self, folder: Path, held_out: Batch, config: TrainConfig, objective: Objective) -> None:
        self.path, self.held_out, self.precision = folder / "best.safetensors", held_out, config.precision
        self.objective = objective
        self.decode = objective.decode if isinstance(objective, NextPixels) else None
        self.history = [line for line in _diary(folder) if "rank" in line]

    def __call__(self, model: WorldModel, step: int) -> dict[str, Any]:
        """The monitors of `model` after `step`, with the names of alarms; keeps its weights if they are the best so far."""
        frames, actions = self.held_out
        with mixed_precision(self.precision, frames.device):
            values: dict[str, Any] = monitors(model, frames, self.decode, actions)
        values["resting"] = self.objective.resting
        self.history = [line for line in self.history if line["step"] < step]
        best_rank = max([line["rank"] or 0 for line in self.history] + [values["rank"]])
        found = alarms(values, model.config.encoder.latent_width, best_rank)
        if not any(True for _ in model.encoder.parameters()):
            found = [alarm for alarm in found if alarm.name not in OF_LEARNED_LATENTS]
        self.history.append({"step": step, **values})
        if self.best()["step"] == step and rank() == 0:
            owned = {OWNED + name: tensor for name, tensor in self.objective.state_dict().items()}
            save_tensors(self.path, dict(model.state_dict()) | owned, {"step": step})
        return values | {"alarms": "; ".join(map(str, found))}

    def best(self) -> dict[str, Any]:
        """The line of the diary whose weights are kept."""
        top, best = 0.0, None
        now = self.history[-1].get("resting", False)
        for line in (line for line in self.history if line.get("resting", False) == now):
            top = max(top, line["rank"] or 0)
            fit = (line["rank"] or 0) >= 0.8 * top
            if best is None or (fit and _copy_error(line) <= _copy_error(best)):
                best = line
        assert best is not None
        return best

    def restore(self, model: WorldModel) -> dict[str, Any]:
        """Put the best weights into `model` and the objective; returns their line of the diary."""
        tensors, _ = load_tensors(self.path)
        model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(OWNED)})
        self.objective.load_state_dict({k.removeprefix(OWNED): v for k, v in tensors.items() if k.startswith(OWNED)})
        model.eval()
        return self.best()


def _copy_error(line: dict[str, Any]) -> float:
    """At 4 steps, or at 1 where clips are too short for 4; what is no number (null in the diary) is never the lowest."""
    value = line["error_over_copy_4"] if "error_over_copy_4" in line else line["error_over_copy_1"]
    return value if value is not None and math.isfinite(value) else math.inf


def _diary(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return read_metrics(path) if path.exists() else []
