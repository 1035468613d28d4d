"""Heads learn what they should on a line: a world whose answers are known."""

import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.model.actions import ActionConfig
from foretell.model.encoders import PooledConfig
from foretell.model.heads import whitened_error
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.train.heads import Cache, HeadsConfig, fit_heads, measure_errors

LONG, CLIPS, FAR = 60, 40, 8
ACTS = ActionConfig(space=ActionSpace(low=(-1.0,), high=(1.0,)), skip=2, mean=(0.0,), std=(1.0,))


def model_of() -> WorldModel:
    torch.manual_seed(0)
    view = View(height=16, width=16)
    encoder = PooledConfig(latent_width=3, channels=2, hidden=8)
    return WorldModel(
        ModelConfig(view=view, encoder=encoder, predictor=SteeredConfig(hidden=8, memory=4), actions=ACTS)
    )


def walks(seed: int) -> Cache:
    """A point on a line goes by what is done; its latents are its place, bent, and two that say nothing."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.empty(CLIPS, LONG // 10, 1).uniform_(-1, 1, generator=generator)
    actions = held.repeat_interleave(10, 1)  # it goes on in one direction for a while
    place = torch.cat([torch.zeros(CLIPS, 1, 1), actions.cumsum(1)[:, :-1]], 1)
    latents = torch.cat([torch.tanh(place / 20), torch.zeros(CLIPS, LONG, 2)], -1)
    ends = LONG * (1 + torch.arange(CLIPS)).repeat_interleave(LONG)
    return Cache(latents=latents.view(-1, 1, 3), actions=actions.reshape(-1, 1), states=place.reshape(-1, 1), ends=ends)


@pytest.fixture(scope="module")
def cache() -> Cache:
    return walks(1)


@pytest.fixture(scope="module")
def heads(cache: Cache):
    return fit_heads(model_of(), cache, ("place",), HeadsConfig(steps=400, farthest=FAR), seed=0)


@torch.no_grad()
def test_the_probe_reads_what_the_latents_hold_on_clips_never_seen(heads) -> None:
    fresh = walks(2)
    error = (heads.probe(fresh.latents) - fresh.states).pow(2).mean()
    assert error < 0.05 * fresh.states.var()


@torch.no_grad()
def test_the_inverse_model_goes_towards_the_goal_faster_if_there_is_less_time(heads) -> None:
    now, right, left = (torch.tensor([[torch.tanh(torch.tensor(p / 20)), 0.0, 0.0]]) for p in (0.0, 6.0, -6.0))
    slow, fast = torch.tensor(8.0), torch.tensor(4.0)
    assert heads.inverse(now, right, fast).min() > heads.inverse(now, right, slow).min() > 0
    assert heads.inverse(now, left, slow).max() < 0


@torch.no_grad()
def test_what_is_farther_takes_more_steps(heads) -> None:
    now = torch.zeros(4, 1, 3)
    goals = torch.tanh(torch.tensor([1.0, 4.0, 8.0, 40.0]) / 20)[:, None, None] * torch.tensor([1.0, 0.0, 0.0])
    steps = heads.reach(now, goals)
    assert (steps.diff() > 0).all()
    assert steps[-1] > 0.8 * FAR  # never reached in these clips


def test_fitting_is_a_function_of_the_seed_and_leaves_the_model_alone(cache: Cache) -> None:
    model = model_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, same, other = (
        fit_heads(model, cache, ("place",), HeadsConfig(steps=3), seed=s).state_dict() for s in (5, 5, 6)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_errors_are_of_stretches_that_share_no_moment(cache: Cache, heads) -> None:
    """An untrained predictor says that nothing changes: the errors are how far the place went."""
    found = measure_errors(model_of(), heads, cache, walks(3), horizon=4)
    assert found.surprises.shape == (CLIPS,)
    assert (found.surprises.diff() >= 0).all()
    per_clip = (LONG // 2 - 1) // 4
    assert found.truth.shape == found.foretold.shape == (CLIPS * per_clip, 4, 1)
    came = walks(3).states.view(CLIPS, LONG, 1)
    torch.testing.assert_close(found.truth[:per_clip, :, 0].flatten(), came[0, 2 : 2 * 4 * per_clip + 1 : 2, 0])
    torch.testing.assert_close(found.between[:per_clip, :, 0].flatten(), came[0, 1 : 2 * 4 * per_clip + 1, 0])
    assert (found.foretold - found.now[:, None]).abs().max() < 1e-4


def test_what_looks_like_nothing_seen_is_strange_even_if_it_goes_on_as_foreseen(cache: Cache, heads) -> None:
    found, seen = measure_errors(model_of(), heads, cache, walks(3), horizon=4), walks(4).latents
    close = 0.9 * seen + 0.1 * found.mean
    torch.testing.assert_close(found.strangeness(close, close), found.strangeness(None, close))
    assert (found.strangeness(None, close) <= found.surprises[-1]).all()
    assert (found.strangeness(seen + 9, seen + 9) > found.surprises[-1]).all()
    jumped = found.strangeness(found.mean.expand_as(close), close)
    assert (jumped >= found.strangeness(None, close)).all()
    assert (jumped >= whitened_error(found.mean, close, found.precision)).all()
