"""Heads on imagined latents learn what can be known and how open the rest is; the forecaster keeps its promise and stays silent."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, DataError, ShapeError
from foretell.model.encoders import DenseConfig
from foretell.model.folder import VERSION, config_to_json
from foretell.model.predictors import RecurrentConfig
from foretell.model.quantities import QuantitiesConfig
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.train.forecaster import BAND, FILE, Forecaster, ForecasterConfig, fit_forecaster
from foretell.train.quantities import (
    Told,
    fit_quantities,
    foretell_quantities,
    imagine_windows,
    parted,
    stretch_spreads,
)

NAMES = QuantitiesConfig(names=("level", "load"), context=3, horizon=2, heads=2, components=1, hidden=16)
WIDTH = 4


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    view = View(height=16, width=16, fps=5.0)
    encoder = DenseConfig(latent_width=WIDTH, stem_channels=4, channels=8)
    return WorldModel(ModelConfig(view=view, encoder=encoder, predictor=RecurrentConfig(hidden=4))).eval()


def windows(count: int, seed: int, *, shift: float = 0.0) -> Told:
    """Latents that tell two quantities: `level` up to noise of a size that they tell, too, `load` exactly."""
    drawn = torch.Generator().manual_seed(seed)
    said = torch.randn(count, 2, 4, WIDTH, generator=drawn)
    noise = 0.3 * said[:, :, 1, 0].exp() * torch.randn(count, 2, generator=drawn)
    truth = torch.stack([5 + said[:, :, 0, 0] + noise, 100 * said[:, :, 2, 1]], -1)
    seen = torch.randn(count, 3, 4, WIDTH, generator=drawn) + shift
    return Told(
        seen=seen,
        said=said,
        next=seen[:, 1:] + 0.1 * torch.randn(count, 2, 4, WIDTH, generator=drawn),
        pictures=torch.randn(count, 9, generator=drawn),
        truth=truth,
        clip=torch.arange(count),
    )


@pytest.fixture(scope="module")
def forecaster(model) -> Forecaster:
    parts = windows(3000, 1), windows(500, 2), windows(1500, 3)
    return fit_forecaster(model, *parts, NAMES, ForecasterConfig(steps=500))


def test_it_learns_what_can_be_known_and_how_open_the_rest_is(forecaster):
    told = windows(2000, 4)
    found = forecaster(told)
    known = 5 + told.said[:, :, 0, 0].numpy()
    open_ = 0.3 * told.said[:, :, 1, 0].exp().numpy()
    assert np.sqrt(np.mean((found.mean[..., 0] - known) ** 2)) < 0.5 * open_.mean()
    assert np.corrcoef(np.log(found.spread[..., 0]).ravel(), np.log(open_).ravel())[0, 1] > 0.8


def test_the_band_holds_over_the_whole_horizon_and_silence_is_rare_on_normal_clips(forecaster):
    told = windows(4000, 5)
    found = forecaster(told)
    low, high = forecaster.band.interval(found.mean, found.spread)
    truth = told.truth.numpy()
    inside = ((low <= truth) & (truth <= high)).all((1, 2))
    assert abs(inside.mean() - 0.9) < 0.03  # the deviation of this share is 0.9 points
    assert 0.05 < found.abstained.mean() < 0.16  # the widest tenth, and the strangest hundredth
    assert np.isinf(found.low[found.abstained]).all()
    assert np.isfinite(found.high[~found.abstained]).all()


def test_of_what_is_unlike_anything_seen_nothing_is_said(forecaster):
    assert forecaster(windows(200, 6, shift=3.0)).abstained.all()


def test_p_values_are_those_of_calibration(forecaster):
    p = forecaster.p_value(windows(3000, 7))
    for alpha in (0.05, 0.2, 0.5):
        assert abs((p <= alpha).mean() - alpha) < 0.03


def test_possible_courses_follow_what_is_stated_step_by_step(forecaster):
    found = forecaster(windows(30, 8))
    drawn = found.samples(4000, seed=1)
    assert drawn.shape == (4000, 30, 2, 2)
    np.testing.assert_allclose(drawn.mean(0), found.mean, atol=0.1 * found.spread.max((0, 1)).max())
    np.testing.assert_allclose(drawn.std(0)[:, 0], found.spread[:, 0], rtol=0.15)


def test_spreads_are_stretched_to_the_size_of_errors(model):
    quantities = fit_quantities(model, windows(1500, 1), NAMES, steps=60, seed=0)
    other = windows(1500, 2)
    stretch_spreads(quantities, other)
    said = foretell_quantities(quantities, other.said)
    ratio = ((other.truth - said.mean) ** 2 / said.variance).mean(0)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-3, atol=1e-3)


def test_a_folder_gives_back_the_same_forecaster(model, forecaster, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"version": VERSION, "sha256": {}}))
    forecaster.save(tmp_path)
    again, told = Forecaster.load(tmp_path, model), windows(50, 9)
    for one, other in zip(forecaster(told)[:-1], again(told)[:-1], strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / BAND).unlink()
    with pytest.raises(CheckpointError):
        Forecaster.load(tmp_path, model)
    tensors, facts = load_tensors(tmp_path / FILE)
    save_tensors(tmp_path / FILE, tensors, {name: fact for name, fact in facts.items() if name != "version"})
    with pytest.raises(CheckpointError, match=r"version 1, expected 2: .* run foretell quantify again"):
        Forecaster.load(tmp_path, model)
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError):
        Forecaster.load(tmp_path, model)
    with pytest.raises(CheckpointError, match="run foretell quantify"):
        Forecaster.load(tmp_path / "none", model)


def test_windows_are_cut_where_they_should_and_the_future_is_not_looked_at(model):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (9, 16, 16, 3), np.uint8)
    truth = np.arange(18.0).reshape(9, 2)
    told = imagine_windows(model, [(frames, truth)], NAMES, every=2)
    assert told.clip.tolist() == [0, 0, 0]
    torch.testing.assert_close(told.truth[1], torch.from_numpy(truth[5:7]).float())
    other = frames.copy()
    other[5:] = 255 - other[5:]
    torch.testing.assert_close(imagine_windows(model, [(other, truth)], NAMES, every=2).said[:2], told.said[:2])
    latents = model.encode(torch.from_numpy(frames[None, 2:5]).permute(0, 1, 4, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(told.said[1], model.rollout(latents, 2)[0].half(), atol=2e-3, rtol=1e-2)
    assert len(imagine_windows(model, [(frames, truth)], NAMES, every=None).clip) == 1
    assert told.first_of_each.truth.equal(told.truth[:1])
    with pytest.raises(ShapeError, match="a row for each frame"):
        imagine_windows(model, [(frames, truth[:5])], NAMES, every=None)
    with pytest.raises(DataError, match="no clip has 5 steps"):
        imagine_windows(model, [(frames[:4], truth[:4])], NAMES, every=None)


def test_unknown_truth_is_said(model):
    told = windows(100, 1)
    truth = told.truth.clone()
    truth[:, 1] = torch.nan
    with pytest.raises(DataError, match="nobody knows level, load at some steps ahead"):
        fit_quantities(model, dataclasses.replace(told, truth=truth), NAMES, steps=1, seed=0)
    with pytest.raises(ConfigError, match="parts of 1 together"):
        ForecasterConfig(parts=(0.5, 0.4, 0.4))


def test_parts_share_no_clip_and_lose_none():
    parts = parted(103, (0.5, 0.1, 0.4), 7)
    assert sorted(number for part in parts for number in part) == list(range(103))
    assert [len(part) for part in parts] == [52, 10, 41]
    assert parted(103, (0.5, 0.1, 0.4), 8) != parts


def test_config_is_written_as_plain_json(model):
    assert config_to_json(model.config)
