"""Forecast figures on clips whose answer is known."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foretell.data.clip import Clip, View
from foretell.evals import forecast as module
from foretell.evals.forecast import as_frames, forecast_figures, position_r2
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mixed_precision", lambda precision, device: nullcontext())


def ball(seed: int, steps: int = 18) -> Clip:
    """A white square of 4 pixels that goes its way on black and bounces off the edges; states as a world gives them."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform((3, 3), (29, 13)), rng.uniform(0.8, 1.6, 2) * rng.choice([-1, 1], 2)
    frames, where = np.zeros((steps, 16, 32, 3), np.uint8), np.zeros((steps, 2))
    for step in range(steps):
        where[step] = place
        x, y = np.round(place).astype(int)
        frames[step, max(0, y - 2) : y + 2, max(0, x - 2) : x + 2] = 255
        speed = np.where((place + speed < (2, 2)) | (place + speed > (30, 14)), -speed, speed)
        place = place + speed
    return Clip(name=f"{seed}", frames=frames, fps=10, states={"x": where[:, :1], "y": where[:, 1:]})


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(2)
    encoder, predictor = DenseConfig(latent_width=9, stem_channels=6, channels=12), RecurrentConfig(hidden=4)
    return WorldModel(ModelConfig(view=View(height=16, width=32), encoder=encoder, predictor=predictor))


def test_frames_are_the_clips_in_the_order_of_the_legend() -> None:
    clips = [ball(seed, 5) for seed in range(3)]
    clips[1].frames[4, 7, 20, 2] = 99
    frames = as_frames(clips)
    assert (frames.shape, frames.dtype) == ((3, 5, 3, 16, 32), torch.uint8)
    assert frames[1, 4, 2, 7, 20] == 99


def test_who_knows_nothing_errs_like_a_copy(model: WorldModel) -> None:
    """A new predictor says that nothing changes: error over copy is 1 at every horizon, whatever the encoder."""
    model.train()
    figures = forecast_figures(model, [ball(seed) for seed in range(5)])
    assert not model.training
    assert [figures[f"error_over_copy_{h}"] for h in (1, 4, 8)] == pytest.approx([1, 1, 1], rel=1e-4)
    assert 1 <= figures["rank"] <= 9
    assert figures == forecast_figures(model, [ball(seed) for seed in range(5)])


class Seer(nn.Module):
    """Two of its numbers are the middle of what is white, mixed and shifted; the others are noise."""

    def forward(self, frames: Tensor) -> Tensor:
        white = (frames.mean(2) + 2) / 4
        y, x = (white * torch.arange(n).view(shape) for n, shape in ((16, (16, 1)), (32, (1, 32))))
        middle = torch.stack([m.sum((2, 3)) / white.sum((2, 3)) for m in (x, y)], -1)
        noise = torch.randn(*frames.shape[:2], 8, 9, generator=torch.Generator().manual_seed(5))
        noise[..., 3, 1:3] = middle @ torch.tensor([[0.3, 0.1], [-0.2, 0.5]]) + 7
        return noise


class Blind(nn.Module):
    """Every clip looks the same to it: noise."""

    def forward(self, frames: Tensor) -> Tensor:
        return torch.randn(*frames.shape[:2], 8, 9, generator=torch.Generator().manual_seed(5))


def fresh() -> tuple[list[Clip], list[Clip]]:
    return [ball(seed) for seed in range(40)], [ball(seed) for seed in range(100, 110)]


def test_place_is_read_from_latents_of_fresh_clips_that_hold_it(model: WorldModel) -> None:
    train, test = fresh()
    model.encoder = Seer()  # type: ignore[assignment]
    assert position_r2(model, train, test) > 0.97
    model.encoder = Blind()  # type: ignore[assignment]
    assert position_r2(model, train, test) < 0.05


def test_x_and_y_count_alike(model: WorldModel) -> None:
    """R2 is the mean over x and y: where the truth of y is shuffled, the half that x gives is left."""
    train, test = fresh()
    rng = np.random.default_rng(0)
    for clip in (*train, *test):
        clip.states["y"] = rng.permutation(clip.states["y"])
    model.encoder = Seer()  # type: ignore[assignment]
    assert 0.3 < position_r2(model, train, test) < 0.55
