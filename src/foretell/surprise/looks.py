"""How wrong something looks: the frame that came, against the last one carried on as foretold.

What moves keeps its shape and its colours. That it is a little elsewhere is excused here: latents judge where things are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

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
    a, b, c = _window(right * right) + SLIGHT, _window(right * down), _window(down * down) + SLIGHT
    p, q = _window(right * wrong), _window(down * wrong)
    explained = (c * p * p - 2 * b * p * q + a * q * q) / (a * c - b * b)
    contrast = _window(said * said) - torch.stack([_window(said[:, [k]]).pow(2) for k in range(said.shape[1])]).mean(0)
    return (_window(wrong * wrong) - explained).clamp_min(0), contrast.clamp_min(0)


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


def _window(pictures: Tensor) -> Tensor:
    """Mean over colours and over every window, the nearer its middle the more: (N, C, H, W) -> (N, 2 rows, 2 columns).

    Beyond the frame's edge there is nothing.
    """
    bell = torch.exp(-0.5 * ((torch.arange(WINDOW, device=pictures.device) - WINDOW // 2) / (WINDOW / 4)) ** 2)
    bell = bell / bell.sum()
    first, after = WINDOW // 2 - (GAP - 1) // 2, WINDOW // 2
    grey = pad(pictures.mean(1, keepdim=True), (first, after, first, after))
    rows = conv2d(grey, bell.view(1, 1, -1, 1), stride=(GAP, 1))
    return conv2d(rows, bell.view(1, 1, 1, -1), stride=(1, GAP))[:, 0]
