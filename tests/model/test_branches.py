"""Branches: a code gives one rollout, chances are chances, and what is saved comes back; on a small untrained model."""

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, ShapeError
from foretell.model.branches import FILE, Branches, BranchesConfig, load_branches, past_of, save_branches
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.folder import save_model
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel

view = View(height=16, width=24, fps=8)
dense = ModelConfig(view=view, encoder=DenseConfig(latent_width=5), predictor=RecurrentConfig(hidden=7))
config = BranchesConfig(codes=3, horizon=4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = WorldModel(dense).eval()
    made.predictor.speak[-1].weight.data.normal_(std=0.3)  # as it starts, a predictor says that nothing changes
    return made


@pytest.fixture
def branches(model):
    torch.manual_seed(1)
    made = Branches(config, model).eval()
    for reader in made.prior.readers:
        reader.weigh[-1].weight.data.normal_(std=3.0)
    made.spread.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0]))
    return made


def latents(count=2, steps=6):
    return torch.randn(count, steps, 6, 5, generator=torch.Generator().manual_seed(3))


def test_a_code_that_says_nothing_is_the_model_itself(model, branches):
    branches.ways.data.zero_()
    seen = latents()
    with torch.no_grad():
        said = branches.rollouts(past_of(model, seen), 4)
        alone = model.rollout(seen, 4)
    assert said.shape == (2, 3, 4, 6, 5)
    for code in range(3):
        torch.testing.assert_close(said[:, code], alone)


def test_every_code_gives_its_own_rollout_of_every_past(model, branches):
    past = past_of(model, latents())
    with torch.no_grad():
        every = branches.rollouts(past, 3)
        for code in range(3):
            torch.testing.assert_close(every[:, code], branches.rollout(past, torch.tensor([code, code]), 3))
    assert (every[:, 0] - every[:, 1]).abs().max() > 1e-3
    assert (every[0] - every[1]).abs().max() > 1e-3


def test_chances_add_up_and_samples_are_drawn_by_them(model, branches):
    past = past_of(model, latents())
    with torch.no_grad():
        chances = branches.chances(past).exp()
        drawn = branches.sample(past, 4000, 2, torch.Generator().manual_seed(0))
        every = branches.rollouts(past, 2)
    torch.testing.assert_close(chances.sum(1), torch.ones(2))
    assert drawn.latents.shape == (2, 4000, 2, 6, 5)
    for n in range(2):
        shares = torch.bincount(drawn.codes[n], minlength=3) / 4000
        torch.testing.assert_close(shares, chances[n], atol=0.03, rtol=0)
        for s in (0, 1, 2):
            code = drawn.codes[n, s]
            assert torch.equal(drawn.latents[n, s], every[n, code])
            assert drawn.probabilities[n, s] == chances[n, code]


def test_the_prior_is_the_mean_of_what_its_readers_say(model, branches):
    past = past_of(model, latents())
    with torch.no_grad():
        each = torch.stack([reader(past.tokens).softmax(-1) for reader in branches.prior.readers])
        torch.testing.assert_close(branches.chances(past).exp(), each.mean(0))
    assert each.std(0).max() > 0.01


def test_evidence_is_the_tempered_gaussian_one(branches):
    errors = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(5))
    evidence = branches.evidence(errors)
    by_hand = -config.weight / 2 * (errors[1, 2] / branches.spread).mean()
    torch.testing.assert_close(evidence[1, 2], by_hand)
    short = -config.weight / 2 * (errors[1, 2, :2] / branches.spread[:2]).mean()
    torch.testing.assert_close(branches.evidence(errors[..., :2])[1, 2], short)


def test_kept_codes_say_what_they_said(model, branches):
    past = past_of(model, latents())
    with torch.no_grad():
        before = branches.rollouts(past, 3)
        branches.keep([2, 0])
        torch.testing.assert_close(branches.rollouts(past, 3), before[:, [2, 0]])
        torch.testing.assert_close(branches.chances(past).exp(), torch.full((2, 2), 0.5))
    assert branches.config.codes == 2


def test_what_is_saved_comes_back(model, branches, tmp_path):
    save_model(tmp_path, model, {})
    with pytest.raises(CheckpointError, match="foretells one future"):
        load_branches(tmp_path, model)
    branches.keep([1, 2])
    save_branches(tmp_path, branches)
    again = load_branches(tmp_path, model)
    past = past_of(model, latents())
    with torch.no_grad():
        torch.testing.assert_close(again.rollouts(past, 4), branches.rollouts(past, 4))
        torch.testing.assert_close(again.chances(past), branches.chances(past))
    assert again.config == branches.config
    other = WorldModel(ModelConfig(view=view, encoder=DenseConfig(latent_width=6), predictor=RecurrentConfig(hidden=7)))
    with pytest.raises(CheckpointError, match=f"{FILE}: does not fit"):
        load_branches(tmp_path, other)
    (tmp_path / FILE).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        load_branches(tmp_path, model)


def test_what_cannot_branch_says_so(model):
    small = View(height=16, width=16, fps=8)
    pooled = WorldModel(ModelConfig(view=small, encoder=PooledConfig(latent_width=7), predictor=CausalConfig(depth=1)))
    with pytest.raises(ConfigError, match="expected a recurrent predictor"):
        Branches(config, pooled)
    with pytest.raises(ConfigError, match="0 codes"):
        BranchesConfig(codes=0)
    with pytest.raises(ShapeError, match="at least 2 steps"):
        past_of(model, latents(steps=1))
