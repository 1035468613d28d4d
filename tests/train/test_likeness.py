"""A likeness: what comes out from behind a screen should look as it went in, wherever and whenever it does."""

import dataclasses

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError
from foretell.evals.judges import Unlikeness
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.folder import load_model, save_model
from foretell.model.likeness import FILE, Likeness, LikenessConfig, load_likeness, new_likeness, save_likeness
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.presets import dense
from foretell.train.likeness import fit_likeness
from foretell.train.loop import TrainConfig
from foretell.train.run import RunConfig
from foretell.training import refuse_what_does_not_go_together

STEPS, SIDE, HEIGHT, WIDTH = 16, 8, 24, 64
BEFORE, AFTER = 24, 44
"""Columns between which a screen stands; a square of SIDE pixels is behind it for some steps."""
CONFIG = LikenessConfig(asked=4, kept=3, width=32, heads=2, steps=160)


def passages(colours: torch.Tensor, tops: torch.Tensor) -> torch.Tensor:
    """Squares that pass behind the screen, of their own colours (B, T, 3) at each step: uint8 (B, T, 3, HEIGHT, WIDTH)."""
    frames = torch.full((len(colours), STEPS, 3, HEIGHT, WIDTH), 100, dtype=torch.uint8)
    for clip, of_clip, top in zip(frames, colours, tops.tolist(), strict=True):
        for t, (frame, colour) in enumerate(zip(clip, of_clip, strict=True)):
            frame[:, top : top + SIDE, 4 * t - 4 : 4 * t + 4] = colour[:, None, None]
    frames[..., BEFORE:AFTER] = 60
    return frames


