"""The verbs, run for real at tiny size: as a user would, in one folder, from record to imagine."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foretell import cli
from foretell.cli import VERBS, main

pytest.importorskip("pymunk")


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the main road was walked up to a calibrated model."""
    at = tmp_path_factory.mktemp("röad")
    assert (
        main(["record", "physics", "--out", f"{at}/videos", "--episodes", "30", "--seed", "1", "--frames", "24"]) == 0
    )
    assert main(["ingest", f"{at}/videos", "--out", f"{at}/store", "--size", "32", "--workers", "1"]) == 0
    tiny = ["--steps", "6", "--batch", "2", "--window", "12", "--check-every", "3", "--tokens", "128"]
    assert main(["train", f"{at}/store", "--out", f"{at}/model", *tiny]) == 0
    return at


def test_help_shows_every_verb_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"foretell {name} {verb.example}" in said for name, verb in VERBS.items())


@pytest.mark.parametrize("name", VERBS)
def test_each_verbs_help_has_its_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*name.split(), "--help"])
    assert stopped.value.code == 0
    assert VERBS[name].example.split(" --")[0] in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("asked", [["--help"], ["audit", "--help"]])
def test_nobody_reading_on_is_no_traceback(asked: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "foretell.cli", *asked], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_another_broken_pipe_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise BrokenPipeError("a worker's")

    monkeypatch.setattr(cli, "run", broken)
    with pytest.raises(BrokenPipeError, match="a worker's"):
        main(["audit", "log"])


