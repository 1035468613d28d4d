"""The renderer in 3-D shows the same scenes as the flat one, to the byte every time, and nothing of what is hidden."""

import dataclasses
import multiprocessing
import sys
import threading

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.worlds.dynamics import simulate
from foretell.worlds.physics import Physics
from foretell.worlds.quadruplets import quadruplet
from foretell.worlds.render import Look, draw
from foretell.worlds.scenes import BALL, SHAPES, Scene, Screen, Thing
from foretell.worlds.sight import sight
from foretell.worlds.solid import draw_solid
from foretell.worlds.stage import PROPERTIES, draw_pair

pytest.importorskip("mujoco", reason="mujoco is not installed")

WORLD = Physics(scenario="staged", part="test", frames=24, renderer="solid")


def black_on_white(shape: str, radius: float = 8.0, screens: tuple[Screen, ...] = ()) -> Scene:
    white = np.ones(3)
    body = Thing(shape=shape, radius=radius, colour=(0, 0, 0), x=0, y=0, vx=0, vy=0)
    return Scene(
        scenario="thrown",
        things=(body,),
        floor=60.0,
        slope=0.0,
        sky=(white, white),
        ground=white,
        texture=np.zeros((9, 9)),
        screens=screens,
    )


def one(paint, scene: Scene, x: float, y: float, angle: float = 0.0, size: int = 64, **more) -> np.ndarray:
    """One frame int (H, W, 3) of a scene of one object."""
    place = [np.full((1, 1), value) for value in (x, y, angle)]
    shape = np.full((1, 1), scene.things[0].shape)
    return paint(scene, size, *place, shape, np.ones((1, 1), bool), **more)[0].astype(int)


@pytest.fixture(scope="module", autouse=True)
def _needs_opengl():
    try:
        one(draw_solid, black_on_white(BALL), 32.0, 32.0)
    except ConfigError as error:
        if "OpenGL" not in str(error):
            raise
        pytest.skip(f"MuJoCo is here, but this machine has no EGL: {error}")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 96])
def test_things_are_where_the_flat_renderer_has_them(shape, size):
    rng = np.random.default_rng(0)
    centres = np.arange(size) + 0.5
    for _ in range(6):
        x, y = rng.uniform(0.3 * size, 0.6 * size, 2)
        turn = float(rng.uniform(-4, 4))
        dark = [255 - one(paint, black_on_white(shape), x, y, turn, size).mean(2) for paint in (draw, draw_solid)]
        dark[1][round(0.8 * size) :] = 0  # the ground's white is a shade darker
        flat, solid = (
            [(d * centres).sum() / d.sum(), (d * centres[:, None]).sum() / d.sum()] for d in (np.where(d > 8, d, 0) for d in dark)
        )  # fmt: skip
        # what has a depth shows more of itself on the side towards the middle and above
        np.testing.assert_allclose(solid, flat, atol=0.25 if shape == BALL else size / 64)
        most = 1.1 if shape == BALL else 1.45
        assert 0.95 < (dark[1] > 128).sum() / (dark[0] > 128).sum() < most


def test_a_fifth_of_a_pixel_shows():
    x = 30 + np.arange(11) / 5
    places = [255.0 - one(draw_solid, black_on_white(BALL), float(a), 30.0).mean(2) for a in x]
    centre = [(np.where(d > 8, d, 0) * (np.arange(64) + 0.5)).sum() / np.where(d > 8, d, 0).sum() for d in places]
    np.testing.assert_allclose(centre, x, atol=0.15)


def test_things_turn_the_way_they_turn_in_2d():
    for turn in (0.3, 0.6, 1.5):
        flat, right, wrong = (
            one(paint, black_on_white("triangle"), 32.0, 30.0, at).mean(2) < 128
            for paint, at in ((draw, turn), (draw_solid, turn), (draw_solid, -turn))
        )
        assert (flat & right).sum() > 0.97 * flat.sum() > 1.1 * (flat & wrong).sum()


def test_what_is_lit_has_shades_and_colours_of_the_scene():
    scene = Physics(scenario="thrown", renderer="solid", texture=0.0).episode(3)
    flat = Physics(scenario="thrown", texture=0.0).episode(3)
    np.testing.assert_allclose(scene.frames[0, :3].astype(int), flat.frames[0, :3].astype(int), atol=3)  # the sky
    np.testing.assert_allclose(scene.frames[0, -3:].astype(int), flat.frames[0, -3:].astype(int), atol=3)  # the ground
    ball = one(draw_solid, dataclasses.replace(black_on_white(BALL), things=(red_ball(),)), 32.0, 30.0)
    assert ball[24:27, 30:34, 0].mean() > 1.5 * ball[34:37, 30:34, 0].mean()


