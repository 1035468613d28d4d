"""What goes wrong at a user's desk: one clear line and exit status 2, or a result that says what it could not do.

Everything here lies below a path of more than a thousand bytes whose names are not ASCII. Bad videos have their tests
in data/, a full disk and Ctrl-C in ingest in data/test_ingest.py.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foretell.cli import main
from foretell.data.writers import write_video

TINY = ["--steps", "4", "--batch", "2", "--window", "13", "--check-every", "2", "--tokens", "64", "--directions", "8"]
Says = Callable[[], str]


def film(path: Path, steps: int, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 10, (steps, 4, 6, 3)).cumsum(0).repeat(8, 1).repeat(8, 2)
    write_video(path, np.clip(128 + noise, 0, 255).astype(np.uint8), 10)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/, store/ and a calibrated model/, made by the verbs; not to be changed."""
    at = tmp_path_factory.mktemp("bad").joinpath(*["Überwachung 視頻 " + "é" * 80] * 6)
    assert len(os.fsencode(at)) > 1000
    for number in range(10):
        film(at / "videos" / f"día {number} ☂{'é' * 100}.mp4", 24, number)
    assert main(["ingest", f"{at}/videos", "--out", f"{at}/store", "--size", "16x24", "--workers", "1"]) == 0
    assert main(["train", f"{at}/store", "--out", f"{at}/model", *TINY]) == 0
    assert main(["calibrate", f"{at}/model", f"{at}/videos"]) == 0
    return at


@pytest.fixture
def model(ground: Path, tmp_path: Path) -> Path:
    """A model folder to spoil."""
    return Path(shutil.copytree(ground / "model", tmp_path / "model"))


@pytest.fixture
def one_line(capsys: pytest.CaptureFixture[str]) -> Says:
    """What was said of the fault since the last look: one line that names the verb, and no traceback."""

    def said() -> str:
        lines = capsys.readouterr().err.splitlines()
        told = [line for line in lines if line.startswith("foretell ")]
        assert len(told) == 1, lines
        assert not any("Traceback" in line for line in lines)
        assert lines[-1] == told[0]
        return told[0]

    capsys.readouterr()
    return said


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "surprise.safetensors", "controls/untrained.safetensors"]
)
def test_a_model_folder_with_a_missing_file(ground: Path, model: Path, one_line: Says, name: str) -> None:
    (model / name).unlink()
    for command in (["calibrate", f"{model}"], ["watch", f"{model}", "--out", f"{model}/out"]):
        assert main([*command, f"{ground}/videos"]) == 2
        said = one_line()
        assert f"{model / name}: missing" in said
        assert "train again" in said
    assert not (model / "out").exists()


def test_a_model_folder_with_an_altered_calibration(ground: Path, model: Path, one_line: Says) -> None:
    path = model / "calibration.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"unit_seconds": 2', '"unit_seconds": 9'), "utf-8")
    assert main(["watch", f"{model}", f"{ground}/videos", "--out", f"{model}/out"]) == 2
    assert f"{path}: altered" in one_line()


def test_a_store_of_another_version_or_damaged(ground: Path, tmp_path: Path, one_line: Says) -> None:
    store = Path(shutil.copytree(ground / "store", tmp_path / "store"))
    index = (store / "store.json").read_text(encoding="utf-8")
    (store / "store.json").write_text(index.replace('"version": 1', '"version": 7'), encoding="utf-8")
    assert main(["train", f"{store}", "--out", f"{tmp_path}/out", *TINY]) == 2
    assert "store.json: the store is of version 7, this foretell reads version 1" in one_line()

    (store / "store.json").write_text(index, encoding="utf-8")
    pixels = bytearray((store / "frames-00.u8").read_bytes())
    pixels[-1] ^= 1
    (store / "frames-00.u8").write_bytes(pixels)
    assert main(["train", f"{store}", "--out", f"{tmp_path}/out", *TINY]) == 2
    assert "1 of 10 clips are damaged" in one_line()
    assert not (tmp_path / "out").exists()


