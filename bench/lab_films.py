"""Real lab films and their hand-made marks: what is known of each, who may train on it, and what marks alone foretell.

Of bench/physics_lab.py. Times are in seconds of the film, places in pixels of its video, unless a name says view.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foretell.data.clip import View
from foretell.data.fit import geometry
from foretell.data.resample import TOLERANCE_STEPS
from foretell.errors import DataError

VIEW = View(height=64, width=64, fps=10.0, fit="letterbox")
AHEAD = 2
"""Steps: 0.1 and 0.2 s."""
SEEN, MARKS = 4, 5
"""Fewest steps seen and marks known when a forecast is made."""
RECENT = 0.3
"""Seconds of marks that the parabola is fitted to, if these are MARKS or more."""
NEAR = 0.1
"""Seconds between two marks that a place between them may be taken from."""
FOLDS = 2
SAME_FOOTAGE = {"untracked/ball_toss_full.mp4": "tracked/ball_toss.mp4"}
"""Found by comparing pixels: an unlabelled film that shows a judged one, and must go where that goes."""
LABELS = {"mass_kg": "mass_kg", "spring_hz": "measured_freq_hz", "incline_deg": "incline_deg"}


@dataclass(frozen=True, kw_only=True)
class Film:
    """One video and what is known of it."""

    name: str
    path: Path
    size: tuple[int, int]
    """Height and width of the video."""
    seconds: float
    """Between two of its frames."""
    px_per_metre: float
    group: str
    """Films of one setting or of the same footage share it: they are never on both sides of the split."""
    labels: dict[str, float]
    tracks: dict[str, np.ndarray] = field(default_factory=dict)
    """Object -> marks (N, 3): frame, x, y in pixels of the video."""

    @property
    def is_held_out(self) -> bool:
        """Whether it has its turn to be judged, or shows what has."""
        return bool(self.labels or self.tracks or self.name in SAME_FOOTAGE)

    @property
    def is_forecast(self) -> bool:
        """Whether marks can be forecast: not in a time lapse, which has no frame 0.1 s ahead."""
        return bool(self.tracks) and self.seconds <= 1 / VIEW.fps


class Moment(NamedTuple):
    """A step of a film at which places are foretold, from the marks known until then."""

    step: int
    past: np.ndarray  # (N, 3) seconds, x, y
    then: np.ndarray  # (AHEAD, 3) seconds, x, y of what the next steps show


def read_films(data: Path) -> list[Film]:
    """All films of the folder, from its two tables. Raises DataError if one is missing or has not their columns."""
    try:
        tracks: dict[str, dict[str, list[list[float]]]] = {}
        for row in _rows(data / "tracks.csv"):
            mark = [float(row[key]) for key in ("frame_index_0based", "x_px", "y_px")]
            tracks.setdefault(row["file"], {}).setdefault(row["track"], []).append(mark)
        return [film_of(data, row, tracks.get(row["file"], {})) for row in _rows(data / "clips.csv")]
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{data}: clips.csv or tracks.csv is not as SOURCE.md tells ({error}): bring it back"
        ) from error


def film_of(data: Path, row: Mapping[str, str], tracks: Mapping[str, list[list[float]]]) -> Film:
    """A row of clips.csv as a Film; a mass that contradicts the film's own frequency is no label."""
    labels = {name: float(row[column]) for name, column in LABELS.items() if row[column]}
    if row["label_consistent"] == "0":
        del labels["mass_kg"]
    name = row["file"]
    setting = f"spring {row['k_N_per_m']} {row['mass_kg']}" if row["k_N_per_m"] else SAME_FOOTAGE.get(name, name)
    return Film(
        name=name,
        path=data / name,
        size=(int(row["height"]), int(row["width"])),
        seconds=float(row["true_dt_s"] or 1 / float(row["fps"])),
        px_per_metre=float(row["px_per_metre"] or "nan"),
        group=setting,
        labels=labels,
        tracks={track: np.array(marks) for track, marks in tracks.items()},
    )


