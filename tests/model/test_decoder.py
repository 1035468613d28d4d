"""The decoder paints every kind of latent at the right size, and knows which model it belongs to."""

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError, ShapeError
from foretell.model.decoder import FILE, Decoder, load_decoder, save_decoder
from foretell.model.encoders import DenseConfig, PooledConfig, ViTConfig
from foretell.model.folder import save_model
from foretell.model.predictors import CausalConfig
from foretell.model.world_model import ModelConfig, WorldModel

view = View(height=32, width=48)
encoders = [DenseConfig(latent_width=5), PooledConfig(latent_width=7), ViTConfig(latent_width=6, width=12, depth=1)]


def small(encoder=encoders[0]):
    pooled = isinstance(encoder, PooledConfig)
    return ModelConfig(view=view, encoder=encoder, **({"predictor": CausalConfig()} if pooled else {}))


@pytest.mark.parametrize("encoder", encoders, ids=lambda config: type(config).__name__)
def test_paints_what_the_encoder_takes_in(encoder):
    model, decoder = WorldModel(small(encoder)).eval(), Decoder(small(encoder))
    frames = torch.randint(0, 256, (2, 3, 3, 32, 48), dtype=torch.uint8)
    latents = model.encode(frames)
    assert decoder(latents).shape == frames.shape
    painted = decoder.decode(latents)
    assert painted.dtype == torch.uint8
    assert painted.shape == frames.shape
    for b, t in ((0, 0), (1, 2)):  # every frame is painted from its own latents
        torch.testing.assert_close(decoder(latents[b : b + 1, t : t + 1])[0, 0], decoder(latents)[b, t])


def test_token_paints_where_it_looks():
    decoder = Decoder(small())
    latents = torch.zeros(1, 1, 4 * 6, 5)
    before = decoder(latents)
    latents[0, 0, 2 * 6 + 4] = 3.0
    change = (decoder(latents) - before).abs().mean((0, 1, 2))
    weights = change / change.sum()
    row, column = (weights.sum(1) @ torch.arange(32.0)).item(), (weights.sum(0) @ torch.arange(48.0)).item()
    assert 16 <= row < 24
    assert 32 <= column < 40


def test_pictures_stay_within_what_a_pixel_can_be():
    decoder = Decoder(small())
    decoder.background.data[0], decoder.background.data[1] = -9.0, 9.0
    painted = decoder.decode(torch.zeros(1, 2, 24, 5))
    assert (painted[:, :, 0] == 0).all()
    assert (painted[:, :, 1] == 255).all()


def test_latents_of_another_grid_are_refused():
    with pytest.raises(ShapeError, match=r"24"):
        Decoder(small())(torch.zeros(1, 2, 23, 5))


def test_kept_and_found_again(tmp_path):
    save_model(tmp_path, WorldModel(small()), {})
    decoder = Decoder(small())
    save_decoder(tmp_path, decoder, "a store")
    kept = load_decoder(tmp_path, small())
    assert kept.fitted_on == "a store"
    assert not kept.decoder.training
    latents = torch.randn(1, 2, 24, 5)
    assert torch.equal(kept.decoder.decode(latents), decoder.decode(latents))


def test_decoder_of_other_weights_is_refused(tmp_path):
    save_model(tmp_path, WorldModel(small()), {})
    save_decoder(tmp_path, Decoder(small()), "a store")
    save_model(tmp_path, WorldModel(small()), {})
    with pytest.raises(CheckpointError, match="another model"):
        load_decoder(tmp_path, small())


@pytest.mark.parametrize("left", [0, 10, 1000])
def test_damaged_file_is_refused(left, tmp_path):
    save_model(tmp_path, WorldModel(small()), {})
    save_decoder(tmp_path, Decoder(small()), "a store")
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:left])
    with pytest.raises(CheckpointError, match="damaged"):
        load_decoder(tmp_path, small())
