"""The submission is read back by the rules of the challenge's scoring script; what it would reject is not written."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from foretell.errors import ConfigError, DataError
from foretell.evals.intphys import write_intphys_submission


def scene(name: str, *scores: float) -> dict[str, float]:
    return {f"{name}/{number}": score for number, score in enumerate(scores, start=1)}


def official(path: Path) -> dict[str, dict[str, float]]:
    """Scene -> clip -> plausibility, as the scoring script reads it."""
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["answer.txt"]
        lines = archive.read("answer.txt").decode("ascii").splitlines()
    answer: dict[str, dict[str, float]] = {}
    for line in lines:
        name, score = line.split()
        scene, _, clip = name.rpartition("/")
        assert clip not in answer.setdefault(scene, {})
        answer[scene][clip] = float(score)
    assert all(sorted(clips) == ["1", "2", "3", "4"] for clips in answer.values())
    return answer


def test_the_file_is_of_the_official_form(tmp_path: Path) -> None:
    scores = scene("O3/1080", 1, 0.0, 1 / 3, 1e-7) | scene("O1/0001", 0.9751, 0.0614, 0.0397, np.float32(0.1))
    path = tmp_path / "new folder" / "answer.zip"
    write_intphys_submission(path, scores)
    assert official(path) == {
        "O1/0001": {"1": 0.9751, "2": 0.0614, "3": 0.0397, "4": 0.1},
        "O3/1080": {"1": 1.0, "2": 0.0, "3": 1 / 3, "4": 1e-7},
    }
    text = zipfile.ZipFile(path).read("answer.txt").decode()
    assert text.startswith("O1/0001/1 0.9751\nO1/0001/2 0.0614\n")
    assert text.endswith("O3/1080/4 0.0000001\n")
    assert [file.name for file in path.parent.iterdir()] == ["answer.zip"]


def test_the_same_scores_give_the_same_bytes(tmp_path: Path) -> None:
    scores = scene("O2/0002", 0.1, 0.2, 0.3, 0.4) | scene("O2/0010", 0.5, 0.6, 0.7, 0.8)
    write_intphys_submission(tmp_path / "a.zip", scores)
    write_intphys_submission(tmp_path / "b.zip", dict(reversed(scores.items())))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


WHOLE = scene("O1/0001_O1_test_visible_static_nobj1", 0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ({}, "no score for any clip"),
        (scene("O1/0001", 0.1, 0.2, 0.3), "no score for O1/0001/4, expected all four clips of each scene"),
        (WHOLE | scene("O2/01", 0.1, 0.2), "no score for O2/01/3 and 1 more"),
        (WHOLE | scene("O1/01", 0, 0, 0, 1.5), "the score of O1/01/4 is 1.5, expected 0"),
        (WHOLE | scene("O1/01", 0, -0.1, 0, 1), "the score of O1/01/2 is -0.1"),
        (WHOLE | scene("O1/01", 0, 0, float("nan"), 1), "the score of O1/01/3 is nan"),
        (WHOLE | scene("P_Collision", 0, 0, 0, 0), "got the clip name 'P_Collision/1', expected block/scene/clip"),
        (WHOLE | scene("O1/a b", 0, 0, 0, 0), "got the clip name 'O1/a b/1'"),
        (WHOLE | {"O1/01/5": 0.5}, "got the clip name 'O1/01/5'"),
    ],
)
def test_what_the_challenge_rejects_is_not_written(scores: dict[str, float], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        write_intphys_submission(tmp_path / "answer.zip", scores)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got the ending '\.txt', expected \.zip"):
        write_intphys_submission(tmp_path / "answer.txt", WHOLE)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"answer\.zip: cannot be written"):
        write_intphys_submission(tmp_path / "file" / "answer.zip", WHOLE)
