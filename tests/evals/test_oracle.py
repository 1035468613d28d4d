"""The state oracle: what it is told, how it reckons, and that it learns what it is the ceiling of."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from foretell.evals.intuitive_physics import examine, example
from foretell.evals.oracle import SUREST, StateOracle, flags, numbers, train_oracle
from foretell.worlds.physics import Physics

WORLD = Physics(scenario="staged", part="development", frames=24, size=32)


def thrown(steps: int, pull: float) -> torch.Tensor:
    """States (1, T, S) of two objects without looks and one block: the first flies under weight, the second is hidden."""
    states = torch.zeros(1, steps, 2 * 3 + 4)
    time = torch.arange(steps)
    states[0, :, 0] = 1.0
    states[0, :, 1], states[0, :, 2] = 0.1 * time, pull * time**2 / 2
    return states


@pytest.fixture(scope="module")
def oracle() -> StateOracle:
    world = Physics(scenario="staged", frames=24, size=16)
    return train_oracle([world.episode(seed) for seed in range(600)], (1, 4), steps=400)


@pytest.mark.parametrize("kind", ["permanence", "gravity", "inertia"])
def test_the_oracle_learns_from_states(oracle, kind):
    tests = Physics(scenario="staged", part="test", frames=24, size=32)
    verdict = examine({"oracle": oracle}, tests, kind, 12, 3)["oracle"]
    assert verdict.relative.mean() >= 0.9


def test_numbers_are_zero_while_hidden():
    ball, none = example(WORLD, "permanence", 7).possible
    told, hidden = numbers(ball), ball.states["covered"][:, 0]
    assert not told[hidden].any()
    assert told[~hidden, 0].all()
    assert not numbers(none).any()
    shapes = {numbers(example(WORLD, "shape", seed).possible[0])[0].round(3).tobytes() for seed in range(4)}
    assert len(shapes) == 4


def test_a_flag_says_of_each_number_whether_it_is_there():
    assert flags(2 * 3 + 4).tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6, 6]
    told = torch.from_numpy(numbers(example(WORLD, "collision", 3).possible[0]))
    seen = told[:, flags(told.shape[-1])]
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    assert not told[seen == 0].any()


def test_a_throw_departs_from_the_line_as_its_weight_says():
    states, oracle = thrown(9, 0.04), StateOracle(10, (1, 4))
    speeds, turns = oracle.changes(states)
    assert speeds[0, 0].abs().sum() == 0
    torch.testing.assert_close(turns[0, 2:, 2], torch.full((7,), 0.04))
    for h in (1, 4):
        departure = oracle.departure(states, speeds, h)[0, 1:]
        torch.testing.assert_close(departure[:, 1], torch.zeros(8 - h), atol=1e-6, rtol=0)
        torch.testing.assert_close(departure[:, 2], torch.full((8 - h,), 0.04 * h * (h + 1) / 2))


def test_what_comes_out_from_behind_a_screen_has_no_speed_yet():
    states = thrown(6, 0.04)
    states[0, 2:4] = 0.0
    speeds, turns = StateOracle(10, (1,)).changes(states)
    assert speeds[0, [1, 5], 1].tolist() == pytest.approx([0.1, 0.1])
    assert not speeds[0, 2:5].any()
    assert not turns.any()


def test_surprise_is_minus_the_log_likelihood_of_what_is_asked():
    torch.manual_seed(0)
    states, oracle = thrown(6, 0.04), StateOracle(10, (1,))
    with torch.no_grad():
        speeds, turns = oracle.changes(states)
        kept, _ = oracle.memory(torch.cat([states, speeds, turns], -1))
        said, spread = oracle.speak(kept).unflatten(-1, (1, 2, 10))[0, 2, 0]
    deviation = softplus(spread) + SUREST
    normal = torch.distributions.Normal(said, deviation)
    places = -normal.log_prob(oracle.departure(states, speeds, 1)[0, 2]) - np.log(np.sqrt(2 * np.pi)) - np.log(SUREST)
    there = binary_cross_entropy_with_logits(said, states[0, 3], reduction="none")
    by_hand = places[[1, 2]].sum() + there[[0, 3, 6]].sum()  # the second object and the block are not to be seen
    assert oracle.surprise(states)[0, 3].item() == pytest.approx(by_hand.item(), rel=1e-5)
