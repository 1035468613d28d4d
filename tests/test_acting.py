"""The verbs of acting, run for real at tiny size: record rooms, train, evaluate, plan inside guardrails, audit."""

import json
from pathlib import Path

import pytest

from foretell import training
from foretell.cli import main
from foretell.objectives.collapse import OF_LEARNED_LATENTS
from foretell.serve import fitted
from foretell.train import run
from foretell.train.heads import HeadsConfig, fit_heads
from foretell.train.upper import UpperTraining, fit_upper

RAILS = """
delta = 0.4
[limits]
low = [-1.0, -1.0]
high = [1.0, 1.0]
rate = [inf, inf]
[[keep]]
quantity = "x"
min = -1000.0
[surprise]
alpha = 0.4
[watchdog]
plan_seconds = 1000.0
frame_seconds = 1000.0
frozen_frames = 3
[fallback]
kind = "hold"
"""

TINY = ["--steps", "4", "--batch", "4", "--window", "6", "--check-every", "2", "--hold-out", "0.4", "--size", "32"]


def learn_little(patch: pytest.MonkeyPatch) -> None:
    """Let heads and upper level learn for a moment only."""
    heads, upper = HeadsConfig(steps=60), UpperTraining(steps=20)
    patch.setattr(run, "fit_heads", lambda model, cache, names, _, seed: fit_heads(model, cache, names, heads, seed))
    patch.setattr(run, "fit_upper", lambda model, cache, config, _, seed: fit_upper(model, cache, config, upper, seed))


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of rooms and a model that acts."""
    at = tmp_path_factory.mktemp("acting")
    world = ["--policy", "mixed", "--frames", "60", "--size", "32", "--episodes", "20", "--seed", "3"]
    assert main(["record", "rooms", *world, "--out", f"{at}/data"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        learn_little(patch)
        assert main(["train", f"{at}/data", "--out", f"{at}/model", "--preset", "act", *TINY]) == 0
    (at / "guardrails.toml").write_text(RAILS)
    return at


def test_the_model_folder_has_heads_and_says_how_it_errs(road: Path) -> None:
    assert (road / "model" / "heads.safetensors").exists()
    assert json.loads((road / "model" / "config.json").read_text())["model"]["actions"]["skip"] == 5
    assert "card" in (road / "model" / "card.html").read_text()


def test_evaluate_planning_writes_floors_and_ceiling(road: Path, tmp_path: Path) -> None:
    few = ["--episodes", "3", "--budget", "10", "--size", "32", "--goal-ahead", "20", "--over", "least"]
    assert main(["evaluate", "planning", f"{road}/model", "--out", f"{tmp_path}/r.json", *few]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert {"success, random", "success, scripted", "success, oracle"} <= result["baselines"].keys()
    assert result["metrics"]["success"]["n"] == 3
    assert result["protocol"]["config"]["tasks"]["goal_ahead"] == 20
    assert result["protocol"]["config"]["over"] == "least"


def test_a_guarded_run_can_be_looked_at_and_audited(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitted, "STEPS", 2)
    fast = ["--size", "32", "--mode", "fast", "--guardrails", f"{road}/guardrails.toml"]
    few = ["--episodes", "2", "--budget", "10", "--rehearse", "12", "--over", "least", *fast]
    assert main(["plan", f"{road}/model", "--out", f"{tmp_path}/run", *few]) == 0
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "decisions.jsonl",
        "run.mp4",
        "report.html",
        "margin.json",
    }
    assert "Seen, foreseen, goal" in (tmp_path / "run" / "report.html").read_text()
    log = tmp_path / "run" / "decisions.jsonl"
    assert main(["audit", f"{log}"]) == 0
    assert ": whole" in capsys.readouterr().out
    log.write_text(log.read_text().replace('"fallback"', '"plan"').replace('"step":1', '"step":0'))
    assert main(["audit", f"{log}"]) == 1
    assert main(["plan", f"{road}/model", "--out", f"{tmp_path}/run", *few]) == 2  # a log is never written over


FEW = ["--episodes", "3", "--budget", "10", "--size", "32", "--goal-ahead", "20"]


def test_a_finished_model_gets_an_upper_level_and_its_row_stands_beside_the_flat_ones(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    learn_little(monkeypatch)
    asked = ["evaluate", "planning", f"{road}/model", "--out", f"{tmp_path}/r.json", *FEW, "--two-levels"]
    assert main(asked) == 2
    assert "has no upper level: train it with --two-levels" in capsys.readouterr().err
    weights = (road / "model" / "model.safetensors").read_bytes()
    again = ["train", f"{road}/data", "--out", f"{road}/model", "--preset", "act", *TINY]
    assert main([*again, "--two-levels"]) == 0
    assert (road / "model" / "model.safetensors").read_bytes() == weights
    assert main(asked) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert {"success, both", "success, two levels", "success, two levels beyond flat"} <= result["metrics"].keys()
    assert result["protocol"]["config"]["two_levels"]["horizon"] == 2
    (road / "model" / "upper.safetensors").write_bytes(b"other")
    assert main(asked) == 2  # an altered file is never used
    assert "upper.safetensors: altered" in capsys.readouterr().err
    assert main(again) == 0  # and without the flag the model has none again


def test_an_upper_level_needs_footage_and_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for frames, episodes, says in (
        ("20", "40", "longest clip has 20 frames, expected more than 20"),
        ("50", "6", "for 512 places"),
    ):
        at = tmp_path / frames
        world = ["--policy", "mixed", "--frames", frames, "--size", "32", "--episodes", episodes]
        assert main(["record", "rooms", *world, "--out", f"{at}/data"]) == 0
        short = [*TINY, "--two-levels"]
        assert main(["train", f"{at}/data", "--out", f"{at}/model", "--preset", "act", *short]) == 2
        assert says in capsys.readouterr().err
        assert not (at / "model" / "model.safetensors").exists()
    assert main(["train", f"{tmp_path}/50/data", "--out", f"{tmp_path}/m", *TINY, "--two-levels"]) == 2
    assert "add --preset act" in capsys.readouterr().err


def test_goals_may_be_asked_for_in_words(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitted, "STEPS", 2)
    few = ["--episodes", "2", "--budget", "5", "--size", "32", "--guardrails", f"{road}/guardrails.toml"]
    there = ["--to", "x=24", "y=4..8", "--within", "2", "--effort", "0.1"]
    assert main(["plan", f"{road}/model", "--out", f"{tmp_path}/run", *few, *there]) == 0
    assert "of 2 goals reached" in capsys.readouterr().out
    assert "x at 24 (within 2), y from 4 to 8" in (tmp_path / "run" / "report.html").read_text()
    decided = [json.loads(line) for line in (tmp_path / "run" / "decisions.jsonl").read_text().splitlines()]
    assert not any("no plan" in str(line.get("vetoes")) for line in decided)
    for wrong, says in (
        (["--to", "z=24"], "NAME one of x, y"),
        (["--to", "x=24", "--mode", "both"], "use mode slow"),
        (["--within", "2"], "about --to"),
        (["--effort", "2"], "about --to"),
    ):
        assert main(["plan", f"{road}/model", "--out", f"{tmp_path}/none", *few, *wrong]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_without_guardrails_nothing_runs(road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"{road}/model", "--out", f"{tmp_path}/run", "--guardrails", f"{tmp_path}/none.toml"]) == 2
    assert "none.toml" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_world_of_another_scale_is_refused(road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rails = ["--guardrails", f"{road}/guardrails.toml", "--size", "32"]
    four = ["plan", f"{road}/model", "--out", f"{tmp_path}/run", "--layout", "four", *rails]
    assert main(four) == 2  # there the agent goes half as fast
    assert "another scale" in capsys.readouterr().err


def test_options_that_a_world_does_not_read_are_refused(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "planning", f"{road}/model", "--world", "pusht", "--hazards", "2"]) == 2
    assert "does not read" in capsys.readouterr().err


def test_a_watcher_does_not_act(road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--steps", "3", "--batch", "2", "--window", "12", "--check-every", "3", "--tokens", "64", "--size", "32"]
    assert main(["train", f"{road}/data", "--out", f"{tmp_path}/watcher", *tiny]) == 0
    assert main(["evaluate", "planning", f"{tmp_path}/watcher", "--size", "32"]) == 2
    assert "only watches" in capsys.readouterr().err
    assert main(["watch", f"{road}/model", f"{road}/data", "--out", f"{tmp_path}/watched"]) == 2
    assert "acts" in capsys.readouterr().err


def test_training_to_act_needs_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["record", "physics", "--out", f"{tmp_path}/v", "--episodes", "4", "--frames", "24", "--size", "32"]) == 0
    )
    assert (
        main(["train", f"{tmp_path}/v", "--out", f"{tmp_path}/m", "--preset", "act", "--steps", "2", "--size", "32"])
        == 2
    )
    assert "nothing says what was done" in capsys.readouterr().err


def test_a_few_things_in_flat_colours_need_no_encoder_that_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    learn_little(monkeypatch)
    world = ["--policy", "mixed", "--frames", "60", "--episodes", "10", "--lossless"]
    assert main(["record", "pusht", *world, "--out", f"{tmp_path}/data"]) == 0
    small = ["--steps", "2", "--batch", "4", "--check-every", "1", "--hold-out", "0.4"]
    training = ["train", f"{tmp_path}/data", "--out", f"{tmp_path}/model", "--preset", "things", "--settled", "3"]
    assert main([*training, *small]) == 0
    facts = json.loads((tmp_path / "model" / "config.json").read_text())
    assert facts["model"]["encoder"] == {"class": "MomentsConfig", "things": 2}
    diary = [json.loads(line) for line in (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()]
    at_its_step = next(line for line in diary if line["step"] == facts["chosen"]["step"])
    assert facts["chosen"]["error_over_copy_1"] != at_its_step["error_over_copy_1"]  # it is of what learned on since
    assert not any(name in at_its_step["alarms"] for name in OF_LEARNED_LATENTS)
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert main([*training, *small]) == 0  # done already, and done again to the same
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    few = ["--world", "pusht", "--episodes", "2", "--budget", "10", "--over", "least"]
    assert main(["evaluate", "planning", f"{tmp_path}/model", "--out", f"{tmp_path}/r.json", *few]) == 0
    other = ["train", f"{tmp_path}/data", "--out", f"{tmp_path}/other", *small, "--things", "3"]
    assert main([*other, "--preset", "act"]) == 2
    assert "--things: preset act: does not tell things apart" in capsys.readouterr().err
    assert main([*other, "--preset", "things"]) == 2
    assert "found 2 colours beside the ground" in capsys.readouterr().err


def test_where_scenes_differ_what_lies_still_may_be_told_and_settles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn_little(monkeypatch)
    monkeypatch.setitem(training.SETTLED, "scenes", 3)
    world = ["--policy", "smooth", "--varied", "--hazards", "1", "--frames", "60", "--size", "32", "--episodes", "12"]
    assert main(["record", "rooms", *world, "--out", f"{tmp_path}/data"]) == 0
    assert main(["train", f"{tmp_path}/data", "--out", f"{tmp_path}/model", "--preset", "scenes", *TINY]) == 0
    facts = json.loads((tmp_path / "model" / "config.json").read_text())
    assert facts["model"]["predictor"]["blocks"] == 3
    objective = facts["run"]["train"]["objective"]
    assert (objective["within"], objective["inverse"], facts["run"]["settled"]["steps"]) == (0.0, 1.0, 3)
    (tmp_path / "left.csv").write_text("right,down\n" + 25 * "-1,0\n")
    asked = ["--start", "30", "--actions", f"{tmp_path}/left.csv", "--remove", "14,2,18,30"]
    clip, page = sorted((tmp_path / "data").glob("*.mp4"))[1], tmp_path / "what_if.html"
    assert main(["what-if", f"{tmp_path}/model", f"{clip}", *asked, "--out", f"{page}"]) == 0
    assert "other_door" in page.read_text()
