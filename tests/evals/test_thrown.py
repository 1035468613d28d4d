"""A thrown ball, foreseen: rules against their own flights, errors by hand, and a model that knows the law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foretell.data.clip import Clip, View
from foretell.errors import ConfigError, DataError, ShapeError
from foretell.evals.thrown import Forecast, fit_place_probe, fitted_parabola, foresee, mean_figure, straight_on
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.worlds.physics import Physics

FALL = 0.25
WIDTH, HEIGHT = 32, 16


def flights(count: int, steps: int, fall: float, seed: int = 0) -> np.ndarray:
    """Throws (count, steps, 2) under `fall` per step squared."""
    rng = np.random.default_rng(seed)
    start, speed = rng.uniform(10, 50, (count, 1, 2)), rng.uniform(-3, 3, (count, 1, 2))
    time = np.arange(steps)[:, None]
    return start + speed * time + 0.5 * np.array([0, fall]) * time**2


def test_a_line_foresees_what_goes_straight_and_lags_behind_what_falls() -> None:
    straight, thrown = flights(5, 17, 0.0), flights(5, 17, 0.2)
    np.testing.assert_allclose(straight_on(straight[:, :6], 11), straight[:, 6:], atol=1e-9)
    behind = (thrown[:, 6:] - straight_on(thrown[:, :6], 11))[:, :, 1]
    ahead = np.arange(1, 12)
    np.testing.assert_allclose(behind, np.tile(0.1 * ahead * (ahead + 1), (5, 1)), atol=1e-9)


def test_a_parabola_foresees_what_is_thrown() -> None:
    thrown = flights(5, 17, 0.2)
    np.testing.assert_allclose(fitted_parabola(thrown[:, :6], 11), thrown[:, 6:], atol=1e-8)


def test_a_parabola_falls_in_y_alone_and_does_not_follow_noise() -> None:
    """Of eight places with noise the fit errs less than a line through the last two."""
    thrown = flights(40, 12, 0.2)
    noisy = thrown + np.random.default_rng(1).normal(0, 0.1, thrown.shape)
    fitted = fitted_parabola(noisy[:, :8], 4)
    np.testing.assert_allclose(np.diff(fitted[:, :, 0], n=2), 0, atol=1e-9)
    error, line = (
        np.linalg.norm(said - thrown[:, 8:], axis=-1)[:, -1].mean() for said in (fitted, straight_on(noisy[:, :8], 4))
    )
    assert error < 0.6 * line


def test_errors_are_distances_in_pixels() -> None:
    truth = np.zeros((2, 3, 2))
    said = truth.copy()
    said[1, 2] = (3, -4)
    forecast = Forecast(seen=np.zeros((2, 5, 2)), truth=truth, said={"one": said})
    np.testing.assert_allclose(forecast.errors["one"], [[0, 0, 0], [0, 0, 5]])


def test_the_figure_is_the_mean_within_its_bounds() -> None:
    errors = np.random.default_rng(0).exponential(2.0, 400)
    figure = mean_figure(errors)
    assert figure["value"] == pytest.approx(errors.mean())
    assert figure["n"] == 400
    expected = 1.96 * errors.std() / 20
    assert figure["value"] - figure["low"] == pytest.approx(expected, rel=0.15)
    assert figure["high"] - figure["value"] == pytest.approx(expected, rel=0.15)


def test_a_ratio_is_that_of_the_means_on_the_same_clips() -> None:
    below = np.random.default_rng(0).exponential(2.0, 30)
    figure = mean_figure(3 * below, below)
    assert [figure[name] for name in ("value", "low", "high")] == pytest.approx([3, 3, 3])


# A model that knows: a clip's frames hold the place in quarter pixels, as numbers of their own first pixel.


class Seer(nn.Module):
    """Two directions of the latents are the place, mixed and shifted, all others zero."""

    MIX = torch.tensor([[0.3, 0.1], [-0.2, 0.5]])

    def forward(self, frames: Tensor) -> Tensor:
        latents = torch.zeros(*frames.shape[:2], 8, 9)
        latents[..., 3, 1:3] = frames[:, :, :2, 0, 0] @ self.MIX + 7
        return latents


class Lawyer(nn.Module):
    """Goes on at the last step's speed, which grows by the same `fall` every step. Its memory is the latents before."""

    def __init__(self, fall: float) -> None:
        super().__init__()
        self.fall = torch.zeros(8, 9)
        self.fall[3, 1:3] = torch.tensor([0.0, fall * 4 / 64]) @ Seer.MIX  # of latents, as Seer and encode scale them

    def step(self, latents: Tensor, memory: Tensor, actions: None = None) -> tuple[Tensor, Tensor]:
        return 2 * latents - memory + self.fall, latents

    def scan(self, latents: Tensor, memory: None = None, actions: None = None) -> tuple[Tensor, Tensor]:
        before = torch.cat([latents[:, :1], latents[:, :-1]], 1)
        return 2 * latents - before + self.fall, latents

    def memory_after(self, memories: Tensor, steps: Sequence[int]) -> Tensor:
        return memories[:, list(steps)]


