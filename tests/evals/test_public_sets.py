"""Public sets: groups compared, single clips ranked, hidden labels left out, by hand."""

from pathlib import Path

import numpy as np
import pytest

from foretell.data.clip import View
from foretell.data.writers import write_video
from foretell.errors import DataError
from foretell.evals.layouts import LabelledClip
from foretell.evals.public_sets import figures_of, plausibilities, surprises_of
from foretell.surprise.panel import Panel
from foretell.surprise.score import MotionScorer
from foretell.surprise.stream import SurpriseConfig


def clip(name: str, possible: bool | None, kind: str = "gravity", path: Path = Path()) -> LabelledClip:
    return LabelledClip(name=name, property=kind, group=name[0], path=path, possible=possible)


def test_figures_by_hand():
    clips = [
        clip("a1", True),
        clip("a2", False),
        clip("b1", True),
        clip("b2", False),
        clip("c1", True),
        clip("d1", None),
    ]
    clips += [clip("e1", True, "solidity"), clip("e2", False, "solidity")]
    level = {"a1": 1.0, "a2": 2.0, "b1": 3.0, "b2": 3.0, "c1": 9.0, "d1": 9.0, "e1": 5.0, "e2": 4.0}
    surprises = {name: np.array([np.nan, value, value]) for name, value in level.items()}
    found = figures_of(surprises, clips)
    assert found["gravity/relative"]["value"] == 0.75  # one right, one tie; c has no partner, d no label
    assert found["gravity/relative"]["n"] == 2
    assert found["solidity/relative"]["value"] == 0
    assert found["all/relative"]["value"] == pytest.approx(0.5)
    assert found["gravity/auroc"]["value"] == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert "gravity/relative" not in figures_of(surprises, [clip("d1", None)])


def test_plausibility_falls_with_surprise():
    said = plausibilities({"a": np.array([1.0, 1.0]), "b": np.array([np.nan, 5.0]), "c": np.array([2.0, 2.0])})
    assert said["a"] > said["c"] > said["b"] > 0
    assert max(said.values()) == 1


def test_scores_real_files_and_refuses_what_is_too_short(tmp_path):
    view = View(height=24, width=24, fps=10.0)
    panel = Panel({"model": MotionScorer(view, (3, 3), SurpriseConfig())}, {})
    frames = np.zeros((6, 24, 24, 3), np.uint8)
    frames[3:] = 200
    write_video(tmp_path / "flash.mp4", frames, 10.0)
    write_video(tmp_path / "still.mp4", frames[:3], 10.0)
    write_video(tmp_path / "one.mp4", frames[:1], 10.0)
    flash, still, one = (clip(name, True, path=tmp_path / f"{name}.mp4") for name in ("flash", "still", "one"))
    found = surprises_of(panel, [flash, still])["model"]
    assert np.nanmax(found["flash"]) > 100 > np.nanmax(found["still"])
    with pytest.raises(DataError, match="too short to score"):
        surprises_of(panel, [one])
