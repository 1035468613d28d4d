"""Surprise is what the model's own rollouts say it is, however a video is cut, and knows nothing of what comes later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, DataError, ShapeError
from foretell.model.carry import carried
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.tensors import save_tensors
from foretell.model.world_model import ModelConfig, WorldModel, scaled
from foretell.surprise import stream as module
from foretell.surprise.looks import look_errors, look_heat
from foretell.surprise.score import (
    LatentScorer,
    MotionScorer,
    Whitening,
    fit_whitening,
    load_whitening,
    save_whitening,
    token_errors,
    worst_tokens,
)
from foretell.surprise.stream import PIECE, SurpriseConfig, foretold_clips

SETTINGS = SurpriseConfig(nearest=2, farthest=5, every=2, context=2)
BUILDS = {
    "dense": (DenseConfig(latent_width=5, stem_channels=6, channels=7), RecurrentConfig(hidden=4)),
    "carries": (DenseConfig(latent_width=5, stem_channels=6, channels=7), RecurrentConfig(hidden=4, carry=True)),
    "pooled": (PooledConfig(latent_width=5, channels=3, hidden=7), CausalConfig(width=8, depth=2, heads=2, history=3)),
}


def words_about(step: int) -> list[int]:
    """How far ahead they were spoken: only from every so manyth step, and from none before the context was seen."""
    begun = range(SETTINGS.context, step, SETTINGS.every)
    return [h for h in SETTINGS.horizons if step - h in begun]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 rounds by the shape of a batch; without it, equal sums are equal."""
    monkeypatch.setattr(module, "mixed_precision", lambda precision, device: nullcontext())


@pytest.fixture(params=BUILDS)
def model(request: pytest.FixtureRequest) -> WorldModel:
    """No two weights alike, so that it says something else than a copy."""
    encoder, predictor = BUILDS[request.param]
    torch.manual_seed(3)
    model = WorldModel(ModelConfig(view=View(height=16, width=32), encoder=encoder, predictor=predictor))
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn(weight.shape)
    return model.eval()


@pytest.fixture
def scorer(model: WorldModel) -> LatentScorer:
    root = torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(1))
    scale = torch.tensor([0.5, 2.0, 3.0, 4.0])
    looks = torch.tensor([0.1, 1e-3 if model.carries else 1.0])  # so that looks count here and there
    return LatentScorer(model, Whitening(root @ root.mT + torch.eye(5), scale, looks), SETTINGS)


def video(steps: int, seed: int = 0) -> np.ndarray:
    """Slowly changing noise, uint8 (T, 16, 32, 3)."""
    noise = np.random.default_rng(seed).normal(0, 12, (steps, 16, 32, 3)).cumsum(0)
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


def in_chunks(scorer: LatentScorer | MotionScorer, frames: np.ndarray, chunk: int) -> list[np.ndarray]:
    scorer.start()
    parts = [scorer.score(frames[at : at + chunk]) for at in range(0, len(frames), chunk)]
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


@pytest.mark.parametrize("chunk", [1, 2, 4, 7, 16])
def test_chunks_of_any_size_give_the_same_scores(scorer: LatentScorer, chunk: int) -> None:
    frames = video(23)
    for cut, whole in zip(in_chunks(scorer, frames, chunk), in_chunks(scorer, frames, 23), strict=True):
        np.testing.assert_allclose(cut, whole, rtol=1e-4, atol=1e-4)


def test_a_score_knows_nothing_of_later_and_something_of_now(scorer: LatentScorer) -> None:
    frames, at = video(20), 13
    other = frames.copy()
    other[at] = 255 - other[at]
    before, after = (in_chunks(scorer, seen, 20)[0] for seen in (frames, other))
    np.testing.assert_allclose(after[:at], before[:at], rtol=1e-5)
    assert abs(after[at] - before[at]) > 1e-3 * before[at]


def test_a_new_video_starts_from_nothing(scorer: LatentScorer) -> None:
    first = in_chunks(scorer, video(12), 12)
    in_chunks(scorer, video(9, seed=1), 9)
    for again, then in zip(in_chunks(scorer, video(12), 12), first, strict=True):
        np.testing.assert_array_equal(again, then)


def test_steps_before_the_context_are_not_scored(scorer: LatentScorer) -> None:
    """Context 2: the first word that counts is spoken at step 2, and the nearest step that it speaks of is 4."""
    assert scorer.context == 4
    for part in in_chunks(scorer, video(9), 2)[:3]:
        scored = ~np.isnan(part).reshape(9, -1)
        assert not scored[:4].any()
        assert scored[4:].all()


