"""The masked objective: tubes of the stated scales, nothing hidden is seen, and a target that follows by its formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from foretell.data.clip import View
from foretell.errors import ConfigError
from foretell.model.encoders import DenseConfig, PooledConfig, ViTConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.collapse import alarms, monitors
from foretell.objectives.masked import ASPECTS, Masked, MaskedConfig, block, tubes

BATCH, STEPS, HEIGHT, WIDTH = 3, 9, 24, 32
encoders = {
    "dense": DenseConfig(latent_width=5, stem_channels=6, channels=7),
    "vit": ViTConfig(latent_width=5, width=8, depth=1, heads=2),
}
both = pytest.mark.parametrize("encoder", encoders)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learners(encoder: str = "dense", **settings: float) -> tuple[WorldModel, Masked]:
    torch.manual_seed(0)
    model = WorldModel(
        ModelConfig(
            view=View(height=HEIGHT, width=WIDTH), encoder=encoders[encoder], predictor=RecurrentConfig(hidden=7)
        )
    )
    objective = Masked(MaskedConfig(hidden=6, **settings), model)
    for predictor in (model.predictor, objective.fill):
        torch.nn.init.normal_(predictor.speak[-1].weight)  # zero in a new one: nothing passes it
    return model, objective


def video() -> Tensor:
    return torch.randint(0, 256, (BATCH, STEPS, 3, HEIGHT, WIDTH), generator=generator(1), dtype=torch.uint8)


def hidden_tokens(model: WorldModel) -> Tensor:
    return tubes(MaskedConfig(), BATCH, model.grid, generator(3))


@both
def test_names_of_terms_are_names_of_weights(encoder):
    model, objective = learners(encoder)
    terms = objective.terms(model, video(), generator())
    assert terms.keys() == objective.weights.keys() == {"masked", "next", "rollout"}
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())


def test_the_error_is_that_of_hidden_tokens_by_hand():
    """What fills in says nothing new: the error is the distance of the target from a token of zeros, where it is hidden."""
    model, objective = learners()
    for parameter in objective.fill.speak.parameters():
        torch.nn.init.zeros_(parameter)
    terms = objective.terms(model, video(), generator(3))
    hidden, target = hidden_tokens(model), model.encode(video())
    errors = [target[clip, :, place].abs() for clip in range(BATCH) for place in range(12) if hidden[clip, place]]
    torch.testing.assert_close(terms["masked"], torch.stack(errors).mean())


@both
def test_what_is_hidden_is_not_seen(encoder):
    """Other pixels under the tubes: the target changes, and what the context encoder tells does not, in any bit."""
    model, objective = learners(encoder)
    hidden = hidden_tokens(model)
    under = hidden.view(BATCH, 1, 1, *model.grid).repeat_interleave(8, -1).repeat_interleave(8, -2)
    other = torch.where(under, 255 - video(), video())
    told, told_of_other = (objective.visible_latents(frames, hidden, model.grid) for frames in (video(), other))
    assert torch.equal(told, told_of_other)
    assert (told.transpose(1, 2)[hidden] == objective.hidden_token).all()
    visible = told.transpose(1, 2)[~hidden].flatten(0, 1)
    torch.testing.assert_close(visible.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(visible.var(0, correction=0), torch.ones(5), atol=1e-2, rtol=0)
    assert not torch.equal(model.encode(video()), model.encode(other))


def test_gradients_reach_what_learns_and_not_the_target():
    """masked: context encoder, hidden token and what fills it in. next and rollout: the predictor. Nothing: the target."""
    model, objective = learners()
    reached = {
        "masked": {"context", "hidden_token", "fill"},
        "next": {"predictor"},
        "rollout": {"predictor"},
    }
    for term, parts in reached.items():
        model.zero_grad()
        objective.zero_grad()
        objective.terms(model, video(), generator())[term].backward()
        named = [*model.named_parameters(), *objective.named_parameters()]
        got = {name.split(".")[0] for name, p in named if p.grad is not None and p.grad.abs().max() > 0}
        assert got == parts
        assert all(p.grad is None for p in model.encoder.parameters())


def test_blocks_cover_their_share_at_stated_aspects():
    grid = 40, 60
    for scale in (0.15, 0.7):
        drawn = [block(scale, grid, generator(seed)) for seed in range(200)]
        sizes = [(int(b.any(1).sum()), int(b.any(0).sum())) for b in drawn]
        assert all(height * width == b.sum() for (height, width), b in zip(sizes, drawn, strict=True))  # a rectangle
        free = [(height, width) for height, width in sizes if height < grid[0] and width < grid[1]]
        assert len(free) > 20
        assert all(0.93 * scale < height * width / 2400 < 1.07 * scale for height, width in free)
        aspects = [height / width for height, width in free]
        assert 0.95 * ASPECTS[0] < min(aspects)
        assert max(aspects) < 1.05 * ASPECTS[1]
        assert torch.stack(drawn).any(0).float().mean() > 0.98  # anywhere


def test_tubes_are_of_two_kinds_in_turn_and_a_function_of_the_generator():
    grid, config = (40, 60), MaskedConfig()
    hidden = tubes(config, 200, grid, generator())
    assert hidden.shape == (200, 2400)
    assert torch.equal(hidden, tubes(config, 200, grid, generator()))
    assert not torch.equal(hidden, tubes(config, 200, grid, generator(1)))
    shares = sorted(hidden.float().mean(1)[start::2].mean().item() for start in range(2))
    assert 0.5 < shares[0] < 0.75  # eight blocks of .15 each, some over others
    assert 0.75 < shares[1] < 0.95  # two of .7
    firsts = {tubes(config, 1, grid, generator(seed)).float().mean().item() > 0.72 for seed in range(20)}
    assert firsts == {False, True}  # a batch of one has either


def test_something_is_always_left_to_see():
    hidden = tubes(MaskedConfig(), 300, (3, 3), generator())
    assert hidden.any(1).all()
    assert not hidden.all(1).any()
    with pytest.raises(ConfigError, match=r"blocks of scale 0\.\d+ hide all of 1x1 tokens"):
        tubes(MaskedConfig(), 2, (1, 1), generator())


def test_the_target_follows_by_its_closed_form():
    """After n steps it is m^n of what it was, and (1 - m) m^k of the context encoder of k steps before."""
    kept, steps = 0.4, 7
    model, objective = learners(momentum=kept)
    start = copy.deepcopy(list(model.encoder.parameters()))
    contexts = []
    for step in range(steps):
        for number, parameter in enumerate(objective.context.parameters()):
            torch.nn.init.normal_(parameter, generator=generator(100 * step + number))
        contexts.append(copy.deepcopy(list(objective.context.parameters())))
        objective.after_step(model)
    for number, found in enumerate(model.encoder.parameters()):
        expected = kept**steps * start[number].double()
        for before, context in enumerate(reversed(contexts)):
            expected = expected + (1 - kept) * kept**before * context[number].double()
        torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=1e-5)
    assert torch.equal(contexts[-1][0], next(objective.context.parameters()))  # who is followed does not move


def test_monitors_and_alarms_look_at_the_target():
    model, _ = learners()
    values = monitors(model.eval(), video())
    assert all(isinstance(alarm.name, str) for alarm in alarms(values, 5, values["rank"]))
    assert {"error_over_copy_4", "rank", "std_within"} <= values.keys()


def test_a_pooled_encoder_has_nothing_to_hide():
    model = WorldModel(ModelConfig(view=View(height=32, width=32), encoder=PooledConfig(channels=3, hidden=9)))
    with pytest.raises(ConfigError, match="got encoder PooledConfig, expected one that learns, with a grid of tokens"):
        Masked(MaskedConfig(), model)


@pytest.mark.parametrize("name", ["horizon", "starts", "short_blocks", "long_blocks", "hidden"])
def test_impossible_counts_are_refused(name):
    with pytest.raises(ConfigError, match=f"objective {name}: got 0, expected . or more"):
        MaskedConfig(**{name: 0})


@pytest.mark.parametrize("name", ["short_scale", "long_scale", "momentum"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_impossible_shares_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"objective {name}: got {value}, expected a share between 0 and 1"):
        MaskedConfig(**{name: value})
