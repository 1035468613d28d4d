"""Episodes: the truth told matches the frames, and the law is broken where, when and as announced."""

import hashlib

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.physics import AFTER, BEFORE, CLEAR, SCENARIOS, Physics
from foretell.worlds.scenes import BALL, CUBE, GRAVITY, SHAPES

VIOLATIONS = ("cube", "vanish", "jump", "hang", "rise")
LUMA = np.array([0.299, 0.587, 0.114])
FALL = GRAVITY / 100  # pixels per frame squared, at 64 px and 10 fps


def broken(violation: str, seed: int) -> tuple[dict[str, np.ndarray], int]:
    states = Physics(violation=violation).episode(seed).states
    return states, int(states["violation_frame"][0])


def test_truth_matches_the_frames():
    for seed in range(15):
        clip = Physics(violation="vanish", size=64).episode(seed)
        frame = int(clip.states["violation_frame"][0])
        light, backdrop = clip.frames[:frame] @ LUMA, clip.frames[-1] @ LUMA
        colour = clip.states["colour"][0, 0]
        covered = np.clip((light - backdrop) / (colour @ LUMA - backdrop), 0, 1)
        x, y = (covered.sum(axis=axis) @ (np.arange(64) + 0.5) / covered.sum(axis=(1, 2)) for axis in (1, 2))
        np.testing.assert_allclose(x, clip.states["x"][:frame, 0], atol=0.15)
        np.testing.assert_allclose(y, clip.states["y"][:frame, 0], atol=0.15)
        assert (clip.frames[frame:] == clip.frames[-1]).all()
        for t in (0, frame - 1):
            inside = clip.frames[t, int(clip.states["y"][t, 0]), int(clip.states["x"][t, 0])].astype(int)
            assert (inside <= colour + 1.0).all()  # the colour itself, or darkened by a ball's band
            assert (inside >= 0.75 * colour - 1).all()


def test_speeds_are_those_of_the_places():
    states = Physics(scenario="thrown").episode(3).states
    for place, speed in (("x", "vx"), ("y", "vy")):
        middle = (states[speed][:-1, 0] + states[speed][1:, 0]) / 2
        free = np.abs(np.diff(states["vy"][:, 0]) - FALL) < 1e-6
        assert free.sum() > 10
        np.testing.assert_allclose(np.diff(states[place][:, 0])[free], middle[free], atol=1e-6)


def test_all_scales_with_the_size_and_lasts_as_long_at_any_rate():
    small = Physics(size=48, scenario="colliding").episode(9).states
    large = Physics(size=96, scenario="colliding").episode(9).states
    for name in ("x", "y", "vx", "vy", "radius"):
        np.testing.assert_allclose(2 * small[name], large[name])
    fast = Physics(size=48, scenario="bouncing", fps=20, frames=64).episode(9).states
    slow = Physics(size=48, scenario="bouncing", fps=10, frames=32).episode(9).states
    np.testing.assert_allclose(fast["x"][::2], slow["x"], atol=1e-6)
    np.testing.assert_allclose(fast["y"][::2], slow["y"], atol=1e-6)


def test_mixed_shows_every_scenario_and_shape():
    clips = [Physics(size=16).episode(seed) for seed in range(40)]
    assert {str(clip.states["scenario"][0]) for clip in clips} == set(SCENARIOS)
    assert {str(shape) for clip in clips for shape in clip.states["shape"][0]} == {"", *SHAPES}
    assert all((clip.states["violation_frame"] == -1).all() for clip in clips)


def test_sizes_and_speeds_are_those_of_the_description():
    speeds = []
    for seed in range(30):
        states = Physics(size=64).episode(seed).states
        assert np.nanmin(states["radius"]) >= 7
        speeds.append(np.nanmax(np.hypot(states["vx"], states["vy"])))
    assert 1 < np.median(speeds) < 3
    assert max(speeds) < 4.5


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_violation_strikes_in_mid_flight_and_nothing_is_changed_before(violation):
    ball_twins = 0
    for seed in range(15):
        clip, twin = Physics(violation=violation).episode(seed), Physics(scenario="thrown").episode(seed)
        states, frame = clip.states, int(clip.states["violation_frame"][0])
        assert BEFORE <= frame <= 32 - AFTER
        assert (states["violation_frame"] == frame).all()
        assert set(states["violation"]) == {violation}
        assert set(states["scenario"]) == {"thrown"}
        if violation == "cube" and twin.states["shape"][0, 0] != BALL:
            continue
        ball_twins += 1
        np.testing.assert_array_equal(clip.frames[:frame], twin.frames[:frame])
        assert (clip.frames[frame] != twin.frames[frame]).any()
        for name, values in twin.states.items():
            if not name.startswith("violation"):
                np.testing.assert_array_equal(states[name][:frame], values[:frame])
        flight = slice(frame - 1 - CLEAR, frame + CLEAR + 1)
        np.testing.assert_allclose(np.diff(twin.states["vy"][flight, 0]), FALL, atol=1e-6)
        np.testing.assert_allclose(np.diff(twin.states["vx"][flight, 0]), 0, atol=1e-6)
        assert np.hypot(twin.states["vx"], twin.states["vy"])[frame - 1, 0] >= 0.8
    assert ball_twins >= 2


def test_cube_has_the_colour_area_and_course_of_the_ball():
    for seed in range(8):
        clip = Physics(violation="cube").episode(seed)
        states, frame = clip.states, int(clip.states["violation_frame"][0])
        assert set(states["shape"][:frame, 0]) == {BALL}
        assert set(states["shape"][frame:, 0]) == {CUBE}
        assert len(np.unique(states["colour"][:, 0], axis=0)) == 1
        assert len(np.unique(states["radius"][:, 0])) == 1  # of the ball of this area
        np.testing.assert_allclose(np.diff(states["vy"][: frame + CLEAR, 0])[-CLEAR:], FALL, atol=1e-6)


