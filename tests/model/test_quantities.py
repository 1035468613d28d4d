"""Mixtures against theory, and an ensemble that says what its parts say."""

import pytest
import torch

from foretell.errors import ConfigError, ShapeError
from foretell.model.quantities import Mixture, Quantities, QuantitiesConfig, QuantityHead

CONFIG = QuantitiesConfig(names=("x", "speed"), context=3, horizon=4, heads=3, components=2, hidden=8)


def some_mixture(seed: int = 0) -> Mixture:
    drawn = torch.Generator().manual_seed(seed)
    weights = torch.rand(5, 3, generator=drawn, dtype=torch.float64)
    means = 3 * torch.randn(5, 3, 2, generator=drawn, dtype=torch.float64)
    stds = 0.2 + torch.rand(5, 3, 2, generator=drawn, dtype=torch.float64)
    return Mixture(weights / weights.sum(1, keepdim=True), means, stds)


def test_moments_are_those_of_draws():
    said = some_mixture()
    drawn = torch.Generator().manual_seed(1)
    component = torch.multinomial(said.weights, 200_000, replacement=True, generator=drawn)  # (5, S)
    at = component[..., None].expand(-1, -1, 2)
    draws = said.means.gather(1, at) + said.stds.gather(1, at) * torch.randn(
        at.shape, generator=drawn, dtype=torch.float64
    )
    torch.testing.assert_close(draws.mean(1), said.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(draws.var(1), said.variance, rtol=0.02, atol=0.02)
    below = (draws <= said.mean[:, None]).double().mean(1)
    torch.testing.assert_close(below, said.cdf(said.mean), atol=0.005, rtol=0)


def test_density_is_torchs_own():
    said, values = some_mixture(2), torch.randn(5, 2, dtype=torch.float64)
    for k in range(2):
        each = torch.distributions.Normal(said.means[..., k], said.stds[..., k])
        theirs = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(said.weights), each)
        torch.testing.assert_close(said.log_density(values)[:, k], theirs.log_prob(values[:, k]))


def test_an_ensemble_is_the_mixture_of_its_heads_and_stretching_leaves_the_middle():
    torch.manual_seed(0)
    quantities = Quantities(CONFIG, 6, (2, 3)).eval()
    quantities.mean.copy_(torch.tensor([10.0, -2.0]))
    quantities.std.copy_(torch.tensor([4.0, 0.5]))
    latents = torch.randn(7, 4, 6, 6)
    with torch.no_grad():
        said = quantities(latents)
        ahead = torch.arange(4).repeat(7)
        alone = [head(latents.flatten(0, 1), ahead) for head in quantities.heads]
        means = torch.stack([one.mean * quantities.std + quantities.mean for one in alone]).unflatten(1, (7, 4))
        variances = torch.stack([one.variance * quantities.std**2 for one in alone]).unflatten(1, (7, 4))
        torch.testing.assert_close(said.weights.sum(-1), torch.ones(7, 4))
        torch.testing.assert_close(said.mean, means.mean(0))
        # what is open, and what was not learned (Lakshminarayanan et al.): mean of variances + variance of means
        torch.testing.assert_close(said.variance, variances.mean(0) + means.var(0, correction=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(quantities.apart(said), means.std(0, correction=0), rtol=1e-3, atol=1e-4)
        quantities.stretch.copy_(torch.tensor([[1.0, 2.0], [3.0, 0.5], [1.0, 1.0], [0.1, 4.0]]))
        wider = quantities(latents)
    torch.testing.assert_close(wider.mean, said.mean)
    torch.testing.assert_close(wider.variance, said.variance * quantities.stretch**2, rtol=1e-4, atol=1e-5)


def test_a_head_reads_alike_all_over_the_grid_and_knows_where_it_looked():
    torch.manual_seed(0)
    head = QuantityHead(CONFIG, 6, (11, 12))
    assert head.centres[[0, 11, -1]].tolist() == [[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]  # row, column
    head.speak = torch.nn.Sequential(torch.nn.Linear(head.straight.in_features, head.straight.out_features))
    for part in (head.speak[0], head.straight):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    head.straight.weight.data[1:3, 4 * 8 : 4 * 8 + 2] = torch.eye(2)  # the first look's place is what is said
    head.where.weight.data *= 1e3  # and it is looked at one token
    thing, ahead = torch.randn(3, 3, 6), torch.zeros(1, dtype=torch.long)

    def read(row: int, column: int) -> torch.Tensor:
        latents = torch.zeros(1, 11, 12, 6)
        latents[0, row - 1 : row + 2, column - 1 : column + 2] = thing
        return head(latents.flatten(1, 2), ahead).means[0, 0]

    with torch.no_grad():
        moved = read(6, 7) - read(4, 4)
    torch.testing.assert_close(moved, torch.tensor([2 * 2 / 10, 3 * 2 / 11]), atol=1e-3, rtol=0)


def test_what_cannot_be_foretold_is_refused():
    quantities = Quantities(CONFIG, 6, (2, 3))
    with pytest.raises(ShapeError, match="H from 1 to 4"):
        quantities(torch.zeros(1, 5, 6, 6))
    with pytest.raises(ConfigError, match="different names"):
        QuantitiesConfig(names=("x", "x"))
    with pytest.raises(ConfigError, match="'heads': 1"):
        QuantitiesConfig(names=("x",), heads=1)


def test_a_probability_is_never_above_1_by_rounding():
    drawn = torch.Generator().manual_seed(0)
    weights = torch.rand(5000, 10, generator=drawn).softmax(-1)
    assert (weights.sum(-1) > 1).any()  # by a rounding
    said = Mixture(weights, torch.zeros(5000, 10, 1), torch.ones(5000, 10, 1))
    assert float(said.cdf(torch.full((5000, 1), 1e6)).max()) <= 1
