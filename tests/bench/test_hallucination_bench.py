"""The bench of hallucinations, whole and tiny: its models, the form of its result, and that it goes on where it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import hallucination
import matched_models
import pytest

from foretell.worlds.physics import Physics


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(hallucination, "EPISODES", 6)
    monkeypatch.setattr(hallucination, "DECODER_STEPS", 2)
    monkeypatch.setattr(hallucination, "COUNTS", dict.fromkeys(hallucination.COUNTS, 8))
    monkeypatch.setattr(matched_models, "TURNS", 1)
    monkeypatch.setattr(matched_models, "STEPS_A_TURN", 1)
    arguments = ["--work", str(tmp_path / "work"), "--out", str(tmp_path), "--seeds", "0", "1", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["hallucination.py", *arguments])
    hallucination.main()
    found = json.loads((tmp_path / "hallucination.json").read_text())
    metrics, baselines = found["metrics"], found["baselines"]
    ours, theirs = metrics["jepa/training/parameters"], baselines["pixels_equal_time/training/parameters"]
    assert ours["n"] == 2
    assert baselines["pixels_four_times/training/steps"]["n"] == 1
    assert (
        baselines["pixels_four_times/training/steps"]["value"] > baselines["pixels_equal_time/training/steps"]["value"]
    )
    assert abs(theirs["value"] / ours["value"] - 1) <= 0.05
    assert baselines["referee on the frames that came/HR-phys/any"]["value"] == 0
    assert baselines["referee/error of place in pixels"]["value"] < 0.2
    assert 0 < metrics["jepa over pixels_equal_time/chosen/HR-conf/90%/+10/p_half"]["value"] <= 1
    for coverage in ("80%", "90%", "100%"):
        assert f"jepa/chosen/HR-conf/{coverage}/+10" in metrics
    assert metrics["jepa/probe/HR-conf/100%/+10"]["value"] == metrics["jepa/probe/HR-div/+10"]["value"]
    assert (tmp_path / "work" / "test-jepa0.png").exists()

    capsys.readouterr()
    monkeypatch.setattr(matched_models, "train", None)  # nothing is trained again
    hallucination.main()
    assert json.loads((tmp_path / "hallucination.json").read_text())["metrics"] == metrics


def test_seconds_of_an_interrupted_run_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "spent.json"

    def interrupted() -> None:
        with matched_models._counted(path):
            sum(range(300_000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    first = json.loads(path.read_text())
    assert first > 0
    with matched_models._counted(path) as spent:
        sum(range(300_000))
    assert spent() > first


def test_both_have_one_trunk_and_one_schedule(tmp_path: Path) -> None:
    matched = matched_models.Matched(work=tmp_path, world=Physics(), episodes=1, seed=0, steps=7)
    one, other = (matched.run_config(kind, 3, 7) for kind in ("jepa", "pixels_equal_steps"))
    assert one.model == other.model
    assert one.train.optim == other.train.optim
    assert (one.train.batch, one.train.window, one.train.seed) == (
        other.train.batch,
        other.train.window,
        other.train.seed,
    )
    assert one.train.objective.horizon == other.train.objective.horizon