def folds(films: Sequence[Film]) -> dict[str, int]:
    """Film -> the fold whose model must not see it, of those held out: groups of a kind take turns."""
    found: dict[str, int] = {}
    held_out = [film for film in films if film.is_held_out]
    for _, of_kind in itertools.groupby(sorted(held_out, key=_kind), _kind):
        members = list(of_kind)
        number = {group: n % FOLDS for n, group in enumerate(dict.fromkeys(film.group for film in members))}
        found |= {film.name: number[film.group] for film in members}
    return found


def _kind(film: Film) -> str:
    return SAME_FOOTAGE.get(film.name, film.name).split("/")[0]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): give the folder of the lab films") from error


def letterbox(size: tuple[int, int], view: View) -> tuple[np.ndarray, np.ndarray]:
    """Scale (2,) and corner (2,), x first: a place p of a video of `size` lies at p * scale + corner of the view."""
    place = geometry(stored=size, pixel_aspect=None, quarter_turns=0, view=(view.height, view.width), fit=view.fit)
    scale = np.array([place.width / size[1], place.height / size[0]])
    corner = np.array([(view.width - place.width) // 2, (view.height - place.height) // 2], float)
    return scale, corner


def shown_frames(seconds: np.ndarray, steps: int, fps: float) -> np.ndarray:
    """Time stamps (frames,) -> the frame (steps,) that each step shows, as data/resample.py chooses it."""
    first_step = np.ceil(seconds * fps - TOLERANCE_STEPS)
    return np.searchsorted(first_step, np.arange(steps), side="right") - 1


def mark_at(marks: np.ndarray, frame: int, seconds: float) -> np.ndarray | None:
    """The place (2,) marked at `frame`, or between two marks near to each other; None if there are none such."""
    after = int(np.searchsorted(marks[:, 0], frame))
    if after < len(marks) and marks[after, 0] == frame:
        return np.array(marks[after, 1:])
    if not 0 < after < len(marks) or (marks[after, 0] - marks[after - 1, 0]) * seconds > NEAR:
        return None
    (begin, *before), (end, *behind) = marks[after - 1], marks[after]
    share = (frame - begin) / (end - begin)
    return (1 - share) * np.array(before) + share * np.array(behind)


def moments(marks: np.ndarray, shown: np.ndarray, seconds: float) -> list[Moment]:
    """All steps at which MARKS marks and SEEN steps are known, and a place at each of the next AHEAD steps."""
    found = []
    for step in range(SEEN - 1, len(shown) - AHEAD):
        past = marks[marks[:, 0] <= shown[step]]
        then = [mark_at(marks, int(frame), seconds) for frame in shown[step + 1 : step + AHEAD + 1]]
        fresh = len(past) >= MARKS and (shown[step] - past[-1, 0]) * seconds <= NEAR
        if fresh and all(place is not None for place in then):
            times = shown[step + 1 : step + AHEAD + 1] * seconds
            found.append(Moment(step, past * (seconds, 1, 1), np.column_stack([times, np.array(then)])))
    return found


def gone_on(past: np.ndarray, when: np.ndarray, degree: int) -> np.ndarray:
    """Marks (N, 3) -> places (K, 2) at the times `when` (K,), on a polynomial in time by least squares, x and y each."""
    now = past[-1, 0]
    coefficients = np.polynomial.polynomial.polyfit(past[:, 0] - now, past[:, 1:], degree)
    return np.polynomial.polynomial.polyval(when - now, coefficients).T


RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "copy": lambda past, when: gone_on(past[-1:], when, 0),
    "line": lambda past, when: gone_on(past[-2:], when, 1),
    "line_fitted": lambda past, when: gone_on(recent(past), when, 1),
    "parabola": lambda past, when: gone_on(recent(past), when, 2),
    "parabola_short": lambda past, when: gone_on(past[-MARKS:], when, 2),
}
"""What foretells from marks alone; the fitted ones from those of the last RECENT seconds, the short one from MARKS."""


def recent(past: np.ndarray) -> np.ndarray:
    """The marks of the last RECENT seconds, but MARKS at least."""
    return past[-max(MARKS, int((past[:, 0] > past[-1, 0] - RECENT - 1e-6).sum())) :]
