"""How wrong something looks: the frame that came, against the last one carried on as foretold.

What moves keeps its shape and its colours. That it is a little elsewhere is excused here: latents judge where things are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from foretell.model.encoders import TOKEN_PIXELS

WINDOW = 17
"""Edge in pixels of the bell-shaped windows in which two pictures are compared; their middles are half a token apart."""
GAP = TOKEN_PIXELS // 2
SLIGHT = 0.002
"""Squared gradient of a picture too smooth to tell where it is."""

FLOOR, LEAST = 0.3, 1e-4
"""Contrast that is added to each window's own, as a share of a normal frame's most; and the least that anything is divided by."""
NORMAL = 0.99
"""Of normal frames, these look less wrong than 1: looks seldom err, but then by much."""


def look_errors(happened: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W), which came and which were foretold -> error and contrast, (N, 2 rows, 2 columns) each.

    Error is the squared difference in a window that no small displacement of what was foretold explains: least squares on
    its gradient (Lucas and Kanade, IJCAI 1981), all colours together. Contrast is the variance of what was foretold there.
    """
    wrong, (right, down) = happened - said, _gradient(said)
    products = (right * right, right * down, down * down, right * wrong, down * wrong, wrong * wrong, said * said)
    colours = said.shape[1]
    seen = _windows(
        torch.cat([torch.stack(products, 1).mean(2), said], 1)
    )  # all at once: many small sums cost their calls
    a, b, c, p, q, whole, bright = seen[:, :-colours].unbind(1)
    a, c = a + SLIGHT, c + SLIGHT
    explained = (c * p * p - 2 * b * p * q + a * q * q) / (a * c - b * b)
    contrast = bright - seen[:, -colours:].pow(2).mean(1)
    return (whole - explained).clamp_min(0), contrast.clamp_min(0)


def look_heat(error: Tensor, contrast: Tensor, floor: Tensor) -> Tensor:
    """How wrong each token looks, at its worst window: (N, rows, columns). A share of contrast, which excuses more the more there is."""
    return max_pool2d(error / (contrast + floor), 2)


def fit_looks(normal: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Error and contrast of normal stretches -> (2,) the floor under contrast, and how wrong a frame looks that 1 in 100 exceed."""
    error, contrast = (torch.cat(part) for part in zip(*normal, strict=True))
    floor = (FLOOR * contrast.amax((1, 2)).median()).clamp_min(LEAST)
    worst = look_heat(error, contrast, floor).amax((1, 2))
    return torch.stack([floor, worst.quantile(NORMAL).clamp_min(LEAST)])


def _gradient(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Change for each pixel to the right, and down."""
    edged = pad(pictures, (1, 1, 1, 1), mode="replicate")
    return (edged[..., 1:-1, 2:] - edged[..., 1:-1, :-2]) / 2, (edged[..., 2:, 1:-1] - edged[..., :-2, 1:-1]) / 2


def _windows(maps: Tensor) -> Tensor:
    """Mean over every window, the nearer its middle the more: (N, K, H, W) -> (N, K, 2 rows, 2 columns).

    Beyond the frame's edge there is nothing.
    """
    down, right = (_bells(edge, maps) for edge in maps.shape[2:])
    return down @ maps @ right.mT


def _bells(edge: int, like: Tensor) -> Tensor:
    """What each pixel along an edge counts in each window, (edge / GAP, edge): all windows are one product of matrices."""
    middles = GAP * torch.arange(edge // GAP, device=like.device)[:, None] + (GAP - 1) // 2
    away = (torch.arange(edge, device=like.device) - middles).abs()
    bell = torch.exp(-0.5 * (away / (WINDOW / 4)) ** 2).masked_fill(away > WINDOW // 2, 0.0)
    whole = torch.exp(-0.5 * ((torch.arange(WINDOW, device=like.device) - WINDOW // 2) / (WINDOW / 4)) ** 2).sum()
    return (bell / whole).to(like.dtype)
