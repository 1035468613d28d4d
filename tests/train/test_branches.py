"""Learning branches: a small world that forks is learned, codes it has no need of are dropped, and bits are bits."""

import math

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import DataError
from foretell.model.branches import Branches, BranchesConfig, Reader, past_of
from foretell.model.encoders import DenseConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.train import branches as learning
from foretell.train.branches import (
    LEAST_SEEN,
    BranchesTraining,
    Windows,
    bits_used,
    explained,
    fit_branches,
    fit_reader,
    likelihood,
    needed,
    rollout_errors,
    surprise_of,
)

view = View(height=16, width=16, fps=8)
dense = ModelConfig(view=view, encoder=DenseConfig(latent_width=3), predictor=RecurrentConfig(hidden=16))
HORIZON = 5


def forking(count: int, seed: int) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Latents (T, P, D) that rest, and from step 4 on go up or down; the odds are to be seen in the second channel."""
    rng = torch.Generator().manual_seed(seed)
    odds = torch.randint(2, (count,), generator=rng) * 0.6 + 0.2
    up = torch.rand(count, generator=rng) < odds
    clips = torch.zeros(count, LEAST_SEEN + HORIZON, 4, 3)
    clips[..., 1] = (odds[:, None, None] - 0.5) * 4
    clips[:, LEAST_SEEN:, 0, 0] = (up * 2.0 - 1)[:, None] * torch.arange(1, HORIZON + 1) / 2
    return list(clips), odds, up


@pytest.fixture(scope="module")
def learned():
    torch.manual_seed(0)
    model = WorldModel(dense).eval()
    clips, _, _ = forking(400, 0)
    held_out, odds, up = forking(200, 1)
    training = BranchesTraining(steps=160, batch=32, peak=3e-3, prior_steps=300)
    branches = fit_branches(model, clips, held_out, BranchesConfig(codes=4, horizon=HORIZON), training, 0)
    return model, branches, torch.stack(held_out), odds, up


def test_both_ways_are_foretold_with_their_odds(learned):
    model, branches, clips, odds, up = learned
    seen, came = clips[:, :LEAST_SEEN], clips[:, LEAST_SEEN:]
    with torch.no_grad():
        past = past_of(model, seen)
        said, chances = branches.rollouts(past, HORIZON), branches.chances(past)
        evidence = branches.evidence(rollout_errors(said, seen, came))
    ends = said[:, :, -1, 0, 0]
    assert branches.config.codes < 4  # the world forks in two
    assert (ends.amax(1) > 1.5).all()
    assert (ends.amin(1) < -1.5).all()
    going_up = (chances.exp() * (ends > 0)).sum(1)
    assert (going_up - odds).abs().mean() < 0.1
    entropy = -(odds * odds.log2() + (1 - odds) * (1 - odds).log2()).mean()
    assert abs(bits_used(chances, evidence).mean() - entropy) < 0.2
    answers = (chances + evidence).argmax(1)
    assert ((ends[torch.arange(len(ends)), answers] > 0) == up).all()


def test_bits_are_the_divergence_of_what_is_known_after_from_before():
    chances = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.25, 0.75]]).log()
    evidence = torch.tensor([[0.0, -50.0], [-50.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(bits_used(chances, evidence), torch.tensor([1.0, math.log2(10), 0.0]))


def test_codes_that_help_to_explain_nothing_are_dropped(monkeypatch):
    """Of four codes one says what another says, and one is never right."""
    right = torch.tensor([[0.0, -9.0], [-9.0, 0.0]]).repeat(20, 1)
    evidence = torch.cat([right, right[:, :1] - 0.01, torch.full((40, 1), -20.0)], 1)
    monkeypatch.setattr(learning, "explained", lambda *arguments: (None, evidence))
    model = WorldModel(dense)
    branches = Branches(BranchesConfig(codes=4, horizon=HORIZON), model)
    assert needed(model, branches, None, 0) == [0, 1]


def test_likelihood_is_that_of_the_best_weights():
    evidence = torch.tensor([[0.0, -50.0]] * 3 + [[-50.0, 0.0]])
    best = 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert abs(likelihood(evidence) - best) < 1e-5


def test_every_clip_gives_a_window_before_any_gives_another():
    """Each clip is told by what is open in it; more windows than clips begin at other places of the same clips."""
    torch.manual_seed(0)
    model = WorldModel(dense).eval()
    branches = Branches(BranchesConfig(codes=2, horizon=HORIZON), model)
    branches.spread.fill_(1.0)
    windows = Windows([torch.full((20, 4, 3), float(k)) for k in range(3)], HORIZON)
    tokens, evidence = explained(model, branches, windows, torch.Generator().manual_seed(0), 7)
    clip = tokens[:, 0, 0].tolist()
    assert tokens.shape == (7, 4, 3 + 16)
    assert evidence.shape == (7, 2)
    assert sorted(clip[:3]) == sorted(clip[3:6]) == [0, 1, 2]


def test_a_reader_keeps_what_explained_clips_held_out_best():
    """Known by heart, noise says nothing of others: the likelihood held out is that of even odds, not that of learned noise."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)

    def noise(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        up = torch.randint(2, (count, 1), generator=rng)
        return torch.randn(count, 4, 9, generator=rng).bfloat16(), -50.0 * torch.cat([up, 1 - up], 1)

    known, aside = noise(64), noise(400)
    reader = Reader(9, 2)
    fit_reader(reader, known, aside, 300, rng)
    with torch.no_grad():
        assert abs(surprise_of(reader(aside[0]), aside[1]) - math.log(2)) < 0.15


def test_windows_are_stretches_of_clips():
    clips = [torch.arange(20.0)[:, None, None].expand(20, 4, 3) + 100 * k for k in range(3)]
    windows = Windows([*clips, clips[0][:5]], HORIZON)
    for seed in range(10):
        seen, came = windows.draw(4, torch.Generator().manual_seed(seed))
        assert seen.shape[1] >= LEAST_SEEN
        assert came.shape == (4, HORIZON, 4, 3)
        whole = torch.cat([seen, came], 1)
        assert (whole.diff(dim=1) == 1).all()
    with pytest.raises(DataError, match="no clip has 24 steps"):
        Windows(clips, 20)
