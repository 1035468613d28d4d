"""An encoder without weights: where each thing of a colour of its own is, and how it lies, by its moments.

For scenes of a few things in flat colours on a flat ground, seen whole. Each pixel is a mixture of the ground and of the
things' pure colours; from the shares that a thing has of all pixels come its place and, by its second and third moments, which
way it is turned and what is not symmetric about it (Hu, IRE Trans. Information Theory 8, 1962). Ground, colours and scales are
found in the recording, without labels. What is learned is how all of this goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from foretell.errors import ConfigError, DataError

NUMBERS = 8
"""Of each thing: its place (2), then how it lies, as numbers that turn with it once, twice and three times as fast (2 each)."""
FAINT = 0.1
"""Shares below this are taken for rounding; an edge loses as much on every side."""
COMMON = 0.005
"""Of the pixels that are not ground a colour makes up at least so many, or it is not a thing's: it lies on an edge."""
DISTINCT = 24.0
"""Grey levels between a colour and all mixtures of those already found."""
UNEXPLAINED = 0.05
"""Most of the pixels that are not ground may be no mixture of what was found."""
ROUND = 0.05
"""Least size of a turning number, as a share of what a thing of that extent could have: below it the thing looks round."""


@dataclass(frozen=True, kw_only=True)
class MomentsConfig:
    """One token a frame: eight numbers of each thing."""

    things: int = 2
    """Things to tell apart, by their colours; 1 to 3, since a pixel has three numbers."""

    def __post_init__(self) -> None:
        if not 1 <= self.things <= 3:
            raise ConfigError(f"moments things: got {self.things}, expected 1, 2 or 3 colours beside the ground")

    @property
    def latent_width(self) -> int:
        """D, width of the one token."""
        return NUMBERS * self.things


