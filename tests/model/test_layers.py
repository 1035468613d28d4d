"""Norm, attention and block against their definitions."""

from __future__ import annotations

import numpy as np
import torch

from foretell.model.layers import Attention, ConvResidual, GatedBlock, LatentNorm, TransformerBlock


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_latent_norm_is_over_all_tokens_and_keeps_its_statistics():
    norm, latents = LatentNorm(5), 3 * noise(2, 3, 4, 5) + torch.arange(5)
    normed = norm(latents)
    expected = (latents - latents.mean((0, 1, 2))) / latents.var((0, 1, 2), correction=0).add(1e-5).sqrt()
    torch.testing.assert_close(normed, expected)
    for _ in range(200):
        norm(latents)
    after = norm.eval()(latents[:1, :1])
    torch.testing.assert_close(after, expected[:1, :1], atol=0.05, rtol=0.05)  # running variance is the unbiased one
    assert norm(latents.bfloat16()).dtype == torch.float32
    assert not list(norm.parameters())


def test_a_gated_block_adds_products_of_normed_numbers():
    block, x = GatedBlock(4), noise(3, 4)
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    gate, content = (normed @ block.up.weight.T + block.up.bias).split(4, 1)
    change = (gate / (1 + (-gate).exp()) * content) @ block.down.weight.T + block.down.bias
    torch.testing.assert_close(block(x), x + change)


def test_conv_residual_with_no_weight_is_a_relu():
    layer, x = ConvResidual(3), noise(2, 3, 4, 5)
    torch.nn.init.zeros_(layer.conv.weight)
    torch.nn.init.zeros_(layer.conv.bias)
    torch.testing.assert_close(layer(x), x.relu())


def attention_by_hand(layer: Attention, x: np.ndarray, seen: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Softmax of scores, one sample, head and query at a time."""
    weight, offset = layer.query.weight.numpy().astype(float), layer.query.bias.numpy().astype(float)
    width = x.shape[-1]
    part = width // layer.heads
    mixed = np.zeros((*x.shape[:2], width))
    for n in range(x.shape[0]):
        for head in range(layer.heads):
            cut = slice(head * part, (head + 1) * part)
            keys, values = seen[n][:, :width][:, cut], seen[n][:, width:][:, cut]
            for i in range(x.shape[1]):
                query = (weight @ x[n, i] + offset)[cut]
                scores = keys @ query / np.sqrt(part) + bias[head, i]
                weights = np.exp(scores - scores.max())
                mixed[n, i, cut] = weights / weights.sum() @ values
    return mixed @ layer.out.weight.numpy().T.astype(float) + layer.out.bias.numpy()


@torch.no_grad()
def test_attention_against_numpy_in_both_ways_of_computing_it():
    layer = Attention(6, 3)
    x, bias = noise(2, 4, 6), noise(3, 4, 5, seed=1)
    bias[:, 0, 2:] = float("-inf")
    seen = noise(2, 5, 12, seed=2)
    expected = torch.from_numpy(attention_by_hand(layer, x.numpy(), seen.numpy(), bias.numpy())).float()
    torch.testing.assert_close(layer(x, seen, bias), expected, atol=1e-5, rtol=1e-4)
    many = torch.cat([seen, noise(2, 295, 12, seed=3)], 1)  # 256 and more: the fused kernel
    shut = torch.cat([bias, torch.full((3, 4, 295), float("-inf"))], 2)
    torch.testing.assert_close(layer(x, many, shut), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_block_with_a_past_equals_block_over_all():
    block, x = TransformerBlock(6, 2).eval(), noise(3, 7, 6)
    later = torch.ones(7, 7).triu(1).bool()
    bias = torch.zeros(2, 7, 7).masked_fill(later, float("-inf"))
    whole, seen = block(x, None, bias)
    _, past = block(x[:, :4], None, bias[:, :4, :4])
    second, both = block(x[:, 4:], past, bias[:, 4:])
    torch.testing.assert_close(second, whole[:, 4:])
    torch.testing.assert_close(both, seen)
