"""Trains the upper of two levels on cached latents: macro-actions, what follows them, places, and the ways between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foretell.errors import DataError
from foretell.model.upper import Upper, UpperConfig, new_upper
from foretell.model.world_model import WorldModel
from foretell.train.heads import Cache
from foretell.train.loop import step_generator

BATCH, RATE = 512, 1e-3
PRIOR = 1e-2
"""Weight of the divergence of macro-actions from a standard normal law, beside an error in deviations of latents."""
POOL = 16
"""Frames that are looked at for each place that is kept."""
PORTION = 8192
"""Frames whose places are looked up at once."""


@dataclass(frozen=True, kw_only=True)
class UpperTraining:
    """How long the upper level learns."""

    steps: int = 3000
    """Training steps."""


def fit_upper(model: WorldModel, cache: Cache, config: UpperConfig, training: UpperTraining, seed: int) -> Upper:
    """Train an upper level on a cache; a function of its arguments. The model is left alone.

    Raises DataError if no clip is longer than a stride.
    """
    torch.manual_seed(seed)
    upper = new_upper(config, model)
    upper.mean.copy_(cache.latents.flatten(1).mean(0))
    upper.std.copy_(cache.latents.flatten(1).std(0).clamp_min(1e-6))
    starts = stretch_starts(cache, upper)
    optimizer = torch.optim.AdamW(upper.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=training.steps)
    for step in range(training.steps):
        optimizer.zero_grad()
        foretold, prior = upper_errors(upper, cache, starts, step_generator(seed, step))
        (foretold + PRIOR * prior).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        upper.places.copy_(spread_places(upper, cache, torch.Generator().manual_seed(seed)))
        upper.apart.copy_(shortest_ways(upper, cache))
    return upper.eval()


def check_enough(lengths: Sequence[int], config: UpperConfig, skip: int) -> None:
    """Raise DataError unless clips of these lengths are enough for an upper level: said before hours of training, not after.

    skip: frames of one step of the model.
    """
    span, frames = config.stride * skip, sum(lengths)
    if max(lengths) <= span:
        raise DataError(
            f"upper level: the longest clip has {max(lengths)} frames, expected more than {span}, one of its steps: "
            "record longer ones, or train without --two-levels"
        )
    if frames < config.places:
        raise DataError(
            f"upper level: {frames} frames to train on for {config.places} places: record more, or train without --two-levels"
        )


def stretch_starts(cache: Cache, upper: Upper) -> Tensor:
    """Indices of frames that have a whole stride behind them in their clip. Raises DataError if there is none."""
    span = upper.config.stride * upper.actions.skip
    frames = torch.arange(len(cache.ends))
    starts = frames[frames + span < cache.ends]
    if not len(starts):
        raise DataError(f"upper level: no clip is longer than {span} frames, one of its steps: record longer ones")
    return starts


def upper_errors(upper: Upper, cache: Cache, starts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Squared error of latents a stride later, in deviations; and divergence of macro-actions from the prior, a number."""
    at = starts[torch.randint(len(starts), (BATCH,), generator=generator)]
    skip, span = upper.actions.skip, upper.config.stride * upper.actions.skip
    now, later = cache.latents[at], cache.latents[at + span]
    blocks = cache.actions[at[:, None] + torch.arange(span)].view(
        BATCH, upper.config.stride, skip * cache.actions.shape[1]
    )
    mean, log_std = upper.macro_actions(now, later, blocks)
    drawn = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
    missed = (upper.step(now, drawn) - later).flatten(1) / upper.std
    prior = 0.5 * (mean.pow(2) + (2 * log_std).exp() - 2 * log_std - 1)
    return missed.pow(2).mean(), prior.sum(-1).mean()


def spread_places(upper: Upper, cache: Cache, generator: torch.Generator) -> Tensor:
    """Latents (M, P, D) spread over all that was seen: each the farthest from those before it (Gonzalez, TCS 38, 1985).

    They are chosen from a pool of frames drawn evenly.
    """
    count = upper.config.places
    pool = cache.latents[torch.randperm(len(cache.latents), generator=generator)[: POOL * count]]
    if len(pool) < count:
        raise DataError(f"upper level: {len(pool)} frames for {count} places: record more, or keep fewer places")
    flat = (pool.flatten(1) - upper.mean) / upper.std
    chosen, least = [0], torch.full((len(flat),), torch.inf)
    while len(chosen) < count:
        least = torch.minimum(least, (flat - flat[chosen[-1]]).pow(2).sum(-1))
        chosen.append(int(least.argmax()))
    return pool[chosen]


def shortest_ways(upper: Upper, cache: Cache) -> Tensor:
    """Steps of the model between places (M, M), over what was really done.

    One place leads to another if a clip went from there to here within a stride; such steps are chained (Floyd, CACM 5, 1962).
    Where no way leads it is twice as far as the longest way, and a step more.
    """
    count, skip = upper.config.places, upper.actions.skip
    at = torch.cat([upper.nearest(part)[0] for part in cache.latents.split(PORTION)])
    apart = torch.full((count, count), torch.inf)
    frames = torch.arange(len(cache.ends))
    for steps in range(upper.config.stride, 0, -1):  # the fewest last, so that they stay
        begun = frames[frames + steps * skip < cache.ends]
        apart[at[begun], at[begun + steps * skip]] = float(steps)
    apart.fill_diagonal_(0)
    for through in range(count):
        apart = torch.minimum(apart, apart[:, through, None] + apart[None, through])
    known = apart.isfinite()
    return apart.masked_fill(~known, 2 * float(apart[known].max()) + 1)
