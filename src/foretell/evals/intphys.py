"""The file that the IntPhys challenge takes: one plausibility for each clip of its test set, whose labels are hidden.

Checked: the challenge's page (answer.txt in a zip, lines of clip and score from 0 to 1, clips named as in task.txt of
the starter kit) and its scoring script (four clips a scene, higher is more possible). Not checked: the starter kit
itself. The page shows scenes named `O1/0001`, an older one `O1/0001_O1_test_visible_static_nobj1`; where task.txt has
the long names and the folders have not, rename the keys to those of task.txt.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from foretell.data.sources import natural
from foretell.errors import ConfigError, DataError
from foretell.log import write_whole


def write_intphys_submission(path: Path | str, scores: Mapping[str, float]) -> None:
    """Write plausibilities, clip name -> 0 (impossible) to 1 (possible), as the zip that the IntPhys challenge takes.

    It holds one file, answer.txt, of lines `O1/0001/1 0.75`. The file is seen whole or not at all. The challenge wants
    all clips of its task.txt; here it is only seen to that scenes are whole. Raises ConfigError unless the path ends in
    .zip, and DataError for a name or score of another form, an incomplete scene, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise ConfigError(f"{path}: got the ending {path.suffix!r}, expected .zip, which is what the challenge takes")
    for name, score in scores.items():
        if not re.fullmatch(r"O[123]/[^/\s]+/[1-4]", name):
            raise DataError(f"{path}: got the clip name {name!r}, expected block/scene/clip, for instance O1/0001/1")
        if not 0 <= score <= 1:  # NaN, too, ends here
            raise DataError(f"{path}: the score of {name} is {score}, expected 0 (impossible) to 1 (possible)")
    scenes = {name.rpartition("/")[0] for name in scores}
    missing = sorted({f"{scene}/{clip}" for scene in scenes for clip in "1234"} - scores.keys(), key=natural)
    if missing or not scores:
        first = missing[0] if missing else "any clip"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path}: no score for {first}{more}, expected all four clips of each scene: score them, too")
    # Plain decimals, never 1e-05, and as many as tell two scores apart: ties would cost accuracy.
    lines = [f"{name} {np.format_float_positional(scores[name], trim='0')}" for name in sorted(scores, key=natural)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        # A ZipInfo of its own has a fixed date: the same scores give the same bytes.
        archive.writestr(zipfile.ZipInfo("answer.txt"), "\n".join(lines) + "\n", zipfile.ZIP_DEFLATED)
    write_whole(path, packed.getvalue())
