"""Fits what foretells quantities, on frozen latents: each frame is encoded once, each rollout is made once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.errors import DataError, ShapeError
from foretell.model.quantities import Mixture, Quantities, QuantitiesConfig
from foretell.model.world_model import WorldModel
from foretell.surprise.strange import picture_summary
from foretell.train.loop import step_generator

BATCH, RATE = 256, 3e-3
SHARE = 0.8
"""Of the clips, that each head learns from: other ones for each."""
TEMPER = 0.25
"""Power of its own variance with which the likelihood of a sample is weighed, so that what is hard to say is not given up
(beta-NLL, Seitzer et al., arXiv 2203.09168). With their 0.5 the near steps, of which most can be known, were said less sharply."""
AT_ONCE = 64
"""Windows that are imagined at once."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Windows of clips, what the model saw and imagined of each, and what came."""

    seen: Tensor
    """(N, T, P, D) latents of the context."""
    said: Tensor
    """(N, H, P, D) latents that were imagined after it."""
    next: Tensor
    """(N, T - 1, P, D) what had been foretold of each seen step but the first, one step before it."""
    pictures: Tensor
    """(N, K) what `picture_summary` says of the seen frames."""
    truth: Tensor
    """(N, H, Q) the quantities as they came; NaN where nobody knows them."""
    clip: Tensor
    """(N,) which clip it is a window of."""

    def of(self, clips: Iterable[int]) -> Told:
        """The windows of these clips."""
        kept = torch.isin(self.clip, torch.tensor(sorted(clips)))
        return self.where(kept)

    @property
    def first_of_each(self) -> Told:
        """The first window of every clip."""
        begun = torch.ones(len(self.clip), dtype=torch.bool)
        begun[1:] = self.clip[1:] != self.clip[:-1]
        return self.where(begun)

    @property
    def shell(self) -> np.ndarray:
        """How far the mean length of tokens is from the square root of their width (N,): the usual cheap signal, for comparison."""
        length = self.seen.float().norm(dim=-1).mean((1, 2))
        return (length - self.seen.shape[-1] ** 0.5).abs().double().numpy()

    def where(self, kept: Tensor) -> Told:
        """The windows that are kept, bool (N,)."""
        return Told(**{name: part[kept] for name, part in vars(self).items()})


@torch.inference_mode()
def imagine_windows(
    model: WorldModel, clips: Iterable[tuple[np.ndarray, np.ndarray]], config: QuantitiesConfig, *, every: int | None
) -> Told:
    """Windows of clips, each frames uint8 (T, H, W, 3) and truth (T, Q); one in `every` steps, or one alone at the beginning.

    Latents are kept in half precision. Raises ShapeError if truth is not a row for each frame, DataError if no clip is long enough.
    """
    span = config.context + config.horizon
    parts: list[tuple[Tensor, ...]] = []
    waiting: list[tuple[np.ndarray, np.ndarray, int]] = []

    def look() -> None:
        frames = torch.from_numpy(np.stack([w[0] for w in waiting]))
        latents = model.encode(rearrange(frames, "b t h w c -> b t c h w"))
        foretold = model.predict(latents)
        said = model.rollouts(foretold, [config.context - 1], config.horizon)[:, 0]
        truth = torch.from_numpy(np.stack([w[1] for w in waiting])).float()
        clip = torch.tensor([w[2] for w in waiting])
        parts.append((latents.half(), said.half(), foretold.next[:, :-1].half(), picture_summary(frames), truth, clip))
        waiting.clear()

    for number, (frames, truth) in enumerate(clips):
        if truth.shape != (len(frames), len(config.names)):
            expected = f"({len(frames)}, {len(config.names)})"
            raise ShapeError(
                f"quantities: clip {number} has truth {truth.shape}, expected {expected}, a row for each frame"
            )
        last = len(frames) - span
        for start in range(0, last + 1, every or max(1, last + 1)):
            seen = frames[start : start + config.context]
            waiting.append((np.array(seen), truth[start + config.context : start + span], number))
            if len(waiting) == AT_ONCE:
                look()
    if waiting:
        look()
    if not parts:
        raise DataError(
            f"quantities: no clip has {span} steps, {config.context} to see and {config.horizon} to foretell"
        )
    names = ("seen", "said", "next", "pictures", "truth", "clip")
    return Told(**{name: torch.cat(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)})


def fit_quantities(model: WorldModel, told: Told, config: QuantitiesConfig, *, steps: int, seed: int) -> Quantities:
    """Train the heads; a function of its arguments. The model is left alone. Raises DataError if the truth is not known."""
    known = told.truth.isfinite().all(-1)  # (N, H)
    if not known.any(0).all():
        raise DataError(f"quantities: nobody knows {', '.join(config.names)} at some steps ahead: give other clips")
    torch.manual_seed(seed)
    quantities = Quantities(config, model.config.encoder.latent_width, model.grid)
    values = told.truth[known]
    quantities.mean.copy_(values.mean(0))
    quantities.std.copy_(values.std(0).clamp_min(1e-6))
    clips = told.clip.unique()
    for number, head in enumerate(quantities.heads):
        drawn = step_generator(seed, number)
        mine = clips[torch.randperm(len(clips), generator=drawn)[: max(1, round(SHARE * len(clips)))]]
        rows, ahead = (known & torch.isin(told.clip, mine)[:, None]).nonzero(as_tuple=True)
        _fit_head(head, quantities, told, (rows, ahead), steps, drawn)
    return quantities.eval()


def _fit_head(
    head: torch.nn.Module,
    quantities: Quantities,
    told: Told,
    at: tuple[Tensor, Tensor],
    steps: int,
    drawn: torch.Generator,
) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        some = torch.randint(len(at[0]), (BATCH,), generator=drawn)
        rows, ahead = at[0][some], at[1][some]
        truth = (told.truth[rows, ahead] - quantities.mean) / quantities.std
        said: Mixture = head(told.said[rows, ahead].float(), ahead)
        weight = said.variance.detach() ** TEMPER  # each quantity by itself: else the surest drowns all others
        loss = -(weight * said.log_density(truth)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def stretch_spreads(quantities: Quantities, told: Told) -> None:
    """Make spreads as large as errors are, by one number for each step and quantity, on clips that no head learned from.

    Ensembles tend to be too sure; in a published audit of another world model they were so sevenfold. Raises DataError if the truth is
    not known.
    """
    quantities.stretch.fill_(1.0)
    said = foretell_quantities(quantities, told.said)
    error, variance = (told.truth - said.mean).square(), said.variance
    known = error.isfinite()
    if not known.any(0).all():
        raise DataError(
            "quantities: nobody knows the truth at some steps ahead, so spreads cannot be held against errors"
        )
    ratio = (error / variance).masked_fill(~known, 0).sum(0) / known.sum(0)
    quantities.stretch.copy_(ratio.sqrt())


@torch.no_grad()
def foretell_quantities(quantities: Quantities, said: Tensor) -> Mixture:
    """Imagined latents (N, H, P, D) of any precision -> what is said of all of them, some at a time."""
    parts = [quantities(part.float()) for part in said.split(256)]
    return Mixture(*(torch.cat(part) for part in zip(*parts, strict=True)))


def parted(count: int, shares: Sequence[float], seed: int) -> list[list[int]]:
    """Numbers of clips 0 .. count - 1, dealt out by chance in these shares, whose sum is at most 1."""
    order = np.random.default_rng(seed).permutation(count)
    edges = np.rint(np.cumsum([0.0, *shares]) * count).astype(int)
    return [order[a:b].tolist() for a, b in pairwise(edges)]
