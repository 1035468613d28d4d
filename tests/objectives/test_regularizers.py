"""SIGReg and its kin against theory, against a second form, and over two ranks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, multiprocessing

from foretell import parallel
from foretell.objectives.regularizers import (
    KNOTS,
    LAST_KNOT,
    SIGREG_FLOOR,
    sigreg,
    unit_directions,
    variance_covariance,
    within_clip,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def directions(count: int, width: int, seed: int = 1) -> Tensor:
    return unit_directions(count, width, torch.Generator().manual_seed(seed))


def low_rank(count: int, rank: int, width: int, seed: int = 0) -> Tensor:
    """Standard normal in `rank` directions of `width`, then scaled so that every dimension deviates by about 1."""
    code = noise(count, rank, seed=seed) @ noise(rank, width, seed=99)
    return code / code.std(0)


def direct_sigreg(latents: Tensor, along: Tensor) -> float:
    """The integral as the paper writes it: over [-3, 3], complex exponentials, one knot at a time."""
    knots = np.linspace(-LAST_KNOT, LAST_KNOT, 2 * KNOTS - 1)
    projected = latents.double().numpy() @ along.double().numpy()
    phi = np.stack([np.exp(1j * t * projected).mean(0) for t in knots])
    gauss = np.exp(-(knots**2) / 2)[:, None]
    return float(np.trapezoid(np.abs(phi - gauss) ** 2 * gauss, knots, axis=0).mean())


def test_the_fast_form_equals_the_direct_form():
    for latents in (noise(50, 7), 3 * noise(40, 7) + 1, noise(30, 7) ** 3):
        along = directions(11, 7)
        assert sigreg(latents, along).item() == pytest.approx(direct_sigreg(latents, along), rel=1e-4)


def test_the_gradient_is_that_of_the_value():
    latents, along = noise(9, 4).requires_grad_(), directions(3, 4)
    (found,) = torch.autograd.grad(sigreg(latents, along), latents)
    for place in ((0, 0), (3, 2), (8, 3)):
        step = torch.zeros_like(latents)
        step[place] = 0.02
        slope = (sigreg(latents + step, along) - sigreg(latents - step, along)) / 0.04
        assert found[place].item() == pytest.approx(slope.item(), rel=0.02)


def test_directions_have_unit_length_and_follow_the_generator():
    along = directions(9, 5)
    assert along.shape == (5, 9)
    torch.testing.assert_close(along.norm(dim=0), torch.ones(9))
    assert torch.equal(along, directions(9, 5))
    assert not torch.equal(along, directions(9, 5, seed=2))


@pytest.mark.parametrize("count", [32, 256, 2048])
def test_true_gaussians_score_the_floor_at_every_number(count):
    """One direction each of independent samples, so that the spread over draws tells the error of their mean."""
    draws = torch.stack([sigreg(noise(count, 1, seed=seed), torch.ones(1, 1)) for seed in range(600)]) * count
    error = draws.std() / len(draws) ** 0.5
    assert abs(draws.mean() - SIGREG_FLOOR) < 3 * error + 0.01  # 0.01: the integral ends at 3
    assert error < 0.06


def test_the_floor_is_that_of_the_brief():
    assert pytest.approx(1.06, abs=0.005) == SIGREG_FLOOR


def test_the_value_does_not_depend_on_the_number_of_samples():
    """But for the floor / N that any finite sample has: so a weight holds at every batch size."""
    along = directions(256, 6)
    few = torch.stack([sigreg(noise(128, 6, seed=seed) ** 3, along) for seed in range(40)]).mean()
    many = sigreg(noise(8192, 6, seed=77) ** 3, along)
    assert (few - SIGREG_FLOOR / 128).item() == pytest.approx(many.item(), rel=0.1)
    assert many > 3 * SIGREG_FLOOR / 128


def test_a_collapsed_code_scores_far_higher():
    along = directions(256, 64)
    for count, times in ((512, 15), (2048, 60)):
        full, collapsed = (count * sigreg(x, along).item() for x in (noise(count, 64), low_rank(count, 5, 64)))
        assert full < 1.5 * SIGREG_FLOOR
        assert collapsed > times * SIGREG_FLOOR


def test_descent_on_sigreg_makes_latents_gaussian():
    latents = (0.3 * low_rank(512, 5, 8) + 1 + 0.1 * noise(512, 8, seed=5)).requires_grad_()
    optimizer = torch.optim.Adam([latents])
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        sigreg(latents, directions(32, 8, seed=step)).backward()
        optimizer.step()
    found = latents.detach()
    assert found.mean(0).abs().max() < 0.2
    torch.testing.assert_close(torch.cov(found.T), torch.eye(8), atol=0.2, rtol=0)


def test_variance_covariance_against_numpy():
    latents = noise(40, 6) @ noise(6, 6, seed=1) * torch.tensor([0.1, 0.3, 1, 1, 2, 0.01])
    deviation, covariance = variance_covariance(latents, floor=0.8)
    expected = np.cov(latents.double().numpy().T, bias=True)
    short = np.maximum(0, 0.8 - np.sqrt(np.diag(expected) + 1e-4)).mean()
    assert deviation.item() == pytest.approx(short, rel=1e-5)
    assert covariance.item() == pytest.approx(((expected - np.diag(np.diag(expected))) ** 2).sum() / 6, rel=1e-5)


def test_variance_covariance_is_nothing_for_a_white_code():
    white = torch.linalg.qr(noise(400, 5) - noise(400, 5).mean(0))[0] * 20
    deviation, covariance = variance_covariance(white - white.mean(0))
    assert deviation < 0.01
    assert covariance < 1e-3


def test_within_clip_on_known_data():
    """Two clips of three steps and two dimensions: one stands still, the other deviates by 2 and by 0.1."""
    still = torch.tensor([[5.0, -3.0]]).expand(3, 2)
    moving = torch.tensor([[-2.0, -0.1], [0.0, 0.0], [2.0, 0.1]])
    term = within_clip(torch.stack([still, moving]), floor=0.5)
    assert term.item() == pytest.approx((0.49 + 0.49 + 0 + (0.5 - 0.0002**0.5 * 50**0.5)) / 4, abs=1e-3)
    latents = torch.stack([still, moving]).requires_grad_()
    within_clip(latents, floor=0.5).backward()
    assert latents.grad is not None
    assert torch.isfinite(latents.grad).all()  # also where the deviation is zero
    assert latents.grad[1, :, 0].abs().max() == 0


def losses_and_gradient(latents: Tensor) -> tuple[Tensor, Tensor]:
    """sigreg and variance-covariance of a linear code of `latents`, and the gradient that its weights get."""
    weight = torch.nn.Parameter(noise(5, 4, seed=3))
    code = latents @ weight
    deviation, covariance = variance_covariance(code, floor=9.0)
    terms = torch.stack([sigreg(code, directions(13, 4)), deviation, covariance])
    (terms * torch.tensor([20.0, 1.0, 0.04])).sum().backward()
    parallel.average_gradients([weight])
    assert weight.grad is not None
    return terms.detach(), weight.grad


def one_rank(rank: int, port: int, folder: Path) -> None:
    torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in torchrun.items()})
    parallel.start()
    torch.save(losses_and_gradient(noise(60, 5).chunk(2)[rank]), folder / f"{rank}.pt")
    parallel.stop()


def test_two_ranks_find_the_value_and_gradient_of_one_process(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_rank, (port, tmp_path), nprocs=2)
    terms, gradient = losses_and_gradient(noise(60, 5))
    assert gradient.abs().min() > 1e-4
    for rank in range(2):
        found_terms, found_gradient = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found_terms, terms, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found_gradient, gradient, atol=1e-6, rtol=1e-4)
