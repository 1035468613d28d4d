"""Rooms: the door is the way, hazards are measured, looks change nothing that happens."""

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.floorplan import clearance, free, look_up, steps_to
from foretell.worlds.rooms import AGENTS, DOORS_APART, SHIFTS, WARNING, Rooms, RoomsConfig


def at(world: Rooms, *place: float) -> Rooms:
    """The world with its agent at a place, all else as it is."""
    state = world.state()
    state[:2] = place
    world.restore(state)
    return world


def test_the_door_is_passed_and_the_wall_is_not():
    world = Rooms()
    world.reset(0)
    for height, ends in ((32.0, 44.0), (15.0, 27.0)):
        at(world, 20, height)
        for _ in range(12):
            world.step(np.array([2.0, 0.0]))
        assert world.state().tolist() == [ends, height]


def test_crossing_the_frame_takes_about_thirty_steps():
    world = Rooms()
    world.reset(0)
    at(world, 6, 32)
    steps = 0
    while world.state()[0] < 58:
        world.step(np.array([2.0, 0.0]))
        steps += 1
    assert 25 <= steps <= 35


def test_success_is_within_four_pixels_at_any_size():
    for size in (64, 96):
        world = Rooms(RoomsConfig(size=size))
        world.reset(0)
        scale = size / 64
        at(world, 20 * scale, 20 * scale)
        assert world.success(scale * np.array([23.9, 20]))
        assert not world.success(scale * np.array([24.1, 20]))
        assert not world.success(scale * np.array([23, 23]))


def test_sizes_show_the_same_world():
    small, large = Rooms(RoomsConfig(size=64, hazards=2)), Rooms(RoomsConfig(size=128, hazards=2))
    for seed in (0, 1):
        small.reset(seed)
        state = small.state()
        large.restore(2 * state)
        for action in np.random.default_rng(seed).uniform(-2, 2, (20, 2)):
            small.step(action)
            large.step(2 * action)
        np.testing.assert_allclose(large.state(), 2 * small.state(), atol=1e-9)
        halved = large.render().reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(halved - small.render()).mean() < 1


def test_the_agent_is_where_its_state_says_to_a_tenth_of_a_pixel():
    world = Rooms()
    world.reset(0)
    for place in ((14.3, 20.7), (45.85, 50.5)):
        ground = at(world, 6, 58).render().astype(float)
        there = np.abs(at(world, *place).render() - ground).sum(-1)
        there[50:, :14] = 0  # where the agent was on the picture of the ground
        centre = np.arange(64) + 0.5
        seen = np.array([there.sum(0) @ centre, there.sum(1) @ centre]) / there.sum()
        np.testing.assert_allclose(seen, place, atol=0.1)


def test_clearance_is_measured_from_rim_to_rim_and_may_be_below_zero():
    world = Rooms(RoomsConfig(hazards=1))
    world.reset(0)
    (x, y, radius), own = world.layout.hazards[0], world.layout.radius
    assert world.quantities == ("x", "y", "clearance")
    assert at(world, x + radius + own + 1, y).state()[2] == pytest.approx(1)
    assert at(world, x, y + radius + own).state()[2] == pytest.approx(0)
    world.step(np.array([0.0, -2.0]))  # nothing holds the agent off
    assert world.state()[2] == pytest.approx(-2)
    picture = at(world, x + 9, y).render()
    assert tuple(picture[int(y), int(x)]) == WARNING


def test_no_episode_begins_on_a_hazard_or_in_a_wall_and_safe_ways_exist():
    for config in (RoomsConfig(hazards=4), RoomsConfig(layout="four", hazards=4), RoomsConfig(varied=True, hazards=4)):
        world = Rooms(config)
        starts = []
        for seed in range(40):
            world.reset(seed)
            place = world.state()[None, :2]
            assert free(world.layout, place)[0]
            assert clearance(world.layout, place)[0] > 0
            steps = steps_to(world.layout, np.array([7.0, 7.0]), avoid_hazards=True)
            safe = world.layout.cells & np.isfinite(steps)
            assert safe.sum() > 0.5 * world.layout.cells.sum()
            assert np.isfinite(look_up(steps, np.array([[57.0, 57.0]])))[0]
            starts.append(place[0])
        assert np.ptp(starts, axis=0).min() > 40


def test_varied_layouts_differ_are_in_the_state_and_can_be_restored():
    world = Rooms(RoomsConfig(varied=True, hazards=2))
    hazards = ("hazard_0_x", "hazard_0_y", "hazard_1_x", "hazard_1_y")
    assert world.quantities[3:] == ("wall", "door", "other_door", *hazards)
    world.reset(0)
    first, picture = world.state(), world.render()
    world.reset(1)
    assert (world.state()[3:] != first[3:]).all()
    world.restore(first)
    np.testing.assert_array_equal(world.render(), picture)
    assert world.layout.walls[4, 0] == first[3] - 2
    np.testing.assert_array_equal(world.layout.hazards[:, :2].ravel(), first[6:])


def test_a_varied_wall_has_one_door_or_two_and_both_can_be_passed():
    world, doors = Rooms(RoomsConfig(varied=True)), []
    for seed in range(40):
        world.reset(seed)
        wall, one, other = (float(place) for place in world.state()[2:])
        for door in (one, other):
            world.restore(np.array([wall - 8, door, wall, one, other]))
            for _ in range(8):
                world.step(np.array([2.0, 0.0]))
            assert world.state()[0] == pytest.approx(wall + 8)
        assert one == other or other - one >= DOORS_APART
        doors.append(1 + (one != other))
        assert len(world.layout.walls) == 4 + 1 + doors[-1]
    assert 10 <= doors.count(1) <= 30
    world.restore(np.array([wall - 8, 30.0, wall, 26.0, 34.0]))  # doors that touch are one wide opening
    assert len(world.layout.walls) == 4 + 2


def test_a_place_in_a_wall_cannot_be_restored():
    world = Rooms()
    world.reset(0)
    for place in ((32, 10), (2, 20), (200, 20)):
        with pytest.raises(ConfigError, match="inside a wall"):
            at(world, *place)


@pytest.mark.parametrize("shift", SHIFTS)
def test_looks_change_what_is_seen_and_nothing_else(shift):
    plain, shifted = Rooms(RoomsConfig(hazards=2)), Rooms(RoomsConfig(hazards=2, **SHIFTS[shift]))
    plain.reset(3)
    shifted.reset(3)
    for action in np.random.default_rng(0).uniform(-2, 2, (30, 2)):
        plain.step(action)
        shifted.step(action)
    np.testing.assert_array_equal(plain.state(), shifted.state())
    assert np.abs(plain.render().astype(int) - shifted.render()).max() > 30


def test_colours_are_far_enough_apart_to_be_told():
    colours = np.array([*AGENTS.values(), WARNING], float)
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1)
    assert apart[~np.eye(len(colours), dtype=bool)].min() > 60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 20}, "multiple of 8"),
        ({"fps": 0}, "more than 0"),
        ({"speed": -1.0}, "more than 0 and at most 16"),
        ({"hazards": 5}, "0 to 4"),
        ({"layout": "four", "varied": True}, "use layout two"),
        ({"agent": "pink"}, "one of blue, green, purple"),
        ({"layout": "three"}, "one of two, four"),
    ],
)
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        RoomsConfig(**change)
