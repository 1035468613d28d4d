"""What every encoder promises: the shape of its latents, and that a frame is encoded alone."""

from __future__ import annotations

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import ConfigError, ShapeError
from foretell.model.encoders import DenseConfig, EncoderConfig, PooledConfig, ViTConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel

HEIGHT, WIDTH, BATCH, STEPS = 32, 48, 2, 5

encoders: list[EncoderConfig] = [
    DenseConfig(latent_width=7, stem_channels=6, channels=10),
    PooledConfig(latent_width=9, channels=6, hidden=11),
    ViTConfig(latent_width=7, width=12, depth=2, heads=3),
    DenseConfig(latent_width=7, stem_channels=6, channels=10, keep_colour=True),
]
tokens = {DenseConfig: 4 * 6, PooledConfig: 1, ViTConfig: 4 * 6}
every_encoder = pytest.mark.parametrize("config", encoders, ids=lambda config: type(config).__name__)


def build(config: EncoderConfig, height: int = HEIGHT, width: int = WIDTH) -> WorldModel:
    torch.manual_seed(0)
    view = View(height=height, width=width)
    return WorldModel(ModelConfig(view=view, encoder=config, predictor=RecurrentConfig(hidden=6)))


def video(batch: int = BATCH, steps: int = STEPS, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """Squares of 8x8 pixels, each of its own colour and a little noise."""
    generator = torch.Generator().manual_seed(1)
    squares = torch.randint(20, 236, (batch, steps, 3, height // 8, width // 8), generator=generator)
    noise = torch.randint(-20, 20, (batch, steps, 3, height, width), generator=generator)
    return (squares.repeat_interleave(8, 3).repeat_interleave(8, 4) + noise).to(torch.uint8)


@every_encoder
def test_latents_have_the_promised_shape(config):
    latents = build(config).encode(video())
    assert latents.shape == (BATCH, STEPS, tokens[type(config)], config.latent_width)
    assert latents.dtype == torch.float32


@every_encoder
@torch.no_grad()
def test_a_frame_is_encoded_alone(config):
    model, frames = build(config).eval(), video()
    before = model.encode(frames)
    frames[1, 3] = 255 - frames[1, 3]
    changed = (model.encode(frames) - before).abs().amax((2, 3))
    assert changed[1, 3] > 1e-3
    changed[1, 3] = 0
    assert changed.max() < 1e-5
    torch.testing.assert_close(model.encode(frames[1:, 3:4]), model.encode(frames)[1:, 3:4], atol=1e-5, rtol=1e-4)


@every_encoder
def test_training_norms_every_dimension_over_all_tokens(config):
    latents = build(config).train().encode(video()).flatten(0, -2)
    torch.testing.assert_close(latents.mean(0), torch.zeros(config.latent_width), atol=1e-4, rtol=0)
    deviation = latents.std(0, correction=0)  # below 1 as far as an untrained network's outputs are near the norm's eps
    assert deviation.min() > 0.5
    assert deviation.max() < 1.001


@every_encoder
def test_gradients_reach_all_parameters(config):
    model = build(config).train()
    latents = model.encode(video())
    (latents * torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    unreached = [n for n, p in model.encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not unreached


@torch.no_grad()
@pytest.mark.parametrize("config", [encoders[0], encoders[2], encoders[3]], ids=["dense", "vit", "colour"])
def test_tokens_lie_row_by_row_where_their_pixels_are(config):
    """A change in one 8x8 square is strongest in the token of its row and column."""
    model, frames = build(config).eval(), video(steps=1)
    before = model.encode(frames)
    frames[:, :, :, 8:16, 32:40] = 255 - frames[:, :, :, 8:16, 32:40]
    changed = (model.encode(frames) - before).pow(2).sum((0, 1, 3))
    assert changed.argmax() == 1 * 6 + 4


@torch.no_grad()
def test_dense_is_fully_convolutional():
    """The weights of one view encode any other, and far from the borders the latents are the same."""
    small, large = build(encoders[0]).eval(), build(encoders[0], 64, 80).eval()
    large.load_state_dict(small.state_dict())
    frames = video(height=64, width=80)
    of_large = large.encode(frames).unflatten(2, (8, 10))
    of_part = small.encode(frames[..., 16:48, 24:72]).unflatten(2, (4, 6))
    assert large.grid == (8, 10)
    torch.testing.assert_close(of_part[:, :, 2:3, 2:5], of_large[:, :, 4:5, 5:8], atol=1e-5, rtol=1e-4)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"frames: expected axes \(B, T, 3, 32, 48\), got shape \(2, 5, 3, 48, 32\)"):
        build(encoders[0]).encode(video(height=48, width=32))


def test_pooled_needs_multiples_of_sixteen():
    with pytest.raises(ConfigError, match="pooled encoder: got a view of 32x40, expected multiples of 16"):
        build(encoders[1], 32, 40)
