"""How a model hears of actions: what may be done, how many frames one of its steps lasts, and their usual scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError


class Batch(NamedTuple):
    """What a training step sees: B windows of T steps."""

    frames: Tensor  # uint8 (B, T, 3, H, W)
    actions: Tensor | None = None  # float32 (B, T, A'), each done after its frame was seen; None where nobody acts


@dataclass(frozen=True, kw_only=True)
class ActionConfig:
    """Kept with the model, so that a world of other actions, or of the same in another unit, is refused."""

    space: ActionSpace
    """What may be done in one frame."""
    skip: int = 1
    """Frames that a step of the model lasts; its action is a block of as many, side by side: A' = skip * A numbers."""
    mean: tuple[float, ...]
    """Mean of the actions trained on, A numbers."""
    std: tuple[float, ...]
    """Their deviation."""

    def __post_init__(self) -> None:
        if self.skip < 1:
            raise ConfigError(f"action skip: got {self.skip}, expected 1 or more")
        if not len(self.mean) == len(self.std) == self.space.width or min(self.std) <= 0:
            got = f"mean {self.mean} and std {self.std}"
            raise ConfigError(f"actions: got {got}, expected {self.space.width} numbers each, deviations above 0")

    @property
    def width(self) -> int:
        """A', numbers of a block."""
        return self.skip * self.space.width

    @property
    def low(self) -> Tensor:
        """Least values of a block, (A',)."""
        return torch.tensor(self.space.low).repeat(self.skip)

    @property
    def high(self) -> Tensor:
        """Greatest values of a block, (A',)."""
        return torch.tensor(self.space.high).repeat(self.skip)

    def normalised(self, blocks: Tensor) -> Tensor:
        """Blocks (..., A') in the world's units -> in units of what was trained on."""
        mean = torch.tensor(self.mean, device=blocks.device).repeat(self.skip)
        return (blocks - mean) / torch.tensor(self.std, device=blocks.device).repeat(self.skip)

    def must_match(self, space: ActionSpace, where: str) -> None:
        """Raise ConfigError if a world's actions are not those the model was trained with."""
        if space != self.space:
            raise ConfigError(
                f"{where}: its actions are {space}, those of the model {self.space}: at another scale a plan means "
                "something else; bring the world's actions to the model's, or train on this world"
            )
