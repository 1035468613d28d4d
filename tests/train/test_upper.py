"""The upper level learns long steps, places and ways on a line whose answers are known; and comes back from the folder."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, DataError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import PooledConfig
from foretell.model.folder import load_model, save_model
from foretell.model.predictors import SteeredConfig
from foretell.model.upper import FILE, Upper, UpperConfig, load_upper, new_upper, save_upper
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.train.heads import Cache
from foretell.train.upper import UpperTraining, fit_upper, stretch_starts, upper_errors

LONG, CLIPS, SKIP, STRIDE, PLACES = 25, 60, 2, 3, 21
SPAN = SKIP * STRIDE
ACTS = ActionConfig(space=ActionSpace(low=(-1.0,), high=(1.0,)), skip=SKIP, mean=(0.0,), std=(0.6,))
CONFIG = UpperConfig(stride=STRIDE, macro=1, places=PLACES)


def model_of() -> WorldModel:
    torch.manual_seed(0)
    encoder = PooledConfig(latent_width=5, channels=2, hidden=8)
    predictor = SteeredConfig(hidden=8, memory=4)
    return WorldModel(ModelConfig(view=View(height=16, width=16), encoder=encoder, predictor=predictor, actions=ACTS))


def latents_at(places: torch.Tensor) -> torch.Tensor:
    """Places (N,) on a line from -10 to 10 -> latents (N, 1, 5): the place, seen in five ways."""
    return (places[:, None] * torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]) + torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0]))[
        :, None
    ]


def line(seed: int) -> Cache:
    """Clips too short to go from end to end; a point goes by what is done and stops at the ends."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.empty(CLIPS, 5, 1).uniform_(-1, 1, generator=generator).repeat_interleave(LONG // 5, 1)
    place, seen = torch.empty(CLIPS).uniform_(-10, 10, generator=generator), []
    for step in range(LONG):
        seen.append(place)
        place = (place + actions[:, step, 0]).clamp(-10, 10)
    ends = LONG * (1 + torch.arange(CLIPS)).repeat_interleave(LONG)
    where = torch.stack(seen, 1).flatten()
    return Cache(latents=latents_at(where), actions=actions.reshape(-1, 1), states=where[:, None], ends=ends)


@pytest.fixture(scope="module")
def upper() -> Upper:
    return fit_upper(model_of(), line(1), CONFIG, UpperTraining(steps=300), seed=0)


@torch.no_grad()
def test_it_foretells_a_stride_from_what_the_stretch_amounts_to_on_clips_never_seen(upper) -> None:
    fresh = line(2)
    starts = stretch_starts(fresh, upper)
    generator = torch.Generator().manual_seed(0)
    missed, prior = upper_errors(upper, fresh, starts, generator)
    copied = ((fresh.latents[starts + SPAN] - fresh.latents[starts]).flatten(1) / upper.std).pow(2).mean()
    assert missed < 0.2 * copied
    assert 0 < prior < 8


@torch.no_grad()
def test_whatever_is_drawn_as_a_macro_action_is_something_that_can_be_done(upper) -> None:
    begun = latents_at(torch.linspace(-9, 9, 50))
    macros = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    imagined = upper.step(begun, macros)
    assert (imagined - begun)[:, 0, 0].abs().max() <= SPAN + 1  # nobody can go farther in a stride
    assert (imagined - begun)[:, 0, 0].std() > 1
    assert (imagined[:, 0, 0].abs() - 10).clamp_min(0).mean() < 0.5  # nor out at the ends


@torch.no_grad()
def test_places_lie_among_what_was_seen_and_all_over_it(upper) -> None:
    cache = line(1)
    same = (upper.places[:, None] == cache.latents[None]).all(-1).all(-1)
    assert same.any(1).all()
    where = upper.places[:, 0, 0].sort().values
    assert where[0] < -9.5
    assert where[-1] > 9.5
    assert where.diff().max() < 2


