"""Record a world: one H.264 file per episode, and beside them tables of the true states and of what was done."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foretell.data.actions import ACTIONS, RECORDING, STATES
from foretell.data.clip import Clip
from foretell.errors import ConfigError, DataError
from foretell.log import progress as progress_bar
from foretell.log import write_whole
from foretell.worlds.played import Played
from foretell.worlds.world import World

_ROWS_AT_ONCE = 100_000
USUAL_CRF = 16
"""Of H.264, beside which nobody sees a difference."""


@dataclass(frozen=True, kw_only=True)
class RecordSummary:
    """What a recording left on disk."""

    out: Path
    """The folder: seed1_00000.mp4 and on, states.parquet, recording.json, and actions.parquet where somebody acts."""
    episodes: int
    """Videos in the folder that belong to the recording."""
    written: int
    """Of them, those written now."""
    kept: int
    """Of them, those that an earlier run had finished."""
    frames: int
    """Frames of all of them together."""
    acted: bool = False
    """Whether what was done is recorded, too."""

    def __str__(self) -> str:
        """What the command line prints."""
        tables = f"{ACTIONS} and {STATES}" if self.acted else f"and {STATES}"
        return f"{self.out}: {self.episodes} videos, {self.frames} frames, {tables} ({self.kept} videos were there already)"


def record(
    world: World,
    out: Path | str,
    *,
    episodes: int,
    seed: int,
    workers: int = 1,
    progress: bool = True,
    lossless: bool = False,
) -> RecordSummary:
    """Write `episodes` videos of a world and the table of their true states to the folder `out`.

    Episode i depends on (world, seed, i) alone. states.parquet has a row for every episode, frame and object that there
    is; its columns are episode, file, frame, object and the world's states. A world without objects has a row a frame.
    Where somebody acts (Played), actions.parquet has a row a frame as well: file, frame, action_0 and on; and
    recording.json says what may be done: {"low": [...], "high": [...], "discrete": bool} under "actions".

    lossless: videos hold every pixel as the world shows it, which few browsers play; else they are good to look at, and half
    the colour resolution.

    A run that was cut short is finished by the same call; a longer one continues it. Several workers are processes of
    their own, so a script that asks for them must keep its own work under `if __name__ == "__main__"`.

    Raises ConfigError for impossible numbers, DataError if `out` cannot be written or holds another recording.
    """
    out = Path(out)
    if episodes < 1 or seed < 0 or workers < 1:
        got = f"episodes {episodes}, seed {seed}, workers {workers}"
        raise ConfigError(f"record: got {got}; expected at least 1 episode, a seed from 0 up, at least 1 worker")
    _import_pyarrow()  # before an hour's work, not after it
    _open_folder(out, world, episodes, seed, lossless)
    acted = isinstance(world, Played)
    states, actions = _Table(out / STATES), _Table(out / ACTIONS)
    written = frames = 0
    bar = progress_bar(episodes, "record", "episode") if progress else None
    try:
        for i, made in enumerate(_episodes(world, out, episodes, seed, workers, lossless)):
            file = episode_path(out, seed, i).name
            states.add(table_rows(i, file, made.states))
            if made.actions is not None:
                actions.add(action_rows(file, made.actions))
            written, frames = written + made.new, frames + made.frames
            if bar is not None:
                bar.update()
        if acted:
            actions.close()
        states.close()
    finally:
        _discard_parts(out, f".{os.getpid()}-*.part")  # after Ctrl-C; workers finish what they began
        if bar is not None:
            bar.close()
    return RecordSummary(
        out=out, episodes=episodes, written=written, kept=episodes - written, frames=frames, acted=acted
    )


def episode_seed(seed: int, episode: int) -> int:
    """The seed of one episode: 128 bits of (seed, episode), so that recordings of different seeds share no episode."""
    words = np.random.SeedSequence([seed, episode]).generate_state(4)
    return sum(int(word) << (32 * k) for k, word in enumerate(words))


def episode_path(out: Path, seed: int, episode: int) -> Path:
    """Where an episode's video lies. The seed is in its name, so that clips of two recordings can be told apart."""
    return out / f"seed{seed}_{episode:05d}.mp4"


class _Made(NamedTuple):
    """What is known of an episode beside its video."""

    states: dict[str, np.ndarray]
    actions: np.ndarray | None
    frames: int
    new: bool
    """Whether its video had still to be written."""


def _record_episode(world: World, path: Path, seed: int, crf: int) -> _Made:
    """Make one episode. A video under its name is complete."""
    clip: Clip = world.episode(seed)
    new = not path.exists()
    if new:
        from foretell.data.writers import write_video

        write_video(path, clip.frames, clip.fps, crf=crf)
    return _Made(clip.states, clip.actions, len(clip.frames), new)