def test_vanish_leaves_nothing():
    states, frame = broken("vanish", 4)
    assert states["visible"][:frame, 0].all()
    assert not states["visible"][frame:].any()
    assert np.isnan(states["x"][frame:]).all()


def test_jump_goes_10_to_16_pixels_and_stays_in_the_frame():
    for seed in range(30):
        states, frame = broken("jump", seed)
        twin = Physics(scenario="thrown").episode(seed).states
        leap = [states[name][frame, 0] - twin[name][frame, 0] for name in ("x", "y")]
        assert 10 <= np.hypot(*leap) <= 16
        assert states["vx"][frame, 0] == pytest.approx(twin["vx"][frame, 0])
        assert states["vy"][frame, 0] == pytest.approx(twin["vy"][frame, 0])
        for name in ("x", "y"):
            assert (states[name][:, 0] > 5).all()  # a bar is as narrow as that
            assert (states[name][:, 0] < 59).all()


def test_hang_stays_where_it_was():
    states, frame = broken("hang", 4)
    for name in ("x", "y", "angle"):
        np.testing.assert_array_equal(states[name][frame:, 0], states[name][frame - 1, 0])
    assert (states["vx"][frame:, 0] == 0).all()
    assert (states["vy"][frame:, 0] == 0).all()


def test_rise_falls_upward():
    for seed in range(8):
        states, frame = broken("rise", seed)
        after = np.diff(states["vy"][frame - 1 :, 0])
        np.testing.assert_allclose(after[:3], -FALL, atol=1e-6)
        assert np.median(after) == pytest.approx(-FALL)
        lawful = Physics(scenario="thrown").episode(seed).states["y"]
        assert states["y"][frame + 8, 0] < lawful[frame + 8, 0] - 4


def fingerprint(world: Physics, episodes: int) -> str:
    """Of frames to the bit and of places and speeds to a millionth of a pixel."""
    digest = hashlib.sha256()
    for seed in range(episodes):
        clip = world.episode(seed)
        digest.update(clip.frames.tobytes())
        for name in ("x", "y", "vx", "vy"):
            digest.update(np.round(clip.states[name], 6).tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    ("settings", "episodes", "known"),
    [
        ({}, 12, "0c5f76e67270f21d"),
        ({"violation": "rise"}, 3, "14ce46113cac0d7b"),
        ({"violation": "jump"}, 3, "c8c18528a731ea9e"),
    ],
)
def test_episodes_are_those_of_before_gravity_was_a_setting(settings, episodes, known):
    assert fingerprint(Physics(size=32, frames=24, **settings), episodes) == known


@pytest.mark.parametrize("gravity", [3.0, 7.5, 15.0, 30.0, 60.0])
def test_things_fall_as_asked_and_throws_have_room_for_it(gravity):
    for seed in range(4):
        states = Physics(size=32, scenario="thrown", gravity=(gravity,)).episode(seed).states
        fall = gravity / 200  # pixels per frame squared, at 32 px and 10 fps
        np.testing.assert_allclose(states["gravity"], fall)
        free = np.abs(np.diff(states["vy"][:, 0]) - fall) < 1e-6
        assert free[:15].all()
        np.testing.assert_allclose(np.diff(states["y"][:16, 0], n=2), fall, atol=1e-6)
        np.testing.assert_allclose(np.diff(states["vx"][:16, 0]), 0, atol=1e-6)
        colliding = Physics(size=32, scenario="colliding", gravity=(gravity,)).episode(seed).states["vy"]
        np.testing.assert_allclose(np.diff(colliding, axis=0)[:5], fall, atol=1e-6)


def test_each_episode_has_one_of_several_gravities_and_all_come_about_as_often():
    world = Physics(size=16, scenario="thrown", gravity=(6.0, 24.0))
    drawn = [np.unique(world.episode(seed).states["gravity"] * 400) for seed in range(60)]
    assert all(len(values) == 1 for values in drawn)
    assert {round(float(values[0]), 6) for values in drawn} == {6.0, 24.0}
    assert 18 < sum(values[0] > 12 for values in drawn) < 42


def test_what_rises_does_so_as_fast_as_it_fell():
    states = Physics(violation="rise", gravity=(20.0,)).episode(3).states
    frame = int(states["violation_frame"][0])
    np.testing.assert_allclose(np.diff(states["vy"][frame - 2 : frame + 2, 0]), [0.2, -0.2, -0.2], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 60}, "size: got 60, expected a multiple of 8"),
        ({"fps": 2}, "fps: got 2, expected 5 to 80"),
        ({"frames": 12}, "frames: got 12, expected at least 21"),
        ({"gravity": ()}, "gravity: got .*, expected values above 0"),
        ({"gravity": (12.0, 0.0)}, "gravity: got .*, expected values above 0"),
        ({"gravity": (61.0,)}, "gravity: got .*, at most 60"),
        ({"gravity": (float("nan"),)}, "gravity: got .*, expected values above 0"),
        ({"gravity": (8.0,), "scenario": "staged"}, "staged scenes have each their own"),
        ({"scenario": "rolling", "violation": "jump"}, "only thrown objects break the law; use scenario thrown"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Physics(**settings)


@pytest.mark.parametrize(("fps", "frames"), [(5, 21), (5, 60), (80, 21), (80, 300)])
def test_throws_are_found_at_every_rate(fps, frames):
    clip = Physics(size=16, fps=fps, frames=frames, violation="rise").episode(0)
    assert len(clip.frames) == frames
