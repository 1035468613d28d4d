"""A run trains on what it may, keeps the weights that the monitors choose, and goes on after a kill as if there was none."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretell import presets
from foretell.cli import main
from foretell.data.clip import View
from foretell.data.split import Split, Stretch, split_stretches
from foretell.data.store import ClipRecord, Statistics, Store
from foretell.data.writers import write_video
from foretell.errors import CheckpointError, ConfigError, DataError
from foretell.model.folder import load_model, save_model
from foretell.model.world_model import WorldModel
from foretell.surprise.stream import SurpriseConfig
from foretell.train.loop import TrainConfig
from foretell.train.run import (
    MONITOR_CLIPS,
    RunConfig,
    as_batch,
    development_windows,
    few_stretches,
    same_run_or_stop,
    stretch_clips,
    take_weights,
    window_batches,
)


def store_of(*lengths: int, fps: float = 10) -> Store:
    """Clip c's step t is blue 5 c, red t % 256, green t // 256: pixels tell where they come from."""
    frames = np.zeros((sum(lengths), 16, 24, 3), np.uint8)
    offsets = np.cumsum([0, *lengths])
    for clip, (begin, end) in enumerate(pairwise(offsets)):
        t = np.arange(end - begin)
        frames[begin:end] = np.stack([t % 256, t // 256, np.full(len(t), 5 * clip)], 1)[:, None, None]
    records = [
        ClipRecord(name=f"{c}.mp4", frames=n, seconds=n / fps, source_frames=n, crc32=c, shard="a", offset=int(at))
        for c, (n, at) in enumerate(zip(lengths, offsets, strict=False))
    ]
    statistics = Statistics(frames=len(frames), mean=(0, 0, 0), std=(1, 1, 1))
    view = View(height=16, width=24, fps=fps)
    return Store(where="here", view=view, clips=records, statistics=statistics, shards={"a": frames})


def places(frames: torch.Tensor) -> list[list[tuple[int, int]]]:
    """(clip, step) of every frame (B, T, 3, H, W), read back from its pixels."""
    r, g, b = frames[..., 0, 0].long().unbind(2)
    return [[(int(c) // 5, int(t)) for c, t in zip(*row, strict=True)] for row in zip(b, r + 256 * g, strict=True)]


def config_of(**train: Any) -> RunConfig:
    return RunConfig(model=presets.dense(), train=TrainConfig(**{"steps": 9, "window": 16, "batch": 3} | train))


def stretch(clip: int, start: int, length: int) -> Stretch:
    return Stretch(clip=clip, start=start, length=length)


def test_monitors_look_at_whole_windows_of_development_alone() -> None:
    split = Split(train=(stretch(0, 0, 90),), development=(stretch(1, 10, 70), stretch(2, 0, 15)), calibration=())
    frames = development_windows(store_of(100, 100, 40), split, config_of()).frames
    assert frames.shape == (2, 32, 3, 16, 24)
    assert places(frames) == [[(1, 10 + t) for t in range(32)], [(1, 42 + t) for t in range(32)]]


def test_windows_are_as_long_as_the_shortest_allows_and_spread_over_all_that_there_are() -> None:
    development = tuple(stretch(clip, 0, 20 + clip % 3) for clip in range(40))
    split = Split(train=(), development=development, calibration=())
    seen = places(development_windows(store_of(*[22] * 40), split, config_of()).frames)
    assert len(seen) == MONITOR_CLIPS
    assert {len(window) for window in seen} == {20}
    clips = [window[0][0] for window in seen]
    assert clips == sorted(set(clips))
    assert (clips[0], clips[-1]) == (0, 39)


@pytest.mark.parametrize(("window", "longest", "says"), [(16, 15, "16 steps: take a shorter"), (6, 8, "9 steps")])
def test_development_footage_that_is_too_short_is_told_before_training(window: int, longest: int, says: str) -> None:
    """Surprise looks at least 4 + 4 steps back, and what was trained for minutes should not fail on that."""
    split = Split(train=(), development=(stretch(0, 0, longest),), calibration=())
    with pytest.raises(DataError, match=says):
        development_windows(store_of(30), split, config_of(window=window))


@pytest.mark.parametrize("steps", [5, 40, 100, 1000])
def test_few_stretches_are_spread_over_all_and_within_their_measure(steps: int) -> None:
    all_of_them = tuple(stretch(clip, 3, 10 + clip % 3) for clip in range(60))
    chosen = few_stretches(all_of_them, steps)
    assert 0 < sum(s.length for s in chosen) <= steps
    assert len({s.clip for s in chosen}) == len(chosen)
    assert {(s.clip, s.start) for s in chosen} <= {(s.clip, s.start) for s in all_of_them}
    if steps >= 100:
        assert (chosen[0].clip, chosen[-1].clip) == (0, 59)
    if steps == 1000:
        assert chosen == all_of_them


def test_a_few_steps_of_every_long_recording_rather_than_many_of_one() -> None:
    chosen = few_stretches(tuple(stretch(clip, 0, 5000) for clip in range(10)), 2000)
    assert [(s.clip, s.length) for s in chosen] == [(clip, 200) for clip in range(10)]


def test_stretches_come_with_the_name_of_their_file_from_the_start_at_each_call() -> None:
    clips = stretch_clips(store_of(30, 300), (stretch(1, 260, 9), stretch(1, 4, 5), stretch(0, 0, 30)))
    for _ in range(2):
        found = list(clips())
        assert [name for name, _ in found] == ["1.mp4", "1.mp4", "0.mp4"]
        assert [places(as_batch([frames]))[0][0] for _, frames in found] == [(1, 260), (1, 4), (0, 0)]
        assert [len(frames) for _, frames in found] == [9, 5, 30]


def test_nothing_that_chooses_or_calibrates_is_trained_on() -> None:
    """A recording that was cut, clips that were not: an epoch and more, frame by frame."""
    store, config = store_of(1500, 300, 40, 30, 60), config_of()
    split = split_stretches(store.lengths, fps=10, calibration=0.3, development=0.2, seed=4)
    batches = window_batches(store, split, config.train)
    trained = {place for step in range(60) for window in places(batches(step).frames) for place in window}
    allowed = {(s.clip, s.start + t) for s in split.train for t in range(s.length)}
    kept_away = {(s.clip, s.start + t) for s in (*split.development, *split.calibration) for t in range(s.length)}
    assert trained <= allowed
    assert not trained & kept_away
    assert {clip for clip, _ in trained} == {clip for clip, _ in allowed}
    assert torch.equal(batches(7).frames, window_batches(store, split, config.train)(7).frames)


def test_batches_are_uint8_and_channels_last_in_memory() -> None:
    batch = as_batch([np.zeros((5, 16, 24, 3), np.uint8)] * 2)
    assert (batch.shape, batch.dtype) == ((2, 5, 3, 16, 24), torch.uint8)
    assert batch.stride(2) == 1


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    config, store = config_of(), store_of(30, 20)
    same_run_or_stop(tmp_path, config, store)
    same_run_or_stop(tmp_path, config_of(), store_of(30, 20))
    judged = SurpriseConfig(nearest=1, smooth=9)  # on weights that are done
    later = dataclasses.replace(config, surprise=judged)
    same_run_or_stop(tmp_path, later, store)
    for other, footage, named in (
        (config_of(seed=1), store, "train"),
        (dataclasses.replace(config, hold_out=0.3), store, "hold_out"),
        (dataclasses.replace(config, model=presets.pooled()), store, "model"),
        (config, store_of(30, 21), "clips"),
    ):
        with pytest.raises(ConfigError, match=rf"other settings \({named}\)"):
            same_run_or_stop(tmp_path, other, footage)


def noise_store(folder: Path) -> None:
    """A store of eight videos of drifting noise, in `folder`/store."""
    for number in range(8):
        noise = np.random.default_rng(number).normal(0, 10, (24, 4, 6, 3)).cumsum(0).repeat(8, 1).repeat(8, 2)
        write_video(folder / "videos" / f"{number}.mp4", np.clip(128 + noise, 0, 255).astype(np.uint8), 10)
    assert main(["ingest", f"{folder}/videos", "--out", f"{folder}/store", "--size", "16x24", "--workers", "1"]) == 0


def test_weights_of_a_folder_are_taken_before_the_first_step(tmp_path: Path) -> None:
    """A rate near zero leaves them as they were; config.json names the folder."""
    noise_store(tmp_path)
    torch.manual_seed(77)
    before = WorldModel(dataclasses.replace(presets.dense(), view=View(height=16, width=24)))
    save_model(tmp_path / "before", before, {})
    still = ["--steps", "2", "--batch", "3", "--window", "13", "--peak", "1e-12", "--weight-decay", "0"]
    start = ["--start-from", f"{tmp_path}/before"]
    assert main(["train", f"{tmp_path}/store", "--out", f"{tmp_path}/after", *still, *start]) == 0
    after = load_model(tmp_path / "after")
    for name, weights in before.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), weights, atol=1e-8, rtol=0)
    facts = json.loads((tmp_path / "after" / "config.json").read_text(encoding="utf-8"))
    assert facts["run"]["start_from"] == str(tmp_path / "before")


def test_weights_that_do_not_fit_or_are_not_there_are_told(tmp_path: Path) -> None:
    model = WorldModel(dataclasses.replace(presets.dense(), view=View(height=16, width=24)))
    save_model(tmp_path / "pooled", WorldModel(presets.pooled()), {})
    with pytest.raises(ConfigError, match=r"start from .*pooled: its weights do not fit"):
        take_weights(model, str(tmp_path / "pooled"))
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        take_weights(model, str(tmp_path / "none"))


DIES_AT_STEP_7 = """
import os, signal, sys
from foretell.cli import main
from foretell.train.loop import Metrics
write = Metrics.write
def write_and_die(self, step, values):
    write(self, step, values)
    if step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
Metrics.write = write_and_die
main(sys.argv[1:])
"""


def test_a_killed_train_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL after step 7, a checkpoint at 5, looks (and chosen weights) at 3 and 6; the same command resumes."""
    noise_store(tmp_path)
    short = [
        "--steps",
        "10",
        "--batch",
        "2",
        "--window",
        "13",
        "--tokens",
        "64",
        "--directions",
        "8",
        "--peak",
        "0.002",
    ]
    often = ["--check-every", "3", "--save-every", "5"]

    def command(out: str) -> list[str]:
        return ["train", f"{tmp_path}/store", "--out", f"{tmp_path}/{out}", *short, *often]

    killed = subprocess.run(
        [sys.executable, "-c", DIES_AT_STEP_7, *command("killed")], capture_output=True, env=dict(os.environ)
    )
    assert killed.returncode == -9, killed.stderr.decode()
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    assert main(command("killed")) == 0
    assert main(command("whole")) == 0
    for name in ("model.safetensors", "surprise.safetensors", "calibration.json", "controls/motion.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name

    diaries = [(tmp_path / out / "metrics.jsonl").read_text().splitlines() for out in ("killed", "whole")]
    for went_on, whole in zip(*(map(json.loads, diary) for diary in diaries), strict=True):
        assert {k: v for k, v in went_on.items() if k != "frames_per_second"} == {
            k: v for k, v in whole.items() if k != "frames_per_second"
        }
