"""Quantities of frames are read from both kinds of tables, and whatever is wrong with them is said."""

import numpy as np
import pytest

from foretell.data.truth import read_truth
from foretell.errors import DataError


def test_csv_beside_videos(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "in/b.mp4", "c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "a.csv").write_text("time,glucose,load\n0,5.5,1\n1,,2\n")
    (tmp_path / "in/b.csv").write_text("load,glucose\n3,4\n")
    found = read_truth(tmp_path, ("glucose", "load"))
    assert set(found) == {"a.mp4", "in/b.mp4"}
    np.testing.assert_array_equal(found["a.mp4"], [[5.5, 1], [np.nan, 2]])
    np.testing.assert_array_equal(found["in/b.mp4"], [[4, 3]])


def test_states_of_a_recording_are_those_of_the_first_object(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "file": ["b.mp4", "a.mp4", "a.mp4", "a.mp4"],
        "frame": [0, 2, 1, 1],
        "object": [0, 0, 0, 1],
        "x": [7.0, 2.0, 1.0, 9.0],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "states.parquet")
    found = read_truth(tmp_path, ("x",))
    np.testing.assert_array_equal(found["a.mp4"], [[np.nan], [1], [2]])  # not there in the first frame
    np.testing.assert_array_equal(found["b.mp4"], [[7]])
    with pytest.raises(DataError, match=r"has no speed; it has file, frame, object, x"):
        read_truth(tmp_path, ("speed",))


@pytest.mark.parametrize(
    ("text", "said"),
    [("glucose\nhigh\n", "could not convert"), ("load\n1\n", "has no glucose"), ("", "has no glucose")],
)
def test_damaged_csv(tmp_path, text, said):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_truth(tmp_path, ("glucose",))


def test_no_table_at_all(tmp_path):
    with pytest.raises(DataError, match="nothing tells true quantities"):
        read_truth(tmp_path, ("x",))
    with pytest.raises(DataError, match="expected a folder"):
        read_truth(tmp_path / "clip.mp4", ("x",))