@torch.no_grad()
def test_ways_are_chained_beyond_what_any_clip_did(upper) -> None:
    where = upper.places[:, 0, 0]
    first, last = int(where.argmin()), int(where.argmax())
    fastest = 20 / SKIP  # steps of the model from end to end
    assert upper.apart.diagonal().eq(0).all()
    assert 0.8 * fastest <= upper.apart[first, last] <= 2 * fastest
    order = where.argsort()
    assert (upper.apart[first, order].diff() >= -1).all()  # to about a place


def test_where_no_way_leads_it_is_farther_than_any_way() -> None:
    cache = line(1)
    kept = cache.states[:, 0].view(CLIPS, LONG)
    apart = (kept.amax(1) < -1) | (kept.amin(1) > 1)  # nobody crosses the middle
    rows = apart.repeat_interleave(LONG)
    ends = LONG * (1 + torch.arange(int(apart.sum()))).repeat_interleave(LONG)
    cut = Cache(latents=cache.latents[rows], actions=cache.actions[rows], states=cache.states[rows], ends=ends)
    upper = fit_upper(model_of(), cut, CONFIG, UpperTraining(steps=1), seed=0)
    left = upper.places[:, 0, 0] < 0
    across, within = upper.apart[left][:, ~left], upper.apart[left][:, left]
    assert across.min() > within.max()
    assert across.isfinite().all()


def test_shapes_with_every_axis_different() -> None:
    acts = dataclasses.replace(
        ACTS, space=ActionSpace(low=(-1.0,) * 4, high=(1.0,) * 4), mean=(0.0,) * 4, std=(1.0,) * 4
    )
    upper = Upper(UpperConfig(stride=3, macro=6, places=11), features=5 * 2, tokens=5, actions=acts)
    now, blocks = torch.randn(7, 5, 2), torch.randn(7, 3, SKIP * 4)
    mean, log_std = upper.macro_actions(now, now, blocks)
    assert mean.shape == log_std.shape == (7, 6)
    assert upper.step(now, mean).shape == (7, 5, 2)
    assert upper.imagine(now[:, None].expand(-1, 9, -1, -1), torch.randn(7, 9, 8, 6)).shape == (7, 9, 8, 5, 2)
    index, unlike = upper.nearest(torch.randn(7, 9, 8, 5, 2))
    assert index.shape == unlike.shape == (7, 9, 8)


def test_fitting_is_a_function_of_the_seed_and_leaves_the_model_alone() -> None:
    model, cache = model_of(), line(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, same, other = (fit_upper(model, cache, CONFIG, UpperTraining(steps=3), seed=s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_folder_gives_it_back_or_says_what_is_wrong(tmp_path, upper) -> None:
    model = model_of()
    save_model(tmp_path, model, {})
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_upper(tmp_path, model)
    save_upper(tmp_path, upper)
    loaded = load_upper(tmp_path, load_model(tmp_path))
    assert loaded.config == upper.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in upper.state_dict().items())
    wider = WorldModel(dataclasses.replace(model.config, encoder=PooledConfig(latent_width=4, channels=2, hidden=8)))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_upper(tmp_path, wider)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="altered"):
        load_model(tmp_path)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="macro 9"):
        UpperConfig(macro=9)
    watching = WorldModel(ModelConfig(view=View(height=16, width=16)))
    with pytest.raises(ConfigError, match="only watches"):
        new_upper(CONFIG, watching)
    cache = line(1)
    short = Cache(
        latents=cache.latents[:6], actions=cache.actions[:6], states=cache.states[:6], ends=torch.full((6,), 6)
    )
    with pytest.raises(DataError, match="no clip is longer than 6 frames"):
        fit_upper(model_of(), short, CONFIG, UpperTraining(steps=1), seed=0)
    few = Cache(latents=cache.latents[:25], actions=cache.actions[:25], states=cache.states[:25], ends=cache.ends[:25])
    with pytest.raises(DataError, match="25 frames for 26 places"):
        fit_upper(model_of(), few, UpperConfig(stride=STRIDE, places=26), UpperTraining(steps=1), seed=0)
