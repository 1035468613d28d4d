"""A run that was stopped or killed, and then given the same command again, ends with the very bits of one that was not.

This file is also the program that the tests start and kill: python test_resume.py dense FOLDER STEPS
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell.data.clip import View
from foretell.log import read_metrics
from foretell.model.actions import Batch
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.tensors import load_tensors
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.masked import MaskedConfig
from foretell.objectives.next_latent import NextLatentConfig
from foretell.objectives.next_pixels import NextPixelsConfig
from foretell.objectives.objective import ObjectiveConfig, build_objective
from foretell.train.loop import TrainConfig, train_loop
from foretell.train.optim import OptimConfig

dense = ModelConfig(
    view=View(height=16, width=24),
    encoder=DenseConfig(latent_width=5, stem_channels=6, channels=7),
    predictor=RecurrentConfig(hidden=6),
)
pooled = ModelConfig(
    view=View(height=16, width=32),
    encoder=PooledConfig(latent_width=5, channels=3, hidden=9),
    predictor=CausalConfig(width=8, depth=2, heads=2, history=3, dropout=0.3),
)
next_latent = NextLatentConfig(horizon=3, tokens=64, directions=8)
runs = {
    "dense": (dense, next_latent),
    "pooled": (pooled, next_latent),
    "pixels": (dense, NextPixelsConfig(horizon=3, hidden=8)),
    "masked": (dense, MaskedConfig(horizon=3)),
    "settled": (dense, NextLatentConfig(horizon=3, tokens=64, directions=8, settle=0.45)),
}
every_run = pytest.mark.parametrize("name", runs)


def config(steps: int, objective: ObjectiveConfig) -> TrainConfig:
    """Both looks at monitors and checkpoints fall between other steps, as they do in long runs."""
    return TrainConfig(
        steps=steps, batch=3, window=6, objective=objective, check_every=4, save_every=5, optim=OptimConfig(warmup=3)
    )


def batches_of(view: View, pause_seconds: float = 0.0):
    def batches(step: int) -> Batch:
        time.sleep(pause_seconds)
        drawn = np.random.default_rng([7, step]).integers(0, 256, (3, 6, view.height, view.width, 3), np.uint8)
        return Batch(torch.from_numpy(drawn).permute(0, 1, 4, 2, 3))

    return batches


def look(model: WorldModel, step: int) -> dict[str, float]:
    """Stands for the monitors: a number that depends on the weights and on running statistics."""
    with torch.no_grad():
        return {"looked": model.encode(batches_of(model.config.view)(1000).frames).std().item()}


def run(name: str, folder: Path, steps: int, *, pause_seconds: float = 0.0, batches=None) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(runs[name][0])
    batches = batches or batches_of(model.config.view, pause_seconds)
    learned = build_objective(runs[name][1], model)
    train_loop(model, learned, batches, config(steps, runs[name][1]), folder, look)
    return model


def diary(folder: Path) -> list[dict[str, float]]:
    return [
        {k: v for k, v in line.items() if k != "frames_per_second"} for line in read_metrics(folder / "metrics.jsonl")
    ]


def assert_same_run(folder: Path, model: WorldModel, name: str, straight: Path, steps: int = 20) -> None:
    expected = run(name, straight, steps)
    for key, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key
    assert diary(folder) == diary(straight)
    assert [line["step"] for line in diary(folder)] == list(range(1, steps + 1))
    (found, _), (kept, _) = (load_tensors(at / "checkpoint.safetensors") for at in (folder, straight))
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[key], kept[key]) for key in kept)
    assert any(key.startswith("objective.") for key in kept) == (name in ("pixels", "masked"))


class StopAfter:
    """Gives batches, and does something when asked for that of a certain step."""

    def __init__(self, name: str, step: int, act) -> None:
        self.batches, self.step, self.act = batches_of(runs[name][0].view), step, act

    def __call__(self, step: int) -> Tensor:
        if step == self.step:
            self.act()
        return self.batches(step)


@every_run
def test_ctrl_c_saves_and_the_same_command_goes_on(name, tmp_path):
    stopping = StopAfter(name, 9, lambda: signal.raise_signal(signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 10: the same command goes on from there"):
        run(name, tmp_path / "stopped", 20, batches=stopping)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(diary(tmp_path / "stopped")) == 10
    model = run(name, tmp_path / "stopped", 20)
    assert_same_run(tmp_path / "stopped", model, name, tmp_path / "straight")


@every_run
def test_a_run_that_broke_off_between_checkpoints_repeats_the_steps_since(name, tmp_path):
    """Step 10 was saved, 11 to 13 were logged and lost."""

    def fall_over() -> None:
        raise RuntimeError("the machine fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        run(name, tmp_path / "broken", 20, batches=StopAfter(name, 13, fall_over))
    assert len(diary(tmp_path / "broken")) == 13
    model = run(name, tmp_path / "broken", 20)
    assert_same_run(tmp_path / "broken", model, name, tmp_path / "straight")


def test_a_finished_run_is_not_trained_further(tmp_path):
    first = run("dense", tmp_path, 6)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    second = run("dense", tmp_path, 6)
    assert all(torch.equal(second.state_dict()[key], tensor) for key, tensor in first.state_dict().items())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, name, str(folder), "20"]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def wait_for_steps(folder: Path, count: int) -> None:
    path = folder / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < count:
        time.sleep(0.005)


@pytest.mark.parametrize(("name", "kill", "step"), [("dense", signal.SIGKILL, 12), ("pooled", signal.SIGTERM, 8)])
def test_killed_and_started_again(name, kill, step, tmp_path):
    process = start(name, tmp_path / "killed")
    wait_for_steps(tmp_path / "killed", step)
    process.send_signal(kill)
    _, message = process.communicate()
    done = len(diary(tmp_path / "killed"))
    assert step <= done < 20
    assert (b"stopped at step" in message) == (kill == signal.SIGTERM)
    again = start(name, tmp_path / "killed")
    assert again.wait() == 0
    finished = WorldModel(runs[name][0])
    finished.load_state_dict(torch.load(tmp_path / "killed" / "weights.pt"))
    assert_same_run(tmp_path / "killed", finished, name, tmp_path / "straight")


if __name__ == "__main__":
    torch.set_num_threads(1)
    weights = run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), pause_seconds=0.05).state_dict()
    torch.save(weights, Path(sys.argv[2]) / "weights.pt")
