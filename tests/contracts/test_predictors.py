"""What every predictor promises: it is causal, and scan, step, rollouts and a resumed scan all say the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from foretell.data.clip import View
from foretell.errors import ShapeError
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.predictors import CausalConfig, Predictor, PredictorConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel

BATCH, STEPS, WIDTH = 2, 9, 5

recurrent, causal = RecurrentConfig(hidden=6), CausalConfig(width=8, depth=2, heads=2, history=4)
short = CausalConfig(width=8, depth=3, heads=4, history=1, dropout=0.0)
every_predictor = pytest.mark.parametrize(
    ("config", "pooled"),
    [(recurrent, False), (recurrent, True), (causal, False), (causal, True), (short, True)],
    ids=["recurrent-dense", "recurrent-pooled", "causal-dense", "causal-pooled", "causal-one-step"],
)


def build(config: PredictorConfig, pooled: bool) -> WorldModel:
    torch.manual_seed(0)
    encoder = PooledConfig(latent_width=WIDTH, channels=2) if pooled else DenseConfig(latent_width=WIDTH)
    model = WorldModel(ModelConfig(view=View(height=16, width=32), encoder=encoder, predictor=config)).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.predictor.parameters():  # the last layer starts at zero, which would prove nothing
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def latents_of(model: WorldModel, steps: int = STEPS) -> Tensor:
    tokens = model.grid[0] * model.grid[1]
    return torch.randn(BATCH, steps, tokens, WIDTH, generator=torch.Generator().manual_seed(2))


def said_step_by_step(predictor: Predictor, latents: Tensor) -> Tensor:
    memory, said = predictor.start(latents.shape[0]), []
    for now in latents.unbind(1):
        foretold, memory = predictor.step(now, memory)
        said.append(foretold)
    return torch.stack(said, 1)


@every_predictor
@torch.no_grad()
def test_scan_says_what_repeated_steps_say(config, pooled):
    model = build(config, pooled)
    latents = latents_of(model)
    said = model.predict(latents).next
    assert said.shape == latents.shape
    assert (said - latents).abs().min(-1).values.mean() > 1e-3
    torch.testing.assert_close(said, said_step_by_step(model.predictor, latents), atol=1e-5, rtol=1e-4)


@every_predictor
@torch.no_grad()
def test_what_is_said_knows_nothing_of_later(config, pooled):
    model = build(config, pooled)
    latents = latents_of(model)
    before = model.predict(latents).next
    latents[:, 6:] += 1
    changed = (model.predict(latents).next - before).abs().amax((0, 2, 3))
    assert changed[:6].max() == 0
    assert changed[6:].min() > 0.1


@every_predictor
@torch.no_grad()
def test_a_resumed_scan_equals_one_scan(config, pooled):
    """In parts of many lengths, shorter and longer than the causal history."""
    model = build(config, pooled)
    latents = latents_of(model, 13)
    whole = model.predict(latents)
    memory, said, rolled = None, [], []
    for part in latents.split([1, 2, 7, 3], 1):
        foretold, memory = model.go_on(part, memory)
        said.append(foretold.next)
        rolled.append(model.rollouts(foretold, list(range(part.shape[1])), 3))
    torch.testing.assert_close(torch.cat(said, 1), whole.next, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat(rolled, 1), model.rollouts(whole, list(range(13)), 3), atol=1e-5, rtol=1e-4)


@every_predictor
@torch.no_grad()
def test_rollouts_from_every_start_equal_a_rollout_by_hand(config, pooled):
    model = build(config, pooled)
    latents, horizon, starts = latents_of(model), 4, [7, 0, 3]
    rolled = model.rollouts(model.predict(latents), starts, horizon)
    assert rolled.shape == (BATCH, 3, horizon, latents.shape[2], WIDTH)
    for number, start in enumerate(starts):
        known = latents[:, : start + 1]
        for step in range(horizon):
            foretold = said_step_by_step(model.predictor, known)[:, -1]
            torch.testing.assert_close(rolled[:, number, step], foretold, atol=1e-5, rtol=1e-4)
            known = torch.cat([known, foretold[:, None]], 1)
    torch.testing.assert_close(model.rollout(latents[:, :4], horizon), rolled[:, 2], atol=1e-5, rtol=1e-4)


@every_predictor
@torch.no_grad()
def test_memory_has_one_size_whatever_was_seen(config, pooled):
    model = build(config, pooled)
    _, after_nine = model.go_on(latents_of(model), None)
    _, after_two = model.go_on(latents_of(model, 2), None)
    assert after_nine.shape == after_two.shape == model.predictor.start(BATCH).shape


@every_predictor
def test_gradients_reach_all_parameters_and_the_first_latent(config, pooled):
    model = build(config, pooled).train()
    latents = latents_of(model).requires_grad_()
    rolled = model.rollouts(model.predict(latents), [2, 3], 3)
    rolled[:, :, -1].pow(2).sum().backward()
    unreached = [n for n, p in model.predictor.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    if config == short:  # with one step in view there is nothing to choose from, so queries and distances do nothing
        unreached = [
            name for name in unreached if name != "distance" and ".query." not in name and ".key_value" not in name
        ]
    assert not unreached
    assert latents.grad is not None
    first = 3 if config == short else 0
    assert latents.grad[:, first].abs().max() > 0
    assert latents.grad[:, 4:].abs().max() == 0


@torch.no_grad()
def test_untrained_predictors_say_that_nothing_changes():
    for config, pooled in ((recurrent, False), (causal, True)):
        torch.manual_seed(0)
        encoder = PooledConfig(latent_width=WIDTH) if pooled else DenseConfig(latent_width=WIDTH)
        model = WorldModel(ModelConfig(view=View(height=16, width=32), encoder=encoder, predictor=config)).eval()
        latents = latents_of(model)
        torch.testing.assert_close(model.rollout(latents, 3), latents[:, -1:].expand(-1, 3, -1, -1))


@torch.no_grad()
def test_causal_blocks_look_back_as_far_as_their_history():
    """Two blocks with a history of 4 see 3 + 3 steps back, and no further."""
    model = build(causal, True)
    latents = latents_of(model)
    before = model.predict(latents).next
    latents[:, 0] += 1
    changed = (model.predict(latents).next - before).abs().amax((0, 2, 3))
    assert changed[:7].min() > 1e-6
    assert changed[7:].max() == 0


@torch.no_grad()
def test_recurrent_memory_sees_the_neighbourhood_alone():
    """One step widens what a token knows by one token for looking and one for speaking."""
    model = build(recurrent, False)
    assert model.grid == (2, 4)
    latents = latents_of(model, 1)
    before = model.predict(latents).next
    latents[:, :, 0] += 1  # the upper left token
    changed = (model.predict(latents).next - before).abs().amax((0, 1, 3)).view(2, 4)
    assert changed[:, :3].min() > 1e-6
    assert changed[:, 3].max() == 0


def test_latents_of_another_grid_are_refused():
    model = build(recurrent, False)
    with pytest.raises(ShapeError, match="latents: expected axes"):
        model.predict(torch.zeros(BATCH, STEPS, 7, WIDTH))


def test_a_recurrent_predictor_that_fell_silent_learns_again():
    """Every rectifier pushed below zero, as a few steps at too high a rate do: gradients must still reach all weights."""
    model = build(recurrent, False)
    predictor = model.predictor
    with torch.no_grad():
        for layer in (predictor.look, predictor.speak[0]):
            layer.bias -= 50
    latents = latents_of(model)
    (model.predict(latents).next - latents.roll(-1, 1)).pow(2).mean().backward()
    for name, parameter in predictor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
