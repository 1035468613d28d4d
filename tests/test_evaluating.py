"""`foretell evaluate physics` as a user runs it, at tiny size: every judge, every property, a result file and a page."""

import functools
import json

import numpy as np
import pytest

from foretell.cli import main
from foretell.controls import CONTROLS
from foretell.model.likeness import FILE, LikenessConfig
from foretell.serve.pictures import write_png
from foretell.worlds.stage import PROPERTIES

TINY = ["--quadruplets", "2", "--normal", "4", "--calibration", "20", "--possible", "6", "--violations", "1"]
TINY += ["--oracle-clips", "30", "--oracle-steps", "5", "--control-steps", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exam")
    few = functools.partial(LikenessConfig, steps=3)
    staged = ["--scenario", "staged", "--frames", "24", "--size", "48", "--episodes", "60"]
    assert main(["record", "physics", "--out", str(folder / "videos"), *staged]) == 0
    training = ["--steps", "20", "--batch", "2", "--window", "24", "--hold-out", "0.4", "--size", "48"]
    training += ["--preset", "colour", "--settle", "0.3", "--nearest", "1", "--farthest", "1", "--expect", "--likeness"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foretell.training.LikenessConfig", few)
        assert main(["train", str(folder / "videos"), "--out", str(folder / "model"), *training]) == 0
    return folder


def test_an_exam_gives_every_figure_and_a_page(folder, capsys):
    out = folder / "result.json"
    assert (folder / "model" / FILE).exists()
    assert main(["evaluate", "physics", str(folder / "model"), "--out", str(out), *TINY]) == 0
    said = capsys.readouterr().out
    result = json.loads(out.read_text())
    for kind in PROPERTIES:
        assert kind in said
        for figure in ("relative", "auroc", "accuracy", "caught", "delay"):
            assert set(result["metrics"][f"{kind}/{figure}"]) == {"value", "low", "high", "n"}
        for name in ("pixel copy", "latent copy", "straight line", "state oracle", *CONTROLS):
            assert 0 <= result["baselines"][f"{name}/{kind}/relative"]["value"] <= 1
        assert result["baselines"][f"pixel copy/{kind}/relative"]["value"] == 0.5
        assert result["baselines"][f"latent copy/{kind}/relative"]["value"] == 0.5
    assert {"false_alarms", "false_alarms/worst_slice", "familiar_alarms", "visible/caught", "visible/delay"} <= result[
        "metrics"
    ].keys()
    assert result["protocol"]["part"] == "test"
    assert result["protocol"]["horizons"]
    assert result["protocol"]["trained"]["likeness"]["steps"] == 3
    page = out.with_suffix(".html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_what_controls_said_is_kept_and_an_exam_repeats_to_the_digit(folder):
    controls = folder / "controls"
    results = [
        json.loads((folder / "result.json").read_text())
    ]  # of the test before, which trained and asked all of them
    kept = {path: path.stat().st_mtime_ns for path in controls.glob("*.answers")}
    assert len(kept) == len(CONTROLS) + 2
    assert len(list(controls.glob("*/done"))) == len(CONTROLS)
    for again in (False, True):
        for path in kept if again else ():
            path.unlink()
        out = folder / f"again-{again}" / "result.json"
        arguments = ["--out", str(out), "--controls", str(controls), *TINY]
        assert main(["evaluate", "physics", str(folder / "model"), *arguments]) == 0
        results.append(json.loads(out.read_text()))
        assert ({path: path.stat().st_mtime_ns for path in controls.glob("*.answers")} == kept) != again
    for result in results[1:]:
        assert result["metrics"] == results[0]["metrics"]
        assert result["baselines"] == results[0]["baselines"]
        assert [*result["baselines"]] == [*results[0]["baselines"]]


def test_faults_of_the_user_are_named(folder, capsys):
    assert main(["evaluate", "physics", str(folder / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err
    assert main(["evaluate", "physics", str(folder / "model"), "--quadruplets", "0"]) == 2
    assert "quadruplets" in capsys.readouterr().err


def test_a_public_layout_gets_figures_and_hidden_labels_a_submission(folder, capsys):
    for block, label in (("dev", True), ("test", False)):
        for scene in ("01", "02"):
            for clip, possible in zip("1234", (True, True, False, False), strict=True):
                pictures = folder / block / "O1" / scene / clip / "scene"
                pictures.mkdir(parents=True)
                level = np.random.default_rng(int(clip)).integers(256, size=(16, 24, 24, 3), dtype=np.uint8)
                for number, picture in enumerate(level, start=1):
                    write_png(pictures / f"scene_{number:03}.png", picture)
                if label:
                    status = {"header": {"block_name": "O1", "is_possible": possible}}
                    (pictures.parent / "status.json").write_text(json.dumps(status))
    out = folder / "public.json"
    arguments = ["evaluate", "physics", str(folder / "model"), "--layout", "intphys"]
    assert main([*arguments, "--out", str(out), "--data", str(folder / "dev")]) == 0
    result = json.loads(out.read_text())
    assert result["metrics"]["permanence/relative"]["n"] == 2
    assert "motion/all/auroc" in result["baselines"]
    assert main([*arguments, "--out", str(out), "--data", str(folder / "test")]) == 0
    assert out.with_suffix(".zip").exists()
    capsys.readouterr()
    assert main(arguments) == 2
    assert "expected both or none" in capsys.readouterr().err
