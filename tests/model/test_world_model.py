"""The model as a whole: rebuilt from its settings, pixels scaled without loss."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import ConfigError
from foretell.model.encoders import DenseConfig, WhatWhereConfig, WhatWhereEncoder, mean_colours, soft_points
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


def test_soft_points_are_where_the_maps_are_high():
    maps = torch.zeros(2, 3, 5, 9)  # right from -1 to 1 in 9 columns, down in 5 rows
    maps[0, 1, 4, 2] = maps[1, 2, 0, 8] = 50
    points = soft_points(maps).view(2, 2, 3)
    torch.testing.assert_close(points[0, :, 1], torch.tensor([-0.5, 1.0]))
    torch.testing.assert_close(points[1, :, 2], torch.tensor([1.0, -1.0]))
    assert points[0, :, [0, 2]].abs().max() < 1e-6


@torch.no_grad()
def test_one_half_cannot_tell_where_and_the_other_can():
    torch.manual_seed(0)
    encoder = WhatWhereEncoder(WhatWhereConfig(latent_width=6, channels=8, points=5), 64, 80).eval()
    frames = torch.zeros(2, 1, 3, 64, 80)
    frames[0, 0, 0, 24:32, 24:36] = frames[1, 0, 0, 32:40, 40:52] = 2.0  # the same thing, 8 px down and 16 to the right
    here, there = encoder(frames)[:, 0, 0]
    torch.testing.assert_close(here[:3], there[:3], atol=1e-5, rtol=1e-4)
    assert (here[3:] - there[3:]).abs().min() > 1e-4
    with pytest.raises(ConfigError, match="even number"):
        WhatWhereConfig(latent_width=7)
