"""The referee: drawn frames whose truth is known, none, two, another shape or colour, and everything that cannot happen."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.errors import ShapeError
from foretell.evals.foretellers import Flights, flights_of
from foretell.evals.referee import EVENTS, Sightings, Stage, impossible, look, set_stage
from foretell.worlds.paint import Colour, paint_disc, paint_outline
from foretell.worlds.physics import Physics

SKY, GROUND, BALL = (200, 220, 235), (150, 170, 180), (180, 60, 40)
FLOOR = 56


def picture(*discs: tuple[float, float, float, Colour]) -> np.ndarray:
    """(64, 64, 3): sky, ground, and discs of (x, y, radius, colour)."""
    frame = np.empty((64, 64, 3), np.uint8)
    frame[:FLOOR], frame[FLOOR:] = SKY, GROUND
    for x, y, radius, colour in discs:
        paint_disc(frame, x, y, radius, colour)
    return frame


def flight(steps: int, start: float = 14.0) -> np.ndarray:
    """(steps, 64, 64, 3): a ball of radius 8 that moves evenly, 1.5 px a frame."""
    return np.stack([picture((start + 1.5 * t, 30.0, 8.0, BALL)) for t in range(steps)])


def cube(x: float, y: float, side: float, turn: float) -> np.ndarray:
    frame = picture()
    angles = turn + np.pi / 4 + np.arange(4) * np.pi / 2
    paint_outline(frame, np.stack([x + side / 2**0.5 * np.cos(angles), y + side / 2**0.5 * np.sin(angles)], 1), BALL)
    return frame


@pytest.fixture(scope="module")
def stage() -> Stage:
    return set_stage(flight(8)[None])


@pytest.fixture(scope="module")
def before(stage: Stage) -> Sightings:
    return look(flight(8)[None], stage)


def seen(stage: Stage, *frames: np.ndarray) -> Sightings:
    return look(np.stack(frames)[None], stage)


def events(stage: Stage, before: Sightings, after: np.ndarray, gravity: float = 0.0) -> list[str]:
    """Names of what cannot happen in frames (H, 64, 64, 3) that follow the flight."""
    found = impossible(before, look(after[None], stage), stage, gravity)
    assert tuple(found) == EVENTS
    return [name for name, flags in found.items() if flags.any()]


def test_a_disc_is_read_where_it_was_painted(stage: Stage) -> None:
    for x, y, radius in ((20.3, 30.7, 7.2), (41.0, 20.5, 8.0), (33.3, 40.1, 9.0)):
        sight = seen(stage, picture((x, y, radius, BALL)))
        assert sight.things[0, 0] == 1
        np.testing.assert_allclose(sight.places[0, 0], (x, y), atol=0.1)
        assert abs(sight.radius[0, 0] - radius) < 0.3
        assert sight.corners[0, 0] < 0.08
        np.testing.assert_allclose(sight.colour[0, 0], BALL, atol=3)


def test_the_backdrop_is_known_even_behind_a_ball_that_hardly_moves(stage: Stage) -> None:
    np.testing.assert_allclose(stage.backdrop[0], picture(), atol=1.5)
    assert stage.floor[0] == FLOOR


def test_nothing_one_and_two(stage: Stage) -> None:
    one, other = (20.0, 30.0, 8.0, BALL), (45.0, 30.0, 7.0, BALL)
    sight = seen(stage, picture(), picture(one), picture(one, other))
    assert sight.things[0].tolist() == [0, 1, 2]
    assert np.isnan(sight.places[0, 0]).all()
    np.testing.assert_allclose(sight.places[0, 2], (20, 30), atol=0.1)  # the largest


def test_a_cube_has_corners_whichever_way_it_is_turned(stage: Stage) -> None:
    for turn in (0.0, 0.4, 0.8):
        assert seen(stage, cube(30, 30, 14, turn)).corners[0, 0] > 0.3


def test_what_fades_away_is_gone(stage: Stage) -> None:
    pale: Colour = tuple(round(0.75 * s + 0.25 * b) for s, b in zip(SKY, BALL, strict=True))  # type: ignore[assignment]
    assert seen(stage, picture((30.0, 30.0, 8.0, pale))).things[0, 0] == 0


def test_a_lawful_flight_has_no_event_and_each_broken_law_its_own(stage: Stage, before: Sightings) -> None:
    after = flight(12, start=26.0)[:4]  # goes on where the seen one ended
    assert events(stage, before, after) == []

    def broken(*discs: tuple[float, float, float, Colour]) -> list[str]:
        return events(stage, before, np.concatenate([after[:3], picture(*discs)[None]]))

    assert broken() == ["count"]
    assert broken((30.5, 30.0, 8.0, BALL), (50.0, 30.0, 7.0, BALL)) == ["count"]
    assert broken((30.5, 30.0, 8.0, (40, 60, 180))) == ["colour"]
    assert "jump" in broken((38.0, 30.0, 8.0, BALL))
    assert events(stage, before, np.concatenate([after[:3], cube(30.5, 30, 14, 0.3)[None]])) == ["shape"]
    sunk = np.stack([picture((28.0, y, 8.0, BALL)) for y in (34.0, 38.0, 42.0, 46.0, 50.0, 53.0)])
    assert "wall" in events(stage, before, sunk)


def test_energy_may_be_lost_but_not_won(stage: Stage, before: Sightings) -> None:
    faster = np.stack([picture((24.5 + 2.5 * t, 30.0, 8.0, BALL)) for t in range(1, 5)])
    slower = np.stack([picture((24.5 + 0.5 * t, 30.0, 8.0, BALL)) for t in range(1, 5)])
    assert events(stage, before, faster) == ["energy"]
    assert events(stage, before, slower) == []
    risen = np.stack([picture((24.5 + 1.5 * t, 30.0 - 1.5 * t, 8.0, BALL)) for t in range(1, 5)])
    assert events(stage, before, risen, gravity=0.12) == ["energy"]


def flights(violation: str, count: int) -> Flights:
    """Throws from eight frames before something impossible happens."""
    world = Physics(scenario="thrown", shapes="ball", violation=violation)  # type: ignore[arg-type]
    clips = [world.episode(6_100_000 + k) for k in range(count)]
    parts = [flights_of([clip], int(clip.states["violation_frame"][0]) - 8, 18) for clip in clips]
    return Flights(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def test_its_own_error_on_the_physics_world_is_small() -> None:
    world = Physics(scenario="thrown", shapes="ball")
    real = flights_of([world.episode(6_000_000 + k) for k in range(8)], 10, 18)
    stage = set_stage(real.frames[:, :8])
    before, after = look(real.frames[:, :8], stage), look(real.frames[:, 8:], stage)
    assert (after.things == 1).all()
    assert np.linalg.norm(after.places - real.places[:, 8:], axis=-1).max() < 0.3
    assert not any(flags.any() for flags in impossible(before, after, stage, 0.12).values())


@pytest.mark.parametrize(("violation", "event"), [("cube", "shape"), ("jump", "jump")])
def test_what_the_world_breaks_it_finds(violation: str, event: str) -> None:
    broken = flights(violation, 4)
    stage = set_stage(broken.frames[:, :8])
    found = impossible(look(broken.frames[:, :8], stage), look(broken.frames[:, 8:], stage), stage, 0.12)
    assert found[event].any(1).all()


def test_frames_of_another_size_are_refused(stage: Stage) -> None:
    with pytest.raises(ShapeError, match="64"):
        look(np.zeros((1, 2, 32, 32, 3), np.uint8), stage)
    with pytest.raises(ShapeError, match="2 clips"):
        look(np.zeros((2, 2, 64, 64, 3), np.uint8), stage)