def red_ball() -> Thing:
    return Thing(shape=BALL, radius=8.0, colour=(0.8, 0.1, 0.1), x=0, y=0, vx=0, vy=0)


@pytest.mark.parametrize("shadows", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["permanence", "shape", "solidity", "collision", "support", "container"])
def test_what_is_covered_is_not_seen_nor_is_its_shadow(kind, shadows):
    scene = draw_pair(np.random.default_rng(4), kind, "train")[0]
    path = simulate(scene, 24, 10)
    covered = sight(scene, path, 10)["covered"].all(1)
    assert covered.any()
    there, gone = (
        draw_solid(
            scene, 64, path["x"], path["y"], path["angle"], path["shape"], path["visible"] & seen,
            look=Look(shadows=shadows),
        )
        for seen in (True, False)
    )  # fmt: skip
    assert (there[covered] == gone[covered]).all()
    assert (there != gone).any()


def test_a_screen_hides_no_more_than_it_covers_by_a_pixel_or_so():
    screen = Screen(left=24.0, right=40.0, top=20.0, bottom=62.0, colour=(1.0, 1.0, 1.0))
    frame = one(draw_solid, black_on_white(BALL, 4.0, (screen,)), 32.0, 10.0)
    face = (frame < 230).any(2)  # the lit side of a white screen is greyer than the white behind it
    face[:18] = False  # the ball
    rows, columns = np.flatnonzero(face.any(1)), np.flatnonzero(face.any(0))
    assert abs(columns[0] - 24) <= 1
    assert abs(columns[-1] + 1 - 40) <= 1
    assert abs(rows[0] - 20) <= 1


def test_a_screen_rises_and_falls_and_is_gone_before_and_after():
    screen = Screen(left=20.0, right=44.0, top=30.0, bottom=62.0, colour=(0.0, 0.0, 0.0), rises=0.5, falls=1.5)
    scene = dataclasses.replace(black_on_white(BALL, 4.0, (screen,)), things=())
    none = np.zeros((24, 0))
    dark = (draw_solid(scene, 64, none, none, none, none.astype(str), none.astype(bool)) < 60).sum((1, 2, 3))
    assert (dark[:6] == 0).all()
    assert (dark[19:] == 0).all()
    assert dark[6] < dark[7] < dark[8] == dark[14] > dark[16] > dark[17]


@pytest.mark.parametrize("kind", PROPERTIES)
def test_a_pixel_copy_is_exactly_at_chance(kind):
    rough = dataclasses.replace(WORLD, part="development", size=48, shadows=0.5, noise=0.05, jitter=1.0)
    for world, seed in ((WORLD, 0), (rough, 1)):
        four = quadruplet(world, kind, seed)
        clips = [*(clip.frames for clip in four.possible), *four.impossible]
        surprises = [np.abs(np.diff(frames.astype(int), axis=0)).sum() for frames in clips]
        assert surprises[0] + surprises[1] == surprises[2] + surprises[3]


def test_bytes_repeat_in_any_order_thread_and_process():
    def bytes_of(seed: int) -> bytes:
        return WORLD.episode(seed).frames.tobytes()

    first = [bytes_of(seed) for seed in (1, 2)]
    dataclasses.replace(WORLD, size=96, shadows=0.6).episode(3)  # leaves nothing behind
    assert [bytes_of(seed) for seed in (2, 1)] == first[::-1]
    said = []
    thread = threading.Thread(target=lambda: said.append(bytes_of(1)))
    thread.start()
    thread.join()
    assert said == first[:1]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(WORLD.episode, [2])[0].frames.tobytes() == first[1]


def test_a_ball_can_turn_into_a_cube_and_vanish():
    shows = {}
    for violation in ("none", "cube", "vanish"):
        clip = Physics(scenario="thrown", shapes="ball", violation=violation, renderer="solid").episode(5)
        shows[violation] = clip.frames
        frame = int(clip.states["violation_frame"][0])
    assert (shows["cube"] != shows["none"]).any((1, 2, 3))[frame:].all()
    assert (shows["vanish"][frame:] == shows["vanish"][-1]).all()


def test_missing_mujoco_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ConfigError, match=r"foretell\[mujoco\]"):
        WORLD.episode(0)


def test_missing_opengl_is_one_clear_line(monkeypatch):
    import mujoco

    def broken(width: int, height: int) -> None:
        raise ImportError("Cannot initialize a EGL device display")

    monkeypatch.setattr(mujoco, "GLContext", broken)
    monkeypatch.setenv("MUJOCO_GL", "other")
    said = []

    def draw_in_thread() -> None:  # a new thread has no context yet
        try:
            WORLD.episode(0)
        except ConfigError as error:
            said.append(str(error))

    thread = threading.Thread(target=draw_in_thread)
    thread.start()
    thread.join()
    assert "no OpenGL for MuJoCo (Cannot initialize" in said[0]
