"""Schedule and groups of the optimizer."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from foretell.errors import ConfigError
from foretell.train.optim import OptimConfig, build_optimizer, learning_rate


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    config, steps = OptimConfig(peak=2e-3, warmup=10, final=0.1), 110
    rates = [learning_rate(config, step, steps) for step in range(steps)]
    assert rates[:10] == pytest.approx([2e-4 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(2e-3)
    assert rates[60] == pytest.approx((2e-3 + 2e-4) / 2)
    assert rates[35] == pytest.approx(2e-4 + 1.8e-3 * (1 + math.cos(math.pi / 4)) / 2)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert learning_rate(config, steps, steps) == pytest.approx(2e-4)
    assert learning_rate(config, 10 * steps, steps) == pytest.approx(2e-4)


def test_a_run_shorter_than_the_warm_up_only_rises():
    config = OptimConfig(peak=1.0, warmup=8)
    assert [learning_rate(config, step, 4) for step in range(4)] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert learning_rate(OptimConfig(peak=1.0, warmup=0), 0, 4) == 1.0


def test_only_matrices_and_kernels_decay():
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.LayerNorm(5))
    optimizer = build_optimizer(OptimConfig(weight_decay=0.5, peak=0.1), model)
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {
        name for name, parameter in model.named_parameters() if not torch.equal(parameter, torch.ones_like(parameter))
    }
    assert changed == {"0.weight"}
    torch.testing.assert_close(model[0].weight, torch.full_like(model[0].weight, 0.95))


@pytest.mark.parametrize("peak", [0.0, -1.0, math.nan])
def test_an_impossible_peak_is_refused(peak):
    with pytest.raises(ConfigError, match=r"optimizer peak: got .*, expected more than 0"):
        OptimConfig(peak=peak)
