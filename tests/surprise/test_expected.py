"""How wrong a model expects to be: the law it is fitted to, what errors are divided by, and what is kept of it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.surprise import expected as module
from foretell.surprise import stream
from foretell.surprise.expected import FLOOR, NORMAL, Examples, fit_expected, risky
from foretell.surprise.score import LatentScorer, Whitening, errors_of, fit_whitening, load_whitening, save_whitening
from foretell.surprise.stream import Stream, SurpriseConfig, foretold_clips

SETTINGS = SurpriseConfig(nearest=1, farthest=3, every=2, context=2, expect=True)


def model_of(*, carry: bool = True, width: int = 32) -> WorldModel:
    torch.manual_seed(0)
    encoder = DenseConfig(latent_width=5, stem_channels=6, channels=7)
    predictor = RecurrentConfig(hidden=4, carry=carry)
    model = WorldModel(ModelConfig(view=View(height=16, width=width), encoder=encoder, predictor=predictor))
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn(weight.shape)
    return model.eval()


def video(steps: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, (steps, 16, 32, 3)).cumsum(0)
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


def clips():
    return ((f"{number}.mp4", video(40, seed=number)) for number in range(3))


def whitening_of(model: WorldModel) -> Whitening:
    few = list(foretold_clips(model, clips, replace(SETTINGS, expect=False)))
    return fit_whitening(model, few, clips, SETTINGS)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps; and no bf16, so that equal sums are equal."""
    monkeypatch.setattr(module, "STEPS", 40)
    monkeypatch.setattr(module, "FRAME_STEPS", 40)
    monkeypatch.setattr(stream, "mixed_precision", lambda precision, device: nullcontext())


def test_it_finds_the_mean_error_that_each_memory_announces(monkeypatch):
    """Exponential errors of mean 0.2 or 2, as one number of the memory says: at the optimum what is expected is the mean."""
    monkeypatch.setattr(module, "STEPS", 800)
    monkeypatch.setattr(module, "FRAME_STEPS", 1500)
    model, chance = model_of(), torch.Generator().manual_seed(1)
    hard = torch.randint(2, (3000, 1, 1), generator=chance).float()
    memories = torch.randn(3000, 8, 4, generator=chance)
    memories[:, :, :1] = hard.expand(-1, 8, -1)
    mean = torch.where(hard > 0, 2.0, 0.2).expand(-1, 2, 4)
    examples = Examples()
    examples.add(memories, torch.empty_like(mean).exponential_(generator=chance) * mean)
    found = fit_expected(model, examples)
    with torch.no_grad():
        most = found.most(risky(memories, found.logarithm(memories))).exp()
        without_floor = found(memories) / most[:, None, None] - found.floor
    for which, expected in ((0, 0.2), (1, 2.0)):
        of_kind = without_floor[hard[:, 0, 0] == which]
        assert of_kind.mean().item() == pytest.approx(expected, rel=0.1)
    usual = without_floor.amax((1, 2)).median()
    assert found.floor.item() == pytest.approx(FLOOR * usual.item(), rel=0.05)  # memories are kept in half the bits
    above = (examples.kept[0][1] / found(examples.kept[0][0])).amax((1, 2)) > 1
    assert above.float().mean().item() == pytest.approx(1 - NORMAL, abs=0.004)  # in one unit, whatever is expected
    assert not any(weight.requires_grad for weight in found.parameters())


def test_the_largest_error_that_a_sort_of_frame_keeps_to_is_told_from_what_is_remembered(monkeypatch):
    """Both sorts err alike on average, but one seldom and by much, somewhere: of either kind as few frames are above 1."""
    monkeypatch.setattr(module, "STEPS", 300)
    monkeypatch.setattr(module, "FRAME_STEPS", 1500)
    model, chance = model_of(), torch.Generator().manual_seed(1)
    sort = torch.randint(2, (20_000, 1, 1), generator=chance).float()
    memories = torch.randn(20_000, 8, 4, generator=chance)
    memories[:, :, :1] = sort.expand(-1, 8, -1)
    seldom = 10 * (torch.rand(20_000, 2, 4, generator=chance) < 0.1).float()
    errors = torch.empty_like(seldom).exponential_(generator=chance) * torch.where(sort > 0, seldom, 1.0)
    examples = Examples()
    examples.add(memories, errors)
    found, above = fit_expected(model, examples), {}
    for which in (0, 1):
        of_sort = sort[:, 0, 0] == which
        divided, largest = (errors / found(memories))[of_sort], errors[of_sort].amax((1, 2))
        above[which] = (divided.amax((1, 2)) > 1).float().mean().item()
        assert above[which] == pytest.approx(1 - NORMAL, abs=0.008)
        one_line = largest > errors.amax((1, 2)).quantile(NORMAL)  # what one line for both would do
        assert abs(one_line.float().mean().item() - (1 - NORMAL)) > 0.01


