"""The panel that was fitted is the panel that is loaded; controls do not disturb what is trained beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CalibrationError, CheckpointError
from foretell.model.encoders import DenseConfig
from foretell.model.folder import save_model
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.surprise.panel import (
    CALIBRATIONS,
    MODEL,
    MOTION,
    NORMAL,
    STRANGE,
    UNTRAINED,
    WHITENINGS,
    Panel,
    fit_panel,
    load_panel,
    scores_of,
    surprise_of,
    untrained_model,
)
from foretell.surprise.stream import SurpriseConfig

TINY = ModelConfig(
    view=View(height=16, width=24, fps=5),
    encoder=DenseConfig(latent_width=5, stem_channels=6, channels=7),
    predictor=RecurrentConfig(hidden=4),
)
SETTINGS = SurpriseConfig(nearest=1, farthest=3, every=2, context=2)
UNITS = {"segment_seconds": 10.0, "gap_seconds": 2.0}


def clips(count: int, steps: int = 14, name: str = "clip{}.mp4") -> Iterator[tuple[str, np.ndarray]]:
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 12, (steps, 16, 24, 3)).cumsum(0)
        yield name.format(number), np.clip(128 + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def panel() -> Panel:
    torch.manual_seed(8)
    return fit_panel(WorldModel(TINY).eval(), lambda: clips(3, 20), lambda: clips(3, 20), SETTINGS, seed=77)


@pytest.fixture
def folder(panel: Panel, tmp_path: Path) -> Path:
    """A calibrated model folder."""
    panel.calibrate(clips(6), **UNITS)
    save_model(tmp_path, panel.scorers[MODEL].model, {"untrained_seed": 77})  # type: ignore[attr-defined]
    panel.save(tmp_path)
    return tmp_path


def test_untrained_network_follows_from_its_seed_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again, other = (untrained_model(TINY, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([w.flatten() for w in model.parameters()]) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not first.training


def test_what_is_saved_is_what_is_loaded(panel: Panel, folder: Path) -> None:
    loaded = load_panel(folder)
    assert loaded.view == panel.view == TINY.view
    assert set(loaded.controls) == {MOTION, UNTRAINED}
    frames = next(clips(1, 30))[1]
    strange, kept_strange = (scores_of(its.scorers[MODEL], frames)[1] for its in (loaded, panel))
    np.testing.assert_allclose(strange, kept_strange, rtol=1e-5)
    for name, scorer in panel.scorers.items():
        np.testing.assert_array_equal(surprise_of(loaded.scorers[name], frames), surprise_of(scorer, frames))
        kept, found = panel.calibrations[name], loaded.calibrations[name]
        np.testing.assert_array_equal(found.scores, kept.scores)
        assert (found.unit, found.unit_seconds, found.names) == (kept.unit, kept.unit_seconds, kept.names)


def test_scorers_are_each_their_own(panel: Panel, folder: Path) -> None:
    scores = {name: tuple(calibration.scores) for name, calibration in panel.calibrations.items()}
    assert set(scores) == {MODEL, MOTION, UNTRAINED, STRANGE}
    assert len(set(scores.values())) == 4
    assert all(len(units) == 6 for units in scores.values())


def test_calibration_scores_are_the_largest_of_each_clip(panel: Panel, folder: Path) -> None:
    largest = [np.nanmax(surprise_of(panel.scorers[MODEL], frames)) for _, frames in clips(6)]
    np.testing.assert_allclose(panel.calibrations[MODEL].scores, sorted(largest))


def test_what_is_as_usual_is_less_strange_than_a_frozen_or_a_blank_picture(panel: Panel, folder: Path) -> None:
    line, scorer = panel.calibrations[STRANGE].scores[-1], panel.scorers[MODEL]
    frames = next(clips(1, 24))[1]
    for spoilt in (np.repeat(frames[:1], 24, 0), np.zeros_like(frames)):
        assert np.nanmin(scores_of(scorer, spoilt)[1]) > line
    assert np.nanmedian(scores_of(scorer, frames)[1]) < line


def test_clips_shorter_than_what_is_judged_together_leave_it_without_doubt() -> None:
    panel = fit_panel(WorldModel(TINY).eval(), lambda: clips(3, 7), lambda: clips(3, 7), SETTINGS, seed=77)
    panel.calibrate(clips(6, 7), **UNITS)
    assert set(panel.calibrations) == {MODEL, MOTION, UNTRAINED}


def test_a_folder_from_before_strangeness_says_nothing_of_it(folder: Path) -> None:
    for file in (NORMAL, CALIBRATIONS[STRANGE]):
        (folder / file).unlink()
    facts = json.loads((folder / "config.json").read_text())
    del facts["sha256"][NORMAL]
    (folder / "config.json").write_text(json.dumps(facts))
    loaded = load_panel(folder)
    assert STRANGE not in loaded.calibrations
    assert np.isnan(scores_of(loaded.scorers[MODEL], next(clips(1))[1])[1]).all()


def test_several_stretches_of_one_file_keep_its_name_once(panel: Panel) -> None:
    panel.calibrate(clips(4, name="tape.mp4"), **UNITS)
    for calibration in panel.calibrations.values():
        assert calibration.names == ("tape.mp4",)
        assert len(calibration.scores) == 4


def test_surprise_in_bounded_memory_is_the_same(panel: Panel) -> None:
    frames = next(clips(1, 31))[1]
    whole, pieces = (surprise_of(panel.scorers[MOTION], frames, chunk) for chunk in (31, 4))
    np.testing.assert_allclose(pieces, whole)


@pytest.mark.parametrize("steps", [3, 51])
def test_calibration_is_of_all_scorers_or_of_none(panel: Panel, steps: int) -> None:
    """motion scores from the second step, the model from the fourth: 3 steps, or a segment of 50, hold too few for it."""
    with pytest.raises(CalibrationError, match="left out"):
        panel.calibrate(clips(5, steps), **UNITS)
    assert panel.calibrations == {}


def test_an_uncalibrated_folder_can_be_loaded(panel: Panel, folder: Path) -> None:
    for file in CALIBRATIONS.values():
        (folder / file).unlink()
    loaded = load_panel(str(folder))
    assert loaded.calibrations == {}
    assert loaded.controls[MOTION][1] is None


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", *WHITENINGS.values(), "calibration.json"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load_panel(folder)


@pytest.mark.parametrize("file", ["model.safetensors", *WHITENINGS.values(), *CALIBRATIONS.values()])
def test_an_altered_file_is_named(folder: Path, file: str) -> None:
    data = bytearray((folder / file).read_bytes())
    at = data.rindex(b"1") if file.endswith(".json") else len(data) - 3
    data[at] = data[at] ^ 3  # in JSON the digit 1 becomes 2
    (folder / file).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{file}: altered"):
        load_panel(folder)
