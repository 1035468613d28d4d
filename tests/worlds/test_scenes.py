"""What scenes are drawn from."""

import numpy as np
import pytest

from foretell.worlds.dynamics import simulate
from foretell.worlds.scenes import GRAVITY, POLYGONS, draw_scene

LUMA = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("name", POLYGONS)
def test_polygons_are_convex_centred_and_of_the_area_of_the_unit_ball(name):
    corners = POLYGONS[name]
    following = np.roll(corners, -1, axis=0)
    doubled = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    assert abs(doubled.sum()) / 2 == pytest.approx(np.pi)
    np.testing.assert_allclose(((corners + following) * doubled[:, None]).sum(axis=0), 0, atol=1e-9)
    edges = following - corners
    turns = edges[:, 0] * np.roll(edges, -1, axis=0)[:, 1] - np.roll(edges, -1, axis=0)[:, 0] * edges[:, 1]
    assert (turns > 0).all()


def test_objects_stand_out_by_brightness():
    for seed in range(50):
        scene = draw_scene(np.random.default_rng(seed), "colliding")
        for thing in scene.things:
            for back in (*scene.sky, scene.ground):
                assert abs((np.array(thing.colour) - back) @ LUMA) > 0.2


def test_colliding_things_meet_in_the_air():
    for seed in range(40):
        scene = draw_scene(np.random.default_rng(seed), "colliding")
        path = simulate(scene, 32, 10)
        mass = np.array([thing.radius**2 for thing in scene.things])
        touched = (np.abs(np.diff(path["vx"], axis=0)) > 1e-6).all(axis=1)
        first = int(np.argmax(touched))
        assert touched.any()
        assert first <= 15
        np.testing.assert_allclose((np.diff(path["vx"], axis=0) @ mass)[first], 0, atol=1e-6)
        np.testing.assert_allclose((np.diff(path["vy"], axis=0) @ mass)[first], GRAVITY / 10 * mass.sum(), rtol=1e-6)