@pytest.mark.parametrize("chunk", [1, 5, 23])
def test_every_word_is_counted_once(scorer: LatentScorer, chunk: int) -> None:
    frames = video(23)
    scorer.start()
    found = [scorer.errors(frames[at : at + chunk]) for at in range(0, 23, chunk)]
    for step, (ahead, whitened) in enumerate(
        zip(torch.cat([f.ahead for f in found]), torch.cat([f.whitened for f in found]), strict=True)
    ):
        assert sorted(ahead[ahead > 0].tolist()) == words_about(step)
        assert torch.equal(whitened.isnan().flatten(1).all(1), ahead == 0)
        assert torch.equal(whitened.isnan().flatten(1).any(1), ahead == 0)


@torch.inference_mode()
def test_errors_are_those_of_the_rollouts(model: WorldModel, scorer: LatentScorer) -> None:
    """By hand and without a stream: encode all, roll out from every step, and compare."""
    frames, (rows, columns) = video(15), model.grid
    latents = model.encode(torch.from_numpy(frames).permute(0, 3, 1, 2)[None])
    said = model.rollouts(model.predict(latents), list(range(15)), 5)[0]
    found = scorer.errors(frames)
    words = found.ahead.nonzero().tolist()
    assert len(words) == sum(len(words_about(step)) for step in range(15))
    for step, word in words:
        horizon = int(found.ahead[step, word])
        number = horizon - SETTINGS.nearest
        residual = latents[0, step] - said[step - horizon, horizon - 1]
        torch.testing.assert_close(found.raw[step, word].flatten(), residual.pow(2).mean(-1))
        white = torch.einsum("pd,de,pe->p", residual, scorer.whitening.precision[number], residual)
        maps = white.view(rows, columns)
        near = [
            torch.stack([maps[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].mean() for x in range(columns)])
            for y in range(rows)
        ]
        expected = torch.stack(near) / scorer.whitening.scale[number]
        torch.testing.assert_close(found.whitened[step, word], expected, rtol=1e-4, atol=1e-4)


def test_surprise_is_the_mean_of_the_words_or_how_wrong_it_looks(scorer: LatentScorer) -> None:
    """The larger counts. Each word at its worst token; heat is the same, token by token."""
    frames = video(15)
    surprise, _, heat, _ = in_chunks(scorer, frames, 15)
    assert heat.shape == (15, *scorer.model.grid)
    scorer.start()
    errors = scorer.errors(frames)
    for step in range(scorer.context, 15):
        words = errors.whitened[step, errors.ahead[step] > 0].numpy()
        looks = errors.looks[step].numpy()
        assert (looks > 0).all() == scorer.model.carries
        np.testing.assert_allclose(heat[step], np.maximum(words.mean(0), looks), rtol=1e-5)
        np.testing.assert_allclose(surprise[step], max(words.max((1, 2)).mean(), looks.max()), rtol=1e-5)


@torch.inference_mode()
def test_looks_are_judged_by_the_last_frame_carried_on(scorer: LatentScorer) -> None:
    """By hand and without a stream, one frame after another."""
    model = scorer.model
    if not model.carries:
        return
    frames = torch.from_numpy(video(9)).permute(0, 3, 1, 2)
    memories = model.predict(model.encode(frames[None])).memories[0]
    floor, normal = scorer.whitening.looks
    found = scorer.errors(video(9)).looks
    assert not found[0].any()
    for step in range(1, 9):
        said = carried(scaled(frames[step - 1 : step]), model.drift(memories[step - 1 : step]), mode="bicubic")
        expected = look_heat(*look_errors(scaled(frames[step : step + 1]), said), floor) / normal
        torch.testing.assert_close(found[step], expected[0], rtol=1e-3, atol=1e-3)


def test_settings_that_leave_steps_unspoken_of_are_refused() -> None:
    for wrong in (
        {"nearest": 0},
        {"nearest": 5, "farthest": 4},
        {"nearest": 4, "farthest": 6, "every": 4},
        {"every": 0},
    ):
        with pytest.raises(ConfigError, match="surprise"):
            SurpriseConfig(**wrong)


@pytest.mark.parametrize("steps", range(9, 24))
def test_short_clips_are_foretold_from_as_far_as_they_allow(model: WorldModel, steps: int) -> None:
    settings = SurpriseConfig(context=3).within(steps)
    assert settings.farthest == min(16, steps - 4)
    found = whitening_of(model, settings, steps, steps)
    assert len(found.scale) == len(settings.horizons)
    assert found.scale.isfinite().all()


def test_frames_of_another_size_are_refused(scorer: LatentScorer) -> None:
    with pytest.raises(ShapeError, match="16"):
        scorer.score(np.zeros((3, 32, 16, 3), np.uint8))


def clips(*lengths: int) -> Iterator[tuple[str, np.ndarray]]:
    yield from ((f"{number}.mp4", video(length, seed=number)) for number, length in enumerate(lengths))


def whitening_of(model: WorldModel, settings: SurpriseConfig, *lengths: int) -> Whitening:
    seen = list(foretold_clips(model, lambda: clips(*lengths), settings))
    return fit_whitening(model, seen, lambda: clips(*lengths), settings)


