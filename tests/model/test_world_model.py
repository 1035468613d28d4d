"""The model as a whole: rebuilt from its settings, pixels scaled without loss."""

from __future__ import annotations

import dataclasses

import torch

from foretell.data.clip import View
from foretell.model.encoders import DenseConfig, mean_colours
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel, scaled


def small() -> ModelConfig:
    return ModelConfig(
        view=View(height=16, width=24),
        encoder=DenseConfig(latent_width=5, stem_channels=6, channels=7),
        predictor=RecurrentConfig(hidden=4),
    )


def test_the_default_has_six_hundred_thousand_weights():
    assert 550_000 < sum(p.numel() for p in WorldModel(ModelConfig()).parameters()) < 650_000


def test_every_grey_level_survives_bf16():
    seen = []
    model = WorldModel(small())
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    frames = torch.arange(256, dtype=torch.uint8).repeat(9)[: 2 * 3 * 16 * 24].view(1, 2, 3, 16, 24)
    model.encode(frames)
    (pixels,) = seen
    assert pixels.min() == -2
    assert pixels.max() == 127 / 64
    torch.testing.assert_close(pixels.bfloat16().float(), pixels, rtol=0, atol=0)
    torch.testing.assert_close((pixels * 64 + 128).to(torch.uint8), frames, rtol=0, atol=0)


@torch.no_grad()
def test_rollout_goes_on_from_the_last_step():
    torch.manual_seed(0)
    model = WorldModel(small()).eval()
    torch.nn.init.normal_(model.predictor.speak[-1].weight)
    latents = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    rolled = model.rollout(latents, 2)
    assert rolled.shape == (3, 2, 6, 5)
    torch.testing.assert_close(rolled[:, 0], model.predict(latents).next[:, -1])
    torch.testing.assert_close(
        rolled[:, 1], model.predict(torch.cat([latents, rolled[:, :1]], 1)).next[:, -1], atol=1e-5, rtol=1e-4
    )


def test_mean_colours_of_tokens_by_hand():
    images = torch.zeros(1, 3, 8, 16)
    images[0, :, :, 8:] = torch.tensor([0.9, 0.3, -0.6])[:, None, None]
    images[0, :, :4, 8:] = 0  # half of the token
    expected = torch.tensor([[0.2, 1.5, 0.15], [0.0, 0.0, 0.0]]).T[:, [1, 0]] / 2
    torch.testing.assert_close(mean_colours(images)[0, :, 0], expected)


def test_kept_colour_is_what_the_last_channels_say_and_nothing_learns_it():
    torch.manual_seed(0)
    config = small()
    model = WorldModel(dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, keep_colour=True)))
    frames = torch.randint(0, 256, (2, 3, 3, 16, 24), dtype=torch.uint8)
    latents = model.encode(frames)[..., -3:].flatten(0, 2)
    colours = mean_colours(scaled(frames).flatten(0, 1)).flatten(2).transpose(1, 2).flatten(0, 1)
    expected = (colours - colours.mean(0)) / colours.std(0, unbiased=False)
    torch.testing.assert_close(latents, expected, atol=1e-3, rtol=1e-3)
    latents.sum().backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.encoder.parameters())