def _episodes(world: World, out: Path, episodes: int, seed: int, workers: int, lossless: bool) -> Iterator[_Made]:
    """Every episode in order, whoever makes it; only a few episodes ahead, so that memory stays bounded."""
    crf = 0 if lossless else USUAL_CRF
    tasks = ((world, episode_path(out, seed, i), episode_seed(seed, i), crf) for i in range(episodes))
    if workers == 1:
        for task in tasks:
            yield _record_episode(*task)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        ahead: list[Future[_Made]] = []
        for task in tasks:
            ahead.append(pool.submit(_record_episode, *task))
            if len(ahead) > 4 * workers:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"{out}: a recording process died (out of memory, or killed); run the same command again to continue"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent lets each finish its episode


def _open_folder(out: Path, world: World, episodes: int, seed: int, lossless: bool) -> None:
    """Claim the folder for this recording, or make sure that it is this recording that it holds."""
    path = out / RECORDING
    settings: dict[str, Any] = {"world": repr(world), "seed": seed, "episodes": episodes, "lossless": lossless}
    if isinstance(world, Played):
        space = world.actions
        settings["actions"] = {"low": list(space.low), "high": list(space.high), "discrete": space.discrete}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same_recording(path, settings)
        elif any(out.glob("seed*_*.mp4")) or (out / STATES).exists():
            raise DataError(f"{out}: holds videos of another origin (no {RECORDING}); record to an empty folder")
        _discard_parts(out, ".*.part")  # of a run that was killed
    except OSError as error:
        raise DataError(f"{out}: cannot be written to ({error.strerror or error}); choose another folder") from error
    write_whole(path, json.dumps(settings, indent=1) + "\n")


def _discard_parts(out: Path, of: str) -> None:
    for part in out.glob(of):
        part.unlink(missing_ok=True)


def _check_same_recording(path: Path, settings: dict[str, Any]) -> None:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        before = {"lossless": False} | held
        held_episodes = int(held["episodes"])
        differ = [name for name in ("world", "seed", "lossless") if before[name] != settings[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is damaged ({error!r}); record to an empty folder") from error
    for name in differ:
        got, asked = before[name], settings[name]
        raise DataError(f"{path.parent}: holds a recording of {name} {got}, asked for {asked}; use another folder")
    if held_episodes > settings["episodes"]:
        asked = settings["episodes"]
        raise DataError(
            f"{path.parent}: holds a recording of {held_episodes} episodes, asked for {asked}; use another folder"
        )


class _Table:
    """A table, written a stretch of episodes at a time and given its name at the end."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.parent / f".{os.getpid()}-{path.name}.part"
        self._columns: dict[str, list[np.ndarray]] = {}
        self._rows = 0
        self._writer: Any = None

    def add(self, rows: dict[str, np.ndarray]) -> None:
        for name, values in rows.items():
            self._columns.setdefault(name, []).append(values)
        self._rows += len(rows["frame"])
        if self._rows >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        if self._rows or self._writer is None:
            self._flush()
        try:
            self._writer.close()
            os.replace(self._part, self._path)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _flush(self) -> None:
        arrow, parquet = _import_pyarrow()
        table = arrow.table({name: np.concatenate(parts) for name, parts in self._columns.items()})
        try:
            if self._writer is None:
                self._writer = parquet.ParquetWriter(self._part, table.schema)
            self._writer.write_table(table)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._columns, self._rows = {}, 0

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(f"{self._path}: cannot be written ({error}); make room and run the same command again")


def table_rows(episode: int, file: str, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """States, (T,), (T, N) or (T, N, K), as columns of one row per frame and object; objects that never are have none.

    A state with K parts becomes K columns (colour_0, colour_1, ...). An object is there while it has a shape. Without
    a state `shape` there are no objects, and there is a row per frame.
    """
    if "shape" not in states:
        steps = len(next(iter(states.values()), ()))
        return {"episode": np.full(steps, episode), "file": np.full(steps, file), "frame": np.arange(steps), **states}
    there = states["shape"] != ""
    steps, count = there.shape
    columns = {
        "episode": np.full((steps, count), episode),
        "file": np.full((steps, count), file),
        "frame": np.broadcast_to(np.arange(steps)[:, None], (steps, count)),
        "object": np.broadcast_to(np.arange(count), (steps, count)),
    }
    for name, values in states.items():
        if values.ndim == 1:
            columns[name] = np.broadcast_to(values[:, None], (steps, count))
        elif values.ndim == 2:
            columns[name] = values
        else:
            parts = values.reshape(steps, count, math.prod(values.shape[2:]))
            columns |= {f"{name}_{k}": parts[:, :, k] for k in range(parts.shape[2])}
    return {name: values[there] for name, values in columns.items()}


def action_rows(file: str, actions: np.ndarray) -> dict[str, np.ndarray]:
    """Actions (T, A) as columns of one row per frame: file, frame, action_0 and on."""
    columns = {f"action_{k}": actions[:, k] for k in range(actions.shape[1])}
    return {"file": np.full(len(actions), file), "frame": np.arange(len(actions)), **columns}


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError('record needs pyarrow, which is not installed: pip install "foretell[sim]"') from error
    return pyarrow, pyarrow.parquet
