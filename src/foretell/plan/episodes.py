"""Tasks with goals that can be reached, from recorded episodes; and whoever acts in them, all side by side."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from foretell.errors import ConfigError, DataError
from foretell.worlds.played import Played
from foretell.worlds.policies import PolicyName
from foretell.worlds.record import episode_seed
from foretell.worlds.world import ActWorld

TRIES = 10
"""Episodes that may be tried for each task that is wanted."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which tasks are set. Everything is counted in frames, which are steps of the world."""

    episodes: int = 100
    """How many tasks, each from an episode of its own."""
    goal_ahead: int = 25
    """Frames from the start to the goal in the recorded episode."""
    budget: int = 50
    """Steps in which the goal must be reached; at any of them is enough."""
    lookback: int = 15
    """Frames before the start that whoever acts may have seen."""
    policy: PolicyName = "mixed"
    """Who acted in the recorded episodes."""
    frames: int = 100
    """Frames of a recorded episode."""
    seed: int = 90_000_001
    """Of the recording that the tasks come from: no episode of a recording of another seed is in it."""

    def __post_init__(self) -> None:
        if min(self.episodes, self.goal_ahead, self.budget) < 1 or self.lookback < 0:
            got = f"{self.episodes} episodes, goal {self.goal_ahead} ahead, budget {self.budget}"
            raise ConfigError(f"tasks: got {got}, lookback {self.lookback}; expected 1 or more, lookback 0 or more")
        if self.frames <= self.lookback + self.goal_ahead:
            got = f"got {self.frames} frames, a lookback of {self.lookback} and a goal {self.goal_ahead} ahead"
            raise ConfigError(f"tasks: {got}: an episode must be longer than both together")


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Begin where an episode was at some frame, and get to where it was later."""

    seed: int
    """Of the world's reset."""
    done: np.ndarray
    """(N, A), what was done from the reset to the start."""
    seen: np.ndarray
    """uint8 (L, H, W, 3), the last frames before the start; the start's own is not among them."""
    goal_frame: np.ndarray
    """uint8 (H, W, 3)."""
    goal: np.ndarray
    """(S,), the state to be reached."""
    there: Callable[[ActWorld], bool] | None = None
    """Whether a world is where it should be; unless given, whether it is near enough to `goal`, by the world's own rule."""

    def reached(self, world: ActWorld) -> bool:
        """Whether this world is there."""
        return world.success(self.goal) if self.there is None else self.there(world)


class Tasks(NamedTuple):
    """The tasks, and the starts that were left out."""

    tasks: tuple[Task, ...]
    solved: int  # starts at which the goal was reached already
    short: int  # episodes that ended before a goal


class Acts(NamedTuple):
    """What is to be done in n environments."""

    actions: np.ndarray  # (n, skip, A)
    alarmed: np.ndarray  # bool (n,) whoever acts has doubts, and says so


class Actor(Protocol):
    """Acts in many environments at once, `skip` frames at a time."""

    skip: int

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """Everything is at its start. The worlds are for those that know the truth; a model has no business with them."""
        ...

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """What to do in the environments `live` (n,), indices into the tasks, that look like `frames` (n, H, W, 3) now."""
        ...


class Outcomes(NamedTuple):
    """What became of n tasks."""

    reached: np.ndarray  # (n,) steps until success; 0: never
    alarmed: np.ndarray  # bool (n,) whoever acted said at some step that it had doubts
    decisions: int  # times that one environment was decided about
    seconds: float  # processor seconds that all decisions took, drawing worlds aside


def draw_tasks(world: ActWorld, config: TaskConfig, there: Callable[[ActWorld], bool] | None = None) -> Tasks:
    """Tasks in `world`, a function of (world, config, there). What is solved at the start is left out and counted.

    there: whether a world is where it should be, if that is not the recorded goal. Raises DataError if the world's episodes
    give too few.
    """
    played, tasks, solved, short = Played(copy.deepcopy(world), config.policy, config.frames), [], 0, 0
    for number in range(TRIES * config.episodes):
        seed = episode_seed(config.seed, number)
        clip = played.episode(seed)
        latest = len(clip.frames) - 1 - config.goal_ahead
        if latest < config.lookback:
            short += 1
            continue
        start = int(np.random.default_rng([seed, 2]).integers(config.lookback, latest + 1))
        assert clip.actions is not None
        states = np.stack([clip.states[name] for name in world.quantities], 1)
        task = Task(
            seed=seed,
            done=clip.actions[:start],
            seen=clip.frames[start - config.lookback : start].copy(),
            goal_frame=clip.frames[start + config.goal_ahead].copy(),
            goal=states[start + config.goal_ahead],
            there=there,
        )
        begun = begin_task(world, task)
        assert np.array_equal(begun.state(), states[start]), "the world is not deterministic"
        if task.reached(begun):
            solved += 1
            continue
        tasks.append(task)
        if len(tasks) == config.episodes:
            return Tasks(tuple(tasks), solved, short)
    got = f"{len(tasks)} of {config.episodes} tasks; {solved} starts were solved, {short} episodes too short"
    raise DataError(f"tasks in {world!r}: got {got}: set the goal farther ahead, or let episodes be longer")


def begin_task(world: ActWorld, task: Task) -> ActWorld:
    """A copy of the world at the task's start: reset, then what was done until then."""
    begun = copy.deepcopy(world)
    begun.reset(task.seed)
    for action in task.done:
        begun.step(action)
    return begun


def run_tasks(world: ActWorld, tasks: Sequence[Task], actor: Actor, budget: int) -> Outcomes:
    """Let `actor` act in all tasks side by side, each until its goal is reached or its budget spent."""
    worlds = [begin_task(world, task) for task in tasks]
    actor.begin(worlds, tasks)
    reached, alarmed = np.zeros(len(tasks), int), np.zeros(len(tasks), bool)
    decisions, seconds, live = 0, 0.0, np.arange(len(tasks))
    for step in range(0, budget, actor.skip):
        frames = np.stack([worlds[i].render() for i in live])
        before = time.process_time()
        acts = actor.act(live, frames)
        seconds += time.process_time() - before
        decisions += len(live)
        alarmed[live] |= acts.alarmed
        for i, actions in zip(live.tolist(), acts.actions, strict=True):
            reached[i] = _carry_out(worlds[i], tasks[i], actions[: budget - step], step)
        live = np.array([i for i in live.tolist() if not reached[i] and not worlds[i].over], int)
        if not len(live):
            break
    return Outcomes(reached, alarmed, decisions, seconds)


def _carry_out(world: ActWorld, task: Task, actions: np.ndarray, step: int) -> int:
    """Do actions (K, A) one by one; the step at which the goal is reached, 0 if it is not."""
    for number, action in enumerate(actions, start=step + 1):
        world.step(action)
        if task.reached(world):
            return number
        if world.over:
            break
    return 0
