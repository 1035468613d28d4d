"""Folders of public intuitive-physics benchmarks -> labelled clips. Nothing is downloaded.

    intphys    O1|O2|O3/<scene>/1..4/scene/scene_001.png ...   and, in dev, <scene>/1..4/status.json with the label
    grasp      P_<property>/000.mp4 (possible) beside IP_<property>/000.mp4 (impossible), of level 2
    inflevel   <property>/<camera>__<property>__<cover>__<object>__<trial>[__<direction>].mp4

Checked, in the authors' code or pages. IntPhys: the tree, the pictures' names and the label at header.is_possible
(bootphon/intphys: saver.py, Screenshot.cpp, make_archives.py), two possible clips and two impossible ones a scene (its
generator; the labels of all 360 dev clips). GRASP: the folders (i-machine-think/grasp: generate_videos.py,
prepare_data.py, level2.py). InfLevel: the trials, and which of them are possible (allenai/inflevel: evaluator.py). The
pairs of GRASP and InfLevel, and InfLevel's file names, stand in the evaluation of
facebookresearch/jepa-intuitive-physics and its lists, read in copies of that repository.

Not checked, for want of the files: what the scenes of IntPhys' test archives are called (the challenge's pages show
`O1/0001` and `O1/0001_O1_test_visible_static_nobj1`: any name is read), and whether each of InfLevel's videos has a
partner (its authors' evaluator leaves some out). InfLevel's videos begin with a look into the cover: they are given
whole, where the evaluation named above by default cuts that off.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from foretell.data.clip import View
from foretell.data.readers import find_sources, read
from foretell.data.sources import frame_files, natural
from foretell.errors import ConfigError, DataError

BLOCKS = {"O1": "permanence", "O2": "shape", "O3": "continuity"}
"""IntPhys: block -> the property it tests."""
_HIDDEN_OR_SHOWN = {"vv": True, "ii": True, "vi": False, "iv": False}
_BEFORE_AND_AFTER = {"ui": True, "cv": True, "uv": False, "ci": False}
TRIALS = {"continuity": _HIDDEN_OR_SHOWN, "gravity": _BEFORE_AND_AFTER, "solidity": _BEFORE_AND_AFTER}
"""InfLevel: property -> trial -> possible. The first letter says how the video begins, the second how it ends."""
CLIPS_OF_A_SCENE = ("1", "2", "3", "4")


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """One clip of a benchmark, and what its authors say of it."""

    name: str
    """Unlike that of any other clip of the benchmark: its path, as in IntPhys' submission file, without .mp4."""
    property: str
    """What is tested; for GRASP and InfLevel in the authors' own word."""
    group: str
    """The same for clips to be compared: IntPhys' four clips of a scene, a pair elsewhere."""
    path: Path
    """A video file, or a folder of numbered images."""
    possible: bool | None
    """None where the authors keep the label to themselves."""


def read_layout(root: Path | str, layout: Literal["intphys", "grasp", "inflevel"]) -> list[LabelledClip]:
    """All clips below the folder that holds the blocks (IntPhys: of dev, or of test) or properties, in natural order.

    A block or property that is not there is not missed; what is there must be whole. Raises DataError that names what
    is missing, damaged or not of this layout, and ConfigError for another layout. Only for InfLevel a clip without a
    partner is given all the same: `incomplete_groups` names it, and whoever compares must say how many there were.
    """
    root = Path(root)
    if layout == "intphys":
        clips = _intphys(root)
    elif layout == "grasp":
        clips = _grasp(root)
    elif layout == "inflevel":
        clips = _inflevel(root)
    else:
        raise ConfigError(f"layout: got {layout!r}, expected intphys, grasp or inflevel")
    return sorted(clips, key=lambda clip: natural(clip.name))


def incomplete_groups(clips: Iterable[LabelledClip]) -> list[str]:
    """Groups that lack a possible or an impossible clip, in natural order; none where labels are hidden."""
    labels: dict[str, set[bool]] = defaultdict(set)
    for clip in clips:
        if clip.possible is not None:
            labels[clip.group].add(clip.possible)
    return sorted((group for group, found in labels.items() if len(found) < 2), key=natural)


