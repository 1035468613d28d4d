"""The same scenes in 3-D, drawn by MuJoCo as a camera with perspective sees them.

Objects move in one plane, which the camera looks straight at: a point of it is seen where the flat renderer paints it.
The camera stands above the middle with its lens shifted down, as photographers of buildings do it: one sees the tops of
things, and yet no distance in that plane is distorted. Things have a depth; screens stand before them all.

World axes, in units of 1/64 of the frame: x to the right, y away from the camera, z up; the origin is in the middle of
the frame, in the plane of the objects.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from foretell.errors import ConfigError
from foretell.worlds.render import PLAIN, Look, draw_backdrop, through_the_camera
from foretell.worlds.scenes import BALL, POLYGONS, Colour, Scene, Screen, Thing

DISTANCE, HEIGHT = 180.0, 32.0
"""Of the camera: from the plane of the objects, and above the middle of the frame."""
DEPTH = math.sqrt(math.pi) / 2
"""Half the depth of a shape that is no ball, as a share of its radius: that of a cube."""
BLOCK_DEPTH = 7.5
"""Half the depth of walls and ledges: what moves on stage has room on them."""
SCREEN_FRONT, SCREEN_BACK = -12.5, -10.0
"""Screens stand before the greatest ball, and so close that they hide little more than what is behind them in 2-D."""
BACK_WALL = 22.0
"""Where the floor ends and the sky begins."""
KEY, LAMP = (0.3, 0.5, -0.81), (0.0, 0.42, -0.91)
"""Which way the light falls that shades things, and the one that casts shadows: to the back, never to a side, so that a
screen hides the shadows of what it hides."""
AMBIENT = 0.4
"""Share of the light on level ground that comes from everywhere."""
SHADOW_MAP = 512
SAMPLES = 2
"""Rendered pixels to a side of each pixel, so that edges are soft. Without a graphics card MuJoCo's own way costs more."""
_TEXELS = 64
_AWAY = (0.0, 0.0, -1000.0)  # far under the floor

_Point = tuple[float, float, float]
_Part = tuple[int, str]
"""The object n in one of the shapes that it takes on."""


def draw_solid(
    scene: Scene,
    size: int,
    x: np.ndarray,
    y: np.ndarray,
    angle: np.ndarray,
    shape: np.ndarray,
    visible: np.ndarray,
    *,
    fps: int = 10,
    look: Look = PLAIN,
) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of a scene whose N objects move as told, in 3-D; all arguments as in `render.draw`.

    Equal arguments give equal bytes on one machine. Raises ConfigError without MuJoCo, or without OpenGL for it.
    """
    mujoco = _import_mujoco()
    parts = [(n, str(name)) for n in range(len(scene.things)) for name in np.unique(shape[:, n])]
    model = mujoco.MjModel.from_xml_string(_model(scene, parts, size, look))
    _paint_textures(model, scene, look)
    frames = np.empty((len(x), SAMPLES * size, SAMPLES * size, 3), np.uint8)
    with closing(_Camera(mujoco, model)) as camera:
        for t, frame in enumerate(frames):
            for k, (n, name) in enumerate(parts):
                shown = visible[t, n] and shape[t, n] == name
                place = _world(x[t, n] * 64 / size, y[t, n] * 64 / size) if shown else _AWAY
                # a sphere is a net of triangles: it would flicker as it turns, and shows no turn else
                camera.put(k, place, 0.0 if name == BALL or not shown else float(angle[t, n]))
            for k, screen in enumerate(scene.screens, len(parts)):
                camera.put(k, _screen_place(scene, screen, t / fps), 0.0)
            camera.shoot(frame)
    return through_the_camera(_pooled(frames, size), look)


def _world(x: float, y: float, depth: float = 0.0) -> _Point:
    """The point at `depth` that is seen at (x, y) of the frame; all in units."""
    away = (DISTANCE + depth) / DISTANCE
    return (x - 32) * away, depth, HEIGHT + (32 - y - HEIGHT) * away


def _screen_place(scene: Scene, screen: Screen, time: float) -> _Point:
    """The middle of a screen that comes out of the floor, its upper edge where the flat renderer has it."""
    height = float(screen.height(np.array(time)))
    top = _world(32, screen.bottom - height, SCREEN_FRONT)[2]
    middle = _world((screen.left + screen.right) / 2, 32, SCREEN_FRONT)[0]
    return (middle, (SCREEN_FRONT + SCREEN_BACK) / 2, top - _screen_half(scene, screen)[2]) if height > 0 else _AWAY


def _screen_half(scene: Scene, screen: Screen) -> _Point:
    """Half the extent of a screen in the world; what stands on the floor reaches into it."""
    left, _, top = _world(screen.left, screen.top, SCREEN_FRONT)
    right, _, bottom = _world(screen.right, screen.bottom, SCREEN_FRONT)
    if screen.bottom >= scene.floor:
        bottom = min(bottom, 31 - scene.floor)
    return (right - left) / 2, (SCREEN_BACK - SCREEN_FRONT) / 2, (top - bottom) / 2


def _model(scene: Scene, parts: list[_Part], size: int, look: Look) -> str:
    """MuJoCo's XML; its bodies are the parts, then the screens.

    No pixel may depend on what it does not show: bounds and lights are given, where MuJoCo would find them by all there is.
    """
    outlines = [
        _prism(f"part{k}", POLYGONS[name] * scene.things[n].radius, DEPTH * scene.things[n].radius)
        for k, (n, name) in enumerate(parts)
        if name != BALL
    ]
    outlines += [_prism(f"block{k}", np.array(b.corners) - 32, BLOCK_DEPTH) for k, b in enumerate(scene.blocks)]
    bodies = [_part(f"part{k}", scene.things[n], name) for k, (n, name) in enumerate(parts)]
    bodies += [_box(_screen_half(scene, screen), screen.colour) for screen in scene.screens]
    blocks = [f'<geom type="mesh" mesh="block{k}" rgba="{_text(b.colour)} 1"/>' for k, b in enumerate(scene.blocks)]
    ambient, key, lamp = _powers(look.shadows)
    return f"""<mujoco>
  <statistic extent="1" meansize="1" center="0 0 0"/>
  <visual>
    <global offwidth="{SAMPLES * size}" offheight="{SAMPLES * size}"/>
    <quality offsamples="0" shadowsize="{SHADOW_MAP if look.shadows else 0}"/>
    <map znear="{DISTANCE / 2}" zfar="{2 * DISTANCE}" shadowclip="70"/>
    <headlight active="0"/>
  </visual>
  <asset>
    {_surface("sky", 1 - ambient - key * KEY[1] - lamp * LAMP[1])}
    {_surface("ground", 0.0)}
    {"".join(outlines)}
  </asset>
  <worldbody>
    <camera pos="{_text((0, -DISTANCE, HEIGHT))}" xyaxes="1 0 0 0 0 1"/>
    {_lights(look.shadows)}
    {_backdrop(scene)}
    {"".join(blocks)}
    {"".join(f'<body mocap="true">{geom}</body>' for geom in bodies)}
  </worldbody>
