"""Carry a picture on as foretold: what moves keeps its looks. Frames and drift in, the next frames out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate


def carried(pictures: Tensor, drift: Tensor, mode: str = "bilinear") -> Tensor:
    """Pictures (N, C, H, W) moved by `drift` (N, 2, rows, columns), pixels to the right and down -> (N, C, H, W).

    Drift is smooth between the middles of tokens. Each pixel is fetched from where it comes from, as in spatial
    transformers (arXiv 1506.02025); beyond the frame's edge the edge goes on.
    """
    height, width = pictures.shape[-2:]
    flow = interpolate(drift.float(), (height, width), mode="bilinear", align_corners=False)
    y = torch.arange(height, device=flow.device)[:, None] + 0.5 - flow[:, 1]
    x = torch.arange(width, device=flow.device) + 0.5 - flow[:, 0]
    places = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    return grid_sample(pictures.float(), places, mode=mode, padding_mode="border", align_corners=False)