def test_unknown_verb_and_missing_folder_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wach"]) == 2
    assert "expected one of record, ingest" in capsys.readouterr().err
    assert main(["watch", f"{tmp_path}/none", f"{tmp_path}", "--out", f"{tmp_path}/out"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("foretell watch: ")
    assert "config.json" in error


def test_model_folder_is_whole(road: Path) -> None:
    names = {path.name for path in (road / "model").iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "calibration.json",
        "metrics.jsonl",
        "card.html",
        "surprise.safetensors",
    } <= names
    split = json.loads((road / "model" / "config.json").read_text())["split"]
    parts = [{(s["name"], s["start"]) for s in split[part]} for part in ("train", "development", "calibration")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    assert len(parts[2]) == 6  # a fifth is set aside to calibrate


def test_watch_tells_of_every_frame_and_refuses_what_it_cannot_promise(
    road: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["watch", f"{road}/model", f"{road}/videos", "--out", f"{road}/watched"]
    assert main([*few, "--alpha", "0.05"]) == 2  # six units cannot promise that
    assert "19" in capsys.readouterr().err
    assert main([*few, "--alpha", "0.2"]) == 0
    rows = list(csv.DictReader((road / "watched" / "surprise.csv").open(encoding="utf-8")))
    assert list(rows[0]) == ["file", "frame", "time_s", "surprise", "p_value", "alarm"]
    assert len(rows) == 30 * 24
    summary = json.loads((road / "watched" / "summary.json").read_text(encoding="utf-8"))
    assert summary["counts"]["scored"] == 30
    assert {"motion", "untrained network"} <= set(summary["files"][0]["controls"])


def test_calibrate_takes_further_footage(road: Path) -> None:
    before = (road / "model" / "calibration.json").read_text()
    assert (
        main(["record", "physics", "--out", f"{road}/more", "--episodes", "20", "--seed", "2", "--frames", "24"]) == 0
    )
    assert main(["calibrate", f"{road}/model", f"{road}/more"]) == 0
    after = json.loads((road / "model" / "calibration.json").read_text())
    assert after["names"] == [f"seed2_{i:05d}.mp4" for i in range(20)]
    assert before != after
    assert main(["watch", f"{road}/model", f"{road}/videos", "--out", f"{road}/again", "--alpha", "0.05"]) == 0


def test_imagine_writes_video_and_strip(road: Path) -> None:
    clip = f"{road}/videos/seed1_00003.mp4"
    assert (
        main(["imagine", f"{road}/model", clip, "--start", "5", "--horizon", "6", "--out", f"{road}/imagined.mp4"]) == 0
    )
    assert (road / "imagined.mp4").stat().st_size > 1000
    assert (road / "imagined.png").exists()


def test_train_accepts_a_folder_of_videos_and_an_altered_model_is_refused(
    road: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--steps", "2", "--batch", "2", "--window", "12", "--check-every", "2", "--tokens", "64", "--size", "16x32"]
    assert main(["train", f"{road}/videos", "--out", f"{road}/direct", *tiny]) == 0
    weights = road / "direct" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    capsys.readouterr()
    assert main(["watch", f"{road}/direct", f"{road}/videos", "--out", f"{road}/x"]) == 2
    assert "model.safetensors: altered" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["next_pixels", "masked"])
def test_other_objectives_train_to_a_whole_folder(road: Path, objective: str) -> None:
    tiny = ["--steps", "6", "--batch", "2", "--window", "12", "--check-every", "3", "--horizon", "3"]
    out = road / objective
    assert main(["train", f"{road}/store", "--out", str(out), "--objective", objective, *tiny]) == 0
    facts = json.loads((out / "config.json").read_text())
    assert facts["run"]["train"]["objective"]["class"] == {"next_pixels": "NextPixelsConfig"}.get(
        objective, "MaskedConfig"
    )
    assert facts["run"]["train"]["objective"]["horizon"] == 3
    assert not facts["model"]["predictor"]["carry"]  # only next_latent teaches it
    assert {"objective.safetensors", "model.safetensors", "card.html"} <= facts["sha256"].keys() | {"card.html"}
    assert "alarms" in json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert main(["watch", str(out), f"{road}/videos", "--out", f"{road}/w_{objective}", "--alpha", "0.2"]) == 0


def test_a_flag_of_another_objective_is_refused(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", f"{road}/store", "--out", f"{road}/none", "--objective", "masked", "--steps", "6"]
    assert main([*command, "--isotropy", "3", "--within-floor", "0.2"]) == 2
    assert "objective masked: has no --isotropy, --within-floor" in capsys.readouterr().err


def test_quantities_are_foretold_with_a_band_on_a_page(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", f"{road}/model", f"{road}/videos/seed1_00000.mp4", "--out", f"{road}/p.html"]) == 2
    assert "run foretell quantify" in capsys.readouterr().err
    given = ["quantify", f"{road}/model", f"{road}/videos", "--names", "x", "y", "--horizon", "6", "--context", "6"]
    assert main([*given, "--level", "0.8"]) == 0
    assert "foretells x, y; clips: 15 to learn from, 3 to scale, 12 to calibrate" in capsys.readouterr().out
    clip = f"{road}/videos/seed1_00001.mp4"
    assert main(["predict", f"{road}/model", clip, "--out", f"{road}/p.html", "--at", "12"]) == 0
    assert "foretold from step 12 on" in capsys.readouterr().out
    found = json.loads((road / "p.json").read_text())
    assert found["names"] == ["x", "y"]
    assert len(found["mean"]["x"]) == len(found["abstained"]) == 6
    for low, high, silent in zip(found["low"]["x"], found["high"]["x"], found["abstained"], strict=True):
        assert (low is None and high is None) if silent else low < high
    assert "<svg" in (road / "p.html").read_text()
    assert main(["predict", f"{road}/model", clip, "--at", "3"]) == 2
    assert "expected 6 to 24" in capsys.readouterr().err
    assert main(["track", f"{road}/model", f"{road}/videos", "--out", f"{road}/tracked"]) == 0
    assert "90 forecasts of x, y, 6 steps each" in capsys.readouterr().out
    rows = list(csv.DictReader((road / "tracked" / "tracked.csv").open(encoding="utf-8")))
    assert [row["step"] for row in rows[:18]] == [str(step) for step in range(6, 24)]
    assert json.loads((road / "tracked" / "tracked.json").read_text())["level"] == 0.8
    assert (road / "tracked" / "report.html").read_text().count("<svg") == 4


def test_evaluate_uncertainty_writes_figures_and_a_page(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--learn", "12", "--scale", "6", "--calibrate", "12", "--test", "12", "--odd", "4", "--horizon", "4"]
    given = ["evaluate", "uncertainty", f"{road}/model", "--world", "physics", "--out", f"{road}/u.json", *few]
    assert main(given) == 0
    assert "coverage, whole horizon" in capsys.readouterr().out
    result = json.loads((road / "u.json").read_text())
    assert result["metrics"]["coverage, step 4"]["n"] == 12
    assert {"AUROC, noise", "AUROC, camera shake", "right", "wrong", "abstained"} <= result["metrics"].keys()
    assert "shell/AUROC, frozen" in result["baselines"]
    page = (road / "u.html").read_text()
    assert page.count("<svg") == 4
    assert "camera shake" in page
    assert main([*given, "--seed", "11"]) == 2  # would be calibrated on what seed 1 is judged on
    assert "got seed 11, expected 0 to 8" in capsys.readouterr().err
