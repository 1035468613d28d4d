"""Hard limits hold to the bit, and rates from anywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError
from foretell.plan.constraints import rate_excess, within_rate
from foretell.plan.guardrails import ActionLimits, Fallback
from foretell.plan.limits import HardLimits
from tests.plan.rails import guardrails

SPACE = ActionSpace(low=(-2.0, -1.5), high=(2.0, 1.0))


def test_limits_are_kept_to_the_bit_although_actions_are_float32():
    tenth = guardrails(limits=ActionLimits(low=(-0.1, -0.7), high=(0.1, 0.3), rate=(9.0, 9.0)))
    limits, nothing = HardLimits(tenth, SPACE), np.zeros(2, np.float32)
    assert float(limits.high[0]) < 0.1 < float(np.float32(0.1))
    assert limits.against(np.stack([limits.low, limits.high]), nothing) == []
    for bound, out in ((limits.high, np.inf), (limits.low, -np.inf)):
        beyond = np.nextafter(bound, np.float32(out))
        for number in range(2):
            action = nothing.copy()
            action[number] = beyond[number]
            assert [reason.kind for reason in limits.against(action[None], nothing)] == ["action limit"]


def test_the_fallback_comes_as_fast_as_rates_allow_and_no_faster():
    limits = HardLimits(guardrails(), SPACE)
    last = np.array([1.3, -0.9], np.float32)
    ramp = limits.fallback(last, 5)
    np.testing.assert_allclose(ramp[:, 0], [0.8, 0.3, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(ramp[:, 1], 0)
    assert limits.against(ramp, last) == []


@pytest.mark.parametrize("seed", range(20))
def test_from_anywhere_the_fallback_keeps_limits_and_rates(seed):
    random = np.random.default_rng(seed)
    low, high = -(10.0 ** random.uniform(-4, 4, 2)), 10.0 ** random.uniform(-4, 4, 2)
    rate = 10.0 ** random.uniform(-5, 4, 2)
    value = tuple(random.uniform(low, high).tolist())
    rails = guardrails(
        limits=ActionLimits(low=tuple(low.tolist()), high=tuple(high.tolist()), rate=tuple(rate.tolist())),
        fallback=Fallback(kind="action", value=value),
    )
    limits = HardLimits(rails, ActionSpace(low=tuple(low.tolist()), high=tuple(high.tolist())))
    for _ in range(50):
        last = random.uniform(limits.low, limits.high).astype(np.float32).clip(limits.low, limits.high)
        assert limits.against(limits.fallback(last, 7), last) == []


@pytest.mark.parametrize("seed", range(20))
def test_candidates_that_follow_rates_have_no_excess_and_pass_the_hard_limits(seed):
    random = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.empty(2).uniform_(-3, 3, generator=random)
    rate = tuple((0.3 * scale.double()).tolist()) if seed % 4 else (math.inf, float(scale[1]))
    rails = guardrails(
        limits=ActionLimits(low=tuple((-scale).tolist()), high=tuple(scale.tolist()), rate=rate),
    )
    limits = HardLimits(rails, ActionSpace(low=tuple((-scale).tolist()), high=tuple(scale.tolist())))
    blocks = (torch.rand(3, 5, 4, 6, generator=random) * 2 - 1) * scale.repeat(3)  # (B, S, T, skip * A)
    last = ((torch.rand(3, 2, generator=random) * 2 - 1) * scale).clamp(-scale, scale)
    rates = torch.from_numpy(limits.rate)
    assert (rate_excess(blocks, last, rates) > 0).any()
    slow = within_rate(blocks, last[:, None], rates, torch.from_numpy(limits.low), torch.from_numpy(limits.high))
    assert slow.shape == blocks.shape
    assert (rate_excess(slow, last, rates) == 0).all()
    for b in range(3):
        for s in range(5):
            assert limits.against(slow[b, s].reshape(12, 2).numpy(), last[b].numpy()) == []
    again = within_rate(slow, last[:, None], rates, torch.from_numpy(limits.low), torch.from_numpy(limits.high))
    torch.testing.assert_close(again, slow, rtol=0, atol=0)


def test_gradients_pass_through_following():
    blocks = torch.full((1, 2, 1, 4), 0.1, requires_grad=True)
    bounds = torch.ones(2)
    within_rate(blocks, torch.zeros(1, 1, 2), torch.full((2,), 0.5).double(), -bounds, bounds).sum().backward()
    torch.testing.assert_close(blocks.grad, torch.ones_like(blocks))


def test_guardrails_of_another_world_are_refused():
    with pytest.raises(ConfigError, match="limits of 2 numbers, the world's actions have 1"):
        HardLimits(guardrails(), ActionSpace(low=(-2.0,), high=(2.0,)))
    with pytest.raises(ConfigError, match="the world allows no more than"):
        HardLimits(guardrails(), ActionSpace(low=(-1.0, -1.0), high=(1.0, 1.0)))


def test_choices_are_one_of_them():
    space = ActionSpace(low=(0.0,) * 3, high=(1.0,) * 3, discrete=True)
    limits = ActionLimits(low=(0.0,) * 3, high=(1.0,) * 3, rate=(math.inf,) * 3)
    with pytest.raises(ConfigError, match="actions are choices"):
        HardLimits(guardrails(limits=limits), space)
    rails = guardrails(limits=limits, fallback=Fallback(kind="stop", value=(0, 1, 0)))
    hard, last = HardLimits(rails, space), np.float32([1, 0, 0])
    assert hard.against(np.eye(3, dtype=np.float32), last) == []
    np.testing.assert_array_equal(hard.fallback(last, 1), [[0, 1, 0]])
    for wrong in ([0, 0, 0], [1, 1, 0], [0.5, 0.5, 0]):
        assert hard.against(np.float32([wrong]), last)[0].kind == "action limit"
