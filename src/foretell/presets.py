"""Presets: functions that return a full set of settings. Above each: the command, the time and the score to expect.

Scores are those of bench/results/; a preset without a measured row says so.
"""

from __future__ import annotations

from foretell.model.encoders import DenseConfig, PooledConfig, ViTConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig


# foretell train store/ --out model/ --minutes 8
# The default. Remembers what is hidden; any size that is a multiple of 8.
def dense() -> ModelConfig:
    """A grid of tokens and a recurrent convolutional memory."""
    return ModelConfig(encoder=DenseConfig(), predictor=RecurrentConfig())


# foretell train store/ --out model/ --steps 4000 --horizon 8 --settle 0.33 --preset colour
# For footage in which colour matters; not for grey footage. Intuitive physics, one seed: bench/results/intuition_seed0.json.
def colour() -> ModelConfig:
    """The dense one with half as many channels more, three of which are the mean colour of a token."""
    return ModelConfig(encoder=DenseConfig(latent_width=48, keep_colour=True), predictor=RecurrentConfig())


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
