"""Presets: functions that return a full set of settings. Above each: the command, the time and the score to expect.

Scores are those of bench/results/; a preset without a measured row says so.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from foretell.model.encoders import DenseConfig, PooledConfig, ViTConfig
from foretell.model.moments import MomentsConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig, SteeredConfig
from foretell.model.world_model import ModelConfig
from foretell.objectives.next_latent import NextLatentConfig
from foretell.train.loop import TrainConfig
from foretell.train.optim import OptimConfig


# foretell train store/ --out model/ --minutes 8
# The default. Remembers what is hidden; any size that is a multiple of 8.
def dense() -> ModelConfig:
    """A grid of tokens and a recurrent convolutional memory."""
    return ModelConfig(encoder=DenseConfig(), predictor=RecurrentConfig(carry=True))


# foretell train store/ --out model/ --steps 6000 --horizon 8 --settle 0.4 --preset colour --likeness
# For footage in which colour matters; not for grey footage. Intuitive physics, 3 seeds: bench/results/intuition.json.
def colour() -> ModelConfig:
    """The dense one with half as many channels more, three of which are the mean colour of a token."""
    return ModelConfig(encoder=DenseConfig(latent_width=48, keep_colour=True), predictor=RecurrentConfig(carry=True))


# foretell train store/ --out model/ --minutes 8 --preset pooled
# Three times as many frames a second; for small worlds in full view. Forgets what is hidden.
def pooled() -> ModelConfig:
    """One token a frame and a causal transformer."""
    return ModelConfig(encoder=PooledConfig(), predictor=CausalConfig())


# foretell train store/ --out model/ --minutes 60 --preset vit
# For a GPU or patience: an eighth of the dense preset's speed on a CPU. No score measured yet.
def vit() -> ModelConfig:
    """A vision transformer's tokens and the recurrent convolutional memory."""
    return ModelConfig(encoder=ViTConfig(), predictor=RecurrentConfig())


# foretell train data/ --out model/ --preset act --minutes 5
# For worlds that are acted in. Two rooms: bench/results/rooms.json.
def act() -> ModelConfig:
    """One token a frame, and a gated memory that is told what is done."""
    return ModelConfig(encoder=PooledConfig(latent_width=32), predictor=SteeredConfig())


# foretell train data/ --out model/ --preset scenes --steps 3000
# For worlds that are acted in, where walls and obstacles lie elsewhere in every clip; best recorded with actions most of which
# do not depend on what is seen (record --policy smooth). Rooms: bench/results/what_if.json.
def scenes() -> ModelConfig:
    """One token a frame, and a gated memory that is told what is done, of gated blocks: what stands where decides what happens."""
    return ModelConfig(encoder=PooledConfig(latent_width=32), predictor=SteeredConfig(blocks=3))


# foretell train data/ --out model/ --preset things --steps 200
# For worlds that are acted in and show a few things in flat colours (record --lossless). Push-T: bench/results/pusht.json.
def things(count: int = 2) -> ModelConfig:
    """Where each of `count` things is and how it lies, and a gated memory that is told what is done."""
    return ModelConfig(encoder=MomentsConfig(things=count), predictor=SteeredConfig(blocks=3))


def act_training(given: TrainConfig, within: float = 1.0) -> TrainConfig:
    """Settings of the loop for them, where the `given` ones are as usual: many short windows, and what was done is to be read.

    `within` 0 where scenes differ: that term asks every number of a latent to move inside a clip, so none may say what lies still.
    """
    usual, mine = TrainConfig(steps=1), {"batch": 64, "window": 8, "check_every": 500, "save_every": 500}
    changed: dict[str, Any] = {
        name: value for name, value in mine.items() if getattr(given, name) == getattr(usual, name)
    }
    if given.objective == usual.objective:
        changed["objective"] = NextLatentConfig(isotropy=20.0, inverse=1.0, within=within)
    if given.optim == usual.optim:
        changed["optim"] = OptimConfig(peak=1e-3)
    return dataclasses.replace(given, **changed)
