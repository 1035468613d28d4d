"""The pixel baseline: its errors by hand, its painting token by token, and how many weights it has beside next_latent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from foretell import presets
from foretell.data.clip import View
from foretell.errors import ConfigError, ShapeError
from foretell.log import read_metrics
from foretell.model.actions import Batch
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.collapse import monitors
from foretell.objectives.next_pixels import NextPixels, NextPixelsConfig
from foretell.train.loop import TrainConfig, train_loop

BATCH, STEPS, HEIGHT, WIDTH = 3, 9, 16, 32
both = pytest.mark.parametrize("pooled", [False, True], ids=["dense", "pooled"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learners(pooled: bool = False, **settings: int) -> tuple[WorldModel, NextPixels]:
    torch.manual_seed(0)
    encoder = PooledConfig(latent_width=5, channels=4) if pooled else DenseConfig(latent_width=5, stem_channels=6)
    predictor = CausalConfig(width=8, depth=1, heads=2) if pooled else RecurrentConfig(hidden=7)
    model = WorldModel(ModelConfig(view=View(height=HEIGHT, width=WIDTH), encoder=encoder, predictor=predictor))
    return model, NextPixels(NextPixelsConfig(hidden=11, **settings), model)


def video() -> Tensor:
    return torch.randint(0, 256, (BATCH, STEPS, 3, HEIGHT, WIDTH), generator=generator(1), dtype=torch.uint8)


@both
def test_names_of_terms_are_names_of_weights(pooled):
    model, objective = learners(pooled)
    terms = objective.terms(model, video(), generator())
    assert terms.keys() == objective.weights.keys() == {"next", "rollout"}
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())


@both
def test_each_token_paints_its_own_pixels(pooled):
    model, objective = learners(pooled)
    latents = torch.randn(BATCH, STEPS, model.grid[0] * model.grid[1], 5, generator=generator())
    painted = objective.decode(latents)
    assert painted.shape == (BATCH, STEPS, 3, HEIGHT, WIDTH)
    height, width = HEIGHT // model.grid[0], WIDTH // model.grid[1]
    for place in range(latents.shape[2]):
        row, column = divmod(place, model.grid[1])
        square = painted[..., row * height : (row + 1) * height, column * width : (column + 1) * width]
        torch.testing.assert_close(square.flatten(2), objective.paint(latents[:, :, place]))
    with pytest.raises(ShapeError):
        objective.decode(latents[:, :, 1:])


def test_errors_by_hand():
    """A new predictor says z' = z: what is foretold is the frame that is seen, painted, at every horizon."""
    model, objective = learners(horizon=4, starts=100)
    terms = objective.terms(model, video(), generator())
    painted, true = objective.decode(model.encode(video())), video().double() / 255
    assert terms["next"].item() == pytest.approx((painted[:, :-1] - true[:, 1:]).pow(2).mean().item())
    starts = STEPS - 4
    errors = [(painted[:, :starts] - true[:, k : k + starts]).pow(2).mean().item() for k in (2, 3, 4)]
    assert terms["rollout"].item() == pytest.approx(sum(errors) / 3)


def test_errors_over_copy_are_those_of_pixels():
    model, objective = learners()
    model.eval()
    values = monitors(model, video(), objective.decode)
    painted, true = objective.decode(model.encode(video())), video().float() / 255
    starts = slice(2, 5)  # a quarter in, up to four steps before the end
    error = (painted[:, starts] - true[:, 6:9]).pow(2).mean() / (true[:, starts] - true[:, 6:9]).pow(2).mean()
    assert values["error_over_copy_4"] == pytest.approx(error.item(), rel=1e-4)
    assert values["error_over_copy_4"] != monitors(model, video())["error_over_copy_4"]


def test_gradients_of_every_term_reach_what_is_trained():
    model, objective = learners()
    torch.nn.init.normal_(model.predictor.speak[-1].weight)  # zero in a new predictor: nothing passes it
    for name in objective.weights:
        model.zero_grad()
        objective.zero_grad()
        objective.terms(model, video(), generator())[name].backward()
        gradients = [p.grad for p in (*model.parameters(), *objective.parameters())]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients), name
        assert all(p.grad.abs().max() > 0 for p in (*model.encoder.parameters(), *objective.parameters())), name


def test_the_loss_falls(tmp_path: Path):
    """A bright square that walks: after a few steps the picture is foretold better than at first."""
    frames = torch.zeros(BATCH, STEPS, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    for clip in range(BATCH):
        for step in range(STEPS):
            frames[clip, step, clip, 2 * clip : 8 + 2 * clip, 2 * step : 8 + 2 * step] = 255
    model, objective = learners()
    config = TrainConfig(steps=60, window=STEPS, batch=BATCH, objective=objective.config, check_every=60)
    train_loop(model, objective, lambda step: Batch(frames), config, tmp_path, lambda model, step: {})
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]


@pytest.mark.parametrize(("preset", "most"), [("dense", 0.05), ("vit", 0.05), ("pooled", None)])
def test_weights_beside_those_of_next_latent(preset, most, capsys):
    """Encoder and predictor are the very ones. What paints adds less than 5%, but for a pooled latent."""
    with torch.device("meta"):
        model = WorldModel(getattr(presets, preset)())
        objective = NextPixels(NextPixelsConfig(), model)
    ours, painting = (sum(p.numel() for p in module.parameters()) for module in (model, objective))
    with capsys.disabled():
        print(f"\n{preset}: next_latent {ours:,} weights, next_pixels {ours + painting:,} (+{painting / ours:.1%})")
    assert painting > 0
    assert (painting / ours < most) if most else (painting > ours / 2)


@pytest.mark.parametrize("name", ["horizon", "starts", "hidden"])
def test_impossible_settings_are_refused(name):
    with pytest.raises(ConfigError, match=f"objective {name}: got 0, expected . or more"):
        NextPixelsConfig(**{name: 0})


@both
def test_a_clip_is_told_of_as_bright_as_it_is_whatever_others_are_in_its_batch(pooled):
    """In training, too: a norm over the batch would take the brightness of a frame from its latents."""
    model, objective = learners(pooled)
    model.train()
    objective.before_step(model, 0.0)
    frames = video()
    model.encode(frames)  # at first the norm finds their scale
    objective.before_step(model, 0.1)
    together = model.encode(frames)
    torch.testing.assert_close(model.encode(frames[:1]), together[:1])
    model.eval()
    torch.testing.assert_close(model.encode(frames), together)