def drawn(step: int, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours (B, 3) and heights (B,)."""
    generator = torch.Generator().manual_seed(step)
    colours = torch.randint(0, 256, (count, 3), generator=generator, dtype=torch.uint8)
    return colours, torch.randint(0, HEIGHT - SIDE + 1, (count,), generator=generator)


def possible(step: int) -> torch.Tensor:
    colours, tops = drawn(step)
    return passages(colours[:, None].expand(-1, STEPS, -1), tops)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(3)
    encoder = DenseConfig(latent_width=8, stem_channels=8, channels=12, keep_colour=True)
    view = View(height=HEIGHT, width=WIDTH)
    model = WorldModel(ModelConfig(view=view, encoder=encoder, predictor=RecurrentConfig(hidden=8)))
    model.encoder.norm.norm.momentum = 1.0  # the norm meets its data
    model.encode(possible(10**6))
    return model.eval()


@pytest.fixture(scope="module")
def likeness(model: WorldModel) -> Likeness:
    return fit_likeness(model, possible, CONFIG, seed=0)


@torch.no_grad()
def test_another_colour_than_went_in_surprises_and_nothing_else_differs(model, likeness) -> None:
    """Matched quadruplets, by hand: each frame of the impossible clips occurs in the possible ones."""
    normal = model.encode(torch.cat([possible(500), possible(501)]))
    judge = Unlikeness(likeness, normal)
    assert judge(normal).mean() == pytest.approx(1.0, rel=0.2)
    (one, tops), (other, _) = drawn(600, 24), drawn(601, 24)
    swapped = torch.stack([one, other], 1)[:, (torch.arange(STEPS) >= STEPS // 2).long()]
    back = torch.stack([other, one], 1)[:, (torch.arange(STEPS) >= STEPS // 2).long()]
    kept = [passages(c[:, None].expand(-1, STEPS, -1), tops) for c in (one, other)]
    surprise = [judge(model.encode(frames)).sum(1) for frames in (*kept, passages(swapped, tops), passages(back, tops))]
    more = surprise[2] + surprise[3] - surprise[0] - surprise[1]
    assert (more > 0).float().mean() > 0.9
    untaught = Unlikeness(new_likeness(CONFIG, model), normal)  # expects a mean of all that was there
    surprise = [untaught(model.encode(f)).sum(1) for f in (*kept, passages(swapped, tops), passages(back, tops))]
    assert (surprise[2] + surprise[3] - surprise[0] - surprise[1]).mean() < 0.3 * more.mean()


@torch.no_grad()
def test_it_is_told_how_much_changes_and_nothing_of_how_it_looks_now(likeness) -> None:
    """Of the steps that are kept from it only the amounts of change count: their mirror images are told alike."""
    apart = CONFIG.apart
    torch.manual_seed(7)
    latents = torch.randn(2, 9, 24, 8)
    other = latents.clone()
    for t in range(9 - apart, 9):  # steps that the last question must not see: turn each change round
        other[:, t] = other[:, t - 1] - (latents[:, t] - latents[:, t - 1])
    one, two = likeness(latents), likeness(other)
    torch.testing.assert_close(one.looks[:, -1], two.looks[:, -1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(one.came[:, -1], two.came[:, -1])
    earlier = latents.clone()
    earlier[:, 9 - apart - 1] += 1.0  # the newest step that it may see
    assert not torch.allclose(likeness(earlier).looks[:, -1], one.looks[:, -1], atol=1e-2)


@torch.no_grad()
def test_what_comes_later_changes_nothing(likeness) -> None:
    torch.manual_seed(8)
    latents = torch.randn(2, 12, 24, 8)
    whole, part = likeness(latents), likeness(latents[:, :8])
    for long, short in zip(whole, part, strict=True):
        torch.testing.assert_close(long[:, : 8 - likeness.config.first], short, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_shapes_with_every_axis_different(likeness) -> None:
    said = likeness(torch.randn(2, 11, 24, 8))
    assert said.looks.shape == said.came.shape == (2, 11 - likeness.config.first, 4, 8)
    assert said.change.shape == (2, 11 - likeness.config.first, 4)
    few = Likeness(CONFIG, 8, (1, 2))  # fewer tokens than are asked for
    assert few(torch.randn(2, 11, 2, 8)).change.shape == (2, 11 - likeness.config.first, 2)
    still = likeness(torch.ones(1, 9, 24, 8))  # nothing ever changes
    assert torch.isfinite(still.looks).all()


def test_fitting_is_a_function_of_the_seed_and_leaves_the_model_alone(model) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    short = dataclasses.replace(CONFIG, steps=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = fit_likeness(model, possible, short, seed=1).state_dict()
    assert torch.equal(torch.rand(3), expected)
    two, other = (fit_likeness(model, possible, short, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_the_folder_gives_it_back_or_says_what_is_wrong(tmp_path, model, likeness) -> None:
    save_model(tmp_path, model, {})
    assert load_likeness(tmp_path, model) is None
    save_likeness(tmp_path, likeness)
    loaded = load_likeness(tmp_path, load_model(tmp_path))
    assert loaded is not None
    assert loaded.config == CONFIG
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in likeness.state_dict().items())
    wider = WorldModel(dataclasses.replace(model.config, encoder=DenseConfig(latent_width=9, channels=8)))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_likeness(tmp_path, wider)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="altered"):
        load_model(tmp_path)


def test_a_frame_of_one_token_is_refused() -> None:
    config = ModelConfig(view=View(height=16, width=16), encoder=PooledConfig(), predictor=CausalConfig())
    with pytest.raises(ConfigError, match="one token a frame"):
        new_likeness(CONFIG, WorldModel(config))
    refuse_what_does_not_go_together("pooled", skip=None, expect=False, likeness=False)
    with pytest.raises(ConfigError, match="--likeness: preset pooled"):
        refuse_what_does_not_go_together("pooled", skip=None, expect=False, likeness=True)


def test_windows_in_which_nothing_can_be_asked_are_refused_before_training() -> None:
    train = TrainConfig(steps=1, window=5)
    with pytest.raises(ConfigError, match="likeness: got windows of 5 steps, expected more than 5"):
        RunConfig(model=dense(), train=train, likeness=LikenessConfig())
    RunConfig(model=dense(), train=train)
