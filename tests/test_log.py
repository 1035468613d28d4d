"""Diary, results and bars: what is on disk after a kill, a resume, a full disk."""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib

import pytest

from foretell import log
from foretell.errors import CheckpointError, ConfigError, DataError


def test_each_line_is_on_disk_once_written(tmp_path):
    metrics = log.Metrics(tmp_path)
    metrics.write(1, {"loss": 0.5, "rank": 12, "alarm": None})
    metrics.write(2, {"loss": float("nan"), "error_over_copy": float("-inf"), "kept": True})
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [
        '{"step": 1, "loss": 0.5, "rank": 12, "alarm": null}',
        '{"step": 2, "loss": null, "error_over_copy": null, "kept": true}',
    ]


def test_a_resumed_diary_equals_an_uninterrupted_one(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    whole, first = log.Metrics(straight), log.Metrics(killed)
    for step in range(1, 9):
        whole.write(step, {"loss": 1 / step})
    for step in range(1, 7):
        first.write(step, {"loss": 1 / step})
    with first.path.open("a") as file:
        file.write('{"step": 7, "lo')  # the kill came in the middle of a line; the last checkpoint is of step 4
    second = log.Metrics(killed, resumed_step=4)
    for step in range(5, 9):
        second.write(step, {"loss": 1 / step})
    assert second.path.read_bytes() == whole.path.read_bytes()
    assert [line["step"] for line in log.read_metrics(second.path)] == list(range(1, 9))
    assert sorted(path.name for path in killed.iterdir()) == ["metrics.jsonl"]


def test_a_new_run_begins_a_new_diary(tmp_path):
    log.Metrics(tmp_path).write(1, {"loss": 1.0})
    assert log.read_metrics(log.Metrics(tmp_path).path) == []


@pytest.mark.parametrize("line", ["nonsense", "3", '{"loss": 1}', '{"step": "x"}'])
def test_damage_inside_is_named_with_its_line(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 2 is not"):
        log.Metrics(tmp_path, resumed_step=3)


def test_resuming_without_a_diary_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        log.Metrics(tmp_path, resumed_step=3)


def test_only_rank_zero_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    metrics = log.Metrics(tmp_path, tensorboard=True)
    metrics.write(1, {"loss": 1.0})
    metrics.close()
    log.write_result(tmp_path / "r.json", command="", protocol={}, seeds=[], metrics={}, baselines={})
    assert log.progress(3, "train", "step").disable
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_with_what_to_do(tmp_path, monkeypatch):
    metrics = log.Metrics(tmp_path)
    metrics.path = type(metrics.path)("/dev/full")
    with pytest.raises(DataError, match=r"step 5 \(No space left on device\): make room"):
        metrics.write(5, {"loss": 1.0})
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        log.write_whole(tmp_path / "file" / "below.json", "{}")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    log.write_whole(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log.os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        log.write_whole(path, "new")
    assert path.read_text() == "old"


def test_tensorboard_gets_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = log.Metrics(tmp_path, tensorboard=True)
    metrics.write(3, {"loss": 0.25, "device": "cpu", "missing": None})
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.25)]


def test_missing_tensorboard_names_an_extra_that_exists(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r'pip install "foretell\[track\]"'):
        log.Metrics(tmp_path, tensorboard=True)
    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    assert "track" in project["optional-dependencies"]


def test_bar_shows_monitors_and_time_left(capsys):
    bar = log.progress(40, "train", "step", done=10)
    bar.update(10)
    bar.set_postfix(error_over_copy=0.34567)
    bar.refresh()
    bar.close()
    shown = capsys.readouterr().err
    assert "train:  50%" in shown
    assert "20/40" in shown
    assert "error_over_copy=0.346" in shown


def test_result_has_the_one_form(tmp_path):
    path = tmp_path / "results" / "store.json"
    protocol = {"height": 64, "fit": "crop"}
    log.write_result(
        path,
        command="python bench/store.py",
        protocol=protocol,
        seeds=[1, 2, 3],
        metrics={"windows": [5.0, 9.0, 6.0], "auroc": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 500}},
        baselines={"hdf5": 2},
    )
    result = json.loads(path.read_text())
    assert list(result) == ["command", "protocol", "protocol_hash", "seeds", "machine", "metrics", "baselines"]
    assert set(result["machine"]) >= {"cores", "threads", "load", "versions"}
    assert result["metrics"]["windows"] == {"value": 6.0, "low": 5.0, "high": 9.0, "n": 3}
    assert result["metrics"]["auroc"]["n"] == 500
    assert result["baselines"]["hdf5"] == {"value": 2.0, "low": 2.0, "high": 2.0, "n": 1}
    assert result["protocol_hash"] == hashlib.sha256(b'{"fit": "crop", "height": 64}').hexdigest()[:16]


@pytest.mark.parametrize("figure", [{"value": 1}, []])
def test_figures_of_another_form_are_refused(tmp_path, figure):
    with pytest.raises(ConfigError, match="result auroc: got"):
        log.write_result(
            tmp_path / "x.json", command="", protocol={}, seeds=[], metrics={"auroc": figure}, baselines={}
        )
