"""The optimizer and its schedule: AdamW, linear warm-up, cosine. The learning rate is a function of the step alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from foretell.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with warm-up and cosine."""

    peak: float = 2e-3
    """Highest learning rate."""
    warmup: int = 50
    """Steps from 0 up to the peak."""
    final: float = 0.01
    """Share of the peak that is left at the last step."""
    weight_decay: float = 1e-3
    """Decay of weight matrices and kernels; biases and norms are left alone."""
    clip: float = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""

    def __post_init__(self) -> None:
        if not self.peak > 0:
            raise ConfigError(f"optimizer peak: got {self.peak}, expected more than 0")


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate at `step` of `steps`."""
    if step < config.warmup:
        return config.peak * (step + 1) / config.warmup
    along = (step - config.warmup) / max(1, steps - config.warmup)
    return config.peak * (config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))


def build_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.AdamW:
    """AdamW over all weights of `model`."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.peak)
