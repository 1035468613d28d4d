"""Drawing: where a thing is drawn is where it is, far below a pixel."""

import numpy as np
import pytest

from foretell.worlds.render import coverage, draw, draw_backdrop
from foretell.worlds.scenes import BALL, SHAPES, Scene, Thing, draw_scene


def black_on_white(shape: str, radius: float, floor: float = 90.0) -> Scene:
    white = np.ones(3)
    body = Thing(shape=shape, radius=radius, colour=(0, 0, 0), x=0, y=0, vx=0, vy=0)
    return Scene(
        scenario="thrown",
        things=(body,),
        floor=floor,
        slope=0.0,
        sky=(white, white),
        ground=white / 2,
        texture=np.zeros((9, 9)),
    )


def draw_one(shape: str, radius: float, size: int, x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """How dark each pixel is, (T, H, W) in 0..1."""
    seen = np.ones((len(x), 1), bool)
    frames = draw(
        black_on_white(shape, radius), size, x[:, None], y[:, None], angle[:, None], np.full((len(x), 1), shape), seen
    )
    return 1 - frames.mean(axis=3) / 255


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 96])
def test_the_drawn_centre_of_mass_is_the_true_place(shape, size):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.3 * size, 0.7 * size, (2, 60))
    dark = draw_one(shape, 7.3, size, x, y, rng.uniform(-4, 4, 60))
    centres = np.arange(size) + 0.5
    mass = dark.sum(axis=(1, 2))
    assert np.abs((dark * centres).sum(axis=(1, 2)) / mass - x).max() < 0.05
    assert np.abs((dark * centres[:, None]).sum(axis=(1, 2)) / mass - y).max() < 0.05
    np.testing.assert_allclose(mass, np.pi * (7.3 * size / 64) ** 2, rtol=0.01)  # one area for all shapes


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tenth_of_a_pixel_shows(shape):
    x = 30 + np.arange(21) / 10
    dark = draw_one(shape, 8.0, 64, x, np.full(21, 30.0), np.full(21, 0.4))
    centre = (dark * (np.arange(64) + 0.5)).sum(axis=(1, 2)) / dark.sum(axis=(1, 2))
    np.testing.assert_allclose(np.diff(centre), 0.1, atol=0.03)
    assert np.abs(np.diff(dark, axis=0)).max() < 0.2  # no pixel flips at once


def test_edges_are_soft_and_one_pixel_wide():
    dark = draw_one(BALL, 8.0, 64, np.array([32.2]), np.array([31.7]), np.zeros(1))[0]
    partly = ((dark > 0.02) & (dark < 0.98)).sum()
    assert 0.7 * 2 * np.pi * 8 < partly < 1.6 * 2 * np.pi * 8
    row = dark[31]
    assert ((row[:-1] > 0.02) & (row[:-1] < 0.98)).sum() <= 4


def test_coverage_is_half_where_the_edge_runs_through_the_centre_of_a_pixel():
    dx, dy = np.array([[[8.0, 7.0, 9.0]]]), np.zeros((1, 1, 1))
    np.testing.assert_allclose(coverage(BALL, 8.0, dx, dy, np.zeros((1, 1, 1)))[0, 0], [0.5, 1, 0])


def test_what_is_not_visible_is_not_drawn():
    scene = black_on_white("bar", 7.0)
    place = np.full((3, 1), 32.0)
    seen = np.array([[True], [False], [True]])
    frames = draw(scene, 64, place, place, place, np.full((3, 1), "bar"), seen)
    assert (frames[1] == 255).all()
    assert frames[0].min() == frames[2].min() == 0


def test_the_floor_is_drawn_where_it_is():
    picture = draw_backdrop(black_on_white(BALL, 7.0, floor=48.25), 128)
    assert picture.shape == (128, 128, 3)
    assert (picture[:96] == 1).all()
    assert (picture[97:] == 0.5).all()
    np.testing.assert_allclose(picture[96], 0.75)  # 48.25 at 64 px is 96.5: half of row 96


@pytest.mark.parametrize("size", [16, 64, 200])
def test_the_whole_scales(size):
    scene = draw_scene(np.random.default_rng(5), "rolling")
    small, large = draw_backdrop(scene, size), draw_backdrop(scene, 2 * size)
    pooled = large.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - pooled).mean() < 0.01
