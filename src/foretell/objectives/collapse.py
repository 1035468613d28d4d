"""Is the model learning, or has it found a way out? Monitors on held-out clips, and alarms in plain words.

Loss and per-dimension deviation look perfect in runs that are worthless; error over copy, rank and the deviation inside
clips do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import drawn_tokens, pixel_motion
from foretell.objectives.regularizers import SIGREG_FLOOR, sigreg, unit_directions

HORIZONS = (1, 4, 8)
TOKENS = 1024
STARTS = 6


class Alarm(NamedTuple):
    """Something is wrong: its name, what was measured and what it means, and what to try."""

    name: str
    meaning: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.meaning}. Try: {self.remedy}."


@torch.no_grad()
def monitors(
    model: WorldModel,
    frames: Tensor,
    decode: Callable[[Tensor], Tensor] | None = None,
    actions: Tensor | None = None,
) -> dict[str, float]:
    """Numbers to watch, for held-out frames uint8 (B, T, 3, H, W) with T of 4 or more. Pure: no state, fixed draws.

    error_over_copy_h, error_over_linear_h: squared error h steps ahead over that of repeating the last latent, and of
    going on in a straight line; of latents, or, where the model was taught to foretell pixels, of the frames that `decode`
    makes from them. order: change in 1 step over change in many; near 1, time has no order. motion: mean
    change of a pixel from step to step, in grey levels. std_*: deviation over all frames and tokens, of the least, middle
    and largest dimension. std_within: the same inside clips, where the picture moves. Of tokens drawn as the regulariser
    draws them: rank, rank_of_variance: effective rank, of D, by singular values and by their squares;
    sigreg_over_gaussian: the statistic over its value for true Gaussians. Of a model that acts, told `actions` (B, T, A'):
    action_shuffle_ratio: error one step ahead if it is told what was done in another clip, over that of the true actions.
    """
    generator = torch.Generator().manual_seed(0)
    latents = torch.cat([model.encode(clip[None]) for clip in frames]).float()
    truth = latents if decode is None else frames.float() / 255
    values = _errors(model, latents, truth, decode or Tensor.float, actions)

    motion = pixel_motion(frames, model.grid)
    moving, spread = drawn_tokens(latents, motion, TOKENS, generator)
    deviation, directions = latents.flatten(0, -2).std(0), unit_directions(512, spread.shape[1], generator)
    values |= {
        "rank": effective_rank(spread),
        "rank_of_variance": effective_rank(spread, power=2),
        "std_min": deviation.min().item(),
        "std_median": deviation.median().item(),
        "std_max": deviation.max().item(),
        "std_within": moving.std(1).mean(0).median().item(),
        "sigreg_over_gaussian": sigreg(spread, directions).item() * len(spread) / SIGREG_FLOOR,
        "motion": motion.mean().item(),
    }
    return values


def _errors(
    model: WorldModel,
    latents: Tensor,
    truth: Tensor,
    read: Callable[[Tensor], Tensor],
    actions: Tensor | None,
) -> dict[str, float]:
    steps = latents.shape[1]
    horizons = [h for h in HORIZONS if h <= steps // 2]
    starts = torch.linspace(max(1, steps // 4), steps - 1 - horizons[-1], STARTS).long().unique().tolist()
    foretold = model.predict(latents, actions)
    said = model.rollouts(foretold, starts, horizons[-1], actions)
    now = truth[:, starts]
    speed = now - truth[:, [s - 1 for s in starts]]
    values, change = {}, {}
    for h in horizons:
        happened = truth[:, [s + h for s in starts]]
        error = (read(said[:, :, h - 1]) - happened).pow(2).mean().item()
        change[h] = (now - happened).pow(2).mean().item()
        straight = (now + h * speed - happened).pow(2).mean().item()
        values[f"error_over_copy_{h}"] = error / max(change[h], 1e-12)
        values[f"error_over_linear_{h}"] = error / max(straight, 1e-12)
    values["order"] = change[1] / max(change[horizons[-1]], 1e-12)
    if actions is not None:
        shuffled = read(model.predict(latents, actions.roll(1, 0)).next[:, :-1]) - truth[:, 1:]
        error = (read(foretold.next[:, :-1]) - truth[:, 1:]).pow(2).mean().item()
        values["action_shuffle_ratio"] = shuffled.pow(2).mean().item() / max(error, 1e-12)
    return values


def effective_rank(latents: Tensor, power: int = 1) -> float:
    """exp(entropy of the normalised singular values) of centred latents (N, D): 1 up to D (Roy and Vetterli 2007).

    With power 2 of their squares, that is of the variance in each direction: it counts those that matter.
    """
    values = torch.linalg.svdvals((latents - latents.mean(0)).float()) ** power
    share = values / values.sum().clamp_min(1e-12)
    return math.exp(torch.special.entr(share).sum().item())


OF_LEARNED_LATENTS = ("collapse", "uneven", "rank falls", "scale", "frozen clips")
"""Alarms about an encoder that learns; latents that nobody learned cannot collapse."""


def alarms(values: dict[str, float], latent_width: int, best_rank: float) -> list[Alarm]:
    """What the monitors say is wrong, worst first; empty for a healthy run. `best_rank` is the best rank so far.

    docs/how-it-works.md has the measurements behind each threshold.
    """
    longest = max(h for h in HORIZONS if f"error_over_copy_{h}" in values)
    copy, linear = values[f"error_over_copy_{min(4, longest)}"], values[f"error_over_linear_{min(4, longest)}"]
    shuffled = values.get("action_shuffle_ratio", math.inf)
    checks: list[tuple[bool, str, str, str]] = [
        (
            not all(math.isfinite(v) for v in values.values()),
            "not finite",
            "a monitor is not a number",
            "a smaller --peak, or --precision fp32",
        ),
        (
            values["motion"] < 0.05,
            "static",
            f"pixels change by {values['motion']:.2f} grey levels a step: nothing moves in these clips",
            "footage in which something happens, or a lower --fps",
        ),
        (
            longest > 1 and values["order"] > 0.8,
            "no order",
            f"one step changes latents {values['order']:.2f} times as much as {longest} do: order tells nothing",
            "check that frames are in order, or a higher --fps",
        ),
        (
            copy > 0.8,
            "slow features",
            f"error is {copy:.2f} of repeating the last latent: it foretells no more than a copy",
            "more training, a larger --within, or a smaller --peak",
        ),
        (
            shuffled < 1.1,
            "deaf to actions",
            f"told other actions it errs {shuffled:.2f} times as much: what is done tells it nothing",
            "check that actions belong to their frames, or a policy that tries more",
        ),
        (
            linear > 1.0,
            "no dynamics",
            f"error is {linear:.2f} of going on in a straight line: motion was not learned",
            "more training, or a larger --rollout",
        ),
        (
            values["rank"] < 0.25 * latent_width,
            "collapse",
            f"latents use {values['rank']:.1f} of {latent_width} dimensions",
            "a larger --isotropy",
        ),
        (
            values["rank_of_variance"] < min(7, 0.4 * latent_width),
            "uneven",
            f"what differs between latents lies in {values['rank_of_variance']:.1f} of {latent_width} directions: "
            "the rest is nearly unused",
            "a larger --isotropy, or a larger --batch",
        ),
        (
            values["rank"] < 0.8 * best_rank,
            "rank falls",
            f"effective rank {values['rank']:.1f} fell from {best_rank:.1f}",
            "a smaller --peak, or a larger --isotropy",
        ),
        (
            not (values["std_min"] >= 0.8 and values["std_max"] <= 1.5),
            "scale",
            f"over all frames latents deviate by {values['std_min']:.2f} in the least dimension and "
            f"{values['std_max']:.2f} in the largest, expected about 1",
            "keep the encoder's norm; development clips that are like those trained on",
        ),
        (
            values["std_within"] < 0.1,
            "frozen clips",
            f"inside a clip latents deviate by {values['std_within']:.2f} where the picture moves: "
            "they say which clip it is and nothing else",
            "a larger --within",
        ),
    ]
    return [Alarm(name, meaning, remedy) for wrong, name, meaning, remedy in checks if wrong]
