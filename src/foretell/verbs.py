"""The verbs as Python functions, and the command line is these; `train` is in training.py. Libraries load when a verb is called."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from foretell.errors import ConfigError, DataError

if TYPE_CHECKING:
    from foretell.data.ingest import IngestSummary
    from foretell.serve.futures import FuturesSummary
    from foretell.serve.imagine import ImagineSummary
    from foretell.serve.watch import WatchSummary
    from foretell.surprise.calibrate import Calibration
    from foretell.train.branches import BranchesSummary
    from foretell.worlds.record import RecordSummary

Scenario = Literal["mixed", "thrown", "bouncing", "rolling", "colliding", "staged"]
Violation = Literal["none", "cube", "vanish", "jump", "hang", "rise"]
Fit = Literal["letterbox", "crop"]


def record(
    world: Positional[str],
    out: Path,
    *,
    episodes: int = 600,
    seed: int = 1,
    frames: int | None = None,
    size: int = 64,
    workers: int = 1,
    lossless: bool = False,
    policy: Literal["random", "smooth", "scripted", "mixed"] = "mixed",
    layout: Literal["two", "four"] = "two",
    hazards: int = 0,
    varied: bool = False,
    scenario: Scenario = "mixed",
    part: Literal["train", "development", "test"] = "train",
    shapes: Literal["varied", "ball"] = "varied",
    violation: Violation = "none",
    gravity: tuple[float, ...] = (12.0,),
    texture: float = 0.02,
    shadows: float = 0.0,
    noise: float = 0.0,
    jitter: float = 0.0,
    renderer: Literal["flat", "solid"] = "flat",
) -> RecordSummary:
    """Record a simulated world: real H.264 .mp4 files, and tables of the true states and of what was done.

    An option that the world does not read is an error.

    Args:
        world: physics, buoy (a ball in the wind), chance (a road that forks), rooms, pusht or gym:ENV_ID (any of
            Gymnasium, as gym:Pendulum-v1).
        out: Folder to write to; a recording that was cut short goes on.
        episodes: How many videos.
        seed: Every episode follows from (seed, its number).
        frames: Frames of an episode; 32 in physics and chance, 24 of the buoy, 100 elsewhere, unless given.
        size: Pixels of a side.
        workers: Processes side by side.
        lossless: Videos hold every pixel as the world shows it, for a model that will act there; few browsers play them.
        policy: Rooms, pusht, gym: who acts; mixed draws one of the three for each video.
        layout: Rooms: how many of them.
        hazards: Rooms: discs that can be entered and must not, 0 to 4.
        varied: Rooms: wall, doors (one or two) and hazards lie elsewhere in each video.
        scenario: Physics: what happens; staged: behind screens, against walls, off ledges, under other weight.
        part: Physics: of staged scenes, which share of every range their parameters come from; no two overlap.
        shapes: Physics: of the objects.
        violation: Physics: something impossible that happens to a thrown object in flight.
        gravity: Physics: one value, or several of which each video has one; 1/64 of the frame per second squared.
        texture: Physics: greatest departure of the background's brightness, as a share of white, 0 to 0.2.
        shadows: Physics: how dark the ground gets under objects, 0 to 0.6; each video draws from none to this, and so
            with the next two.
        noise: Physics: deviation of every pixel from frame to frame, as a share of white, 0 to 0.1.
        jitter: Physics: deviation of the camera's place from frame to frame, in units of 1/64 of the frame, 0 to 2.
        renderer: Physics: flat paints in 2-D; solid renders in 3-D with MuJoCo (the extra mujoco).
    """
    given = dict(locals())
    from foretell.worlds.named import named_world
    from foretell.worlds.record import record as record_world

    about_the_recording = ("world", "out", "episodes", "seed", "workers", "lossless")
    asked = inspect.signature(record).parameters.items()
    options = {key: given[key] for key, its in asked if key not in about_the_recording and given[key] != its.default}
    made = named_world(world, options)
    return record_world(made, Path(out), episodes=episodes, seed=seed, workers=workers, lossless=lossless)


def ingest(
    videos: Positional[Path],
    out: Path,
    *,
    size: str = "64",
    fps: float | None = None,
    fit: Fit = "letterbox",
    workers: int | None = None,
) -> IngestSummary:
    """Decode videos once into a clip store: one size, one rate, memory-mapped.

    Args:
        videos: A video, or a folder that is searched for videos and numbered images, folders inside it too.
        out: The store to write; an ingest that was cut short goes on.
        size: Pixels, as 64 or as HEIGHTxWIDTH; multiples of 8.
        fps: Steps a second, by time stamps; unless given, the middle one of the videos' rates, at most 30.
        fit: letterbox keeps all of the frame on black bars, crop fills the frame.
        workers: Processes side by side; as many as there are cores unless given.
    """
    from foretell.data.ingest import ingest as ingest_videos

    return ingest_videos(Path(videos), Path(out), view_size=parse_size(size), fps=fps, fit=fit, workers=workers)


def calibrate(
    model: Positional[Path], videos: Positional[Path], *, segment_seconds: float = 10.0, gap_seconds: float = 2.0
) -> Calibration:
    """Calibrate a model on further normal footage, which takes the place of what training had set aside.

    Args:
        model: The model folder.
        videos: Normal footage that the model was not trained on.
        segment_seconds: Recordings longer than this are cut into units of it; shorter clips are units whole.
        gap_seconds: Left out between two such units, so that they are nearly independent.
    """
    from foretell.serve.footage import videos_as_clips
    from foretell.surprise.panel import MODEL, load_panel
    from foretell.train.card import write_card

    one_thread()
    panel = load_panel(Path(model))
    footage = videos_as_clips(Path(videos), panel.view)
    panel.calibrate(footage, segment_seconds=segment_seconds, gap_seconds=gap_seconds)
    panel.save_calibrations(Path(model))
    write_card(Path(model))
    return panel.calibrations[MODEL]


def watch(
    model: Positional[Path],
    videos: Positional[Path],
    out: Path,
    *,
    alpha: float = 0.05,
    false_alarms_per_hour: float | None = None,
    stream_alpha: float | None = None,
) -> WatchSummary:
    """Watch videos: how surprised is the model, where and when? Writes surprise.csv, summary.json and report.html.

    Args:
        model: The model folder.
        videos: A video or a folder of them.
        out: Folder for the three files.
        alpha: At most this share of normal clips raises any alarm.
        false_alarms_per_hour: The same promise in other words; takes the place of alpha.
        stream_alpha: Also weigh all of it, in the order of names, as one stream: evidence that it is no longer normal, with
            at most this probability of ever a false alarm, over days or weeks. None leaves it out.
    """
    from foretell.serve.watch import watch as watch_videos
    from foretell.surprise.panel import MODEL, STRANGE, load_panel

    one_thread()
    panel = load_panel(Path(model))
    return watch_videos(
        Path(videos),
        Path(out),
        scorer=panel.scorers[MODEL],
        calibration=panel.calibrations.get(MODEL),
        controls=panel.controls,
        strangeness=panel.calibrations.get(STRANGE),
        alpha=alpha,
        false_alarms_per_hour=false_alarms_per_hour,
        stream_alpha=stream_alpha,
    )


def imagine(
    model: Positional[Path],
    clip: Positional[Path],
    out: Path = Path("imagined.mp4"),
    *,
    start: int = 8,
    horizon: int = 16,
    samples: int = 0,
    data: Path | None = None,
) -> ImagineSummary | FuturesSummary:
    """See a few steps of a clip, imagine the rest: a video and a film strip of true, imagined and difference.

    Or, with --samples, of the different ways in which it may go on and how likely each is.

    Args:
        model: The model folder.
        clip: A video.
        out: The video to write; film strip, curve and numbers lie beside it.
        start: Steps that are seen.
        horizon: Steps that are imagined.
        samples: Different futures to show at most, the likeliest first, by a model that has learned them (foretell branch).
        data: Store to fit the decoder on, if the one of the training is gone.
    """
    if samples:
        from foretell.serve.futures import imagine_futures

        return imagine_futures(
            Path(model), Path(clip), Path(out), samples=samples, start=start, horizon=horizon, data=data
        )
    from foretell.serve.imagine import imagine as imagine_clip

    return imagine_clip(Path(model), Path(clip), Path(out), start=start, horizon=horizon, data=data)


def branch(
    model: Positional[Path],
    *,
    codes: int = 2,
    horizon: int = 18,
    steps: int = 240,
    seed: int = 0,
    data: Path | None = None,
) -> BranchesSummary:
    """Learn the different futures of one past, on the frozen latents of a model that is trained, and put them in its folder.

    Args:
        model: The model folder, of the preset dense.
        codes: Futures that are told apart at most.
        horizon: Steps ahead that are learned; clips must have 4 more.
        steps: Training steps.
        seed: All random draws follow from it.
        data: Store that the model was trained on, if it has moved.
    """
    from foretell.model.branches import BranchesConfig
    from foretell.train.branches import BranchesTraining, learn_branches

    one_thread()
    config, training = BranchesConfig(codes=codes, horizon=horizon), BranchesTraining(steps=steps)
    return learn_branches(Path(model), data=data, config=config, training=training, seed=seed)


def parse_size(size: str) -> tuple[int, int]:
    """(height, width) of "64" or "128x192". Raises ConfigError."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
    if not found:
        raise ConfigError(f"size: got {size!r}, expected pixels as 64, or as HEIGHTxWIDTH like 128x192")
    return int(found[1]), int(found[2] or found[1])


def is_store(source: Path | str) -> bool:
    """Whether `source` names a clip store (a url, or a folder with store.json) and not a folder of videos. Raises DataError."""
    if "://" in str(source):
        return True
    path = Path(source)
    if not os.path.exists(path):  # os's, which says no to a name too long for the disk, where pathlib's raises
        raise DataError(f"{path}: no such file or folder; expected a clip store or a folder of videos")
    return path.is_dir() and ((path / "store.json").exists() or any(path.glob("frames-*.jsonl")))


def one_thread() -> None:
    """As in training: on busy cores two threads are many times slower than one (see TrainConfig.threads)."""
    import torch

    torch.set_num_threads(1)
