"""Motion among walls: slides along them, never through them; and how many steps a way takes."""

import numpy as np
import pytest

from foretell.worlds.floorplan import Layout, advance, clearance, free, look_up, steps_to, walk
from foretell.worlds.rooms import Rooms, RoomsConfig

frame = [(-64, -64, 3, 128), (61, -64, 128, 128), (-64, -64, 128, 3), (-64, 61, 128, 128)]


def layout(*walls: tuple[float, float, float, float], speed: float = 2.0) -> Layout:
    return Layout(size=64, radius=3.0, speed=speed, walls=np.array([*frame, *walls], float), hazards=np.zeros((0, 3)))


def go(plan: Layout, place: tuple[float, float], action: tuple[float, float]) -> list[float]:
    return advance(plan, np.array([place], float), np.array([action], float))[0].tolist()


def test_free_motion_is_the_action():
    assert go(layout(), (20, 30), (1.25, -0.5)) == [21.25, 29.5]


@pytest.mark.parametrize(
    ("place", "action", "expected"),
    [
        ((26, 20), (2, 0), (27, 20)),  # straight onto the face at 30 - 3
        ((26, 20), (2, 2), (27, 22)),  # stopped across, and all of the way down
        ((27, 20), (2, 1.5), (27, 21.5)),  # along a face that it touches
        ((27, 20), (-2, 1), (25, 21)),  # and away from it
        ((38, 40), (-2, -2), (37, 38)),
        ((7, 20), (-2, 0.5), (6, 20.5)),  # the frame's own wall
        ((7, 7), (-2, -2), (6, 6)),  # into a corner: both stop
        ((6, 6), (-2, 2), (6, 8)),
        ((25.5, 56.5), (2, 2), (27, 58)),  # between the inner wall and the frame
    ],
)
def test_walls_stop_across_and_let_slide_along(place, action, expected):
    np.testing.assert_allclose(go(layout((30, 0, 34, 64)), place, action), expected, atol=1e-12)


def test_nothing_is_tunnelled_through_at_any_speed():
    thin = layout((31.999, 0, 32.001, 64))  # far thinner than a step is long
    rng = np.random.default_rng(0)
    places = rng.uniform((6, 6), (28.9, 58), (4000, 2))
    for _ in range(8):
        places = advance(thin, places, rng.uniform(-60, 60, places.shape))
        assert (places[:, 0] <= 29.0).all()
        assert free(thin, places).all()
    assert (places[:, 0] == 31.999 - 3).any()  # stopped by it, exactly on its face


@pytest.mark.parametrize("config", [RoomsConfig(), RoomsConfig(layout="four"), RoomsConfig(varied=True)], ids=repr)
@pytest.mark.parametrize("speed", [1.0, 20.0])
def test_walls_are_never_entered(config, speed):
    rng = np.random.default_rng(1)
    for seed in range(5):
        world = Rooms(config)
        world.reset(seed)
        places = np.stack([world.draw_place(rng) for _ in range(300)])
        for _ in range(30):
            places = advance(world.layout, places, rng.uniform(-2, 2, places.shape) * speed)
            assert free(world.layout, places).all()


def test_the_whole_path_counts_not_only_its_end():
    post = layout((31, 28, 33, 36))
    assert go(post, (20, 32), (24, 0)) == [28, 32]  # its end would be free
    # A straight path that only just misses the corner at (28, 25) is not touched.
    assert go(post, (24, 26), (6, -6)) == [30, 20]


def test_many_at_once_are_each_alone():
    plan = Rooms(RoomsConfig(layout="four")).layout
    rng = np.random.default_rng(2)
    places = rng.uniform(6, 58, (500, 2))
    places = places[free(plan, places)]
    actions = rng.uniform(-8, 8, places.shape)
    alone = [advance(plan, place[None], action[None])[0] for place, action in zip(places, actions, strict=True)]
    np.testing.assert_array_equal(advance(plan, places, actions), alone)


def test_the_inputs_stay_as_they_are():
    plan, places, actions = layout((30, 0, 34, 64)), np.array([[26.0, 20.0]]), np.array([[2.0, 2.0]])
    advance(plan, places, actions)
    assert places.tolist() == [[26, 20]]
    assert actions.tolist() == [[2, 2]]


def test_steps_of_the_shortest_way():
    plan = layout((30, 0, 34, 26), (30, 38, 34, 64))
    steps = steps_to(plan, np.array([10.5, 10.5]))
    assert steps[10, 10] == 0
    assert steps[10, 20] == 5  # 10 px at 2 px a step
    assert steps[40, 20] == 15  # both axes move at once: the longer one counts
    assert np.isinf(steps[20, 32])  # in the wall
    behind = look_up(steps, np.array([[54.5, 10.5]]))[0]
    assert 22 <= behind <= 28  # not the 22 of the straight way: through the door
    closed = steps_to(layout((30, 0, 34, 64)), np.array([10.5, 10.5]))
    assert np.isinf(look_up(closed, np.array([[54.5, 10.5]])))
    assert np.isfinite(look_up(steps, np.array([[58.0, 58.0], [6.0, 6.0], [27.0, 6.0]]))).all()  # on faces


@pytest.mark.parametrize(("one", "other"), [((6, 6), (58, 58)), ((58, 6), (6, 58))])
def test_opposite_corners_of_four_rooms_are_far_apart(one, other):
    world = Rooms(RoomsConfig(layout="four"))
    corner, goal = np.array(one, float), np.array(other, float)
    steps = steps_to(world.layout, goal)
    assert look_up(steps, corner[None])[0] > 60
    place, taken = corner, 0
    while np.abs(place - goal).max() > 0.5:
        place = advance(world.layout, place[None], walk(world.layout, steps, place, goal)[None])[0]
        taken += 1
        assert taken < 100
    assert taken > 60


@pytest.mark.parametrize("config", [RoomsConfig(), RoomsConfig(layout="four"), RoomsConfig(varied=True, size=96)])
def test_walking_takes_about_as_many_steps_as_the_table_says(config):
    rng = np.random.default_rng(3)
    for seed in range(12):
        world = Rooms(config)
        world.reset(seed)
        place, goal = world.draw_place(rng), world.draw_place(rng)
        steps = steps_to(world.layout, goal)
        promised, taken = look_up(steps, place[None])[0], 0
        while np.abs(place - goal).max() > 0.1:
            action = walk(world.layout, steps, place, goal)
            assert np.abs(action).max() <= world.layout.speed + 1e-9
            place = advance(world.layout, place[None], action[None])[0]
            taken += 1
            assert taken <= 1.35 * promised + 4


@pytest.mark.parametrize("config", [RoomsConfig(hazards=4), RoomsConfig(layout="four", hazards=4)], ids=repr)
def test_ways_around_hazards_exist_and_touch_none(config):
    rng = np.random.default_rng(4)
    world = Rooms(config)
    for _ in range(12):
        place, goal = world.draw_place(rng), world.draw_place(rng)
        steps = steps_to(world.layout, goal, avoid_hazards=True)
        if not np.isfinite(look_up(steps, place[None])):
            continue  # it starts in the pixel around a hazard that the table leaves out
        for _ in range(150):
            place = advance(world.layout, place[None], walk(world.layout, steps, place, goal)[None])[0]
            if np.abs(place - goal).max() <= 0.1:
                break
            assert clearance(world.layout, place[None])[0] > 0
        assert np.abs(place - goal).max() <= 0.1
