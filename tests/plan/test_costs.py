"""Costs against numbers worked out by hand; every one hands a slope back to the latents or actions."""

from __future__ import annotations

import pytest
import torch

from foretell.errors import ConfigError, ShapeError
from foretell.plan.costs import Effort, Forbidden, GoalLatent, Reach, Region, Weighted

B, S, T, P, D, A = 2, 3, 4, 5, 6, 7


def read(latents):
    """Two quantities: the mean of all tokens' first number, and twice the second one of the first token."""
    return torch.stack([latents[..., 0].mean(-1), 2 * latents[..., 0, 1]], -1)


def head(here, there):
    assert here.shape == there.shape
    return (here - there).abs().sum((-2, -1))


@pytest.fixture
def future():
    """Token values t + 10 s + 100 b everywhere; actions all 3."""
    grid = torch.arange(T)[None, None] + 10 * torch.arange(S)[None, :, None] + 100 * torch.arange(B)[:, None, None]
    latents = grid[..., None, None].expand(B, S, T, P, D).float().clone().requires_grad_()
    return latents, torch.full((B, S, T, A), 3.0, requires_grad=True)


goal = torch.stack([torch.full((P, D), 1.0), torch.full((P, D), 112.0)])


def test_goal_latent(future):
    # environment 0: goal 1; candidate 0 passes 0 1 2 3, candidate 1 passes 10 .. 13; environment 1: goal 112
    last = GoalLatent(goal)(*future)
    assert last.tolist() == [[4, 144, 484], [81, 1, 121]]
    assert GoalLatent(goal, over="least")(*future).tolist() == [[0, 81, 361], [81, 0, 64]]
    assert GoalLatent(goal, over="sum")(*future)[0, 0] == 1 + 0 + 1 + 4
    half = goal.clone()
    half[:, :, ::2] += 2  # half of all numbers are 2 off: the mean counts
    assert GoalLatent(half, over="least")(goal[:, None, None], future[1]).tolist() == [[2.0], [2.0]]


def test_reach_counts_the_steps_its_head_says(future):
    assert Reach(head, goal)(*future).tolist() == [[60, 360, 660], [270, 30, 330]]
    assert Reach(head, goal, over="least")(*future)[0, 0] == 0


def test_set_point(future):
    # the second quantity is twice the token: at the last step 6, 26, 46 and 206, 226, 246
    assert Region(read, (1,), (26.0,), (26.0,), (10.0,))(*future)[0].tolist() == pytest.approx([4, 0, 4])
    assert Region(read, (0,), (1.0,), (1.0,), over="sum")(*future)[0, 0] == 6


def test_region(future):
    box = Region(read, (0, 1), (0.0, 10.0), (2.0, 40.0), (0.5, 2.0))
    # first candidate ends at (3, 6): 1 / 0.5 above the first, 4 / 2 below the second; the second one at (13, 26)
    assert box(*future)[0].tolist() == pytest.approx([4 + 4, 22**2, 42**2 + 9])
    assert Region(read, (0,), (-torch.inf,), (12.5,), over="least")(*future)[0].tolist() == [0, 0, 7.5**2]


def test_forbidden(future):
    box = Forbidden(read, (0, 1), (0.5, 0.0), (2.5, torch.inf))
    # first candidate: first quantity 0 1 2 3, second 0 2 4 6: depth 0, 0.5, 0.5, 0
    assert box(*future)[0].tolist() == [1.0, 0, 0]
    assert Forbidden(read, (0,), (0.0,), (9.0,), (0.5,), over="last")(*future)[0].tolist() == [6.0, 0, 0]


def test_effort(future):
    assert Effort()(*future).tolist() == [[36.0] * S] * B
    assert Effort(3.0)(*future)[0, 0].item() == 4
    assert Effort((3.0,) * (A - 1) + (1.0,))(*future)[0, 0].item() == pytest.approx(4 * (A - 1 + 9) / A)


def test_weighted(future):
    parts = Weighted(((2.0, GoalLatent(goal)), (0.5, Effort())))
    assert torch.equal(parts(*future), 2 * GoalLatent(goal)(*future) + 0.5 * Effort()(*future))


@pytest.mark.parametrize(
    "cost",
    [
        GoalLatent(goal),
        GoalLatent(goal + 0.25, over="least"),
        Reach(head, goal, over="sum"),
        Region(read, (0,), (50.0,), (50.0,)),
        Region(read, (0, 1), (500.0, 600.0), (700.0, 800.0)),
        Forbidden(read, (0, 1), (-500.0, -600.0), (700.0, 800.0)),
    ],
)
def test_slopes_reach_the_latents_of_every_candidate(cost, future):
    found = cost(*future)
    assert found.shape == (B, S)
    (slope,) = torch.autograd.grad(found.sum(), future[0])
    assert slope.isfinite().all()
    assert (slope != 0).any((2, 3, 4)).all()


def test_slopes_reach_the_actions(future):
    (slope,) = torch.autograd.grad(Effort()(*future).sum(), future[1])
    assert torch.allclose(slope, torch.tensor(2 * 3.0 / A))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: GoalLatent(torch.zeros(P, D)), ShapeError),
        (lambda: Reach(head, torch.zeros(B, D)), ShapeError),
        (lambda: Region(read, (0,), (1.0,), (1.0,), (0.0,)), ConfigError),
        (lambda: Region(read, (0,), (float("nan"),), (float("nan"),)), ConfigError),
        (lambda: Region(read, (0, 1), (0.0,), (1.0,)), ConfigError),
        (lambda: Region(read, (0,), (2.0,), (1.0,)), ConfigError),
        (lambda: Region(read, (), (), ()), ConfigError),
        (lambda: Forbidden(read, (0,), (0.0,), (1.0,), (1.0, 1.0)), ConfigError),
        (lambda: Effort((1.0, -1.0)), ConfigError),
        (lambda: Weighted(()), ConfigError),
        (lambda: Weighted(((float("nan"), Effort()),)), ConfigError),
    ],
)
def test_impossible_costs_are_refused(make, error):
    with pytest.raises(error):
        make()
