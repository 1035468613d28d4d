"""The model as a whole: rebuilt from its settings, pixels scaled without loss."""

from __future__ import annotations

import torch

from foretell.data.clip import View
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel


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
