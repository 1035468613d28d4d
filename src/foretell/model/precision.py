"""bf16 where it pays: for products and convolutions, on processors that have instructions for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def mixed_precision(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """bf16 for products and convolutions if asked for, or, with "auto", where the processor has instructions for it."""
    fast = device.type == "cuda" or (
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    if precision == "fp32" or (precision == "auto" and not fast):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