def clip(seed: int, steps: int = 14) -> Clip:
    """A flight of which every place is a whole number of quarter pixels."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps)
    x = rng.integers(30, 90) + rng.integers(-2, 8) * time
    y = rng.integers(60, 120) + rng.integers(-6, 3) * time + time * (time - 1) // 2
    frames = np.zeros((steps, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = x, y
    scale = WIDTH / 64 / 4
    return Clip(name=f"{seed}", frames=frames, fps=10, states={"x": scale * x[:, None], "y": scale * y[:, None]})


def knowing(fall: float) -> WorldModel:
    encoder, predictor = DenseConfig(latent_width=9, stem_channels=6, channels=12), RecurrentConfig(hidden=4)
    model = WorldModel(ModelConfig(view=View(height=HEIGHT, width=WIDTH), encoder=encoder, predictor=predictor))
    model.encoder, model.predictor = Seer(), Lawyer(fall)  # type: ignore[assignment]
    return model


def test_who_knows_the_law_errs_by_nothing_and_who_does_not_as_a_line() -> None:
    test = [clip(seed) for seed in range(100, 119)]  # more than are read at once
    for fall in (FALL, 0.0):
        model = knowing(fall)
        probe = fit_place_probe(model, [clip(seed) for seed in range(20)], horizon=0, penalty=1e-9)
        forecast = foresee(model, probe, test, horizon=6, seen=8)
        errors = {name: error.mean(0) for name, error in forecast.errors.items()}
        assert all(error.shape == (6,) for error in errors.values())
        for name in ("probe", "parabola", "parabola_read"):
            assert errors[name].max() < 1e-3, name
        ahead = np.arange(1, 7)
        line = FALL * ahead * (ahead + 1) / 2
        np.testing.assert_allclose(errors["model"], line * (fall == 0), atol=2e-3)
        np.testing.assert_allclose(errors["linear"], line, atol=1e-9)
        np.testing.assert_allclose(errors["linear_read"], line, atol=2e-3)
        assert (errors["copy"] > 0.5).all()


def test_a_probe_fitted_on_rollouts_reads_what_is_off_in_them() -> None:
    """Of a model whose rollouts are larger than what comes, and have something in them that no real latents have."""
    model, odd = knowing(FALL), torch.zeros(8, 9)
    odd[5, 2] = 3.0
    rollout = model.rollout
    model.rollout = lambda latents, horizon: rollout(latents, horizon) * 1.05 + odd  # type: ignore[method-assign]
    train, test = [clip(seed) for seed in range(40)], [clip(seed) for seed in range(100, 110)]
    errors = []
    for horizon in (0, 6):
        probe = fit_place_probe(model, train, horizon=horizon, penalty=1e-6)
        forecast = foresee(model, probe, test, horizon=6)
        errors.append({name: error.mean() for name, error in forecast.errors.items()})
    assert errors[1]["model"] < 0.3 * errors[0]["model"]
    assert errors[1]["probe"] < 0.3 * errors[0]["model"]


def test_nothing_of_what_follows_is_in_the_forecast() -> None:
    model, train = knowing(FALL), [clip(seed) for seed in range(20)]
    probe = fit_place_probe(model, train, horizon=4)
    cut = clip(100)
    altered = Clip(name="altered", frames=cut.frames.copy(), fps=10, states=cut.states)
    altered.frames[8:] = 255
    ours, theirs = (foresee(model, probe, [one], horizon=6).said for one in (cut, altered))
    for name in ours:
        assert np.array_equal(ours[name], theirs[name]) == (name != "probe"), name


def test_places_are_those_of_a_frame_of_64_pixels() -> None:
    places = []
    for size in (32, 64):
        model = WorldModel(ModelConfig(view=View(height=size, width=size), predictor=RecurrentConfig(hidden=4)))
        clips = [Physics(size=size, scenario="thrown", shapes="ball", frames=21).episode(3)]
        forecast = foresee(model, fit_place_probe(model, clips, horizon=0), clips, horizon=8)
        places.append(forecast.truth)
        assert forecast.errors["parabola"].max() < 1e-6
    np.testing.assert_allclose(places[0], places[1], atol=1e-9)


def test_impossible_wishes_are_refused() -> None:
    model = knowing(FALL)
    probe = fit_place_probe(model, [clip(0)], horizon=0)
    with pytest.raises(ConfigError, match="2 seen steps"):
        foresee(model, probe, [clip(0)], horizon=4, seen=2)
    with pytest.raises(ConfigError, match="0 clips"):
        foresee(model, probe, [], horizon=4)
    with pytest.raises(ShapeError, match="14 frames, expected at least 15"):
        foresee(model, probe, [clip(0)], horizon=7)
    with pytest.raises(ShapeError, match="14 frames, expected at least 15"):
        fit_place_probe(model, [clip(0)], horizon=7)
    hidden = clip(0)
    hidden.states["y"][5] = np.nan
    with pytest.raises(DataError, match="not to be seen"):
        foresee(model, probe, [hidden], horizon=4)
