import json
from pathlib import Path

import fsspec
import numpy as np
import pytest

from foretell.data.clip import View
from foretell.data.ingest import ingest
from foretell.data.readers import find_sources, read
from foretell.data.store import Store
from foretell.errors import DataError

VIEW = View(height=24, width=40, fps=10)


@pytest.fixture
def store(videos: Path, tmp_path: Path) -> Path:
    ingest(videos, tmp_path / "store", view_size=(24, 40), fps=10, workers=1, progress=False)
    return tmp_path / "store"


def decoded(videos: Path) -> dict[str, np.ndarray]:
    return {
        source.name: np.concatenate([chunk.frames for chunk in read(source, VIEW)]) for source in find_sources(videos)
    }


def test_every_window_is_what_decoding_gives(store: Path, videos: Path) -> None:
    opened, truth = Store.open(store), decoded(videos)
    assert [clip.name for clip in opened.clips] == ["day_2/b.mp4", "day_10/a.mp4", "day_10/c.mkv"]
    assert len(opened) == 3
    assert opened.lengths == [31, 70, 12]
    assert opened.view == VIEW
    for number, clip in enumerate(opened.clips):
        assert (clip.seconds, clip.source_frames) == (clip.frames / 10, clip.frames)
        np.testing.assert_array_equal(opened.window(number, 0, clip.frames), truth[clip.name])
    np.testing.assert_array_equal(opened.window(1, 5, 9, 7), truth["day_10/a.mp4"][5:68:7])
    np.testing.assert_array_equal(opened.window(2, 11, 1, 50), truth["day_10/c.mkv"][11:])


def test_a_window_is_a_view_of_the_file_that_cannot_be_written(store: Path) -> None:
    opened = Store.open(store)
    window = opened.window(1, 2, 16)
    assert type(window) is np.ndarray
    assert not window.flags.owndata
    assert np.shares_memory(window, opened.window(1, 10, 4))
    with pytest.raises(ValueError, match="read-only"):
        window[0] = 0


@pytest.mark.parametrize(("start", "length", "stride"), [(0, 71, 1), (-1, 4, 1), (60, 4, 4), (0, 0, 1), (0, 4, 0)])
def test_windows_outside_a_clip_are_refused(store: Path, start: int, length: int, stride: int) -> None:
    with pytest.raises(DataError, match=r"clip day_10/a\.mp4 has 70 frames"):
        Store.open(store).window(1, start, length, stride)


def test_statistics_are_those_of_every_eighth_frame(store: Path, videos: Path) -> None:
    pixels = np.concatenate([frames[::8].reshape(-1, 3) for frames in decoded(videos).values()])
    statistics = Store.open(store).statistics
    assert statistics.frames == 31 + 70 + 12
    np.testing.assert_allclose(statistics.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(statistics.std, pixels.std(axis=0))


def test_a_single_flipped_bit_is_found_and_named(store: Path) -> None:
    opened = Store.open(store)
    opened.verify()
    clip = opened.clips[1]
    path = store / clip.shard
    data = bytearray(path.read_bytes())
    data[(clip.offset + 69) * 24 * 40 * 3 + 2879] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"1 of 3 clips are damaged \(day_10/a\.mp4\)"):
        Store.open(store).verify()


def test_behind_a_url_everything_is_the_same(store: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(store), "/far/away/store", recursive=True)
    near, far = Store.open(store), Store.open("memory://far/away/store")
    assert far.clips == near.clips
    assert (far.view, far.statistics, far.lengths) == (near.view, near.statistics, near.lengths)
    for window in ((0, 0, 31), (1, 5, 9, 7), (2, 3, 4)):
        np.testing.assert_array_equal(far.window(*window), near.window(*window))
    with pytest.raises(DataError, match="70 frames"):
        far.window(1, 70, 1)
    far.verify()
    memory.pipe("/far/away/store/frames-00.u8", b"cut")
    with pytest.raises(DataError, match=r"frames-00\.u8 should have 325440 bytes, got 3 bytes"):
        Store.open("memory://far/away/store")
    with pytest.raises(DataError, match=r"store\.json is missing"):
        Store.open("memory://nowhere")
    with pytest.raises(DataError, match="cannot be read"):
        Store.open("noprotocol://nowhere")


def test_a_store_of_another_version_is_refused(store: Path) -> None:
    index = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**index, "version": 9}))
    with pytest.raises(DataError, match=r"version 9, this foretell reads version 1; ingest the videos again"):
        Store.open(store)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": "foretell clip store", "version": 1}', '{"format": "else"}']
)
def test_a_damaged_index_is_refused(store: Path, text: str) -> None:
    (store / "store.json").write_text(text)
    with pytest.raises(DataError, match=r"store\.json: (the index is damaged|this is no clip store)"):
        Store.open(store)


def test_missing_cut_unfinished_and_no_store(store: Path, videos: Path) -> None:
    pixels = (store / "frames-00.u8").read_bytes()
    (store / "frames-00.u8").write_bytes(pixels[:-1])
    with pytest.raises(DataError, match=r"frames-00\.u8 should have 325440 bytes, got 325439 bytes"):
        Store.open(store)
    (store / "frames-00.u8").unlink()
    with pytest.raises(DataError, match="it is missing"):
        Store.open(store)
    (store / "store.json").unlink()
    with pytest.raises(DataError, match="did not finish; run the same ingest again"):
        Store.open(store)
    with pytest.raises(DataError, match="no clip store here"):
        Store.open(videos)
    with pytest.raises(DataError, match="no clip store here"):
        Store.open(videos / "nowhere")
