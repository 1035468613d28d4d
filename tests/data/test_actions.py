"""Actions beside videos: a recording's tables, csv files, what a store keeps, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import parquet

from foretell.data.actions import KEPT, ActionSpace, read_actions
from foretell.data.ingest import ingest
from foretell.data.store import Store
from foretell.data.truth import read_truth
from foretell.data.writers import write_video
from foretell.errors import ConfigError, DataError

FRAMES, WIDTH = 7, 3
SPACE = ActionSpace(low=(-1.0, -2.0, 0.0), high=(1.0, 2.0, 5.0))


def recording(folder: Path, lengths: dict[str, int]) -> dict[str, np.ndarray]:
    """A recording with actions; its tables hold the files in another order than the disk."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    done = {name: SPACE.clip(rng.normal(size=(frames, WIDTH))) for name, frames in lengths.items()}
    for name, frames in lengths.items():
        write_video(folder / name, rng.integers(0, 255, (frames, 16, 24, 3), np.uint8), 10.0)
    (folder / "recording.json").write_text(
        json.dumps({"actions": {"low": SPACE.low, "high": SPACE.high, "discrete": False}})
    )
    files = [name for name in reversed(lengths) for _ in range(lengths[name])]
    frame = np.concatenate([np.arange(lengths[name]) for name in reversed(lengths)])
    rows = np.concatenate([done[name] for name in reversed(lengths)])
    columns = {"file": files, "frame": frame} | {f"action_{k}": rows[:, k] for k in range(WIDTH)}
    parquet.write_table(arrow.table(columns), folder / "actions.parquet")
    states = {"file": files, "frame": frame, "x": frame * 2.0, "kind": ["a"] * len(files)}
    parquet.write_table(arrow.table(states), folder / "states.parquet")
    return done


def test_a_store_keeps_what_was_done(tmp_path: Path) -> None:
    done = recording(tmp_path / "videos", {"b.mp4": FRAMES, "a.mp4": 5})
    summary = ingest(tmp_path / "videos", tmp_path / "store", view_size=(16, 24), progress=False)
    assert summary.skipped == []  # the tables are no videos that cannot be read
    log = Store.open(tmp_path / "store").log
    assert log is not None
    assert log.space == SPACE
    assert log.quantities == ("x",)
    for name, actions in done.items():
        np.testing.assert_array_equal(log.actions[name], actions)
        np.testing.assert_array_equal(log.states[name], 2.0 * np.arange(len(actions))[:, None])


def test_several_recordings_below_one_folder_are_one(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    done = {part: recording(tmp_path / "videos" / part, {"a.mp4": n}) for part, n in {"one": FRAMES, "two": 4}.items()}
    ingest(tmp_path / "videos", tmp_path / "store", view_size=(16, 24), progress=False)
    log = Store.open(tmp_path / "store").log
    assert log is not None
    assert sorted(log.actions) == sorted(log.states) == ["one/a.mp4", "two/a.mp4"]
    for part, acted in done.items():
        np.testing.assert_array_equal(log.actions[f"{part}/a.mp4"], acted["a.mp4"])
    np.testing.assert_array_equal(read_truth(tmp_path / "videos", ["x"])["two/a.mp4"][:, 0], 2.0 * np.arange(4))


def test_recordings_of_two_worlds_are_not_one(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for part in ("one", "two"):
        recording(tmp_path / "videos" / part, {"a.mp4": FRAMES})
    facts = {"actions": {"low": [-9.0] * WIDTH, "high": [9.0] * WIDTH, "discrete": False}}
    (tmp_path / "videos" / "two" / "recording.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="two: other actions"):
        read_actions(tmp_path / "videos")


def test_csv_files_beside_videos_tell_the_space_by_what_was_done(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((2, 16, 16, 3), np.uint8), 10.0)
    (tmp_path / "a.csv").write_text("action_0,action_1\n0.5,3\n-1,3\n")
    log = read_actions(tmp_path)
    assert log is not None
    assert log.space == ActionSpace(low=(-1.0, 2.0), high=(0.5, 4.0))
    np.testing.assert_array_equal(log.actions["a.mp4"], np.array([[0.5, 3], [-1, 3]], np.float32))


def test_where_nobody_acts_there_is_no_log(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((9, 16, 16, 3), np.uint8), 10.0)
    assert read_actions(tmp_path) is None
    ingest(tmp_path, tmp_path / "store", view_size=(16, 16), progress=False)
    assert Store.open(tmp_path / "store").log is None


@pytest.mark.parametrize("text", ["action_0\n1\nx\n", "action_0\n1\nnan\n", "action_0\n", "a,b\n1,2\n3\n"])
def test_damaged_csv_is_named(tmp_path: Path, text: str) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((2, 16, 16, 3), np.uint8), 10.0)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"a\.csv"):
        read_actions(tmp_path)


def test_actions_must_be_as_many_as_frames(tmp_path: Path) -> None:
    recording(tmp_path / "videos", {"a.mp4": FRAMES})
    with pytest.raises(DataError, match="leave out --fps"):
        ingest(tmp_path / "videos", tmp_path / "store", view_size=(16, 24), fps=5.0, progress=False)


def test_every_video_needs_actions(tmp_path: Path) -> None:
    recording(tmp_path / "videos", {"a.mp4": FRAMES})
    write_video(tmp_path / "videos" / "z.mp4", np.zeros((3, 16, 24, 3), np.uint8), 10.0)
    with pytest.raises(DataError, match=r"no actions for the clip z\.mp4"):
        ingest(tmp_path / "videos", tmp_path / "store", view_size=(16, 24), progress=False)


def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    recording(tmp_path / "videos", {"a.mp4": FRAMES})
    ingest(tmp_path / "videos", tmp_path / "store", view_size=(16, 24), progress=False)
    kept = tmp_path / "store" / KEPT
    kept.write_bytes(kept.read_bytes()[:-200])
    with pytest.raises(DataError, match="ingest the recording again"):
        Store.open(tmp_path / "store")


@pytest.mark.parametrize(("low", "high"), [((), ()), ((0.0,), (0.0,)), ((0.0,), (np.inf,)), ((0.0, 1.0), (1.0,))])
def test_impossible_spaces_are_refused(low: tuple[float, ...], high: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError):
        ActionSpace(low=low, high=high)


@pytest.mark.parametrize("action", [[0.0, 0.0, 5.1], [np.nan, 0, 0], [0.0, 0.0]])
def test_actions_outside_the_space_are_refused(action: list[float]) -> None:
    SPACE.check(np.zeros((4, WIDTH)), "test")
    with pytest.raises(ConfigError, match="test: got the action"):
        SPACE.check(np.array(action), "test")