def test_watching_what_calibrated_is_warned_of(ground: Path, tmp_path: Path) -> None:
    for videos in (ground / "videos", next((ground / "videos").iterdir())):
        assert main(["watch", f"{ground}/model", f"{videos}", "--out", f"{tmp_path}/out", "--alpha", "0.2"]) == 0
        warnings = " ".join(json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["warnings"])
        assert "of a calibration clip" in warnings
        assert "día" in warnings
    film(tmp_path / "new.mp4", 24, 99)
    assert main(["watch", f"{ground}/model", f"{tmp_path}/new.mp4", "--out", f"{tmp_path}/out", "--alpha", "0.2"]) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["warnings"] == []


def test_videos_shorter_than_the_context_are_not_scored_and_never_normal(
    ground: Path, model: Path, tmp_path: Path, one_line: Says
) -> None:
    """The first score needs eight steps before it."""
    for steps in (8, 9):
        film(tmp_path / "videos" / f"{steps}.mp4", steps, steps)
    watch = ["watch", f"{model}", "--alpha", "0.2", "--out", f"{tmp_path}/out", f"{tmp_path}/videos"]
    assert main(watch) == 0
    short, enough = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["files"]
    assert (short["status"], short["max_surprise"], short["p_value"], short["alarm"]) == (
        "not scored",
        None,
        None,
        None,
    )
    assert "8 steps" in short["note"]
    assert enough["status"] == "scored"
    with (tmp_path / "out" / "surprise.csv").open(encoding="utf-8") as file:
        rows = [(row["surprise"], row["p_value"], row["alarm"]) for row in csv.DictReader(file)]
    assert rows[:-1] == [("", "", "")] * 16
    assert all(rows[-1])

    (tmp_path / "videos" / "9.mp4").unlink()
    before = (model / "calibration.json").read_bytes()
    assert main(["calibrate", f"{model}", f"{tmp_path}/videos"]) == 2
    assert (model / "calibration.json").read_bytes() == before


def test_footage_too_short_to_train_on(tmp_path: Path, one_line: Says) -> None:
    for number in range(4):
        film(tmp_path / "videos" / f"{number}.mp4", 8, number)
    command = ["train", f"{tmp_path}/videos", "--out", f"{tmp_path}/out", *TINY, "--size", "16", "--window", "6"]
    assert main(command) == 2
    assert "no development stretch has 9 steps: take longer videos" in one_line()


