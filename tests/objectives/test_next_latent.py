"""The objective's terms on data whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from foretell.data.clip import View
from foretell.errors import ConfigError
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.next_latent import NextLatent, NextLatentConfig, change_weight, drawn_tokens, pixel_motion

BATCH, STEPS, HEIGHT, WIDTH = 3, 9, 16, 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_of(pooled: bool = False, carry: bool = False) -> WorldModel:
    torch.manual_seed(0)
    encoder = PooledConfig(latent_width=5, channels=4) if pooled else DenseConfig(latent_width=5, stem_channels=6)
    predictor = CausalConfig(width=8, depth=1, heads=2) if pooled else RecurrentConfig(hidden=7, carry=carry)
    return WorldModel(ModelConfig(view=View(height=HEIGHT, width=WIDTH), encoder=encoder, predictor=predictor)).train()


def video() -> Tensor:
    return torch.randint(0, 256, (BATCH, STEPS, 3, HEIGHT, WIDTH), generator=generator(1), dtype=torch.uint8)


@pytest.mark.parametrize("pooled", [False, True], ids=["dense", "pooled"])
@pytest.mark.parametrize("regularizer", ["sigreg", "vcreg"])
def test_names_of_terms_are_names_of_weights(pooled, regularizer):
    objective = NextLatent(NextLatentConfig(regularizer=regularizer))
    terms = objective.terms(model_of(pooled), video(), generator())
    assert terms.keys() == objective.weights.keys() == {"next", "rollout", "within", regularizer}
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    assert objective.weights[regularizer] == NextLatentConfig().isotropy


@pytest.mark.parametrize("seen", [1, 3, STEPS - 4])
def test_who_says_that_nothing_changes_errs_by_the_change(seen):
    """A new predictor says z' = z exactly: the one-step error is the mean squared change, the rollout's the longer ones.

    A rollout may start at each step that is the last of `seen` or more.
    """
    model = model_of()
    terms = NextLatent(NextLatentConfig(horizon=4, starts=100, seen=seen)).terms(model, video(), generator())
    latents = model.encode(video())
    torch.testing.assert_close(terms["next"], (latents[:, 1:] - latents[:, :-1]).pow(2).mean())
    first, behind = seen - 1, STEPS - 4
    changes = [(latents[:, first + k : behind + k] - latents[:, first:behind]).pow(2).mean() for k in (2, 3, 4)]
    torch.testing.assert_close(terms["rollout"], torch.stack(changes).mean())


def test_an_oracle_errs_by_nothing():
    """A picture that stands still is foretold without error, and the within-clip term says that nothing happens."""
    still = video()[:, :1].expand(-1, STEPS, -1, -1, -1)
    terms = NextLatent(NextLatentConfig(within_floor=0.5)).terms(model_of(), still, generator())
    assert terms["next"] < 1e-8
    assert terms["rollout"] < 1e-8
    assert terms["within"].item() == pytest.approx(0.49, abs=1e-4)  # 0.5 less the epsilon under the root


def test_terms_are_a_function_of_model_frames_and_generator():
    objective, model = NextLatent(NextLatentConfig(tokens=64, starts=2, within_floor=3)), model_of()
    for parameter in model.predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    one, same, other = (objective.terms(model, video(), generator(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one["next"] == other["next"]
    assert all(one[name] != other[name] for name in ("rollout", "sigreg", "within"))


def test_gradients_of_every_term_are_finite_and_reach_the_encoder():
    model = model_of()
    objective = NextLatent(NextLatentConfig(within_floor=3))
    for name in objective.weights:
        model.zero_grad()
        objective.terms(model, video(), generator())[name].backward()
        gradients = [p.grad for p in model.encoder.parameters()]
        assert all(g is not None and torch.isfinite(g).all() and g.abs().max() > 0 for g in gradients), name


def test_an_encoder_at_rest_learns_nothing_and_its_statistics_stay():
    model, objective = model_of(), NextLatent(NextLatentConfig(settle=0.4))
    objective.before_step(model.train(), 0.59)
    assert model.encoder.training
    objective.before_step(model.train(), 0.6)
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    terms = objective.terms(model, video(), generator())
    (terms["next"] + terms["rollout"]).backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.predictor.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.encoder.state_dict().items())


def test_while_the_encoder_rests_an_error_weighs_by_the_change():
    """A new predictor says z' = z: each token's error is its change, weighed by that very change and a little."""
    model, objective = model_of(), NextLatent(NextLatentConfig(settle=0.5))
    objective.before_step(model, 0.5)
    error = objective.terms(model, video(), generator())["next"]
    latents = model.encode(video())
    change = (latents[:, 1:] - latents[:, :-1]).pow(2).mean(-1)
    weight = 0.1 + change / change.mean()  # random pictures: none changes 30 times the mean
    torch.testing.assert_close(error, (weight * change).mean() / weight.mean())


def test_who_carries_nothing_on_errs_as_a_copy_does_and_learns_the_drift_alone():
    """A new model says that nothing moves. Memories are taken as they are: no other weight is taught by the term."""
    model = model_of(carry=True)
    objective = NextLatent(NextLatentConfig(), model)
    terms = objective.terms(model, video(), generator())
    assert terms.keys() == objective.weights.keys() == {"next", "rollout", "within", "sigreg", "carry"}
    assert terms["carry"].item() == pytest.approx(1, abs=1e-3)
    terms["carry"].backward()
    taught = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert taught == {name for name, _ in model.named_parameters() if name.startswith("predictor.carry.")}


def test_a_picture_that_stands_still_is_carried_on_without_error():
    model = model_of(carry=True)
    still = video()[:, :1].expand(-1, STEPS, -1, -1, -1)
    assert NextLatent(NextLatentConfig(), model).terms(model, still, generator())["carry"] < 1e-6


def test_weights_of_change_are_one_on_average_and_bounded():
    latents = torch.zeros(1, 3, 100, 2)
    latents[:, 2, 7] = 1.0  # one token of a hundred, in one of two steps
    weight = change_weight(latents)
    assert weight.mean().item() == pytest.approx(1.0)
    assert (weight[0, 1, 7] / weight[0, 0, 0]).item() == pytest.approx((30 + 0.1) / 0.1)
    assert torch.isfinite(change_weight(torch.zeros(1, 3, 4, 2))).all()


def test_pixel_motion_on_known_data():
    """One 8x8 square goes from black to (30, 60, 90): 60 grey levels there at that step, nothing elsewhere."""
    frames = torch.zeros(BATCH, STEPS, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    frames[1, 4:, :, 8:16, 24:32] = torch.tensor([30, 60, 90], dtype=torch.uint8)[:, None, None]
    frames[2, 7, :, 0, 0] = 255
    motion = pixel_motion(frames, (2, 4))
    expected = torch.zeros(BATCH, STEPS - 1, 8)
    expected[1, 3, 7] = 60
    expected[2, 6:8, 0] = 255 / 64
    torch.testing.assert_close(motion, expected)
    torch.testing.assert_close(pixel_motion(frames, (1, 1)), expected.mean(-1, keepdim=True))
    torch.testing.assert_close(
        pixel_motion(frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3), (2, 4)), expected
    )


def test_tokens_are_drawn_where_the_picture_moves():
    """Latents tell clip, step and place; all motion is at places 2 and 5 of clip 1, just before step 3."""
    clip, step, place = torch.meshgrid(torch.arange(BATCH), torch.arange(STEPS), torch.arange(8), indexing="ij")
    latents = torch.stack([clip, step, place], -1).float()
    motion = torch.zeros(BATCH, STEPS - 1, 8)
    motion[1, 2, 2], motion[1, 2, 5] = 3, 1
    moving, spread = drawn_tokens(latents, motion, 200, generator())
    assert moving.shape == (BATCH * 4, STEPS, 3)
    assert {tuple(row) for row in moving[:, 0, ::2].tolist()} >= {(1, 2), (1, 5)}
    assert torch.equal(moving[:, :, 1], torch.arange(STEPS).float().expand(BATCH * 4, -1))
    assert spread.shape == (200, 3)
    assert len(spread[:100].unique(dim=0)) > 60  # half of them from anywhere
    where, times = spread[100:].unique(dim=0, return_counts=True)
    assert where.tolist() == [[1, 3, 2], [1, 3, 5]]
    assert 2 < times[0] / times[1] < 5


def test_fewer_tokens_than_asked_for_are_no_trouble():
    moving, spread = drawn_tokens(torch.zeros(2, 3, 1, 5), torch.zeros(2, 2, 1), 2048, generator())
    assert moving.shape == (2, 3, 5)
    assert spread.shape == (6, 5)


@pytest.mark.parametrize("name", ["horizon", "starts", "tokens", "directions"])
def test_impossible_settings_are_refused(name):
    with pytest.raises(ConfigError, match=f"objective {name}: got 0, expected . or more"):
        NextLatentConfig(**{name: 0})
