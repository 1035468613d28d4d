"""Quadruplets judged: who knows nothing is at chance to the last digit, who knows all is right, and ties are halves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError
from foretell.evals.answers import Answers, joined
from foretell.evals.exam import ExamConfig
from foretell.evals.intuitive_physics import Verdicts, examine, example
from foretell.evals.judges import (
    Foresight,
    LatentCopy,
    LatentLine,
    PixelCopy,
    PixelForesight,
    compose,
    from_step,
    surprise_of_quadruplets,
    words_ahead,
)
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.next_pixels import NextPixelsConfig
from foretell.objectives.objective import build_objective
from foretell.surprise.calibrate import Calibration
from foretell.worlds.physics import Physics
from foretell.worlds.quadruplets import quadruplet
from foretell.worlds.stage import PROPERTIES

WORLD = Physics(scenario="staged", part="development", frames=24, size=32)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    config = ModelConfig(
        view=View(height=32, width=32, fps=10.0),
        encoder=DenseConfig(latent_width=6, stem_channels=8, channels=12),
        predictor=RecurrentConfig(hidden=10),
    )
    return WorldModel(config).eval()


@pytest.mark.parametrize("kind", PROPERTIES)
def test_who_compares_neighbouring_frames_is_exactly_at_chance(kind, model):
    verdicts = examine({"pixels": PixelCopy(), "latents": LatentCopy(model)}, WORLD, kind, 6, 1)
    for verdict in verdicts.values():
        assert (verdict.relative == 0.5).all()


def test_examining_in_portions_changes_nothing(model, monkeypatch):
    whole = examine({"line": LatentLine(model)}, WORLD, "colour", 5, 2)["line"]
    monkeypatch.setattr("foretell.evals.intuitive_physics.AT_ONCE", 2)
    parts = examine({"line": LatentLine(model)}, WORLD, "colour", 5, 2)["line"]
    np.testing.assert_allclose(whole.surprise, parts.surprise, rtol=1e-5)
    assert (whole.shows == parts.shows).all()
    assert whole.shows[0] == example(WORLD, "colour", 2).shows


def test_verdicts_by_hand():
    surprise = np.ones((4, 3, 6))
    surprise[:, :, 0] = np.nan
    surprise[2, 0, 4] = 3.0  # the first: impossible ones surprise more
    surprise[0, 1, 2] = 2.0  # the second: a possible one does
    verdicts = Verdicts(surprise=surprise, shows=np.array([3, 3, 2]))
    assert verdicts.relative.tolist() == [1.0, 0.0, 0.5]
    assert verdicts.largest[:, 0].tolist() == [1.0, 1.0, 3.0, 1.0]
    assert verdicts.delays.reshape(2, 3)[0].tolist() == [1, 0, 0]
    figures = verdicts.figures(Calibration(scores=np.linspace(0, 2.5, 99), unit="clip", unit_seconds=2.4), 0.05)
    assert figures["relative"]["value"] == pytest.approx(0.5)
    assert figures["caught"]["value"] == pytest.approx(1 / 6)
    assert figures["accuracy"]["value"] == pytest.approx((6 + 1) / 12)


def test_compose_takes_from_the_other_clip_after_the_swap():
    first, second = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
    order = np.array([[0, 0, 1, 1], [0, 1, 0, 0]])
    four = compose(first, second, order)[..., 0]
    assert four[2].tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    assert four[3].tolist() == [[1, 1, 0, 0], [1, 0, 1, 1]]


def test_foresight_of_one_step_is_the_whitened_error(model):
    clips = [WORLD.episode(seed) for seed in range(6)]
    judge = Foresight(model, clips, [1])
    seen = judge.look(clips[:2])
    with torch.inference_mode():
        error = seen[:, 1:] - model.predict(seen).next[:, :-1].float()
        by_hand = torch.einsum("btpi,ij,btpj->btp", error, judge.precisions[0], error).mean(2)
    found = judge.surprise(seen)
    assert torch.isnan(found[:, 0]).all()
    torch.testing.assert_close(
        found[:, 1:].float(), by_hand, rtol=2e-2, atol=1e-3
    )  # the processor's bf16 may be off or on
    assert judge.surprise(judge.look(clips))[:, 1:].mean() == pytest.approx(1.0, rel=0.2)


def test_foresight_scores_what_all_horizons_speak_of(model):
    clips = [WORLD.episode(seed) for seed in range(4)]
    found = Foresight(model, clips, [1, 4]).surprise(Foresight(model, clips, [1, 4]).look(clips))
    assert torch.isnan(found[:, :4]).all()
    assert torch.isfinite(found[:, 4:]).all()


def test_words_ahead_are_the_rollouts_from_every_step(model):
    latents = torch.randn(2, 9, model.grid[0] * model.grid[1], model.config.encoder.latent_width)
    with torch.inference_mode():
        foretold = model.predict(latents)
        rollouts = model.rollouts(foretold, list(range(8)), 5)
    said = dict(words_ahead(model, foretold, (1, 2, 5)))
    for h, words in said.items():
        assert words.shape[1] == 9 - h
        torch.testing.assert_close(words, rollouts[:, : 9 - h, h - 1], rtol=2e-2, atol=2e-2)  # bf16 may be off or on


def test_from_step_leaves_the_first_unscored():
    assert torch.isnan(from_step(2, torch.zeros(3, 4))).sum() == 6


@pytest.mark.parametrize("predictor", [RecurrentConfig(hidden=10), CausalConfig(width=8, depth=2, heads=2, history=4)])
@pytest.mark.parametrize("kind", ["continuity", "support"])
def test_what_two_clips_share_is_foretold_once_and_nothing_changes(model, predictor, kind):
    torch.manual_seed(0)
    model = WorldModel(replace(model.config, predictor=predictor)).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.2)  # a new predictor says that all stays as it is
    painter = build_objective(NextPixelsConfig(horizon=2), model)
    clips = [WORLD.episode(seed) for seed in range(6)]
    fours = [quadruplet(WORLD, kind, seed) for seed in range(11)]
    pairs, order = [four.possible for four in fours], np.stack([four.order for four in fours])
    for judge in (Foresight(model, clips, (1, 4)), PixelForesight(model, painter.decode, clips, (1, 4))):
        first, second = (judge.look([pair[which] for pair in pairs]) for which in (0, 1))
        whole = judge.surprise(compose(first, second, order).flatten(0, 1)).unflatten(0, (4, 11))
        shared = surprise_of_quadruplets(judge, pairs, order)
        np.testing.assert_allclose(shared, whole.numpy(), rtol=1e-2)  # the processor's bf16 may be off or on
        assert np.isfinite(shared[:, :, 4:]).all()


def test_a_swap_just_before_the_end_leaves_nothing_to_foretell(model):
    judge = Foresight(model, [WORLD.episode(seed) for seed in range(4)], (1, 4))
    four = quadruplet(WORLD, "permanence", 1)
    order = (np.arange(24) >= 22).astype(int)[None]
    first, second = (judge.look([clip]) for clip in four.possible)
    whole = judge.surprise(compose(first, second, order)[:, 0]).numpy()
    np.testing.assert_allclose(surprise_of_quadruplets(judge, [four.possible], order)[:, 0], whole, rtol=1e-2)


def test_examining_goes_on_where_it_was_left():
    whole = examine({"pixels": PixelCopy()}, WORLD, "shape", 5, 2)["pixels"]
    parts = [
        examine({"pixels": PixelCopy()}, WORLD, "shape", end, 2, first)["pixels"] for first, end in ((0, 3), (3, 5))
    ]
    together = joined(parts)
    np.testing.assert_array_equal(together.surprise, whole.surprise)
    assert (together.shows == whole.shows).all()


def test_answers_are_kept_to_the_digit_and_damage_is_named(tmp_path):
    answers = Answers(
        calibration=Calibration(scores=np.arange(30.0), unit="clip", unit_seconds=2.4, names=("a", "b")),
        verdicts={kind: examine({"pixels": PixelCopy()}, WORLD, kind, 2, 2)["pixels"] for kind in ("shape", "support")},
    )
    answers.save(tmp_path / "kept")
    again = Answers.load(tmp_path / "kept")
    assert again.figures(0.05) == answers.figures(0.05)
    np.testing.assert_array_equal(again.verdicts["shape"].surprise, answers.verdicts["shape"].surprise)
    assert again.calibration.names == ("a", "b")
    (tmp_path / "kept").write_bytes((tmp_path / "kept").read_bytes()[:100])
    with pytest.raises(CheckpointError, match="kept"):
        Answers.load(tmp_path / "kept")


def test_the_name_of_answers_says_what_they_depend_on(monkeypatch):
    exam = ExamConfig(quadruplets=3)
    key = exam.key("pixel copy", 64)
    assert key == ExamConfig(quadruplets=3, possible=7, violations=5, alpha=0.1).key("pixel copy", 64)
    others = [exam.key("state oracle", 64), exam.key("pixel copy", 48), ExamConfig(quadruplets=4).key("pixel copy", 64)]
    others.append(ExamConfig(quadruplets=3, part="development").key("pixel copy", 64))
    monkeypatch.setattr("foretell.evals.exam.code", lambda: "another version")
    assert len({key, *others, exam.key("pixel copy", 64)}) == 6
