"""Six runs broken on purpose are each flagged, and good runs are not: what the alarms are worth.

200 steps each on a small world and a small model, by the loop and the monitors that every run has. The table of what was
measured is in docs/how-it-works.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretell.data.clip import View
from foretell.log import read_metrics
from foretell.model import encoders
from foretell.model.actions import Batch
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.next_latent import NextLatent, NextLatentConfig
from foretell.train.chooser import Chooser
from foretell.train.loop import TrainConfig, train_loop
from foretell.train.optim import OptimConfig
from foretell.train.run import as_batch
from foretell.worlds.physics import Physics

SIZE, HELD_OUT, STEPS, BATCH, WINDOW = 32, 64, 200, 8, 24


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    world = Physics(size=SIZE, frames=32)
    return np.stack([world.episode(seed).frames for seed in range(364)])


def train(clips: np.ndarray, folder: Path, *, seed: int = 0, peak: float = 2e-3, **objective: Any) -> dict[str, Any]:
    """The last look of a run on all clips but the first, which the monitors look at."""
    torch.manual_seed(seed)
    model = WorldModel(
        ModelConfig(
            view=View(height=SIZE, width=SIZE),
            encoder=DenseConfig(stem_channels=32, channels=64),
            predictor=RecurrentConfig(hidden=64),
        )
    )
    config = TrainConfig(
        steps=STEPS, seed=seed, check_every=STEPS // 2, save_every=STEPS,
        objective=NextLatentConfig(tokens=1024, **objective), optim=OptimConfig(peak=peak),
    )  # fmt: skip

    def batches(step: int) -> Batch:
        drawn = np.random.default_rng([seed, step])
        chosen = drawn.integers(HELD_OUT, len(clips), BATCH)
        starts = drawn.integers(clips.shape[1] - WINDOW + 1, size=BATCH)
        return Batch(as_batch([clips[i, at : at + WINDOW] for i, at in zip(chosen, starts, strict=True)]))

    torch.set_num_threads(1)
    learned = NextLatent(config.objective)
    chooser = Chooser(folder, Batch(as_batch(list(clips[:HELD_OUT]))), config, learned)
    train_loop(model, learned, batches, config, folder, chooser)
    return read_metrics(folder / "metrics.jsonl")[-1]


def shuffled(clips: np.ndarray) -> np.ndarray:
    drawn = np.random.default_rng(0)
    return np.stack([clip[drawn.permutation(len(clip))] for clip in clips])


def static(clips: np.ndarray) -> np.ndarray:
    return np.repeat(clips[:, :1], clips.shape[1], axis=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_good_run_raises_no_alarm(clips, tmp_path, seed):
    look = train(clips, tmp_path, seed=seed)
    assert look["alarms"] == ""
    assert look["error_over_copy_4"] < 0.75


WEIGHT = NextLatentConfig().isotropy
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no regulariser": ({"isotropy": 0.0, "within": 0.0}, "collapse"),
    "no isotropy": ({"isotropy": 0.0}, "uneven"),
    "weight / 100": ({"isotropy": WEIGHT / 100}, "uneven"),
    "too large a rate": ({"peak": 0.1}, "slow features"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_setting_is_named(clips, tmp_path, what):
    settings, alarm = BROKEN[what]
    assert f"{alarm}: " in train(clips, tmp_path, **settings)["alarms"]


@pytest.mark.parametrize(("spoil", "alarm"), [(shuffled, "no order"), (static, "static")])
def test_worthless_footage_is_named(clips, tmp_path, spoil: Callable[[np.ndarray], np.ndarray], alarm):
    assert f"{alarm}: " in train(spoil(clips), tmp_path)["alarms"]


def test_a_missing_norm_is_named(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "LatentNorm", lambda width: torch.nn.Identity())
    assert "scale: " in train(clips, tmp_path)["alarms"]