</mujoco>"""


def _part(name: str, thing: Thing, shape: str) -> str:
    what = f'type="sphere" size="{_text([thing.radius])}"' if shape == BALL else f'type="mesh" mesh="{name}"'
    return f'<geom {what} rgba="{_text(thing.colour)} 1"/>'


def _box(half: _Point, colour: Colour) -> str:
    return f'<geom type="box" size="{_text(half)}" rgba="{_text(colour)} 1"/>'


def _prism(name: str, outline: np.ndarray, depth: float) -> str:
    """A mesh: a convex outline (K, 2) of the frame, y downward, from -depth to depth. No two faces share a corner, so
    that each has its own normal and edges stay sharp."""
    x, z = outline[:, 0], -outline[:, 1]
    if np.sum(x * np.roll(z, -1) - np.roll(x, -1) * z) < 0:  # as the camera sees it, front faces turn to the left
        x, z = x[::-1], z[::-1]
    front, back = (np.stack([x, np.full(len(x), y), z], 1) for y in (-depth, depth))
    ahead, behind = np.roll(front, -1, axis=0), np.roll(back, -1, axis=0)
    faces = [front, back[::-1], *np.stack([front, back, behind, ahead], 1)]
    starts = np.cumsum([0, *map(len, faces)])
    corners = np.concatenate(faces).ravel()
    across = [np.cross(face[1] - face[0], face[2] - face[0]) for face in faces]
    normals = np.concatenate([np.tile(n / np.linalg.norm(n), len(face)) for n, face in zip(across, faces, strict=True)])
    triangles = [
        f"{start} {start + k} {start + k + 1}"
        for start, face in zip(starts, faces, strict=False)
        for k in range(1, len(face) - 1)
    ]
    return f'<mesh name="{name}" vertex="{_text(corners)}" normal="{_text(normals)}" face="{" ".join(triangles)}"/>'


def _surface(name: str, emission: float) -> str:
    """A material whose picture `_paint_textures` paints."""
    texture = f'<texture name="{name}" type="2d" builtin="flat" width="{_TEXELS}" height="{_TEXELS}"/>'
    return f'{texture}<material name="{name}" texture="{name}" emission="{_text([emission])}"/>'


def _powers(shadows: float) -> tuple[float, float, float]:
    """Ambient light, key and lamp: on level ground they sum up to 1, and to 1 - shadows where the lamp does not reach."""
    return (1 - shadows) * AMBIENT, (1 - shadows) * (1 - AMBIENT) / -KEY[2], shadows / -LAMP[2]


def _lights(shadows: float) -> str:
    ambient, key, lamp = _powers(shadows)
    lights = [f'dir="{_text(KEY)}" castshadow="false" ambient="{_text([ambient] * 3)}" diffuse="{_text([key] * 3)}"']
    if shadows:
        lights.append(f'dir="{_text(LAMP)}" diffuse="{_text([lamp] * 3)}"')
    return "".join(f'<light directional="true" pos="0 0 100" specular="0 0 0" {light}/>' for light in lights)


def _backdrop(scene: Scene) -> str:
    """The floor, and the sky upright behind it, a little more of both than the camera sees."""
    left, _, bottom = _world(-2, 66, BACK_WALL)
    right, _, top = _world(66, -2, BACK_WALL)
    half, middle = (right - left) / 2, (top + bottom) / 2
    turn = math.atan(scene.slope) / 2
    deep = (BACK_WALL + DISTANCE / 2) / 2
    return (
        f'<geom type="plane" material="sky" size="{_text((half, half, 1))}" pos="{_text((0, BACK_WALL, middle))}"'
        f' xyaxes="1 0 0 0 0 1"/>'
        f'<geom type="plane" material="ground" size="{_text((half + 10, deep, 1))}"'
        f' pos="{_text((0, BACK_WALL - deep, 32 - scene.floor))}"'
        f' quat="{_text((math.cos(turn), 0, math.sin(turn), 0))}"/>'
    )


def _text(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)


def _paint_textures(model: Any, scene: Scene, look: Look) -> None:
    """Paint sky and ground as the flat renderer has them where there is nothing but the one or the other."""
    for texture, floor in enumerate((1000.0, -1000.0)):
        picture = draw_backdrop(replace(scene, floor=floor, blocks=()), _TEXELS, look)
        start = int(model.tex_adr[texture])
        model.tex_data[start : start + picture.size] = np.rint(255 * picture).astype(np.uint8).ravel()


def _pooled(frames: np.ndarray, size: int) -> np.ndarray:
    """Rendered pixels (T, H * SAMPLES, W * SAMPLES, 3) -> their means (T, H, W, 3), uint8."""
    parts = frames.reshape(len(frames), size, SAMPLES, size, SAMPLES, 3)
    total = np.full((len(frames), size, size, 3), SAMPLES**2 // 2, np.uint16)
    for row in range(SAMPLES):
        for column in range(SAMPLES):
            total += parts[:, :, row, :, column]
    return (total // SAMPLES**2).astype(np.uint8)


class _Camera:
    """Takes pictures of a model, as wide as the model says. Each has OpenGL objects of its own, so that no scene leaves
    anything to the next."""

    def __init__(self, mujoco: ModuleType, model: Any) -> None:
        self._mujoco, self._model, self._data = mujoco, model, mujoco.MjData(model)
        mujoco.mj_forward(model, self._data)
        self._view = mujoco.MjvCamera()
        self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        self._option, self._scene = mujoco.MjvOption(), mujoco.MjvScene(model, maxgeom=model.ngeom)
        try:
            _make_opengl_current(mujoco)
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except Exception as error:  # each platform raises its own
            raise _no_opengl(error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def put(self, body: int, place: _Point, angle: float) -> None:
        """Move a body; `angle` turns it clockwise, as the camera sees it."""
        self._data.mocap_pos[body] = place
        self._data.mocap_quat[body] = math.cos(angle / 2), 0, math.sin(angle / 2), 0

    def shoot(self, frame: np.ndarray) -> None:
        """Fill a frame uint8 (H, W, 3)."""
        mujoco, height, width = self._mujoco, *frame.shape[:2]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        for eye in self._scene.camera:  # in XML a lens can be shifted, too, but versions differ over the sign
            scale = eye.frustum_near / DISTANCE
            eye.frustum_bottom, eye.frustum_top = (-32 - HEIGHT) * scale, (32 - HEIGHT) * scale
        whole = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(whole, self._scene, self._context)
        upward = np.empty_like(frame)
        mujoco.mjr_readPixels(upward, None, whole, self._context)
        frame[:] = upward[::-1]

    def close(self) -> None:
        """Free what it holds of OpenGL."""
        self._context.free()


_opengl = threading.local()


def _make_opengl_current(mujoco: ModuleType) -> None:
    """One OpenGL context for each thread, as it takes long to start; a forked process cannot use its parent's."""
    if getattr(_opengl, "process", None) != os.getpid():
        _opengl.context, _opengl.process = _kind_of_context(mujoco)(1, 1), os.getpid()
        atexit.register(_opengl.context.free)  # before the interpreter takes the library away from it
    _opengl.context.make_current()


def _kind_of_context(mujoco: ModuleType) -> Any:
    if os.environ.get("MUJOCO_GL") != "egl":
        return mujoco.GLContext
    # mujoco.GLContext is another one if somebody imported mujoco before the variable was set
    from mujoco.egl import GLContext

    return GLContext


def _import_mujoco() -> ModuleType:
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # needs no display
        # Mesa without a graphics card: pictures as small as these are not worth threads, and a fork would wait for them
        os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise ConfigError(
            'the solid renderer needs mujoco, which is not installed: pip install "foretell[mujoco]"'
        ) from error
    except Exception as error:
        raise _no_opengl(error) from error  # mujoco looks for it as it is imported
    return mujoco


def _no_opengl(error: Exception) -> ConfigError:
    return ConfigError(
        f"the solid renderer found no OpenGL for MuJoCo ({error}); install EGL (Debian: libegl1 and libgl1-mesa-dri),"
        " or take renderer flat"
    )
