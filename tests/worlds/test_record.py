"""Recordings: real videos, a true table, finished after a kill, never mixed up with another."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as parquet
import pytest

from foretell.data import writers
from foretell.errors import ConfigError, DataError
from foretell.worlds import record as recording
from foretell.worlds.physics import Physics
from foretell.worlds.played import Played
from foretell.worlds.record import episode_seed, record, table_rows
from foretell.worlds.rooms import Rooms, RoomsConfig

LUMA = np.array([0.299, 0.587, 0.114])
world = Physics(size=32, frames=21, scenario="colliding")


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_videos_are_readable_and_show_the_episodes(tmp_path):
    summary = record(world, tmp_path / "new" / "folder", episodes=3, seed=4, progress=False)
    assert (summary.episodes, summary.written, summary.kept, summary.frames) == (3, 3, 0, 63)
    for i in range(3):
        seen = decode(summary.out / f"seed4_{i:05d}.mp4")
        true = world.episode(episode_seed(4, i)).frames
        assert seen.shape == true.shape
        assert np.abs(seen.astype(int) - true).mean() < 5
    with av.open(str(summary.out / "seed4_00000.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == 10


def test_small_shapes_survive_the_codec(tmp_path):
    clips = Physics(violation="vanish")
    record(clips, tmp_path, episodes=6, seed=0, progress=False)
    centres = np.arange(64) + 0.5
    for i in range(6):
        clip = clips.episode(episode_seed(0, i))
        frame, colour = int(clip.states["violation_frame"][0]), clip.states["colour"][0, 0] @ LUMA
        seen, true = decode(tmp_path / f"seed0_{i:05d}.mp4")[:frame] @ LUMA, clip.frames[:frame] @ LUMA
        backdrop = clip.frames[-1] @ LUMA
        there = np.abs(true - backdrop) > 0
        before, after = (np.where(there, np.clip((x - backdrop) / (colour - backdrop), 0, 2), 0) for x in (true, seen))
        np.testing.assert_allclose(after.sum(axis=(1, 2)), before.sum(axis=(1, 2)), rtol=0.06)
        for axis in (1, 2):
            place = [x.sum(axis=axis) @ centres / x.sum(axis=(1, 2)) for x in (before, after)]
            np.testing.assert_allclose(*place, atol=0.15)


def test_table_has_a_row_for_every_episode_frame_and_object(tmp_path):
    mixed = Physics(size=16, frames=21)
    record(mixed, tmp_path, episodes=8, seed=2, progress=False)
    table = parquet.read_table(tmp_path / "states.parquet")
    rows = {(row["episode"], row["frame"], row["object"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    for i in range(8):
        states = mixed.episode(episode_seed(2, i)).states
        for t in range(21):
            for n in range(2):
                if states["shape"][t, n] == "":
                    assert (i, t, n) not in rows
                    continue
                row = rows[i, t, n]
                assert row["file"] == f"seed2_{i:05d}.mp4"
                assert row["x"] == states["x"][t, n]
                assert row["shape"] == states["shape"][t, n]
                assert [row[f"colour_{k}"] for k in range(3)] == states["colour"][t, n].tolist()
                assert row["scenario"] == states["scenario"][t]


def test_rows_of_states_of_every_rank():
    states = {
        "shape": np.array([["ball", ""], ["ball", "cube"], ["", "cube"]]),
        "x": np.arange(6.0).reshape(3, 2),
        "colour": np.arange(18).reshape(3, 2, 3),
        "step": np.array([5, 6, 7]),
    }
    rows = table_rows(9, "a.mp4", states)
    assert rows["frame"].tolist() == [0, 1, 1, 2]
    assert rows["object"].tolist() == [0, 0, 1, 1]
    assert rows["x"].tolist() == [0, 2, 3, 5]
    assert rows["colour_2"].tolist() == [2, 8, 11, 17]
    assert rows["step"].tolist() == [5, 6, 6, 7]
    assert set(rows["episode"]) == {9}


def test_continues_what_was_cut_short_to_the_same_bytes(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    record(world, whole, episodes=4, seed=1, progress=False)
    record(world, cut, episodes=2, seed=1, progress=False)
    (cut / "states.parquet").unlink()  # as a kill between videos and table leaves it
    (cut / ".123-abc.part").write_bytes(b"half a video")
    summary = record(world, cut, episodes=4, seed=1, progress=False)
    assert (summary.written, summary.kept) == (2, 2)
    assert files(cut) == files(whole)
    before = (cut / "seed1_00000.mp4").stat().st_mtime_ns
    assert record(world, cut, episodes=4, seed=1, progress=False).kept == 4
    assert (cut / "seed1_00000.mp4").stat().st_mtime_ns == before


def test_workers_write_the_same_files(tmp_path):
    record(world, tmp_path / "alone", episodes=5, seed=3, progress=False)
    record(world, tmp_path / "together", episodes=5, seed=3, workers=2, progress=False)
    assert files(tmp_path / "alone") == files(tmp_path / "together")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_at_any_moment_leaves_whole_videos(tmp_path, how):
    script = (
        "from foretell.worlds.physics import Physics; from foretell.worlds.record import record\n"
        f"record(Physics(size=32, frames=21, scenario='colliding'), {str(tmp_path)!r}, episodes=5000, seed=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("seed1_*.mp4"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait(timeout=60) != 0
    done = sorted(tmp_path.glob("seed1_*.mp4"))
    assert len(done) >= 3
    assert all(decode(path).shape == (21, 32, 32, 3) for path in done)
    assert not (tmp_path / "states.parquet").exists()
    if how == signal.SIGINT:
        assert not list(tmp_path.glob(".*"))


def test_an_interrupt_at_any_instruction_leaves_nothing_half_written(tmp_path):
    """As Ctrl-C raises between two instructions, wherever it finds Python; here one in 23 of them all."""
    short, counted = Played(Rooms(RoomsConfig(size=32)), "random", 2), 0
    ours = (recording.__file__, writers.__file__)

    def trace(frame, event, _):
        nonlocal counted
        if frame.f_code.co_filename not in ours:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            counted -= 1
            if counted == 0:
                raise KeyboardInterrupt
        return trace

    def run(stop_at: int) -> None:
        nonlocal counted
        counted = stop_at
        out = tmp_path / str(stop_at)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            record(short, out, episodes=1, seed=1, progress=False)
        finally:
            sys.settrace(before)

    run(-1)
    total = -1 - counted
    assert total > 500
    for stop_at in range(1, total, 23):
        with pytest.raises(KeyboardInterrupt):
            run(stop_at)
        assert not list((tmp_path / str(stop_at)).glob(".*")), stop_at


def test_seeds_share_no_episode():
    seeds = {episode_seed(seed, i) for seed in range(60) for i in range(60)}
    assert len(seeds) == 3600
    assert max(seeds).bit_length() > 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 2}, "holds a recording of seed 1, asked for 2; use another folder"),
        ({"world": Physics(size=48, frames=21)}, "holds a recording of world Physics.size=32"),
        ({"episodes": 1}, "holds a recording of 2 episodes, asked for 1"),
        ({"lossless": True}, "holds a recording of lossless False, asked for True"),
    ],
)
def test_another_recording_is_not_written_over(tmp_path, change, words):
    record(world, tmp_path, episodes=2, seed=1, progress=False)
    before = files(tmp_path)
    asked = {"world": world, "episodes": 2, "seed": 1, **change}
    with pytest.raises(DataError, match=words):
        record(asked.pop("world"), tmp_path, **asked, progress=False)
    assert files(tmp_path) == before


def test_a_folder_of_other_videos_or_with_damaged_settings_is_refused(tmp_path):
    (tmp_path / "seed1_00000.mp4").write_bytes(b"mine")
    with pytest.raises(DataError, match="videos of another origin"):
        record(world, tmp_path, episodes=2, seed=1, progress=False)
    (tmp_path / "recording.json").write_text(json.dumps({"world": 3}))
    with pytest.raises(DataError, match="is damaged"):
        record(world, tmp_path, episodes=2, seed=1, progress=False)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*cannot be written to.*choose another folder"):
        record(world, tmp_path / "file" / "out", episodes=2, seed=1, progress=False)


def test_a_full_disk_stops_the_recording_and_names_the_table(tmp_path, monkeypatch):
    class Full:
        def __init__(self, *_: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "ParquetWriter", Full)
    with pytest.raises(DataError, match=r"states\.parquet: cannot be written .*No space left.*make room"):
        record(world, tmp_path, episodes=2, seed=1, progress=False)
    assert not list(tmp_path.glob(".*"))
    monkeypatch.undo()
    assert record(world, tmp_path, episodes=2, seed=1, progress=False).kept == 2


@pytest.mark.parametrize("change", [{"episodes": 0}, {"seed": -1}, {"workers": 0}])
def test_impossible_numbers_are_refused(tmp_path, change):
    with pytest.raises(ConfigError, match="at least 1 episode, a seed from 0 up, at least 1 worker"):
        record(world, tmp_path, **{"episodes": 2, "seed": 1, **change})


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"foretell\[sim\]"):
        record(world, tmp_path, episodes=1, seed=0)
    assert not list(tmp_path.iterdir())


played = Played(Rooms(RoomsConfig(size=32, hazards=1)), "mixed", 18)


def test_where_somebody_acts_there_is_a_row_a_frame_of_actions_and_of_states(tmp_path):
    summary = record(played, tmp_path, episodes=3, seed=4, progress=False)
    assert "actions.parquet and states.parquet" in str(summary)
    assert summary.frames == 54
    settings = json.loads((tmp_path / "recording.json").read_text())
    assert settings["actions"] == {"low": [-1.0, -1.0], "high": [1.0, 1.0], "discrete": False}
    actions, states = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("actions", "states"))
    assert actions.column_names == ["file", "frame", "action_0", "action_1"]
    assert states.column_names == ["episode", "file", "frame", "x", "y", "clearance"]
    for i in range(3):
        clip = played.episode(episode_seed(4, i))
        file = f"seed4_{i:05d}.mp4"
        for table, names, expected in (
            (actions, ("action_0", "action_1"), clip.actions),
            (states, ("x", "y", "clearance"), np.stack(list(clip.states.values()), 1)),
        ):
            rows = [row for row in table.to_pylist() if row["file"] == file]
            assert [row["frame"] for row in rows] == list(range(18))
            np.testing.assert_array_equal([[row[name] for name in names] for row in rows], expected)
        assert decode(tmp_path / file).shape == clip.frames.shape


@pytest.mark.parametrize("at_once", [9, 10, 20, 30, 40, 41])
def test_tables_are_whole_however_rows_fall_into_stretches(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(recording, "_ROWS_AT_ONCE", at_once)
    record(Played(Rooms(), "random", 10), tmp_path, episodes=4, seed=0, progress=False)
    for name in ("actions", "states"):
        table = parquet.read_table(tmp_path / f"{name}.parquet")
        assert table["frame"].to_pylist() == [*range(10)] * 4


def test_a_recording_with_actions_is_continued_and_kept_apart_too(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    record(played, whole, episodes=4, seed=1, workers=2, progress=False)
    record(played, cut, episodes=2, seed=1, progress=False)
    (cut / "actions.parquet").unlink()
    record(played, cut, episodes=4, seed=1, progress=False)
    assert files(cut) == files(whole)
    other = Played(Rooms(RoomsConfig(size=32, hazards=1)), "random", 18)
    with pytest.raises(DataError, match="use another folder"):
        record(other, cut, episodes=4, seed=1, progress=False)


def test_a_recording_without_actions_has_no_word_of_them(tmp_path):
    assert "actions" not in str(record(world, tmp_path, episodes=1, seed=1, progress=False))
    assert not (tmp_path / "actions.parquet").exists()
    assert "actions" not in json.loads((tmp_path / "recording.json").read_text())