def test_imagine_in_a_long_path_of_any_script(
    ground: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretell.serve.fitted.STEPS", 2)
    video = next((ground / "videos").iterdir())
    out = tmp_path.joinpath(*["ß" * 100] * 4) / f"{'想' * 60}.mp4"
    command = ["imagine", f"{model}", f"{video}", "--start", "5", "--horizon", "3", "--out", f"{out}"]
    assert main([*command, "--data", f"{ground}/store"]) == 0
    assert out.stat().st_size > 500


VERBS_ON = {
    "record": ["record", "physics", "--episodes", "1", "--out", "BAD"],
    "ingest": ["ingest", "VIDEOS", "--size", "16x24", "--workers", "1", "--out", "BAD"],
    "ingest from": ["ingest", "BAD", "--out", "OUT"],
    "train": ["train", "STORE", *TINY, "--out", "BAD"],
    "train on": ["train", "BAD", *TINY, "--out", "OUT"],
    "calibrate": ["calibrate", "BAD", "VIDEOS"],
    "calibrate on": ["calibrate", "MODEL", "BAD"],
    "watch": ["watch", "MODEL", "VIDEOS", "--alpha", "0.2", "--out", "BAD"],
    "watch with": ["watch", "BAD", "VIDEOS", "--out", "OUT"],
    "watch what": ["watch", "MODEL", "BAD", "--alpha", "0.2", "--out", "OUT"],
    "imagine": ["imagine", "MODEL", "BAD", "--out", "OUT/a.mp4"],
    "imagine to": ["imagine", "MODEL", "VIDEO", "--start", "5", "--horizon", "2", "--out", "BAD/a.mp4"],
}


@pytest.mark.parametrize("verb", VERBS_ON)
@pytest.mark.parametrize("kind", ["a name of 300 letters", "below a file"])
def test_places_that_cannot_be(ground: Path, tmp_path: Path, one_line: Says, verb: str, kind: str) -> None:
    """Also what a folder that is read-only looks like to a user who is root."""
    if verb == "record":
        pytest.importorskip("pymunk")
    (tmp_path / "file").write_text("in the way")
    bad = tmp_path / ("n" * 300) if kind == "a name of 300 letters" else tmp_path / "file" / "folder"
    named = {"BAD": bad, "OUT": tmp_path / "out", "MODEL": ground / "model", "STORE": ground / "store"}
    named |= {"VIDEOS": ground / "videos", "VIDEO": next((ground / "videos").iterdir())}
    words = []
    for word in VERBS_ON[verb]:
        key = word.split("/")[0]
        words.append(word.replace(key, str(named[key])) if key in named else word)
    assert main(words) == 2
    assert bad.name in one_line()


def test_a_disk_that_fills_up_in_training_and_has_room_again(
    ground: Path, tmp_path: Path, one_line: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, command = os.fsync, ["train", f"{ground}/store", "--out", f"{tmp_path}/out", *TINY, "--save-every", "3"]

    def full_once_the_checkpoint_is_written(number: int) -> None:
        if "checkpoint" in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr(os, "fsync", full_once_the_checkpoint_is_written)
    assert main(command) == 2
    said = one_line()
    assert "checkpoint.safetensors: cannot write" in said
    assert "No space left on device" in said
    assert "run the same command again" in said
    assert not list((tmp_path / "out").glob(".*"))
    monkeypatch.undo()
    assert main(command) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        ground / "model" / "model.safetensors"
    ).read_bytes()


def test_ctrl_c_in_training_leaves_a_run_that_resumes(
    ground: Path, tmp_path: Path, one_line: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foretell.log import Metrics

    write, command = Metrics.write, ["train", f"{ground}/store", "--out", f"{tmp_path}/out", *TINY]

    def write_and_press(self: Metrics, step: int, values: dict) -> None:
        write(self, step, values)
        if step == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Metrics, "write", write_and_press)
    assert main(command) == 130
    assert "the same command goes on from there" in one_line()
    assert (tmp_path / "out" / "checkpoint.safetensors").exists()
    monkeypatch.undo()
    assert main(command) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        ground / "model" / "model.safetensors"
    ).read_bytes()


def test_ctrl_c_in_watching_leaves_nothing_half(
    ground: Path, tmp_path: Path, one_line: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foretell.surprise.score import LatentScorer

    monkeypatch.setattr(LatentScorer, "score", lambda self, frames: signal.raise_signal(signal.SIGINT))
    assert main(["watch", f"{ground}/model", f"{ground}/videos", "--out", f"{tmp_path}/out", "--alpha", "0.2"]) == 130
    assert "foretell watch: stopped" in one_line()
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_are_no_text_can_be_said_on_any_terminal(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After hours of watching, a summary that cannot be printed must not end in a traceback."""
    folder = tmp_path / "videos"
    film(folder / "día.mp4", 9, 1)
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"no video")
    for encoding in ("utf-8", "ascii"):
        terminal = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr("sys.stdout", terminal)
        assert main(["watch", f"{ground}/model", f"{folder}", "--out", f"{tmp_path}/out", "--alpha", "0.2"]) == 0
        terminal.flush()
        assert b"caf" in terminal.buffer.getvalue()  # type: ignore[attr-defined]