def test_the_worst_tokens_count_and_one_at_least() -> None:
    errors = torch.arange(2 * 3 * 10.0).view(2, 3, 2, 5)
    torch.testing.assert_close(worst_tokens(errors, 0.0), errors.amax((2, 3)))
    torch.testing.assert_close(worst_tokens(errors, 0.3), errors.flatten(2)[:, :, -3:].mean(2))
    torch.testing.assert_close(worst_tokens(errors, 1.0), errors.mean((2, 3)))
    errors[0, 1] = torch.nan  # no word
    assert worst_tokens(errors, 0.3).isnan().tolist() == [[False, True, False], [False] * 3]


def test_normal_residuals_are_one_on_average_and_one_frame_in_twenty_is_above_the_scale(model: WorldModel) -> None:
    alone = replace(SETTINGS, neighbourhood=1)
    whitening = whitening_of(model, alone, 180, 150, 120)
    seen = list(foretold_clips(model, lambda: clips(180, 150, 120), alone))
    errors = torch.cat([token_errors(one, whitening.precision, alone, model.grid) for one in seen])
    ahead = torch.cat([one.ahead for one in seen])
    for number, horizon in enumerate(alone.horizons):
        of_horizon = errors[ahead == horizon]
        assert len(of_horizon) >= len(errors) // alone.every - 9
        assert of_horizon.mean().item() == pytest.approx(1, rel=0.15)  # few residuals: shrinkage shows
        above = of_horizon.amax((1, 2)) > whitening.scale[number]
        assert above.float().mean().item() == pytest.approx(0.05, abs=0.01)


@torch.inference_mode()
def test_every_step_of_a_long_clip_whitens_once(model: WorldModel) -> None:
    run_up = SETTINGS.context + SETTINGS.farthest
    frames = video(run_up + 2 * PIECE + 5)
    seen = list(foretold_clips(model, lambda: [("long.mp4", frames), ("short.mp4", frames[:3])], SETTINGS))
    latents = model.encode(torch.from_numpy(frames).permute(0, 3, 1, 2)[None])[0]
    whole = torch.cat([latents, latents[:3]])
    torch.testing.assert_close(torch.cat([one.happened for one in seen]), whole, rtol=1e-4, atol=1e-4)
    spoken = torch.cat([one.ahead for one in seen])[run_up : len(frames)] > 0
    assert (spoken.sum(1) >= 2).all()


def test_clips_too_short_to_whiten_on_are_said(model: WorldModel) -> None:
    with pytest.raises(DataError, match="more than 7 steps"):
        whitening_of(model, SETTINGS, 7, 4)


def test_whitening_is_kept_and_found_again(tmp_path: Path, scorer: LatentScorer) -> None:
    save_whitening(tmp_path / "w.safetensors", scorer.whitening, SETTINGS)
    found, settings = load_whitening(tmp_path / "w.safetensors", scorer.model)
    assert settings == SETTINGS
    assert all(torch.equal(a, b) for a, b in zip(found[:3], scorer.whitening[:3], strict=True))
    assert found[3:] == (None, None)  # of errors that nobody expects


def test_whitening_of_before_looks_were_judged_is_read(tmp_path: Path, scorer: LatentScorer) -> None:
    tensors = {name: scorer.whitening._asdict()[name] for name in ("precision", "scale")}
    save_tensors(tmp_path / "w.safetensors", tensors, asdict(SETTINGS))
    assert load_whitening(tmp_path / "w.safetensors", scorer.model)[0].looks.tolist() == [1, 1]


def test_whitening_that_is_missing_damaged_or_something_else_is_named(tmp_path: Path, scorer: LatentScorer) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        load_whitening(path, scorer.model)
    save_whitening(path, scorer.whitening, SETTINGS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        load_whitening(path, scorer.model)
    save_tensors(path, {"weight": torch.ones(2)}, {"step": 3})
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        load_whitening(path, scorer.model)


def moving() -> np.ndarray:
    """Grey 10; at step 3 one square of 8 pixels (row 1, column 2) turns 60 redder, which is 20 in grey, and stays so."""
    frames = np.full((6, 16, 24, 3), 10, np.uint8)
    frames[3:, 8:, 16:, 0] += 60
    return frames


@pytest.mark.parametrize("chunk", [1, 4, 6])
def test_motion_is_where_pixels_change(chunk: int) -> None:
    motion = MotionScorer(View(height=16, width=24), (2, 3), SETTINGS)
    surprise, error, heat, _ = in_chunks(motion, moving(), chunk)
    expected = np.zeros((6, 2, 3))
    expected[0] = np.nan
    expected[3, 1, 2] = 20
    np.testing.assert_allclose(heat, expected)
    np.testing.assert_allclose(surprise, [np.nan, 0, 0, 20, 0, 0])
    np.testing.assert_allclose(error, [np.nan, 0, 0, 20 / 6, 0, 0], rtol=1e-6)
    assert motion.context == 1
