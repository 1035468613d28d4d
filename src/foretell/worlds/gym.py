"""Any Gymnasium environment as a world that is acted in: pixels from its render() or from its observations."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.data.fit import Fitter
from foretell.errors import ConfigError
from foretell.worlds.world import one_action

_MOST_NUMBERS = 256  # an observation of more numbers is no list of quantities
_FASTEST = 30.0  # frames a second; a video that claims more would be thinned out when it is read


@dataclass(frozen=True, kw_only=True)
class GymConfig:
    """Which environment, and how it is shown and judged."""

    env: str
    """Its id, as gymnasium.make takes it: Pendulum-v1, or module:Env-v0, which imports the module first."""
    size: int = 64
    """Pixels of a side of the square frame; the picture is made smaller, with black bars where it is not square."""
    fps: float | None = None
    """Frames a second that recordings claim, one a step; the environment's own rate, at most 30, unless given."""
    tolerance: float = 0.1
    """Success is an observation that is off from the goal's by at most this share of `spread`, each number."""
    spread: tuple[float, ...] = ()
    """How much each number of the observation varies, such as its deviation in a recording; success needs it."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 8:
            raise ConfigError(f"gym size: got {self.size}, expected a multiple of 8 from 16 up")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ConfigError(f"gym fps: got {self.fps}, expected more than 0 and at most 1000")
        if self.tolerance <= 0 or not all(np.isfinite(value) and value > 0 for value in self.spread):
            got = f"got tolerance {self.tolerance}, spread {self.spread}"
            raise ConfigError(f"gym: {got}; expected numbers above 0")


class Gym:
    """The world of a GymConfig. It cannot be restored: Gymnasium does not say how.

    Its time limit is taken off; an episode is over when the environment itself ends it. A discrete action is given
    one-hot. A state is the observation, if it is a list of at most 256 numbers (or a dictionary of such), and else empty.
    """

    def __init__(self, config: GymConfig) -> None:
        self.config = config
        self._env = _make(config.env)
        self._pixels_seen = _is_picture(self._env.observation_space)
        if not self._pixels_seen and self._env.render_mode != "rgb_array":
            raise ConfigError(
                f"gym {config.env}: it neither renders to rgb_array nor observes pictures; there is nothing to see"
            )
        if not self._pixels_seen:
            _draw_plainly(self._env.unwrapped, config.size)
        self.actions = _action_space(self._env.action_space, config.env)
        rate = float(self._env.metadata.get("render_fps") or 10)
        self.fps = float(config.fps or min(rate, _FASTEST))
        self.quantities = tuple(f"obs_{k}" for k in range(_numbers(self._env.observation_space)))
        if config.spread and len(config.spread) != len(self.quantities):
            got = f"got {len(config.spread)} numbers"
            raise ConfigError(f"gym spread: {got}, expected one for each of {len(self.quantities)} of the observation")
        self.over = False
        self._seen: Any = None
        self._fitter = Fitter(View(height=config.size, width=config.size))

    def __repr__(self) -> str:
        return f"Gym({self.config!r})"

    def __reduce__(self) -> tuple[type[Gym], tuple[GymConfig]]:
        return Gym, (self.config,)  # windows and contexts stay where they are; a copy begins with its own reset

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`."""
        short = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(33))  # some take 31 bits
        self._seen, _ = self._env.reset(seed=short)
        self.over = False

    def step(self, action: np.ndarray) -> None:
        """Do an action (A,). Raises ConfigError, too, when the episode is over."""
        what = f"gym {self.config.env}"
        action = one_action(self.actions, action, what)
        if self.over:
            raise ConfigError(f"{what}: the episode is over; begin another one with reset")
        space = self._env.action_space
        if self.actions.discrete:
            if np.sort(action)[-1] != 1 or action.sum() != 1:
                raise ConfigError(f"{what}: got the action {action}, expected one 1, all else 0")
            done: Any = space.start + int(action.argmax())
        else:
            done = np.clip(action.reshape(space.shape), space.low, space.high).astype(
                space.dtype
            )  # off by 1e-6 at most
        self._seen, _, terminated, truncated, _ = self._env.step(done)
        self.over = bool(terminated or truncated)

    def render(self) -> np.ndarray:
        """What the environment shows, brought to the size."""
        picture = np.asarray(self._seen if self._pixels_seen else self._env.render())
        if picture.ndim == 2:
            picture = picture[..., None]
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
            got = f"{picture.dtype} {picture.shape}"
            raise ConfigError(f"gym {self.config.env}: its picture is {got}, expected uint8 (H, W, 3)")
        whole = np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
        frame = av.VideoFrame.from_ndarray(whole, format="rgb24")
        return np.array(self._fitter.paint(frame, None))

    def state(self) -> np.ndarray:
        """The observation's numbers."""
        if not self.quantities:
            return np.zeros(0)
        from gymnasium.spaces import flatten

        return np.array(flatten(self._env.observation_space, self._seen), np.float64)

    def success(self, goal: np.ndarray) -> bool:
        """Whether every number of the observation is near the one of the state `goal` (S,); see GymConfig."""
        if not self.config.spread:
            raise ConfigError(f"gym {self.config.env}: success needs GymConfig.spread, how much each number varies")
        off = np.abs(self.state() - np.asarray(goal, np.float64)) / self.config.spread
        return bool(off.max() <= self.config.tolerance)


