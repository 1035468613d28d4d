"""Motion against theory. Units of 1/64 frame and seconds, y down."""

import numpy as np
import pytest

from foretell.worlds.dynamics import simulate
from foretell.worlds.physics import SCENARIOS, Physics
from foretell.worlds.scenes import (
    BALL,
    GRAVITY,
    POLYGONS,
    RESTITUTION,
    SHAPES,
    WALL_LEFT,
    WALL_RIGHT,
    WALL_TOP,
    Scene,
    Thing,
    draw_scene,
)


def scene_of(*things: Thing, floor: float = 60.0, slope: float = 0.0) -> Scene:
    grey = np.full(3, 0.5)
    return Scene(
        scenario="thrown",
        things=things,
        floor=floor,
        slope=slope,
        sky=(grey, grey),
        ground=grey,
        texture=np.zeros((9, 9)),
    )


def thing(shape: str = BALL, **settings: float) -> Thing:
    return Thing(**{"shape": shape, "radius": 6.0, "colour": (1, 0, 0), "x": 32, "y": 32, "vx": 0, "vy": 0, **settings})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fps", [5, 10, 24, 60])
def test_free_flight_is_a_parabola(shape, fps):
    path = simulate(scene_of(thing(shape, x=12, y=40, vx=15, vy=-24, spin=0.7)), 2 * fps, fps)
    time = np.arange(2 * fps) / fps
    np.testing.assert_allclose(path["x"][:, 0], 12 + 15 * time, atol=1e-6)
    np.testing.assert_allclose(path["y"][:, 0], 40 - 24 * time + GRAVITY * time**2 / 2, atol=1e-6)
    np.testing.assert_allclose(path["vy"][:, 0], -24 + GRAVITY * time, atol=1e-6)
    np.testing.assert_allclose(path["angle"][:, 0], 0.7 * time, atol=1e-6)


def test_a_bounce_off_the_floor_gives_back_its_share_of_the_speed():
    path = simulate(scene_of(thing(y=20, vx=3)), 60, 20)
    height, speed = 60 - 6 - path["y"][:, 0], path["vy"][:, 0]
    at_the_floor = np.sqrt(speed**2 + 2 * GRAVITY * height)  # the speed that this flight has where it touches
    before, after = at_the_floor[0], at_the_floor[np.argmax(speed < 0) + 1]
    assert (speed < 0).any()
    assert after / before == pytest.approx(RESTITUTION, rel=0.005)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_bounce_off_a_wall_gives_back_its_share_of_the_speed(side):
    path = simulate(scene_of(thing(y=12, vx=20 * side)), 20, 10)
    assert path["vx"][-1, 0] == pytest.approx(-20 * side * RESTITUTION, rel=1e-4)


def test_a_collision_keeps_momentum_and_gives_back_its_share_of_the_approach():
    left, right = thing(x=15, y=20, vx=12, radius=5.0), thing(x=45, y=21.5, vx=-9, radius=7.0)
    path = simulate(scene_of(left, right), 20, 10)
    mass = np.array([25.0, 49.0])
    time = np.arange(20) / 10
    assert path["vx"][-1, 0] < 0 < 12
    np.testing.assert_allclose(path["vx"] @ mass, 12 * 25 - 9 * 49, rtol=1e-6)
    np.testing.assert_allclose(path["vy"] @ mass, GRAVITY * time * mass.sum(), rtol=1e-6, atol=1e-6)
    # along the line through the centres at the moment of touch
    touch = np.argmax(np.abs(np.diff(path["vx"][:, 0])) > 1e-6)
    gap = np.array([path["x"][touch, 1] - path["x"][touch, 0], path["y"][touch, 1] - path["y"][touch, 0]])
    drift = np.array([-21.0, 0.0])
    swept = np.roots([drift @ drift, 2 * gap @ drift, gap @ gap - 12.0**2]).real.min()
    normal = (gap + drift * swept) / 12.0
    after = np.array([np.diff(path["vx"][-1])[0], np.diff(path["vy"][-1])[0]])
    assert (after @ normal) / -(drift @ normal) == pytest.approx(RESTITUTION, abs=0.01)


@pytest.mark.parametrize("slope", [-0.2, 0.0, 0.15])
def test_a_ball_rolls_without_slipping_and_gains_two_thirds_of_the_slope(slope):
    long = np.hypot(1, slope)
    radius = 6.0
    scene = scene_of(thing(x=20, y=45 + slope * -12 - radius * long, vx=9 / long, vy=9 * slope / long, spin=9 / radius),
                     floor=45, slope=slope)  # fmt: skip
    path = simulate(scene, 14, 10)
    time = np.arange(14) / 10
    along = ((path["x"][:, 0] - 20) + slope * (path["y"][:, 0] - scene.things[0].y)) / long
    gain = 2 / 3 * GRAVITY * slope / long
    np.testing.assert_allclose(along, 9 * time + gain * time**2 / 2, atol=0.1)
    np.testing.assert_allclose(path["angle"][:, 0] * radius, along, atol=0.1)
    surface = 45 + slope * (path["x"][:, 0] - 32)
    np.testing.assert_allclose((surface - path["y"][:, 0]) / long, radius, atol=0.15)


def outline(shape: str, radius: float, x: float, y: float, angle: float) -> np.ndarray:
    """Points (K, 2) around the edge of a shape."""
    if shape == BALL:
        around = np.linspace(0, 2 * np.pi, 90)
        return np.stack([x + radius * np.cos(around), y + radius * np.sin(around)], axis=1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = POLYGONS[shape] * radius
    dense = np.concatenate([corners * (1 - s) + np.roll(corners, -1, axis=0) * s for s in np.linspace(0, 1, 12)])
    return dense @ turn + (x, y)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_enters_a_wall(scenario):
    for seed in range(12):
        scene = draw_scene(np.random.default_rng(seed), scenario)
        path = simulate(scene, 64, 20)
        for n, body in enumerate(scene.things):
            for t in range(64):
                x, y = outline(body.shape, body.radius, path["x"][t, n], path["y"][t, n], path["angle"][t, n]).T
                floor = scene.floor + scene.slope * (x - 32)
                deepest = max((y - floor).max(), WALL_TOP - y.min(), WALL_LEFT - x.min(), x.max() - WALL_RIGHT)
                assert deepest < 0.3, (scenario, seed, t)


def test_balls_do_not_enter_each_other():
    for seed in range(12):
        scene = draw_scene(np.random.default_rng(seed), "colliding", ball_only=True)
        path = simulate(scene, 64, 20)
        apart = np.hypot(np.diff(path["x"])[:, 0], np.diff(path["y"])[:, 0])
        assert apart.min() > sum(body.radius for body in scene.things) - 0.3


def test_an_act_changes_nothing_before_it_strikes():
    scene = scene_of(thing(x=12, vx=15, vy=-12))
    lawful = simulate(scene, 20, 10)
    broken = simulate(scene, 20, 10, lambda box: box.set_gravity(-GRAVITY), 9)
    for name in lawful:
        np.testing.assert_array_equal(lawful[name][:9], broken[name][:9])
    assert broken["y"][9, 0] == pytest.approx(lawful["y"][9, 0] - GRAVITY * 0.1**2, abs=1e-6)


def test_missing_pymunk_names_the_extra(monkeypatch):
    import sys

    from foretell.errors import ConfigError

    monkeypatch.setitem(sys.modules, "pymunk", None)
    with pytest.raises(ConfigError, match=r"foretell\[sim\]"):
        Physics().episode(0)
