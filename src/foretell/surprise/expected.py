"""How wrong a model expects to be, told from its memory: what it knows to be hard to foretell counts less when it errs.

Errors of normal footage are not alike everywhere: a ball that rolls off a ledge out of sight comes out faster and less surely
than one that glides by. One alarm line for both is crossed mostly by the first. Regression of the error's size on what is
known before it (Nix and Weigend 1994; arXiv 1703.04977), on normal clips that train and calibrate nothing else. A mean says
little of how rare and how large the worst is, so a quantile of a whole frame's largest error is told on top of it, from what
is remembered where most is expected (Koenker and Bassett, Econometrica 46, 1978; for conformal alarms Romano et al., arXiv 1905.03222).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.errors import ConfigError
from foretell.model.precision import mixed_precision
from foretell.model.predictors import RecurrentPredictor
from foretell.model.world_model import WorldModel

HIDDEN, STEPS, BATCH, RATE = 48, 2500, 64, 3e-3
FRAME_HIDDEN, FRAME_STEPS, FRAME_BATCH = 64, 1500, 512
"""The same of what whole frames are held against."""
MOST = 400_000_000
"""Numbers of memories that are kept to learn from, 0.8 GB."""
PORTION = 1024
"""Memories that are looked at together, once fitted."""
SMALL, WIDE = 1e-3, 8.0
"""Errors count as this much at least; the logarithm of what is expected stays within this."""
FLOOR = 3.0
"""What is added to every expected error, in units of the usual largest of a frame: where nothing is wrong, little is not much."""
RISKY = 3
"""Tokens of a frame where most is expected: from what is remembered there its largest error is told."""
UNSURE = 0.3
"""Share of what is made of it that is dropped while it learns: frames that matter are few."""
NORMAL = 0.985
"""Of normal frames, these have no error above 1 once it is divided, in every sort of scene that the memory tells apart."""


class Expected(nn.Module):
    """Memories (N, P, hidden) of just before -> what an error at each token is divided by, (N, rows, columns), above 0."""

    floor: Tensor

    def __init__(self, hidden: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.net = nn.Sequential(nn.Conv2d(hidden, HIDDEN, 3, padding=1), nn.SiLU(), nn.Conv2d(HIDDEN, 1, 3, padding=1))
        known = min(RISKY, grid[0] * grid[1]) * hidden + 1
        self.frame = nn.Sequential(
            nn.BatchNorm1d(known, affine=False, momentum=None),
            nn.Linear(known, FRAME_HIDDEN),
            nn.SiLU(),
            nn.Dropout(UNSURE),
            nn.Linear(FRAME_HIDDEN, 1),
        )
        self.register_buffer("floor", torch.tensor(0.0))

    def forward(self, memories: Tensor) -> Tensor:
        logarithm = self.logarithm(memories)
        most = self.most(risky(memories, logarithm)).exp()[:, None, None]
        expected: Tensor = most * (logarithm.exp() + self.floor)
        return expected

    def logarithm(self, memories: Tensor) -> Tensor:
        """Of the expected error itself, without the floor."""
        said: Tensor = self.net(rearrange(memories.float(), "n (y x) c -> n c y x", y=self.grid[0]))
        return said[:, 0].float().clamp(-WIDE, WIDE)

    def most(self, known: Tensor) -> Tensor:
        """Logarithm of a frame's largest error, in units of what its tokens expect, that NORMAL such frames keep to: (N,)."""
        said: Tensor = self.frame(known)
        return said[:, 0].float().clamp(-WIDE, WIDE)


def risky(memories: Tensor, logarithm: Tensor) -> Tensor:
    """Memories (N, P, hidden) of the RISKY tokens of a frame where most is expected, and how much at most: (N, RISKY hidden + 1)."""
    most = logarithm.flatten(1).topk(min(RISKY, memories.shape[1]), 1)
    there = memories.float().gather(1, most.indices[:, :, None].expand(-1, -1, memories.shape[2]))
    return torch.cat([there.flatten(1), most.values[:, :1]], 1)


def expected_of(model: WorldModel) -> Expected:
    """One for this model, not yet fitted. Raises ConfigError if its memory does not lie on a grid of tokens."""
    if not isinstance(model.predictor, RecurrentPredictor):
        raise ConfigError(
            "surprise expect: this model has no memory at every token; take a dense preset or leave it out"
        )
    return Expected(model.predictor.hidden, model.grid)


def load_expected(model: WorldModel, tensors: dict[str, Tensor]) -> Expected:
    """The one that these weights are of. Raises RuntimeError if they do not fit, ConfigError as `expected_of` does."""
    expected = expected_of(model)
    expected.load_state_dict(tensors)
    return expected.eval().requires_grad_(False)


class Examples:
    """Memories and the errors that came; of much footage every second one is let go, again and again."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.every = 1

    def add(self, memories: Tensor, errors: Tensor) -> None:
        """Memories (N, P, hidden) of just before, errors (N, rows, columns)."""
        self.kept.append((memories[:: self.every].bfloat16(), errors[:: self.every].clamp_min(SMALL)))
        if sum(known.numel() for known, _ in self.kept) > MOST:
            known, came = (torch.cat(part) for part in zip(*self.kept, strict=True))
            self.kept, self.every = [(known[::2].clone(), came[::2].clone())], 2 * self.every


def fit_expected(model: WorldModel, examples: Examples) -> Expected:
    """How wrong this model expects to be. Raises ConfigError as `expected_of` does.

    Maximum likelihood of an exponential law, of which the network says the mean: errors are squares, most of them small.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(0)
        expected = expected_of(model)
        known, came = (torch.cat(part).clone() for part in zip(*examples.kept, strict=True))
        _fit(
            expected.net,
            lambda drawn: _of_tokens(expected.logarithm(known[drawn]), came[drawn]),
            len(known),
            STEPS,
            BATCH,
        )
        with torch.no_grad():
            logarithms = [expected.logarithm(part) for part in known.split(PORTION)]
            there = torch.cat([risky(*both) for both in zip(known.split(PORTION), logarithms, strict=True)])
            expects = torch.cat(logarithms).exp()
            expected.floor.copy_(FLOOR * expects.amax((1, 2)).median())
            largest = (came / (expects + expected.floor)).amax((1, 2)).log()
            last = expected.frame[-1]
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.fill_(largest.quantile(NORMAL))
        _fit(
            expected.frame,
            lambda drawn: _of_frames(expected.most(there[drawn]), largest[drawn]),
            len(known),
            FRAME_STEPS,
            FRAME_BATCH,
        )
    return expected.eval().requires_grad_(False)


def _of_tokens(logarithm: Tensor, came: Tensor) -> Tensor:
    """Minus the logarithm of the likelihood under an exponential law of this mean."""
    return (came * torch.exp(-logarithm) + logarithm).mean()


def _of_frames(said: Tensor, came: Tensor) -> Tensor:
    """The loss that the NORMAL quantile has least of."""
    above = came - said
    return torch.maximum(NORMAL * above, (NORMAL - 1) * above).mean()


def _fit(net: nn.Module, loss: Callable[[Tensor], Tensor], count: int, steps: int, batch: int) -> None:
    """Lower `loss` of `batch` examples of `count`, drawn anew at each of the steps."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        with mixed_precision("auto", torch.device("cpu")):
            value = loss(torch.randint(count, (batch,)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
