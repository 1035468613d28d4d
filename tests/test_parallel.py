"""Two gloo processes against one: the same value, the same gradient."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from foretell import parallel
from foretell.errors import ConfigError


def spread_loss(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """A loss that is no sum over samples: it needs the mean over the whole batch before it bends (SIGReg does so)."""
    outputs = model(batch)
    centre = parallel.mean_over_ranks(outputs.mean(0))
    power = parallel.mean_over_ranks((outputs - centre).square().mean(0))
    own = (outputs * centre).tanh().mean()  # and a term that differs from rank to rank
    return power.log().sum() + torch.cos(3 * centre).prod() + own


def gradients(batch: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).double()
    model.append(torch.nn.Linear(3, 3).requires_grad_(False).double())
    loss = spread_loss(model, batch)
    loss.backward()
    parallel.average_gradients(model.parameters())
    return loss.detach(), [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def data() -> torch.Tensor:
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def part_of_mean(rank: int) -> torch.Tensor:
    return torch.randn(4, 50, generator=torch.Generator().manual_seed(rank)) * 1000.0**rank


def share(rank: int, folder: Path) -> None:
    """What one of two ranks does and finds: the mean of two tensors, and gradients from its half of the data."""
    mean = parallel.mean_over_ranks(part_of_mean(rank).requires_grad_())
    loss, found = gradients(data().chunk(2)[rank])
    torch.save(
        {
            "place": (parallel.rank(), parallel.world_size()),
            "mean": mean.detach(),
            "loss": parallel.mean_over_ranks(loss),
            "gradients": found,
        },
        folder / f"{rank}.pt",
    )


def one_rank(rank: int, port: int, folder: Path) -> None:
    torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in torchrun.items()})
    parallel.start()
    share(rank, folder)
    parallel.stop()


def test_two_ranks_find_the_gradient_of_one_process_on_all_the_data(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_rank, (port, tmp_path), nprocs=2)
    zero, one = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert (zero["place"], one["place"]) == ((0, 2), (1, 2))
    assert torch.equal(zero["mean"], one["mean"])
    torch.testing.assert_close(zero["mean"], (part_of_mean(0) + part_of_mean(1)) / 2)

    loss, expected = gradients(data())
    for found in (zero, one):
        torch.testing.assert_close(found["loss"], loss)
        torch.testing.assert_close(found["gradients"], expected)
    assert len(expected) == 4
    assert all(gradient.abs().max() > 1e-3 for gradient in expected)


def test_one_process_needs_nothing():
    assert (parallel.rank(), parallel.world_size()) == (0, 1)
    parallel.start()
    tensor = torch.ones(2, requires_grad=True)
    assert parallel.mean_over_ranks(tensor) is tensor
    parallel.average_gradients([tensor])
    parallel.stop()
    assert not torch.distributed.is_initialized()


def test_half_an_environment_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ConfigError, match="LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set: start the ranks with torchrun"
    ):
        parallel.start()
