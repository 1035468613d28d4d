"""One process or several under torchrun. The only file that says torch.distributed.

Every rank runs the same code on its own share of a batch. Two things cross ranks: statistics of the whole batch
(`mean_over_ranks`, which carries gradients) and the gradients themselves (`average_gradients`). With one process
all of it does nothing, and torch is not even imported.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from foretell.errors import ConfigError

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of mallopt(3)."""


def rank() -> int:
    """This process's number, 0 up to world_size() - 1; rank zero alone writes files and bars."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together; 1 outside torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start() -> None:
    """Join the other ranks of torchrun (nccl where there is a GPU for each, else gloo); with one process do nothing.

    Raises ConfigError when the environment names several ranks but was not set up by torchrun.
    """
    if world_size() == 1:
        return
    import torch
    import torch.distributed as dist

    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"environment: WORLD_SIZE is {world_size()} but {', '.join(missing)} not set: "
            "start the ranks with torchrun, or unset WORLD_SIZE"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the other ranks; with one process do nothing."""
    if world_size() == 1:
        return
    import torch.distributed as dist

    dist.destroy_process_group()


def mean_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Mean of each rank's tensor (any shape, the same on all), equal to the bit on every rank; it carries gradients.

    Each rank's loss depends on each rank's tensor, so the backward pass is the same mean again: with
    `average_gradients` after it, parameters get the gradient that one process would have computed on all the data.
    """
    if world_size() == 1:
        return tensor
    mean = _reduced(tensor)
    if not tensor.requires_grad:
        return mean
    joined = mean + (tensor - tensor.detach())  # adds nothing to the value, ties it to the graph
    joined.register_hook(_reduced)
    return joined


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks, in one message; parameters without one are left alone."""
    if world_size() == 1:
        return
    import torch

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    mean = _reduced(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _reduced(tensor: torch.Tensor) -> torch.Tensor:
    import torch.distributed as dist

    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees for the next one; given back and asked for again it costs 4% of a step.

    Does nothing where the C library is another.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((M_TRIM_THRESHOLD, 2**31 - 1), (M_MMAP_THRESHOLD, 2**30)):
        set_option(option, value)
