"""Rates of hallucination by hand, and one contract for models of latents and of pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell.errors import ConfigError, ShapeError
from foretell.evals.foretellers import Copy, Flights, Foreteller, Imagination, Said, fit_heads, flights_of
from foretell.evals.hallucination import Verdict, abstention, judge, paired_bootstrap, verdict
from foretell.evals.referee import EVENTS
from foretell.model.decoder import Decoder
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.next_pixels import NextPixels, NextPixelsConfig
from foretell.worlds.physics import Physics

SEEN, HORIZON = 5, 4


@pytest.fixture(scope="module")
def flights() -> Flights:
    world = Physics(scenario="thrown", shapes="ball")
    return flights_of([world.episode(6_200_000 + k) for k in range(10)], 6, SEEN + HORIZON)


class Oracle:
    """Says what comes, `off` pixels to the right, and is less sure of every second clip."""

    def __init__(self, flights: Flights, off: float) -> None:
        self.flights, self.off = flights, off

    def foretell(self, seen: np.ndarray, horizon: int) -> Said:
        confidence = np.repeat(np.arange(len(seen))[:, None] % 2, horizon, axis=1).astype(float)
        return Said(self.flights.frames[:, SEEN:], self.flights.places[:, SEEN:] + (self.off, 0), confidence)


def test_who_says_what_comes_never_hallucinates(flights: Flights) -> None:
    found = judge(Oracle(flights, 3.0), flights, SEEN, 0.12)
    np.testing.assert_allclose(found.error, 3.0)
    assert not found.diverged.any()
    assert not found.impossible.any()
    assert tuple(found.events) == EVENTS


def test_confidently_wrong_is_wrong_and_above_the_threshold(flights: Flights) -> None:
    found = judge(Oracle(flights, 9.5), flights, SEEN, 0.12)
    assert found.diverged.all()  # no ball is larger than 9
    half = abstention(found.confidence, 0.5)
    np.testing.assert_array_equal(found.confidently_wrong(half)[:, 0], np.arange(10) % 2 == 1)
    assert found.confidently_wrong(abstention(found.confidence, 1.0)).all()  # at full coverage it is HR-div
    with pytest.raises(ShapeError, match="steps"):
        found.confidently_wrong(half[:1])


def test_what_is_not_to_be_seen_is_infinitely_far(flights: Flights) -> None:
    said = Oracle(flights, 0.0).foretell(flights.frames[:, :SEEN], HORIZON)
    said.places[0, 1] = np.nan
    found = verdict(said, flights, SEEN, {})
    assert found.diverged.sum() == 1
    assert found.diverged[0, 1]
    assert math.isinf(found.error[0, 1])


def test_a_threshold_answers_the_share_that_it_is_asked_for() -> None:
    confidence = np.random.default_rng(0).normal(size=(1000, 3)) + np.array([0.0, -5.0, 7.0])
    for coverage in (0.8, 0.9):
        answered = (confidence >= abstention(confidence, coverage)).mean(0)
        np.testing.assert_allclose(answered, coverage)
    assert (abstention(confidence, 1.0) == -np.inf).all()
    with pytest.raises(ConfigError, match="coverage"):
        abstention(confidence, 0.0)


def test_a_sure_model_that_knows_where_it_errs_is_wrong_less_often() -> None:
    """Of 100 clips 10 are wrong, and those are the least sure: at 90% none is left; if they are the surest, all are."""
    wrong = np.arange(100)[:, None] < 10
    for sign, left in ((1.0, 0), (-1.0, 10)):
        sure = sign * np.arange(100.0)[:, None]
        found = Verdict(np.where(wrong, 9.0, 0.0), wrong, sure, {})
        assert found.confidently_wrong(abstention(sure, 0.9)).sum() == left


def test_the_bootstrap_is_paired_over_seeds_and_clips() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random((4, 600)) < 0.4
    ours = [one & (rng.random(600) < 0.25) for one in hard]
    pair = paired_bootstrap(ours, list(hard), draws=800)
    assert pair.ours["value"] == pytest.approx(np.mean(ours))
    assert pair.ratio["value"] == pytest.approx(np.mean(ours) / np.mean(hard))
    assert pair.ratio["low"] < pair.ratio["value"] < pair.ratio["high"] < 0.5
    assert pair.p_less == pair.p_half == pytest.approx(1 / 801)
    same = paired_bootstrap(list(hard), list(hard), draws=200)
    assert same.p_less == same.p_half == 1.0  # ties do not count as less
    with pytest.raises(ShapeError, match="bootstrap"):
        paired_bootstrap(ours, list(hard[:2]))


def test_the_copy_repeats_the_last_frame_and_its_place(flights: Flights) -> None:
    said = Copy().foretell(flights.frames[:, :SEEN], HORIZON)
    assert np.array_equal(said.frames[:, -1], flights.frames[:, SEEN - 1])
    np.testing.assert_allclose(said.places[:, -1], flights.places[:, SEEN - 1], atol=0.3)


def tiny() -> WorldModel:
    torch.manual_seed(0)
    encoder = DenseConfig(stem_channels=8, channels=8, latent_width=6)
    return WorldModel(ModelConfig(encoder=encoder, predictor=RecurrentConfig(hidden=8)))


def jepa(flights: Flights) -> Imagination:
    model = tiny()
    return Imagination(model, Decoder(model.config).eval().decode, fit_heads(model.eval(), flights, SEEN))


def pixels(flights: Flights) -> Imagination:
    model = tiny()
    objective = NextPixels(NextPixelsConfig(hidden=8), model)

    def paint(latents: Tensor) -> Tensor:
        return objective.decode(latents).mul(255).round().clamp(0, 255).byte()

    return Imagination(model, paint, fit_heads(model.eval(), flights, SEEN))


@pytest.mark.parametrize("kind", [jepa, pixels, Copy])
def test_every_world_model_is_asked_alike(kind: type, flights: Flights) -> None:
    """Shapes and types; the same words for the same frames, whichever others they come with; and no look at what comes."""
    asked = kind() if kind is Copy else kind(flights)
    if isinstance(asked, Imagination):
        shares = asked.settle(flights, SEEN)
        assert shares.keys() == {"probe", "referee"}
        assert shares[asked.reads] == min(shares.values())
    foreteller: Foreteller = asked
    past = flights.frames[:, :SEEN]
    said = foreteller.foretell(past, HORIZON)
    assert said.frames.shape == (10, HORIZON, 64, 64, 3)
    assert said.frames.dtype == np.uint8
    assert said.places.shape == (10, HORIZON, 2)
    assert said.confidence.shape == (10, HORIZON)
    assert np.isfinite(said.confidence).all()
    few = foreteller.foretell(past[3:5], HORIZON)
    np.testing.assert_array_equal(few.frames, said.frames[3:5])
    np.testing.assert_allclose(few.places, said.places[3:5], atol=1e-3, equal_nan=True)
    np.testing.assert_allclose(few.confidence, said.confidence[3:5], atol=1e-3)
    judge(foreteller, flights, SEEN, 0.12)


def test_the_heads_are_one_fit_and_its_parts(flights: Flights) -> None:
    """The probe of all clips lies where its members' sums say; read by name or by hand it is the same."""
    model = tiny().eval()
    heads = fit_heads(model, flights, SEEN)
    with torch.no_grad():
        latents = model.encode(torch.from_numpy(flights.frames[:2].transpose(0, 1, 4, 2, 3).copy()))
    assert len(heads.members) == 5
    places = [head.read(latents) for head in (heads.whole, *heads.members)]
    assert all(place.shape == (2, SEEN + HORIZON, 2) for place in places)
    assert not torch.allclose(places[0], places[1])
