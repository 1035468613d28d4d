"""Looks: a little elsewhere is no news, another shape or colour is; bright or dark, and where nothing is to be seen."""

from __future__ import annotations

import pytest
import torch

from foretell.surprise.looks import GAP, LEAST, NORMAL, WINDOW, _windows, fit_looks, look_errors, look_heat

FLOOR = torch.tensor(0.05)
RED, GREEN = (1.5, -0.5, -0.5), (-1.0, 1.0, -0.5)


def scene(shape: str, x: float, y: float, colour: tuple[float, float, float] = RED, size: int = 64) -> torch.Tensor:
    """A soft-edged ball of radius 7, or a cube of its area, before grey: (1, 3, size, size)."""
    across, down = torch.arange(size) - x, (torch.arange(size) - y)[:, None]
    away = (across**2 + down**2).sqrt() - 7 if shape == "ball" else torch.maximum(across.abs(), down.abs()) - 6.2
    inside = torch.sigmoid(-away / 0.4)
    return inside * torch.tensor(colour).view(1, 3, 1, 1) + (1 - inside) * 0.2


def heat(happened: torch.Tensor, said: torch.Tensor, floor: torch.Tensor = FLOOR) -> torch.Tensor:
    return look_heat(*look_errors(happened, said), floor)[0]


def test_what_came_as_foretold_looks_right() -> None:
    found = heat(scene("ball", 30, 30), scene("ball", 30, 30))
    assert found.shape == (8, 8)
    assert not found.any()


def test_windows_are_bell_shaped_means_half_a_token_apart() -> None:
    """One product of matrices against the sum that it stands for, pixel by pixel; beyond the edge there is nothing."""
    maps = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    bell = torch.exp(-0.5 * ((torch.arange(WINDOW) - WINDOW // 2) / (WINDOW / 4)) ** 2)
    bell, reach = bell / bell.sum(), WINDOW // 2
    wide = torch.nn.functional.pad(maps, (reach,) * 4)
    found = _windows(maps)
    assert found.shape == (2, 3, 6, 10)
    for row, column in ((0, 0), (2, 5), (5, 9)):
        y, x = (GAP * number + (GAP - 1) // 2 for number in (row, column))
        here = wide[..., y : y + WINDOW, x : x + WINDOW]
        expected = torch.einsum("ncyx,y,x->nc", here, bell, bell)
        torch.testing.assert_close(found[..., row, column], expected)


@pytest.mark.parametrize("x", [24.0, 27.3, 30.5])
def test_another_shape_or_colour_looks_more_wrong_than_another_place(x: float) -> None:
    said = scene("ball", x, 30)
    elsewhere = max(
        float(heat(scene("ball", x + dx, 30 + dy), said).max()) for dx, dy in ((0.5, 0), (-0.4, 0.4), (0, -0.5))
    )
    assert heat(scene("cube", x, 30), said).max() > 3 * elsewhere
    assert heat(scene("ball", x, 30, GREEN), said).max() > 3 * elsewhere
    assert heat(torch.full_like(said, 0.2), said).max() > 3 * elsewhere
    assert heat(said, torch.full_like(said, 0.2)).max() > 3 * elsewhere


def test_displacement_is_excused_and_no_more() -> None:
    """Of half a pixel hardly anything is left; without the excuse it would be as much as a cube is."""
    said, moved = scene("ball", 30, 30), scene("ball", 30.5, 30)
    left, plain = look_errors(moved, said)[0].max(), (moved - said).pow(2).mean(1).max()
    assert left < 0.1 * look_errors(scene("cube", 30, 30), said)[0].max()
    assert left < 0.05 * plain


def test_it_is_said_at_the_token_where_it_is() -> None:
    found = heat(scene("cube", 43.5, 19.5), scene("ball", 43.5, 19.5))
    row, column = divmod(int(found.argmax()), 8)
    assert abs(row * 8 + 3.5 - 19.5) <= 8
    assert abs(column * 8 + 3.5 - 43.5) <= 8
    assert found[6:].max() < 1e-3 * found.max()


def test_half_the_contrast_looks_as_wrong() -> None:
    said, came = scene("ball", 30, 30), scene("cube", 30, 30)
    faint = heat(came / 2, said / 2, FLOOR / 4)
    torch.testing.assert_close(faint.max(), heat(came, said).max(), rtol=0.05, atol=0)


def test_grey_and_empty_footage_divides_by_nothing() -> None:
    grey = scene("ball", 30, 30, (1, 1, 1))
    empty = torch.zeros(1, 3, 64, 64)
    for said, came in ((grey, grey), (empty, empty), (empty, grey)):
        assert heat(came, said).isfinite().all()
    found = fit_looks([look_errors(empty, empty)] * 3)
    assert found.tolist() == pytest.approx([LEAST, LEAST])
    assert not look_heat(*look_errors(empty, empty), found[0]).any()


def test_one_frame_in_a_hundred_looks_more_wrong_than_normal() -> None:
    noise = torch.randn(600, 3, 16, 32, generator=torch.Generator().manual_seed(0)).cumsum(0)
    pairs = look_errors(noise[1:], noise[:-1])
    floor, normal = fit_looks([pairs])
    above = look_heat(*pairs, floor).amax((1, 2)) > normal
    assert above.float().mean().item() == pytest.approx(1 - NORMAL, abs=0.005)
