"""Small worlds whose best plans are known: a point mass with quadratic cost, a disc in the way, a chain of rooms."""

from __future__ import annotations

import torch
from torch import Tensor

from foretell.plan.candidates import Judged

STEP, EFFORT = 0.5, 0.05


class PointMass:
    """Two axes, each place and speed; force as action. Cost: squared distance to the goal at each step, and effort."""

    def __init__(self, starts: Tensor, goals: Tensor, horizon: int) -> None:
        """starts (B, 2 axes, 2), goals (B, 2 axes)."""
        self.goals, self.horizon = goals, horizon
        move = torch.tensor([[1, STEP], [0, 1]], dtype=starts.dtype)
        push = torch.tensor([0, STEP], dtype=starts.dtype)
        powers = [torch.linalg.matrix_power(move, k) for k in range(horizon + 1)]
        self.free = torch.stack([starts @ powers[k + 1].T for k in range(horizon)], 1)[
            ..., 0
        ]  # (B, T, 2) without force
        self.answer = torch.zeros(
            horizon, horizon, dtype=starts.dtype
        )  # place at t = free + sum_k answer[t, k] force[k]
        for t in range(horizon):
            for k in range(t + 1):
                self.answer[t, k] = (powers[t - k] @ push)[0]

    def judge(self, actions: Tensor) -> Judged:
        places = self.free[:, None] + torch.einsum("tk,bska->bsta", self.answer, actions)
        cost = (places - self.goals[:, None, None]).pow(2).sum((2, 3)) + EFFORT * actions.pow(2).sum((2, 3))
        return Judged(cost, torch.zeros_like(cost))

    def best(self) -> Tensor:
        """The optimum in closed form (B, T, 2): the cost is a quadratic form of the forces."""
        curvature = self.answer.T @ self.answer + EFFORT * torch.eye(self.horizon, dtype=self.answer.dtype)
        pull = torch.einsum("tk,bta->bka", self.answer, self.goals[:, None] - self.free)
        return torch.linalg.solve(curvature, pull)


class Disc:
    """A point that moves by its action from (-2, 0) and should end at (2, 0); a disc lies in between."""

    def __init__(self, radius: float = 0.9) -> None:
        self.radius = radius

    def judge(self, actions: Tensor) -> Judged:
        places = actions.new_tensor([-2.0, 0.0]) + actions.cumsum(2)
        inside = (self.radius - (places - actions.new_tensor([0.0, 0.1])).norm(dim=-1)).clamp_min(0)
        return Judged((places[:, :, -1] - actions.new_tensor([2.0, 0.0])).pow(2).sum(-1), inside.sum(-1))


class Chain:
    """Rooms in a row, left, stay or right as one-hot action; each step costs what its room costs."""

    prices = (3.0, 1.0, 2.0, 5.0, 4.0, 0.0, 6.0)

    def judge(self, actions: Tensor) -> Judged:
        moves = actions[..., 2] - actions[..., 0]
        at, cost = torch.full(moves.shape[:2], 2.0), torch.zeros(moves.shape[:2])
        for t in range(moves.shape[2]):
            at = (at + moves[..., t]).clamp(0, len(self.prices) - 1)
            cost = cost + torch.tensor(self.prices)[at.long()]
        return Judged(cost, torch.zeros_like(cost))
