from fractions import Fraction

import numpy as np
import pytest

from foretell.data.fit import geometry, on_view


@pytest.mark.parametrize(
    ("stored", "aspect", "turns", "fit", "expected"),
    [
        ((1080, 1920), None, 0, "letterbox", (54, 96)),
        ((1080, 1920), None, 0, "crop", (64, 114)),
        ((1080, 1920), None, 1, "letterbox", (36, 64)),  # stands upright: 64 high, 36 wide, stored on its side
        ((1080, 1920), None, 1, "crop", (96, 171)),
        ((576, 720), Fraction(64, 45), 0, "letterbox", (54, 96)),  # wide-screen PAL: pixels are not square
        ((100, 100), None, 2, "letterbox", (64, 64)),
        ((2, 4000), None, 0, "letterbox", (1, 96)),
    ],
)
def test_geometry(
    stored: tuple[int, int], aspect: Fraction | None, turns: int, fit: str, expected: tuple[int, int]
) -> None:
    place = geometry(stored=stored, pixel_aspect=aspect, quarter_turns=turns, view=(64, 96), fit=fit)
    assert (place.height, place.width, place.quarter_turns) == (*expected, turns)


def test_bars_are_black_and_the_picture_is_centred() -> None:
    canvas = on_view(np.full((10, 40, 3), 7, np.uint8), 24, 40)
    assert canvas.shape == (24, 40, 3)
    assert (canvas[7:17] == 7).all()
    assert canvas[:7].max() == canvas[17:].max() == 0


def test_what_stands_over_is_cut_on_both_sides() -> None:
    columns = np.broadcast_to(np.arange(50, dtype=np.uint8)[None, :, None], (16, 50, 3))
    np.testing.assert_array_equal(on_view(columns, 16, 24), columns[:, 13:37])