class MomentsEncoder(nn.Module):
    """frames (B, T, 3, H, W) in [-2, 2] -> latents (B, T, 1, 8 * things). Says nothing of use before `look_at`."""

    ground: Tensor
    unmix: Tensor
    mean: Tensor
    scale: Tensor
    powers: Tensor

    def __init__(self, config: MomentsConfig, height: int, width: int) -> None:
        super().__init__()
        y, x = (torch.arange(n) - (n - 1) / 2 for n in (height, width))
        y, x = (at.flatten() for at in torch.meshgrid(y, x, indexing="ij"))
        powers = (x**0, x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3)
        self.register_buffer("powers", torch.stack(powers, 1), persistent=False)  # (H * W, 10), pixels from the middle
        self.register_buffer("ground", torch.zeros(3))
        self.register_buffer("unmix", torch.zeros(config.things, 3))  # from a colour beyond the ground to shares
        self.register_buffer("mean", torch.zeros(config.latent_width))
        self.register_buffer("scale", torch.ones(config.latent_width))

    @torch.no_grad()
    def look_at(self, frames: Tensor) -> None:
        """Find ground, colours and scales in frames uint8 (N, 3, H, W) spread over a recording.

        Raises DataError if they do not show things in flat colours on a flat ground.
        """
        ground, colours = flat_colours(frames, len(self.unmix))
        self.ground.copy_((ground - 128) / 64)
        self.unmix.copy_(torch.linalg.pinv(((colours - ground) / 64).T))
        numbers = self.numbers((frames.float() - 128) / 64)
        self.mean.copy_(numbers.mean(0))
        self.scale.copy_(scales(numbers.unflatten(1, (-1, NUMBERS))).flatten())
        # On average over its width a latent is as far from its mean as those of other encoders.
        self.scale.mul_(((numbers - self.mean) * self.scale).pow(2).mean().rsqrt())

    def forward(self, frames: Tensor) -> Tensor:
        numbers = self.numbers(frames.float().flatten(0, 1))
        return rearrange((numbers - self.mean) * self.scale, "(b t) d -> b t 1 d", b=frames.shape[0])

    def numbers(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> (N, 8 * things): of each place, in pixels, and central moments as they turn, pixels ** order."""
        beyond = images.flatten(2) - self.ground[:, None]
        shares = torch.relu(torch.einsum("kc,ncp->nkp", self.unmix, beyond) - FAINT)
        sums = shares @ self.powers
        mass, rest = sums[..., :1].clamp_min(1e-6), sums[..., 1:]
        x, y, xx, xy, yy, xxx, xxy, xyy, yyy = (rest / mass).unbind(-1)
        xxx, yyy = xxx - 3 * x * xx + 2 * x**3, yyy - 3 * y * yy + 2 * y**3  # about the thing's own middle
        xxy, xyy = xxy - 2 * x * xy - y * xx + 2 * x * x * y, xyy - 2 * y * xy - x * yy + 2 * x * y * y
        xx, xy, yy = xx - x * x, xy - x * y, yy - y * y
        turning = (xxx + xyy, xxy + yyy, xx - yy, 2 * xy, xxx - 3 * xyy, 3 * xxy - yyy)
        return torch.stack([x, y, *turning], -1).flatten(1)


def scales(numbers: Tensor) -> Tensor:
    """By what to multiply numbers (N, K, 8), so that a difference says how many pixels an outline moved: (K, 8).

    A number that turns n times as fast as its thing is brought to size r / n, with r the radius of the thing if all its turning
    were in that number: then a thing turned by a small angle has moved r times the angle. Where things look round it is 0.
    """
    turning = numbers[..., 2:].unflatten(-1, (3, 2))
    size = turning.pow(2).sum(-1).mean(0).sqrt()  # (K, 3)
    orders, times = torch.tensor([3.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])
    radius = size.pow(1 / orders).amax(-1, keepdim=True)
    told = size > ROUND * radius.pow(orders)
    told &= radius > 1.0  # a pixel: below it there is nothing but rounding
    by = torch.where(told, radius / times / size.clamp_min(1e-9), 0.0)
    return torch.cat([torch.ones(len(by), 2), by.repeat_interleave(2, -1)], -1)


def flat_colours(frames: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ground's colour (3,) and the pure ones of `count` things (count, 3) in frames uint8 (N, 3, H, W), 0 to 255.

    The ground is the commonest colour. Pure are those farthest from all mixtures of what was found (successive projections,
    Araujo et al., Chemometrics 57, 2001). Raises DataError.
    """
    pixels = rearrange(frames, "n c h w -> (n h w) c").long()
    codes, often = (pixels @ torch.tensor([65536, 256, 1])).unique(return_counts=True)
    colours = torch.stack([codes // 65536, codes // 256 % 256, codes % 256], 1).float()
    ground = colours[often.argmax()]
    beyond = colours - ground
    apart = beyond.norm(dim=1) > DISTINCT
    common = apart & (often >= COMMON * often[apart].sum())
    left, chosen = beyond * common[:, None], []
    for number in range(count):
        farthest = left.norm(dim=1).argmax()
        if left[farthest].norm() < DISTINCT:
            raise DataError(
                f"moments: found {number} colours beside the ground {ground.int().tolist()}, expected {count}: are there as "
                "many things, each in a flat colour of its own, and was it recorded with --lossless?"
            )
        chosen.append(beyond[farthest])
        along = left[farthest] / left[farthest].norm()
        left = left - (left @ along)[:, None] * along
    pure = torch.stack(chosen)
    shares = (beyond @ torch.linalg.pinv(pure)).clamp(0, 1)
    wrong = often[apart & ((shares @ pure - beyond).norm(dim=1) > DISTINCT)].sum() / often[apart].sum()
    if wrong > UNEXPLAINED:
        raise DataError(
            f"moments: {wrong:.0%} of what is not ground is no mixture of {count} flat colours, expected at most "
            f"{UNEXPLAINED:.0%}: take another preset, such as act"
        )
    return ground, pure + ground
