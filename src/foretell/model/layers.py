"""Small parts that encoders and predictors share."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn


class LatentNorm(nn.Module):
    """BatchNorm without scale and shift over all tokens: the last layer of every encoder.

    latents (B, T, P, D) -> same. It fixes each dimension's scale, so that SIGReg can shape the rest; a LayerNorm here
    would put latents on a sphere and work against it (arXiv 2603.19312).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)

    def forward(self, latents: Tensor) -> Tensor:
        flat: Tensor = self.norm(latents.float().flatten(0, -2))
        return flat.view(latents.shape)


class ConvResidual(nn.Module):
    """relu(x + conv(x)) at one resolution: (N, C, H, W) -> same. No norm: on a CPU it costs as much as the convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x + self.conv(x))


class Attention(nn.Module):
    """Self-attention over the second axis, causal if asked: (N, L, C) -> same.

    Plain softmax(qk)v below 256 tokens on the CPU, where it is faster in bf16 than the fused kernel.
    """

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "n l (three h c) -> three n h l c", three=3, h=self.heads)
        length = x.shape[1]
        if x.device.type == "cpu" and length < 256:
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            if self.causal:
                later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(later, float("-inf"))
            mixed = scores.softmax(-1) @ v
        else:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        projected: Tensor = self.out(rearrange(mixed, "n h l c -> n l (h c)"))
        return projected


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP: (N, L, C) -> same."""

    def __init__(self, width: int, heads: int, *, causal: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x)))
        out: Tensor = x + self.dropout(self.mlp(self.norm_mlp(x)))
        return out