def test_what_is_remembered_is_taken_where_most_is_expected():
    memories, logarithm = torch.arange(24.0).view(1, 8, 3), torch.tensor([[[0.0, 5, 1, 2], [3, 7, 6, 4]]])
    assert risky(memories, logarithm).tolist() == [[15, 16, 17, 18, 19, 20, 3, 4, 5, 7]]
    assert risky(memories[:, :2], logarithm[:, :1, :2]).tolist() == [[3, 4, 5, 0, 1, 2, 5]]


def test_of_much_footage_every_second_example_is_let_go(monkeypatch):
    monkeypatch.setattr(module, "MOST", 100 * 8 * 4)
    examples, number = Examples(), torch.arange(64.0)[:, None, None]
    for _ in range(6):
        examples.add(number.expand(-1, 8, 4), 1 + number.expand(-1, 2, 4))
    kept = torch.cat([errors for _, errors in examples.kept])
    memories = torch.cat([memories for memories, _ in examples.kept])
    assert examples.every > 1
    assert len(kept) <= 100
    torch.testing.assert_close(kept[:, 0, 0] - 1, memories[:, 0, 0].float())  # still pairs


@pytest.mark.parametrize("carry", [False, True])
def test_errors_are_divided_by_what_was_expected_just_before(carry):
    """By hand: of each word by the memory that spoke it, of looks by the memory before the step."""
    model = model_of(carry=carry)
    whitening = whitening_of(model)
    assert whitening.of_words is not None
    assert (whitening.of_looks is not None) == carry
    with torch.inference_mode():
        seen = Stream(model, SETTINGS).next(video(9, seed=5))
        plain = errors_of(seen, model, whitening._replace(of_words=None, of_looks=None), SETTINGS)
        held = errors_of(seen, model, whitening, SETTINGS)
        latents = model.encode(torch.from_numpy(video(9, seed=5)).permute(0, 3, 1, 2)[None])
        memories = torch.cat([model.predictor.start(1), model.predict(latents).memories[0]])
        for step, word in seen.ahead.nonzero().tolist():
            said, memory = (
                latents[:, step - int(seen.ahead[step, word])],
                memories[[step - int(seen.ahead[step, word])]],
            )
            for _ in range(int(seen.ahead[step, word])):
                said, memory = model.predictor.step(said, memory)
            expected = plain.whitened[step, word] / whitening.of_words(memory)[0]
            torch.testing.assert_close(held.whitened[step, word], expected, rtol=1e-3, atol=1e-4)
        if whitening.of_looks is not None:
            torch.testing.assert_close(
                held.looks, plain.looks / whitening.of_looks(memories[:-1]), rtol=1e-3, atol=1e-4
            )


def test_chunks_of_any_size_give_the_same_scores():
    model = model_of()
    scorer = LatentScorer(model, whitening_of(model), SETTINGS)
    frames = video(17, seed=7)
    whole = scorer.score(frames).surprise
    scorer.start()
    parts = [scorer.score(frames[at : at + 5]).surprise for at in range(0, 17, 5)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-3, atol=1e-4)


def test_it_is_kept_with_the_whitening_and_found_again(tmp_path: Path):
    model, path = model_of(), tmp_path / "w.safetensors"
    whitening = whitening_of(model)
    save_whitening(path, whitening, SETTINGS)
    found, settings = load_whitening(path, model)
    assert settings == SETTINGS
    memories = torch.randn(3, 8, 4)
    for name in ("of_words", "of_looks"):
        torch.testing.assert_close(getattr(found, name)(memories), getattr(whitening, name)(memories), rtol=0, atol=0)
    other = ModelConfig(view=View(height=16, width=32), predictor=RecurrentConfig(hidden=6))
    with pytest.raises(CheckpointError, match="holds no whitening"):
        load_whitening(path, WorldModel(other))


def test_it_needs_a_memory_at_every_token():
    config = ModelConfig(
        view=View(height=16, width=32),
        encoder=PooledConfig(latent_width=5, channels=3, hidden=7),
        predictor=CausalConfig(width=8, depth=2, heads=2, history=3),
    )
    with pytest.raises(ConfigError, match="no memory at every token"):
        whitening_of(WorldModel(config).eval())
