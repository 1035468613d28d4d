"""A model that acts: what it is told, in which units, and that it hears it at the right moment."""

from pathlib import Path

import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, ShapeError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.folder import config_from_json, config_to_json
from foretell.model.heads import Errors, Heads, load_heads, save_heads
from foretell.model.predictors import RecurrentConfig, SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel

BATCH, STEPS, WIDTH, SKIP = 2, 7, 5, 3
SPACE = ActionSpace(low=(-1.0, 0.0), high=(3.0, 10.0))
ACTS = ActionConfig(space=SPACE, skip=SKIP, mean=(1.0, 4.0), std=(0.5, 2.0))


def model_of(blocks: int = 0) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(
        ModelConfig(
            view=View(height=16, width=32),
            encoder=PooledConfig(latent_width=WIDTH, channels=2, hidden=8),
            predictor=SteeredConfig(hidden=16, memory=6, blocks=blocks),
            actions=ACTS,
        )
    ).eval()
    for parameter in model.predictor.parameters():  # the last layer starts at zero, which would prove nothing
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return model


def episode() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(BATCH, STEPS, 1, WIDTH, generator=generator)
    return latents, 4 * torch.rand(BATCH, STEPS, ACTS.width, generator=generator)


def test_blocks_are_told_in_units_of_what_was_trained_on() -> None:
    assert ACTS.width == 6
    assert ACTS.low.tolist() == [-1, 0] * SKIP
    assert ACTS.high.tolist() == [3, 10] * SKIP
    block = torch.tensor([1.0, 4.0, 1.5, 6.0, 0.5, 2.0])
    assert ACTS.normalised(block).tolist() == [0, 0, 1, 1, -1, -1]


@torch.no_grad()
@pytest.mark.parametrize("blocks", [0, 2])
def test_an_action_is_heard_at_its_step_and_not_before(blocks: int) -> None:
    model, (latents, actions) = model_of(blocks), episode()
    before = model.predict(latents, actions).next
    other = actions.clone()
    other[:, 4] += 1
    changed = (model.predict(latents, other).next - before).abs().amax((0, 2, 3))
    assert changed[:4].max() == 0
    assert changed[4:].min() > 1e-5


@torch.no_grad()
def test_rollouts_and_imagining_follow_the_actions_of_the_clip() -> None:
    """From each start, the words of a rollout are those of imagining with the actions from there on."""
    model, (latents, actions) = model_of(), episode()
    foretold = model.predict(latents, actions)
    rolled = model.rollouts(foretold, [2, 0], 4, actions)
    for number, start in enumerate((2, 0)):
        memory = model.predictor.start(BATCH) if start == 0 else foretold.memories[:, start - 1]
        imagined = model.imagine(latents[:, start], memory, actions[:, start : start + 4])
        torch.testing.assert_close(imagined, rolled[:, number])


@torch.no_grad()
def test_going_on_equals_one_scan() -> None:
    model, (latents, actions) = model_of(), episode()
    whole, memory, said = model.predict(latents, actions).next, None, []
    for at, length in ((0, 1), (1, 4), (5, 2)):
        foretold, memory = model.go_on(latents[:, at : at + length], memory, actions[:, at : at + length])
        said.append(foretold.next)
    torch.testing.assert_close(torch.cat(said, 1), whole)


def test_missing_superfluous_and_misshapen_actions_are_refused() -> None:
    model, (latents, actions) = model_of(), episode()
    with pytest.raises(ShapeError, match="got none"):
        model.predict(latents)
    with pytest.raises(ShapeError, match="blocks of 6"):
        model.predict(latents, actions[..., :2])
    watcher = WorldModel(ModelConfig(view=View(height=16, width=32)))
    with pytest.raises(ShapeError, match="only watches"):
        watcher.predict(torch.zeros(1, 2, 8, 32), actions)


def test_builds_that_do_not_go_together_are_refused() -> None:
    view = View(height=16, width=32)
    with pytest.raises(ConfigError, match="steered"):
        WorldModel(ModelConfig(view=view, predictor=RecurrentConfig(), actions=ACTS))
    with pytest.raises(ConfigError, match="steered"):
        WorldModel(ModelConfig(view=view, encoder=PooledConfig(), predictor=SteeredConfig()))
    with pytest.raises(ConfigError, match="pooled"):
        WorldModel(ModelConfig(view=view, encoder=DenseConfig(), predictor=SteeredConfig(), actions=ACTS))


def test_a_world_of_another_scale_is_refused() -> None:
    ACTS.must_match(SPACE, "rooms")
    with pytest.raises(ConfigError, match="another scale"):
        ACTS.must_match(ActionSpace(low=(-1.0, 0.0), high=(3.0, 100.0)), "rooms")


def test_settings_come_back_from_json() -> None:
    config = model_of().config
    assert config_from_json(config_to_json(config)) == config


def heads_of(model: WorldModel) -> tuple[Heads, Errors]:
    torch.manual_seed(3)
    errors = Errors(
        precision=torch.eye(WIDTH),
        mean=torch.rand(1, WIDTH),
        familiar=torch.eye(WIDTH),
        surprises=torch.rand(9),
        truth=torch.rand(4, 3, 2),
        foretold=torch.rand(4, 3, 2),
        now=torch.rand(4, 2),
        between=torch.rand(4, 3 * SKIP, 2),
    )
    return Heads(model, ("x", "speed"), 11).eval(), errors


@torch.no_grad()
def test_the_inverse_model_stays_within_limits_and_reach_within_its_range() -> None:
    heads, _ = heads_of(model_of())
    now, goal = 100 * torch.randn(50, 1, WIDTH), 100 * torch.randn(50, 1, WIDTH)
    blocks = heads.inverse(now, goal, torch.full((50,), 4.0))
    assert blocks.shape == (50, ACTS.width)
    assert (blocks >= ACTS.low).all()
    assert (blocks <= ACTS.high).all()
    steps = heads.reach(now, goal)
    assert steps.shape == (50,)
    assert (steps >= 0).all()
    assert (steps <= 11).all()


@torch.no_grad()
@pytest.mark.parametrize("blocks", [0, 2])
def test_heads_come_back_from_the_folder(tmp_path: Path, blocks: int) -> None:
    model = model_of(blocks)
    heads, errors = heads_of(model)
    (tmp_path / "config.json").write_text('{"version": 2, "sha256": {}}')
    save_heads(tmp_path, heads, errors)
    again, errors_again = load_heads(tmp_path, model)
    latents = torch.randn(4, 1, WIDTH)
    assert again.quantities == ("x", "speed")
    torch.testing.assert_close(again.probe(latents), heads.probe(latents))
    torch.testing.assert_close(again.reach(latents, latents), heads.reach(latents, latents))
    steps = torch.ones(4)
    torch.testing.assert_close(again.inverse(latents, latents, steps), heads.inverse(latents, latents, steps))
    for name, value in vars(errors).items():
        torch.testing.assert_close(getattr(errors_again, name), value)
    (tmp_path / "heads.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"heads\.safetensors"):
        load_heads(tmp_path, model)
