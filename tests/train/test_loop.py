"""The loop: what it writes, when it stops, and that ranks stay together."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, multiprocessing

from foretell import parallel
from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, DataError, ForetellError
from foretell.log import read_metrics
from foretell.model import tensors
from foretell.model.actions import Batch
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.next_latent import NextLatent, NextLatentConfig
from foretell.train.loop import PROBE_STEPS, TrainConfig, settle_steps, step_generator, train_loop, weighted_sum

view = View(height=16, width=24)
small = ModelConfig(
    view=view,
    encoder=DenseConfig(latent_width=5, stem_channels=6, channels=7),
    predictor=RecurrentConfig(hidden=6),
)


def config(**changes: object) -> TrainConfig:
    defaults = {"steps": 7, "batch": 2, "window": 6, "check_every": 3, "save_every": 5}
    return TrainConfig(**defaults | {"objective": NextLatentConfig(horizon=3, tokens=64, directions=8)} | changes)


def model_of(seed: int = 0) -> WorldModel:
    torch.manual_seed(seed)
    return WorldModel(small)


def batches(step: int) -> Batch:
    drawn = torch.Generator().manual_seed(step + 100 * parallel.rank())
    return Batch(torch.randint(0, 256, (2, 6, 3, 16, 24), generator=drawn, dtype=torch.uint8))


def nothing(model: WorldModel, step: int) -> dict[str, float]:
    assert not model.training
    return {"looked_at": step}


def train(model: WorldModel, batches, config: TrainConfig, folder: Path) -> int:
    return train_loop(model, NextLatent(config.objective), batches, config, folder, nothing)


def weights(model: WorldModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_each_step_has_its_line(tmp_path):
    model = model_of()
    assert train(model, batches, config(), tmp_path) == 7
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 8))
    assert lines[0].keys() == {
        *("step", "loss", "gradient", "rate", "next", "rollout", "within", "sigreg", "frames_per_second")
    }
    assert {line["step"]: line["looked_at"] for line in lines if "looked_at" in line} == {3: 3, 6: 6, 7: 7}
    objective = NextLatentConfig()
    for line in lines:
        total = line["next"] + line["rollout"] + line["within"] + objective.isotropy * line["sigreg"]
        assert line["loss"] == pytest.approx(total, rel=1e-3)


def test_training_lowers_the_loss(tmp_path):
    """On one batch that is shown again and again."""
    train(model_of(), lambda step: batches(0), config(steps=120), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_before_the_optimizer(where, tmp_path, monkeypatch):
    model = model_of()
    before = {}

    def broken(step: int) -> Tensor:
        if step == 4:
            before.update(weights(model))
            bias = model.predictor.look.bias
            if where == "loss":
                monkeypatch.setattr(model.predictor, "_foretell", lambda latents, memory: latents * float("nan"))
            else:
                bias.register_hook(lambda gradient: gradient * float("inf"))
        return batches(step)

    with pytest.raises(ForetellError, match=r"step 5: loss .* and gradient .* must be finite \(next .*\); weights are"):
        train(model, broken, config(), tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 4


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    """The checkpoint of step 5 is written, that of step 7 is not."""
    checkpoint, before = tmp_path / "checkpoint.safetensors", []

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def until_full(step: int) -> Tensor:
        if step == 6:
            before.append(checkpoint.read_bytes())
            monkeypatch.setattr(tensors, "os", SimpleNamespace(fsync=full))
        return batches(step)

    with pytest.raises(
        DataError, match=r"checkpoint\.safetensors: cannot write .*No space left on device\): make room"
    ):
        train(model_of(), until_full, config(), tmp_path)
    assert [checkpoint.read_bytes()] == before
    monkeypatch.undo()
    assert train(model_of(), batches, config(), tmp_path) == 7
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 8))


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(model_of(), batches, config(), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: missing or damaged"):
        train(model_of(), batches, config(), tmp_path)


def test_a_step_draws_the_same_whenever_it_is_made():
    one = torch.rand(3, generator=step_generator(5, 8)), torch.rand(3)
    torch.rand(99)
    again = torch.rand(3, generator=step_generator(5, 8)), torch.rand(3)
    assert all(map(torch.equal, one, again))
    others = [torch.rand(3, generator=step_generator(*key)) for key in ((5, 9), (6, 8), (8, 5))]
    assert not any(torch.equal(one[0], other) for other in others)


def test_minutes_become_steps():
    assert settle_steps(config(steps=None, minutes=10.0), seconds=30.0) == 400
    assert settle_steps(config(steps=None, minutes=0.001), seconds=30.0) == PROBE_STEPS


def test_a_run_by_the_clock_settles_its_steps_and_keeps_them(tmp_path):
    train(model_of(), batches, config(steps=None, minutes=1e-6), tmp_path)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == PROBE_STEPS
    assert train(model_of(), batches, config(steps=None, minutes=5.0), tmp_path) == PROBE_STEPS


def test_terms_that_are_not_weighed_are_our_fault():
    with pytest.raises(AssertionError, match="terms"):
        weighted_sum({"a": torch.ones(())}, {"a": 1.0, "b": 1.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 1.0}, "got minutes 1.0 and steps 7, expected one of the two"),
        ({"steps": None}, "got minutes None and steps None, expected one of the two"),
        ({"window": 3}, "train window: got 3, expected 1 steps to be seen and the horizon 3, or more"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def one_rank(rank: int, port: int, folder: Path) -> None:
    torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in torchrun.items()})
    torch.set_num_threads(1)
    parallel.start()
    model = model_of()
    steps = train(model, batches, config(steps=None, minutes=1e-6), folder)
    torch.save((steps, weights(model)), folder / f"{rank}.pt")
    parallel.stop()


def test_two_ranks_take_the_same_steps_to_the_same_weights(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_rank, (port, tmp_path), nprocs=2)
    (steps, zero), (other_steps, one) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert steps == other_steps == PROBE_STEPS
    assert all(torch.equal(zero[name], one[name]) for name in zero)
    assert any(not torch.equal(zero[name], tensor) for name, tensor in weights(model_of()).items())
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == PROBE_STEPS