def clip_frames(clip: LabelledClip, view: View) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) as the view sees them; IntPhys' pictures one a step, whatever the view's rate.

    Raises DataError if the clip is gone, cannot be read or breaks off midway.
    """
    sources = [source for source in find_sources(clip.path) if source.path == clip.path]
    if not sources:
        raise DataError(f"{clip.path}: got fewer than two numbered pictures, expected those of {clip.name}")
    return np.concatenate([chunk.frames for chunk in read(sources[0], view)])


def _intphys(root: Path) -> list[LabelledClip]:
    """Clips of one IntPhys set, labelled where each has its status.json, hidden where none has."""
    blocks = _properties(root, "O[123]", "O1, O2, O3 (in dev, or in test)")
    folders = [folder for block in blocks for scene in _entries(block) for folder in _four_clips(scene)]
    unlabelled = [folder for folder in folders if not (folder / "status.json").exists()]
    hidden = len(unlabelled) == len(folders)
    if unlabelled and not hidden:
        where = _some(folder.relative_to(root).as_posix() for folder in unlabelled)
        raise DataError(f"{root}: no status.json in {where}, while other clips have theirs: unpack the set again")
    clips = [
        LabelledClip(
            name=folder.relative_to(root).as_posix(),
            property=BLOCKS[folder.relative_to(root).parts[0]],
            group=folder.parent.relative_to(root).as_posix(),
            path=folder / "scene",
            possible=None if hidden else _is_possible(folder / "status.json"),
        )
        for folder in folders
    ]
    possible = Counter(clip.group for clip in clips if clip.possible)
    for group in [] if hidden else dict.fromkeys(clip.group for clip in clips):
        if possible[group] != 2:
            raise DataError(f"{root}: scene {group} has {possible[group]} possible clips, expected 2: unpack it again")
    return clips


def _four_clips(scene: Path) -> list[Path]:
    """The folders of a scene's four clips, their pictures counted."""
    folders = _folders(scene)
    if tuple(folder.name for folder in folders) != CLIPS_OF_A_SCENE:
        got = ", ".join(folder.name for folder in folders) or "none"
        raise DataError(f"{scene}: got the clips {got}, expected 1, 2, 3, 4: unpack this scene again")
    counts = [_count_pictures(folder / "scene") for folder in folders]
    if len(set(counts)) > 1:
        raise DataError(f"{scene}: its clips have {counts} pictures, expected as many in each: unpack this scene again")
    return folders


def _count_pictures(folder: Path) -> int:
    """How many frames a clip has. The numbers of what the reader would take must run from 1 without a gap."""
    names = [path.name for path in frame_files(folder)] if folder.is_dir() and _entries(folder) else []
    for number, name in enumerate(names, start=1):
        if not re.fullmatch(rf"scene_0*{number}\.png", name):
            raise DataError(
                f"{folder}: got {name} as picture {number}, expected scene_{number:03}.png: unpack it again"
            )
    if len(names) < 2:
        raise DataError(f"{folder}: got {len(names)} pictures, expected scene_001.png and on: unpack this clip again")
    return len(names)


def _is_possible(status: Path) -> bool:
    try:
        label = json.loads(status.read_text(encoding="utf-8"))["header"]["is_possible"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{status}: no label at header.is_possible ({error!r}): unpack this clip again") from error
    if not isinstance(label, bool):
        raise DataError(f"{status}: header.is_possible is {label!r}, expected true or false: unpack this clip again")
    return label


def _grasp(root: Path) -> list[LabelledClip]:
    clips = []
    for folder in _properties(root, r"I?P_\w+", "P_Collision, IP_Collision, ... (in level2)"):
        kind, _, tested = folder.name.partition("_")
        for file in _videos(folder, r"\d+\.mp4", "000.mp4, 001.mp4, ..."):
            name, group = f"{folder.name}/{file.stem}", f"{tested}/{file.stem}"
            clips.append(LabelledClip(name=name, property=tested, group=group, path=file, possible=kind == "P"))
    lone = incomplete_groups(clips)
    if lone:
        raise DataError(f"{root}: P_ or IP_ is missing of {_some(lone)}, expected a file in both: unpack the set again")
    return clips


def _inflevel(root: Path) -> list[LabelledClip]:
    clips = []
    for folder in _properties(root, "|".join(TRIALS), ", ".join(TRIALS)):
        trials = TRIALS[folder.name]
        form = rf"([^_]+__{folder.name}__.+?__.+?__)({'|'.join(trials)})((?:__\w+)?)\.mp4"
        for file in _videos(folder, form, f"center__{folder.name}__cover__object__{'|'.join(trials)}.mp4"):
            parts = re.fullmatch(form, file.name)
            assert parts  # _videos lets no other name through
            before, trial, direction = parts.groups()
            clips.append(
                LabelledClip(
                    name=f"{folder.name}/{file.stem}",
                    property=folder.name,
                    # Clips that begin alike and end differently: the one thing that tells them apart is what is tested.
                    group=f"{folder.name}/{before}{trial[0]}{direction}",
                    path=file,
                    possible=trials[trial],
                )
            )
    return clips


def _properties(root: Path, form: str, expected: str) -> list[Path]:
    """The folders in a set, every one a block or property by its name."""
    folders = _folders(root)
    strange = [folder.name for folder in folders if not re.fullmatch(form, folder.name)]
    if strange or not folders:
        got = f"the folders {_some(strange)}" if strange else "no folder"
        raise DataError(f"{root}: got {got}, expected only {expected}: give the folder that holds these")
    empty = [folder.name for folder in folders if not _entries(folder)]
    if empty:
        raise DataError(f"{root}: {_some(empty)} is empty, expected clips: unpack it again, or remove the folder")
    return folders


def _videos(folder: Path, form: str, expected: str) -> list[Path]:
    """The files in a folder, every one a clip by its name."""
    files = _entries(folder)
    strange = [file.name for file in files if not re.fullmatch(form, file.name)]
    if strange:
        raise DataError(
            f"{folder}: got {_some(strange)}, expected only {expected}: unpack the set again, or move it away"
        )
    return files


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder but hidden files (a leading dot), in natural order."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot list this folder ({error.strerror}): check its path and permissions"
        ) from error
    return [folder / name for name in sorted(names, key=natural)]


def _some(names: Iterable[str]) -> str:
    """The first three, in natural order, and how many more there are."""
    listed = sorted(names, key=natural)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
