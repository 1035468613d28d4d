"""Planners find optima that are known in closed form, stay within limits, and never choose what they should not."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from foretell.errors import ConfigError, PlanError, ShapeError
from foretell.plan import refine
from foretell.plan.candidates import Judged, order
from foretell.plan.planners import (
    CategoricalConfig,
    CEMConfig,
    GradientConfig,
    ICEMConfig,
    MPPIConfig,
    make_plan,
    shifted,
)
from tests.plan.toys import STEP, Chain, Disc, PointMass

B, T, A = 3, 5, 2
continuous = [CEMConfig(), ICEMConfig(), MPPIConfig(), GradientConfig()]
every = [*continuous, CategoricalConfig()]
named = pytest.mark.parametrize("config", continuous, ids=lambda config: type(config).__name__)
all_named = pytest.mark.parametrize("config", every, ids=lambda config: type(config).__name__)
LOW, HIGH = torch.tensor([-3.0, -3.5]), torch.tensor([3.0, 3.2])


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mass(horizon: int = T) -> PointMass:
    starts = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[1.0, -0.5], [-1.0, 0.3]], [[0.5, 1.0], [0.2, 0.0]]])
    return PointMass(starts, torch.tensor([[1.0, -0.5], [-0.5, 0.5], [1.0, 1.0]]), horizon)


def limits_of(config) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(config, CategoricalConfig):
        return torch.zeros(3), torch.ones(3)
    return LOW, HIGH


def judge_of(config):
    return Chain().judge if isinstance(config, CategoricalConfig) else mass().judge


def planned(config, judge=None, *, batch: int = B, seed: int = 0, **rest):
    low, high = limits_of(config)
    return make_plan(
        config, judge or judge_of(config), low, high, batch=batch, horizon=T, generator=chance(seed), **rest
    )


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (CEMConfig(), 0.06),
        (CEMConfig(samples=300, iterations=30, elites=30), 0.002),
        (ICEMConfig(), 0.1),
        (ICEMConfig(samples=300, iterations=30, elites=30, shrink=1.05), 0.01),
        (MPPIConfig(), 0.04),
        (MPPIConfig(iterations=20, decay=0.85), 0.005),
        (GradientConfig(), 0.002),
        (GradientConfig(iterations=100), 1e-4),
    ],
)
def test_finds_the_optimum_of_a_point_mass(config, left):
    """Mean share of the avoidable cost that is left, of 10 numbers; 128 x 6 candidates, or 16 x 24 down the slope."""
    world = mass()
    best, nothing = (world.judge(plan[:, None]).cost[:, 0] for plan in (world.best(), torch.zeros(B, T, A)))
    assert ((world.best() > LOW) & (world.best() < HIGH)).all()
    shares = []
    for seed in range(5):
        plan = planned(config, seed=seed)
        assert (plan.cost >= best - 1e-5).all()
        assert torch.allclose(plan.cost, world.judge(plan.actions[:, None]).cost[:, 0])
        shares.append((plan.cost - best) / (nothing - best))
    assert torch.stack(shares).mean() < left


@named
def test_an_optimum_beyond_the_limits_is_met_at_the_limit(config):
    def judge(actions):
        cost = (actions - torch.tensor([9.0, -9.0])).pow(2).mean((2, 3))
        return Judged(cost, torch.zeros_like(cost))

    plan = planned(config, judge)
    corner = torch.stack([HIGH[0], LOW[1]]).expand(B, T, A)
    assert (plan.actions - corner).abs().mean() < 0.5
    assert ((plan.actions >= LOW) & (plan.actions <= HIGH)).all()


def test_choices_find_the_best_of_all_sequences():
    sequences = torch.eye(3)[torch.tensor(list(product(range(3), repeat=T)))]
    best = Chain().judge(sequences[None]).cost.min()
    for seed in range(5):
        plan = planned(CategoricalConfig(), seed=seed)
        assert (plan.cost == best).all()
        assert ((plan.actions == 0) | (plan.actions == 1)).all()
        assert (plan.actions.sum(-1) == 1).all()


def test_several_choices_side_by_side():
    def judge(actions):  # the first of two choices should be 2, the second 0
        cost = 2 - actions[..., 2].mean(-1) - actions[..., 3].mean(-1)
        return Judged(cost, torch.zeros_like(cost))

    config = CategoricalConfig(choices=3)
    plan = make_plan(config, judge, torch.zeros(6), torch.ones(6), batch=2, horizon=4, generator=chance())
    assert torch.equal(plan.actions, torch.tensor([0.0, 0, 1, 1, 0, 0]).expand(2, 4, 6))


def test_a_choice_ruled_out_is_never_tried():
    seen = []

    def judge(actions):
        seen.append(actions)
        return Chain().judge(actions)

    high = torch.tensor([1.0, 1.0, 0.0])
    warm = torch.tensor([0.0, 0.0, 1.0]).expand(1, T, 3)
    make_plan(CategoricalConfig(), judge, torch.zeros(3), high, batch=1, horizon=T, generator=chance(), warm=warm)
    assert not torch.cat(seen, 1)[..., 2].any()


@all_named
def test_nothing_outside_the_limits_is_ever_judged(config):
    """Limits that differ by environment and step, and a proposal far outside."""
    low, high = (bound.expand(B, T, -1).clone() for bound in limits_of(config))
    if config not in continuous:
        high[0, 1, 0] = 0
    else:
        low[1, 2], high[1, 2] = 0.1, 0.3  # not exact in binary
        low[2, 0], high[2, 0] = 0.7, 0.7
    seen = []

    def spy(actions):
        seen.append(actions.detach().clone())
        return judge_of(config)(actions)

    for warm in (None, 100 * torch.randn(low.shape, generator=chance())):
        plan = make_plan(config, spy, low, high, batch=B, horizon=T, generator=chance(1), warm=warm)
        tried = torch.cat(seen, 1)
        assert (tried >= low[:, None]).all()
        assert (tried <= high[:, None]).all()
        assert ((plan.actions >= low) & (plan.actions <= high)).all()
        assert plan.evaluated * (1 if warm is None else 2) == tried.shape[1]


@all_named
def test_the_plan_is_the_best_that_was_judged(config):
    seen = []

    def spy(actions):
        seen.append((actions.detach().clone(), judge_of(config)(actions).cost.detach()))
        return judge_of(config)(actions)

    plan = planned(config, spy)
    assert torch.equal(plan.cost, torch.cat([cost for _, cost in seen], 1).amin(1))
    for b in range(B):
        assert any((tried[b] == plan.actions[b]).all((1, 2)).any() for tried, _ in seen)


@named
def test_a_disc_in_the_way_is_passed_by(config):
    def plan_around(radius):
        return make_plan(
            config, Disc(radius).judge, -torch.ones(2), torch.ones(2), batch=2, horizon=6, generator=chance(2)
        )

    plan = plan_around(0.9)
    assert (plan.excess == 0).all()
    assert (plan.cost < 0.5).all()  # 16 if it stays
    hopeless = plan_around(20.0)
    assert (hopeless.excess > 0).all()  # and says so


def test_feasible_first_then_by_excess_then_what_is_not_finite():
    cost = torch.tensor([[5.0, 1.0, -9.0, 2.0, -torch.inf, 0.0, -8.0]])
    excess = torch.tensor([[0.0, 0.0, 3.0, 0.0, 0.0, torch.nan, 1.0]])
    bad = ~(cost.isfinite() & excess.isfinite())
    ranked = order(Judged(cost.masked_fill(bad, torch.inf), excess.masked_fill(bad, torch.inf)))
    assert ranked[0, :5].tolist() == [1, 3, 0, 6, 2]
    assert set(ranked[0, 5:].tolist()) == {4, 5}


@named
def test_a_cheap_plan_that_breaks_a_constraint_loses_to_any_that_does_not(config):
    def judge(actions):  # the less the first number, the cheaper, but below 2 is forbidden
        first = actions[..., 0].mean(-1)
        return Judged(1000 * first, (2 - first).clamp_min(0))

    plan = planned(config, judge)
    assert (plan.excess == 0).all()
    assert (plan.cost < 2400).all()


@all_named
def test_a_proposal_is_judged_first_and_never_made_worse(config):
    if isinstance(config, CategoricalConfig):
        warm = torch.eye(3)[torch.tensor([0, 1, 1, 1, 1])].expand(B, T, 3)
        small = replace(config, samples=8, elites=2, iterations=1)
    else:
        warm = mass().best() + 0.01
        small = replace(config, samples=8, iterations=1, **({"elites": 2} if hasattr(config, "elites") else {}))
    proposed = judge_of(config)(warm[:, None]).cost[:, 0]
    warmed, cold = planned(small, warm=warm), planned(small)
    assert (warmed.cost <= proposed + 1e-6).all()
    assert (warmed.cost <= cold.cost).all()


@named
def test_the_shifted_plan_helps_when_the_next_step_comes(config):
    """Receding horizon: from where the first action led, the shifted plan is a better start than none."""
    world = mass()
    first = planned(config)
    starts = torch.stack(
        [world.free[:, 0], (world.free[:, 1] - world.free[:, 0]) / STEP], -1
    )  # after one step unpushed
    at = starts + torch.stack([torch.zeros(B, 2), STEP * first.actions[:, 0]], -1)
    later = PointMass(at, world.goals, T)
    few = replace(config, iterations=3)
    warmed = [planned(few, later.judge, warm=shifted(first.actions), seed=seed).cost for seed in range(5)]
    cold = [planned(few, later.judge, seed=seed).cost for seed in range(5)]
    assert torch.stack(warmed).mean() <= torch.stack(cold).mean()
    moved = shifted(first.actions, 2)
    assert torch.equal(moved[:, :3], first.actions[:, 2:])
    assert torch.equal(moved[:, 3:], first.actions[:, -1:].expand(-1, 2, -1))
    assert shifted(first.actions, 9).shape == first.actions.shape


@all_named
def test_environments_do_not_meddle_with_each_other(config, monkeypatch):
    """Side by side or each alone, given equal noise, the plans are the same."""
    kept: list[torch.Tensor] = []
    for name in ("normal_noise", "even_noise"):
        drawn = getattr(refine, name)
        monkeypatch.setattr(refine, name, lambda *given, drawn=drawn: kept.append(drawn(*given)) or kept[-1])
    together = planned(config)
    for b in range(B):
        noise = iter(kept)
        for name in ("normal_noise", "even_noise"):
            monkeypatch.setattr(refine, name, lambda *given, b=b, noise=noise: next(noise)[b : b + 1])
        world = mass()
        world.free, world.goals = world.free[b : b + 1], world.goals[b : b + 1]
        alone = planned(config, Chain().judge if config not in continuous else world.judge, batch=1)
        assert torch.allclose(alone.actions[0], together.actions[b], atol=1e-4)


@all_named
def test_chance_comes_from_the_generator_alone(config):
    torch.manual_seed(1)
    first = planned(config)
    torch.manual_seed(2)
    again, other = planned(config), planned(config, seed=1)
    assert torch.equal(first.actions, again.actions)
    if config in continuous:
        assert not torch.equal(first.actions, other.actions)


@all_named
@pytest.mark.parametrize("worst", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_never_chosen(config, worst):
    def judge(actions):  # half of all candidates have no finite cost, and would be the best
        cost, excess = judge_of(config)(actions)
        bad = torch.arange(actions.shape[1]) % 2 == 0
        return Judged(cost.masked_fill(bad, worst), excess)

    def blind(actions):
        cost, excess = judge_of(config)(actions)
        cost = torch.where(torch.arange(len(cost))[:, None] == 1, worst, cost)
        return Judged(cost, excess)

    plan = planned(config, judge)
    assert plan.cost.isfinite().all()
    assert plan.actions.isfinite().all()
    with pytest.raises(PlanError, match=r"environments \[1\] of 3"):
        planned(config, blind)


def test_an_excess_that_is_not_finite_is_not_feasible():
    def judge(actions):
        cost, excess = mass().judge(actions)
        return Judged(cost, excess + torch.nan)

    with pytest.raises(PlanError, match="NaN"):
        planned(CEMConfig(), judge)


def test_the_gradient_planner_asks_for_a_slope():
    with pytest.raises(ConfigError, match="no slope"):
        planned(
            GradientConfig(), lambda actions: Judged(actions.detach().sum((2, 3)), actions.detach().sum((2, 3)) * 0)
        )


def test_a_slope_that_is_not_finite_leaves_the_others_alone():
    def judge(actions):
        cost, excess = mass().judge(actions)
        endless = (cost[:, :4] - cost[:, :4].detach()).sqrt()  # 0, with an infinite slope
        return Judged(torch.cat([cost[:, :4] + endless, cost[:, 4:]], 1), excess)

    plan = planned(GradientConfig(), judge)
    best = mass().judge(mass().best()[:, None]).cost[:, 0]
    assert torch.allclose(plan.cost, best, rtol=0.02)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_spectrum_and_deviation_1(colour):
    noise = refine.coloured(torch.randn(4, 4000, 16, 2, generator=chance()), colour)
    power = torch.fft.rfft(noise, dim=2).abs().pow(2).mean((0, 1, 3))
    slope = (power[8].log() - power[1].log()) / torch.tensor(8.0).log()
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert slope == pytest.approx(-colour, abs=0.05)
    assert refine.coloured(torch.randn(1, 5000, 1, 1), colour).std() == pytest.approx(1, abs=0.05)


def test_rounds_of_icem_shrink_and_its_elites_stay():
    seen = []

    def spy(actions):
        seen.append(actions)
        return mass().judge(actions)

    planned(ICEMConfig(samples=64, elites=10, keep=0.3, iterations=5, shrink=1.5), spy)
    assert [actions.shape[1] for actions in seen] == [64, 42, 28, 20, 20]
    cost = mass().judge(seen[0]).cost
    best = seen[0][torch.arange(B)[:, None], cost.argsort(1)[:, :3]]
    assert torch.equal(seen[1][:, 1:4], best)


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        (CEMConfig, {"samples": 1}, "samples"),
        (CEMConfig, {"elites": 129}, "elites"),
        (CEMConfig, {"spread": float("nan")}, "spread"),
        (CEMConfig, {"floor": 0.9}, "floor"),
        (ICEMConfig, {"shrink": 0.5}, "shrink"),
        (ICEMConfig, {"inertia": 1.0}, "inertia"),
        (ICEMConfig, {"keep": -0.1}, "keep"),
        (MPPIConfig, {"temperature": 0.0}, "temperature"),
        (MPPIConfig, {"decay": 1.5}, "decay"),
        (GradientConfig, {"rate": float("inf")}, "rate"),
        (GradientConfig, {"iterations": 0}, "iterations"),
        (CategoricalConfig, {"choices": 1}, "choices"),
        (CategoricalConfig, {"trust": 2.0}, "trust"),
    ],
)
def test_impossible_settings_are_refused(kind, fields, says):
    with pytest.raises(ConfigError, match=says):
        kind(**fields)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"low": torch.tensor([0.0, 1.0]), "high": torch.zeros(2)}, ConfigError, "lows above"),
        ({"high": torch.tensor([1.0, torch.inf])}, ConfigError, "finite"),
        ({"high": torch.ones(3)}, ShapeError, "as many"),
        ({"low": torch.zeros(4, T, A)}, ShapeError, "broadcasts"),
        ({"batch": 0}, ConfigError, "0 environments"),
        ({"warm": torch.zeros(B, T + 1, A)}, ShapeError, "warm"),
        ({"warm": torch.full((B, T, A), torch.nan)}, PlanError, "not finite"),
        ({"judge": lambda actions: Judged(actions.sum((1, 2, 3)), actions.sum((1, 2, 3)))}, ShapeError, "judge"),
        ({"config": CategoricalConfig()}, ConfigError, "one-hot"),
    ],
)
def test_impossible_tasks_are_refused(change, error, says):
    task = {"config": CEMConfig(), "judge": mass().judge, "low": LOW, "high": HIGH, "batch": B, "horizon": T}
    with pytest.raises(error, match=says):
        make_plan(**(task | change), generator=chance())


@pytest.mark.parametrize("config", [CEMConfig(), ICEMConfig(), MPPIConfig()], ids=lambda config: type(config).__name__)
def test_a_round_that_says_nothing_of_an_environment_changes_no_belief_of_it(config):
    rounds = []

    def judge(actions):  # the first round is lost for one environment; the optimum is 8 everywhere
        rounds.append(1)
        cost = (actions - 8).pow(2).mean((2, 3))
        lost = (torch.arange(len(cost))[:, None] == 1) & (len(rounds) == 1)
        return Judged(cost.masked_fill(lost, torch.nan), torch.zeros_like(cost))

    low, high = torch.tensor([4.0, 5.0]), torch.tensor([9.0, 9.0])
    plan = make_plan(config, judge, low, high, batch=B, horizon=T, generator=chance())
    assert (plan.cost < 0.2).all()  # 2 in the middle of the range, 12 at its lower end
