"""Fitting a decoder: it learns, the model does not."""

import pytest
import torch

from foretell.data.clip import View
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.train import decoder as decoders
from foretell.train.decoder import fit_decoder

view = View(height=16, width=32)
configs = {
    "dense": ModelConfig(view=view, encoder=DenseConfig(latent_width=12), predictor=RecurrentConfig(hidden=8)),
    "pooled": ModelConfig(view=view, encoder=PooledConfig(latent_width=24), predictor=CausalConfig(depth=1)),
}


def squares(step):
    """A bright square somewhere on a dim ground: uint8 (24, 1, 3, 16, 32)."""
    generator = torch.Generator().manual_seed(step)
    frames = torch.full((24, 1, 3, 16, 32), 60, dtype=torch.uint8)
    for frame in frames:
        top, left = (int(torch.randint(0, room, (), generator=generator)) for room in (11, 27))
        frame[..., top : top + 5, left : left + 5] = 220
    return frames


@pytest.fixture(params=configs)
def model(request):
    torch.manual_seed(3)
    return WorldModel(configs[request.param])


@pytest.mark.parametrize("training", [False, True])
def test_model_is_left_as_it_was(model, training):
    """Neither a weight nor a running statistic of a norm changes, even if the model comes in training mode."""
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert any("running_var" in name for name in before)
    fit_decoder(model, squares, steps=3, seed=0)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.grad is None for weight in model.parameters())
    assert model.training is training


def test_it_learns_to_read_the_model(model):
    model.encoder.norm.norm.momentum = 1.0  # the norm meets its data
    model.encode(squares(10**6))
    fresh = squares(10**6 + 1)
    decoder = fit_decoder(model, squares, steps=150, seed=0)
    latents = model.eval().encode(fresh)
    error = (decoder.decode(latents).float() - fresh.float()).abs().mean()
    without = (fresh.float() - squares(0).float().mean((0, 1))).abs().mean()
    assert error < 0.4 * without


def test_a_small_thing_of_a_rare_colour_is_not_left_out(monkeypatch):
    """A dot of 9 pixels moves about, and so does a wall; beside a decoder to which every pixel counts the same."""
    torch.manual_seed(3)
    model = WorldModel(configs["pooled"])

    def scenes(step):
        generator = torch.Generator().manual_seed(step)
        frames = torch.full((24, 1, 3, 16, 32), 220, dtype=torch.uint8)
        for frame in frames:
            wall, left = (int(torch.randint(0, room, (), generator=generator)) for room in (13, 29))
            frame[..., wall : wall + 3, :] = 40
            frame[:, 2, 6:9, left : left + 3], frame[:, :2, 6:9, left : left + 3] = 255, 0
        return frames

    model.encoder.norm.norm.momentum = 1.0
    model.encode(scenes(10**6))
    fresh = scenes(10**6 + 1)
    dot = (fresh[:, :, 2] == 255) & (fresh[:, :, 0] == 0)

    def error():
        decoder = fit_decoder(model, scenes, steps=150, seed=0)
        painted = decoder.decode(model.eval().encode(fresh))
        return (painted.float() - fresh.float()).abs().mean(2)[dot].mean()

    weighed = error()
    monkeypatch.setattr(decoders, "MOST", 0.0)
    assert weighed < 0.75 * error()


def test_same_seed_same_decoder_and_the_world_goes_on_as_before(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = fit_decoder(model, squares, steps=2, seed=1).state_dict()
    assert torch.equal(torch.rand(3), expected)
    two, other = (fit_decoder(model, squares, steps=2, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
