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
        return (x + self.conv(x)).relu_()


class GatedBlock(nn.Module):
    """x + W(silu(Ux) * Vx) on normed x: (..., C) -> same. Products, so that one number may turn or switch another (arXiv 2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, content = self.up(self.norm(x)).chunk(2, -1)
        change: Tensor = self.down(nn.functional.silu(gate) * content)
        return x + change


class Attention(nn.Module):
    """Multi-head attention of x (N, L, C) over what was seen: keys and values (N, M, 2C) -> (N, L, C).

    Plain softmax(qk)v below 256 tokens on the CPU, where it is faster in bf16 than the fused kernel.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor, bias: Tensor | None) -> Tensor:
        """`bias` (heads, L, M) is added to the scores; None adds nothing."""
        query = rearrange(self.query(x), "n l (h c) -> n h l c", h=self.heads)
        key, value = rearrange(seen, "n m (two h c) -> two n h m c", two=2, h=self.heads)
        bias = None if bias is None else bias.to(query.dtype)
        if x.device.type == "cpu" and seen.shape[1] < 256:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            mixed = (scores if bias is None else scores + bias).softmax(-1) @ value
        else:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        projected: Tensor = self.out(rearrange(mixed, "n h l c -> n l (h c)"))
        return projected


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: Tensor | None = None, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (N, L, C) looks at itself and at keys and values of the past (N, K, 2C).

        Returns the new x and keys and values of past and x together (N, K + L, 2C).
        """
        normed = self.norm_attention(x)
        seen = self.attention.key_value(normed)
        seen = seen if past is None else torch.cat([past.to(seen.dtype), seen], 1)
        x = x + self.dropout(self.attention(normed, seen, bias))
        x = x + self.dropout(self.mlp(self.norm_mlp(x)))
        return x, seen
