import os
from pathlib import Path

import pytest

from foretell.data.sources import find_sources, fingerprint, frame_files, natural
from foretell.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_folder_is_walked_in_natural_order_and_nothing_is_lost(tmp_path: Path) -> None:
    touch(tmp_path, "b10.mp4", "b2.mp4", "a/z.avi", "labels.csv", "a/deep/er/x.mkv", ".hidden.mp4", ".git/y.mp4")
    touch(tmp_path, "frames/f_10.png", "frames/f_9.png", "frames/notes.txt", "cover.jpg")
    found = find_sources(tmp_path)
    assert [(source.name, source.kind) for source in found] == [
        ("a/deep/er/x.mkv", "video"),
        ("a/z.avi", "video"),
        ("b2.mp4", "video"),
        ("b10.mp4", "video"),
        ("cover.jpg", "video"),
        ("frames", "images"),
        ("frames/notes.txt", "video"),
        ("labels.csv", "video"),
    ]
    assert [path.name for path in frame_files(tmp_path / "frames")] == ["f_9.png", "f_10.png"]


def test_one_file_or_one_folder_of_images(tmp_path: Path) -> None:
    touch(tmp_path, "run/0.jpg", "run/1.jpg")
    assert [(source.name, source.kind) for source in find_sources(tmp_path / "run")] == [("run", "images")]
    touch(tmp_path, "a.mp4")
    assert [source.name for source in find_sources(tmp_path / "a.mp4")] == ["a.mp4"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.mp4", "elsewhere/b.mp4")
    (tmp_path / "in" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "dead.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(tmp_path / "in" / "pipe.mp4")  # opening it would wait for ever
    assert [source.name for source in find_sources(tmp_path / "in")] == ["a.mp4", "dead.mp4", "other/b.mp4"]


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        find_sources(tmp_path / "nowhere")
    with pytest.raises(DataError, match="empty"):
        find_sources(tmp_path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    with open(path, "wb"):
        pass
    (source,) = find_sources(tmp_path)
    assert source.name == r"caf\xe9.mp4"
    assert source.path.exists()


def test_natural_order() -> None:
    assert sorted(["f10", "f9", "F1", "f", "f09b", "10", "9"], key=natural) == [
        "9",
        "10",
        "F1",
        "f",
        "f09b",
        "f9",
        "f10",
    ]


def test_a_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "run/0.jpg", "run/1.jpg")
    for source in find_sources(tmp_path):
        before = fingerprint(source)
        changed = source.path if source.kind == "video" else source.path / "1.jpg"
        changed.write_bytes(b"more")
        assert fingerprint(source) != before
