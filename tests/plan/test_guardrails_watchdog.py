"""The surprise gate against its promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretell.model.heads import whitened_error
from foretell.plan.watchdog import Watch
from tests.plan.rails import rails


def test_the_gate_closes_in_no_more_normal_episodes_than_promised():
    random, closed, trials = np.random.default_rng(0), 0, 2000
    for _ in range(trials):
        episodes = random.gamma(2.0, size=(40, 6))
        closed += (Watch(rails(), episodes[:-1].max(1)).p_values(torch.from_numpy(episodes[-1])) <= 0.05).any()
    assert closed / trials <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)


def test_whitened_error_is_one_on_average_where_errors_are_usual():
    random = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=random)
    errors = torch.randn(20000, 6, generator=random) @ mix.T
    precision = torch.linalg.inv(mix @ mix.T) / 6
    foreseen = torch.randn(20000, 2, 3, generator=random)
    found = whitened_error(foreseen, foreseen + errors.view(-1, 2, 3), precision)
    assert float(found.mean()) == pytest.approx(1, rel=0.03)