def _make(env: str) -> Any:
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # needs no display
        os.environ.setdefault("LP_NUM_THREADS", "0")  # small pictures are not worth threads
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError('gym needs gymnasium, which is not installed: pip install "foretell[sim]"') from error
    try:
        return gymnasium.make(env, render_mode="rgb_array", max_episode_steps=-1, disable_env_checker=True)
    except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(f"gym {env}: cannot be made ({error})") from error


def _is_picture(space: Any) -> bool:
    """Whether observations are pictures: uint8 (H, W), (H, W, 1) or (H, W, 3)."""
    shape: tuple[int, ...] = getattr(space, "shape", None) or ()
    return space.dtype == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)))


def _numbers(space: Any) -> int:
    """S: how many numbers an observation is; 0 if it is no list of them."""
    from gymnasium.spaces import Box
    from gymnasium.spaces.utils import flatten_space

    if _is_picture(space):
        return 0
    try:
        flat = flatten_space(space)
    except (NotImplementedError, ValueError):
        return 0
    return flat.shape[0] if isinstance(flat, Box) and flat.shape[0] <= _MOST_NUMBERS else 0


def _action_space(space: Any, env: str) -> ActionSpace:
    from gymnasium.spaces import Box, Discrete

    if isinstance(space, Discrete):
        if space.n < 2:
            raise ConfigError(f"gym {env}: there is only one action, so that nothing can be chosen")
        return ActionSpace(low=(0.0,) * int(space.n), high=(1.0,) * int(space.n), discrete=True)
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise ConfigError(f"gym {env}: its actions are {space}; expected Discrete, or a Box of real numbers")
    if not space.is_bounded():
        raise ConfigError(
            f"gym {env}: its actions are {space}, without bounds; wrap it in gymnasium.wrappers.RescaleAction or ClipAction"
            " with bounds, and register that under an id of its own"
        )
    low, high = (tuple(float(value) for value in np.ravel(ends)) for ends in (space.low, space.high))
    return ActionSpace(low=low, high=high)


def _draw_plainly(env: Any, size: int) -> None:
    """MuJoCo: no shadows and no multisampling, which cost most of the time; twice the size, so that edges are soft."""
    quality = getattr(getattr(getattr(env, "model", None), "vis", None), "quality", None)
    if quality is None:
        return
    quality.shadowsize = 0
    quality.offsamples = 0
    renderer = getattr(env, "mujoco_renderer", None)
    if renderer is not None:
        renderer.width = renderer.height = 2 * size
