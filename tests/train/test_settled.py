"""A predictor that learns on alone: on a line whose answers are known, and the same to the bit if it was killed on the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import ConfigError, DataError, ForetellError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import PooledConfig
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.train import settled
from foretell.train.heads import Cache
from foretell.train.settled import SettledConfig, check_long_enough, settle, window_error, window_starts

LONG, CLIPS, SKIP = 30, 60, 2
ACTS = ActionConfig(space=ActionSpace(low=(-1.0,), high=(1.0,)), skip=SKIP, mean=(0.0,), std=(0.6,))
CONFIG = SettledConfig(steps=300, batch=64, seen=2, horizon=3, peak=5e-3)


def model_of() -> WorldModel:
    torch.manual_seed(0)
    encoder, predictor = PooledConfig(latent_width=2, channels=2, hidden=8), SteeredConfig(hidden=32, memory=4)
    return WorldModel(ModelConfig(view=View(height=16, width=16), encoder=encoder, predictor=predictor, actions=ACTS))


def line(seed: int) -> Cache:
    """A point goes by what is done, at once; its latents are its place and its place turned round."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.empty(CLIPS, LONG, 1).uniform_(-1, 1, generator=generator)
    place = torch.cat([torch.zeros(CLIPS, 1, 1), actions.cumsum(1)[:, :-1]], 1) / 3
    ends = LONG * (1 + torch.arange(CLIPS)).repeat_interleave(LONG)
    latents = torch.cat([place, -place], -1).view(-1, 1, 2)
    return Cache(latents=latents, actions=actions.reshape(-1, 1), states=place.reshape(-1, 1), ends=ends)


def error_of(model: WorldModel, cache: Cache) -> float:
    with torch.no_grad():
        return window_error(model, cache, window_starts(cache, CONFIG, SKIP), CONFIG).item()


def test_it_foretells_clips_never_seen_on_its_own_words(tmp_path: Path) -> None:
    model, fresh = model_of(), line(2)
    before = error_of(model, fresh)  # a predictor begins as a copy
    settle(model, line(1), CONFIG, 0, tmp_path)
    assert error_of(model, fresh) < 0.15 * before
    assert not model.training


def test_the_encoder_is_left_alone(tmp_path: Path) -> None:
    model = model_of()
    before = {name: weight.clone() for name, weight in model.encoder.state_dict().items()}
    settle(model, line(1), dataclasses.replace(CONFIG, steps=3), 0, tmp_path)
    assert all(torch.equal(weight, before[name]) for name, weight in model.encoder.state_dict().items())


def test_a_run_that_was_killed_goes_on_equal_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, cache = dataclasses.replace(CONFIG, steps=9), line(1)
    whole, broken, again = model_of(), model_of(), model_of()
    settle(whole, cache, config, 0, tmp_path / "whole")
    monkeypatch.setattr(settled, "SAVE_EVERY", 4)

    def killed(*given) -> torch.Tensor:
        if (tmp_path / "broken" / settled.CHECKPOINT).exists():
            raise KeyboardInterrupt
        return window_error(*given)

    with monkeypatch.context() as patch:
        patch.setattr(settled, "window_error", killed)
        with pytest.raises(KeyboardInterrupt):
            settle(broken, cache, config, 0, tmp_path / "broken")
    settle(again, cache, config, 0, tmp_path / "broken")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_latents_that_are_not_finite_stop_it_before_a_weight_is_spoilt(tmp_path: Path) -> None:
    model, cache = model_of(), line(1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    cache.latents[:] = float("nan")
    with pytest.raises(ForetellError, match="must be finite"):
        settle(model, cache, CONFIG, 0, tmp_path)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_each_step_is_held_against_what_came() -> None:
    """An untrained predictor says that nothing changes: from the step before while it sees, then from the last but one."""
    cache = line(3)
    at = window_starts(cache, CONFIG, SKIP)[:, None] + SKIP * torch.arange(6)
    came = cache.latents[at]
    said = came[:, [0, 1, 1, 1, 1]]  # two are seen; what is said of the second goes on to be said
    torch.testing.assert_close(error_of(model_of(), cache), (said - came[:, 1:]).abs().mean().item())


def test_clips_too_short_for_a_window_and_impossible_settings_are_refused() -> None:
    check_long_enough([11, 3], CONFIG, SKIP)
    with pytest.raises(DataError, match="the longest clip has 10 frames, expected more than 10"):
        check_long_enough([10, 3], CONFIG, SKIP)
    with pytest.raises(ConfigError, match="expected 1 or more"):
        SettledConfig(steps=0)
