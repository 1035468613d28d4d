"""Small sets in the layouts of IntPhys, GRASP and InfLevel-lab: every clip found once, nothing lost in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foretell.data.clip import View
from foretell.data.writers import write_video
from foretell.errors import ConfigError, DataError
from foretell.evals.layouts import clip_frames, incomplete_groups, read_layout
from foretell.serve.pictures import write_png

HEIGHT, WIDTH, PICTURES = 24, 40, 3
VIEW = View(height=24, width=40, fps=10)
POSSIBLE = {"1": True, "2": False, "3": False, "4": True}
COVERED = ("left__gravity__tealbowl__duck", "center__gravity__tealbowl__duck")
DIRECTED = ("center__continuity__darkbluecup__egg", "LR"), ("center__continuity__darkbluecup__egg", "RL")


def grey(level: int, count: int = PICTURES) -> np.ndarray:
    """Frames of one grey each, 20 brighter from one to the next."""
    levels = (level + 20 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, HEIGHT, WIDTH, 3)).copy()


def add_scene(block: Path, scene: str, *, labelled: bool) -> None:
    for level, (clip, possible) in enumerate(POSSIBLE.items()):
        folder = block / scene / clip
        (folder / "scene").mkdir(parents=True)
        (folder / "masks").mkdir()
        for number, picture in enumerate(grey(40 * level), start=1):
            write_png(folder / "scene" / f"scene_{number:03}.png", picture)
        shutil.copy(folder / "scene/scene_001.png", folder / "masks/masks_001.png")
        if labelled:
            status = {"header": {"block_name": block.name, "is_possible": possible}, "frames": []}
            (folder / "status.json").write_text(json.dumps(status))


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    for block in ("O1", "O2", "O3"):
        add_scene(tmp_path / "dev" / block, "01", labelled=True)
    add_scene(tmp_path / "dev/O1", "02", labelled=True)
    add_scene(tmp_path / "dev/O1", "10", labelled=True)
    return tmp_path / "dev"


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    add_scene(tmp_path / "test/O2", "0001", labelled=False)
    return tmp_path / "test"


@pytest.fixture
def grasp(tmp_path: Path) -> Path:
    for kind, level in (("P", 60), ("IP", 90)):
        for tested, names in (("Collision", ("000", "001", "010")), ("GravityInertia2", ("000",))):
            for name in names:
                write_video(tmp_path / "level2" / f"{kind}_{tested}" / f"{name}.mp4", grey(level), 50)
    return tmp_path / "level2"


@pytest.fixture
def inflevel(tmp_path: Path) -> Path:
    names = [f"gravity/{start}__{trial}" for start in COVERED for trial in ("ui", "uv", "cv", "ci")]
    names += [f"solidity/center__solidity__pot6__apple1__{trial}" for trial in ("cv", "ci")]
    names += [f"continuity/{start}__{trial}__{way}" for start, way in DIRECTED for trial in ("vv", "vi", "ii", "iv")]
    for name in names:
        write_video(tmp_path / "inflevel_lab" / f"{name}.mp4", grey(80), 30)
    return tmp_path / "inflevel_lab"


def test_intphys_dev(dev: Path) -> None:
    clips = read_layout(dev, "intphys")
    scenes = ["O1/01", "O1/02", "O1/10", "O2/01", "O3/01"]
    assert [clip.name for clip in clips] == [f"{scene}/{number}" for scene in scenes for number in "1234"]
    assert [clip.group for clip in clips] == [scene for scene in scenes for _ in range(4)]
    assert [clip.possible for clip in clips] == [*POSSIBLE.values()] * 5
    assert {clip.name[:2]: clip.property for clip in clips} == {"O1": "permanence", "O2": "shape", "O3": "continuity"}
    assert all(clip.path == dev / clip.name / "scene" for clip in clips)
    assert incomplete_groups(clips) == []
    assert read_layout(str(dev), "intphys") == clips


def test_intphys_test_set_hides_its_labels(hidden: Path) -> None:
    clips = read_layout(hidden, "intphys")
    assert [clip.name for clip in clips] == [f"O2/0001/{number}" for number in "1234"]
    assert {clip.possible for clip in clips} == {None}
    assert incomplete_groups(clips) == []


def test_intphys_long_scene_names_of_the_older_page(hidden: Path) -> None:
    (hidden / "O2/0001").rename(hidden / "O2/0001_O2_test_visible_static_nobj1")
    assert read_layout(hidden, "intphys")[3].name == "O2/0001_O2_test_visible_static_nobj1/4"


def test_grasp(grasp: Path) -> None:
    clips = read_layout(grasp, "grasp")
    expected = {
        f"{kind}_{pair}": (pair.split("/")[0], pair, kind == "P", grasp / f"{kind}_{pair}.mp4")
        for kind in ("IP", "P")
        for pair in ("Collision/000", "Collision/001", "Collision/010", "GravityInertia2/000")
    }
    assert {clip.name: (clip.property, clip.group, clip.possible, clip.path) for clip in clips} == expected
    assert [clip.name for clip in clips] == list(expected)


def test_inflevel(inflevel: Path) -> None:
    clips = read_layout(inflevel, "inflevel")
    assert len({clip.name for clip in clips}) == len(clips) == 18
    assert all(clip.path == inflevel / f"{clip.name}.mp4" and clip.path.exists() for clip in clips)
    assert {clip.property for clip in clips} == {"continuity", "gravity", "solidity"}
    impossible = {clip.name.split("__")[4] for clip in clips if not clip.possible}
    assert impossible == {"vi", "iv", "uv", "ci"}
    groups = {group: [c.name for c in clips if c.group == group] for group in {clip.group for clip in clips}}
    start = "continuity/center__continuity__darkbluecup__egg"
    assert groups[f"{start}__v__LR"] == [f"{start}__vi__LR", f"{start}__vv__LR"]
    start = "gravity/left__gravity__tealbowl__duck"
    assert groups[f"{start}__u"] == [f"{start}__ui", f"{start}__uv"]
    assert {len(names) for names in groups.values()} == {2}
    assert incomplete_groups(clips) == []


def test_inflevel_gives_and_names_what_has_no_partner(inflevel: Path) -> None:
    (inflevel / "gravity/left__gravity__tealbowl__duck__uv.mp4").unlink()
    clips = read_layout(inflevel, "inflevel")
    assert len(clips) == 17
    assert incomplete_groups(clips) == ["gravity/left__gravity__tealbowl__duck__u"]


def test_frames_as_the_view_sees_them(dev: Path, grasp: Path) -> None:
    pictures = clip_frames(read_layout(dev, "intphys")[1], VIEW)
    assert pictures.dtype == np.uint8
    assert pictures.shape == (PICTURES, 24, 40, 3)
    np.testing.assert_array_equal(pictures, grey(40))
    video = clip_frames(read_layout(grasp, "grasp")[-1], View(height=24, width=40, fps=50))
    assert video.shape == (PICTURES, 24, 40, 3)
    np.testing.assert_allclose(video, grey(60), atol=3)


def test_frames_of_a_clip_that_is_gone_or_damaged(dev: Path, grasp: Path) -> None:
    clip, other = read_layout(dev, "intphys")[:2]
    (clip.path / "scene_002.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1/scene: image scene_002\.png: cannot be decoded"):
        clip_frames(clip, VIEW)
    shutil.rmtree(clip.path)
    with pytest.raises(DataError, match="no such file or folder"):
        clip_frames(clip, VIEW)
    for picture in list(other.path.iterdir())[1:]:
        picture.unlink()
    with pytest.raises(DataError, match="fewer than two numbered pictures, expected those of O1/01/2"):
        clip_frames(other, VIEW)
    video = read_layout(grasp, "grasp")[0]
    video.path.write_bytes(video.path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"000\.mp4: not a video"):
        clip_frames(video, VIEW)


def state(possible: object) -> Callable[[Path], object]:
    return lambda dev: (dev / "O1/02/3/status.json").write_text(json.dumps({"header": {"is_possible": possible}}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda dev: (dev / "O1/02/3/status.json").write_text("{"),
            r"O1/02/3/status\.json: no label at header\.is_poss",
        ),
        (lambda dev: (dev / "O1/02/3/status.json").write_text("[]"), r"O1/02/3/status\.json: no label"),
        (lambda dev: (dev / "O1/02/3/status.json").write_text('{"header": {}}'), r"O1/02/3/status\.json: no label"),
        (lambda dev: (dev / "O1/02/3/status.json").write_bytes(b"\xff\xfe{"), r"O1/02/3/status\.json: no label"),
        (state("yes"), r"O1/02/3/status\.json: header\.is_possible is 'yes', expected true or false"),
        (state(True), r"scene O1/02 has 3 possible clips, expected 2"),
        (lambda dev: (dev / "O1/02/3/status.json").unlink(), r"no status\.json in O1/02/3, while other clips have"),
        (lambda dev: shutil.rmtree(dev / "O1/02/3"), r"O1/02: got the clips 1, 2, 4, expected 1, 2, 3, 4"),
        (lambda dev: (dev / "O1/02/5").mkdir(), r"O1/02: got the clips 1, 2, 3, 4, 5, expected"),
        (lambda dev: shutil.rmtree(dev / "O1/02/3/scene"), r"O1/02/3/scene: got 0 pictures"),
        (
            lambda dev: (dev / "O1/02/3/scene/scene_002.png").unlink(),
            r"got scene_003\.png as picture 2, expected scene_002",
        ),
        (lambda dev: (dev / "O1/02/3/scene/scene_003.png").unlink(), r"O1/02: its clips have \[3, 3, 2, 3\] pictures"),
        (lambda dev: (dev / "O1/02/3/scene/thumb_1.png").touch(), r"got thumb_1\.png as picture 4"),
        (lambda dev: (dev / "O1/notes.txt").touch(), r"O1/notes\.txt: cannot list this folder"),
        (lambda dev: (dev / "O4").mkdir(), r"got the folders O4, expected only O1, O2, O3"),
        (lambda dev: shutil.rmtree(dev / "O1/01") or shutil.rmtree(dev / "O3/01"), r"dev: O3 is empty"),
        (shutil.rmtree, r"dev: cannot list this folder \(No such file or directory\)"),
    ],
)
def test_intphys_names_what_is_missing_or_damaged(damage: Callable[[Path], object], says: str, dev: Path) -> None:
    damage(dev)
    with pytest.raises(DataError, match=says):
        read_layout(dev, "intphys")


def test_grasp_names_what_is_missing_or_strange(grasp: Path) -> None:
    (grasp / "IP_Collision/001.mp4").unlink()
    with pytest.raises(DataError, match="P_ or IP_ is missing of Collision/001, expected a file in both"):
        read_layout(grasp, "grasp")
    shutil.rmtree(grasp / "IP_Collision")
    with pytest.raises(DataError, match="missing of Collision/000, Collision/001, Collision/010,"):
        read_layout(grasp, "grasp")
    (grasp / "P_Collision/002.mp4.part").touch()
    with pytest.raises(DataError, match=r"P_Collision: got 002\.mp4\.part, expected only 000\.mp4"):
        read_layout(grasp, "grasp")
    with pytest.raises(DataError, match="got the folders level2, expected only P_Collision, IP_Collision"):
        read_layout(grasp.parent, "grasp")


def test_inflevel_names_what_is_strange(inflevel: Path) -> None:
    for name in ("center__gravity__tealbowl__duck__vv", "center__solidity__tealbowl__duck__ui", "duck__ui"):
        strange = inflevel / "gravity" / f"{name}.mp4"
        strange.touch()
        with pytest.raises(DataError, match=rf"gravity: got {name}\.mp4, expected only center__gravity__cover__object"):
            read_layout(inflevel, "inflevel")
        strange.unlink()


def test_an_unknown_layout_or_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got 'physion', expected intphys, grasp or inflevel"):
        read_layout(tmp_path, "physion")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="got no folder, expected only continuity, gravity, solidity"):
        read_layout(tmp_path, "inflevel")
