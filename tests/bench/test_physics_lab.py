"""The bench of the lab films: marks through the letterbox, rules by hand, the split by film, and a whole run of a tiny lab."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import lab_films
import lab_judge
import numpy as np
import physics_lab
import pytest
import torch

from foretell.data.clip import View
from foretell.data.readers import find_sources, read
from foretell.data.writers import write_video
from foretell.errors import DataError
from foretell.model.world_model import ModelConfig, WorldModel

RATE = 30.0


def test_a_mark_lies_where_the_reader_paints_it(tmp_path: Path) -> None:
    """A bright square far from the middle of a wide video, and of a high one, found again in the view."""
    view = View(height=64, width=96, fps=10)
    for size in ((96, 320), (320, 96)):
        frames = np.zeros((3, *size, 3), np.uint8)
        frames[:, 60:80, 50:70] = 255
        write_video(tmp_path / f"{size[0]}.mp4", frames, 10)
        seen = next(iter(read(find_sources(tmp_path / f"{size[0]}.mp4")[0], view))).frames[0].mean(2)
        scale, corner = lab_films.letterbox(size, view)
        rows, columns = np.nonzero(seen > 128)
        middle = np.array([columns.mean(), rows.mean()]) + 0.5
        np.testing.assert_allclose(np.array([60, 70]) * scale + corner, middle, atol=0.6)


def test_letterbox_by_hand() -> None:
    scale, corner = lab_films.letterbox((480, 640), View(height=64, width=64))
    np.testing.assert_allclose(scale, (0.1, 0.1))
    np.testing.assert_allclose(corner, (0, 8))


@pytest.mark.parametrize("rate", [15.152, 29.529, 30.303, 60.0, 80.0])
def test_shown_frames_are_those_of_the_reader(tmp_path: Path, rate: float) -> None:
    frames = np.zeros((50, 16, 16, 3), np.uint8) + 4 * np.arange(50, dtype=np.uint8)[:, None, None, None]
    write_video(tmp_path / "a.mp4", frames, rate)
    chunks = list(read(find_sources(tmp_path / "a.mp4")[0], View(height=16, width=16, fps=10)))
    seen = np.concatenate([chunk.frames for chunk in chunks])
    shown = lab_films.shown_frames(np.concatenate([chunk.seconds for chunk in chunks]), len(seen), 10)
    np.testing.assert_allclose(seen.mean((1, 2, 3)), 4 * shown, atol=2)


def test_rules_by_hand() -> None:
    """x goes on evenly and y falls ever faster: the line misses the fall, the parabola nothing, and neither is moved by what is old."""
    times = np.arange(10) / 20
    throw = np.column_stack([times, 100 + 40 * times, 50 - 30 * times + 200 * times**2])
    throw[:3, 1:] += 500
    when = np.array([0.55, 0.65])
    truth = np.column_stack([100 + 40 * when, 50 - 30 * when + 200 * when**2])
    said = {name: rule(throw, when) for name, rule in lab_films.RULES.items()}
    for name in ("parabola", "parabola_short"):
        np.testing.assert_allclose(said[name], truth)
    np.testing.assert_allclose(said["copy"], [throw[-1, 1:]] * 2)
    speed = (throw[-1, 1:] - throw[-2, 1:]) / 0.05
    np.testing.assert_allclose(said["line"], throw[-1, 1:] + (when - 0.45)[:, None] * speed)
    np.testing.assert_allclose(said["line_fitted"][:, 0], truth[:, 0])
    assert len(lab_films.recent(throw)) == 7  # 0.15 to 0.45 s
    assert len(lab_films.recent(throw * (3, 1, 1))) == 5


def test_places_between_marks_are_taken_from_near_ones_alone() -> None:
    marks = np.array([[2, 10, 20], [4, 14, 10], [9, 0, 0]], float)
    np.testing.assert_allclose(lab_films.mark_at(marks, 4, 0.03), (14, 10))
    np.testing.assert_allclose(lab_films.mark_at(marks, 3, 0.03), (12, 15))
    for frame in (1, 6, 10):
        assert lab_films.mark_at(marks, frame, 0.03) is None


def test_moments_know_marks_up_to_their_step_and_no_later_ones() -> None:
    marks = np.column_stack([np.arange(2, 40), np.arange(2, 40) * 5.0, np.zeros(38)])
    shown = np.arange(20) * 3
    found = lab_films.moments(marks, shown, 1 / 30)
    assert [m.step for m in found] == list(range(3, 12))  # frame 39, which step 13 shows, is the last marked one
    for m in found:
        np.testing.assert_allclose(m.past[-1], (m.step / 10, m.step * 15, 0))
        np.testing.assert_allclose(m.then[:, 0], [(m.step + 1) / 10, (m.step + 2) / 10])
        np.testing.assert_allclose(m.then[:, 1], [(m.step + 1) * 15, (m.step + 2) * 15])


def film(name: str, group: str | None = None, **known: Any) -> lab_films.Film:
    usual = {"size": (48, 64), "seconds": 1 / RATE, "px_per_metre": 50.0, "labels": {}}
    return lab_films.Film(name=name, path=Path(name), group=group or name, **(usual | known))


def test_split_is_by_film_with_settings_and_same_footage_together() -> None:
    track = {"tracks": {"ball": np.zeros((1, 3))}}
    twin = {"untracked/ball_toss_full.mp4": "tracked/ball_toss.mp4"}
    assert twin.items() <= lab_films.SAME_FOOTAGE.items()
    films = [
        film("tracked/a.mp4", **track),
        film("tracked/ball_toss.mp4", **track),
        *(film(f"spring/{n}.mp4", f"spring {n // 2}", labels={"mass_kg": 1.0}) for n in range(6)),
        film("untracked/ball_toss_full.mp4", "tracked/ball_toss.mp4"),
        film("carts/1.mp4"),
    ]
    found = lab_films.folds(films)
    assert "carts/1.mp4" not in found
    assert found["untracked/ball_toss_full.mp4"] == found["tracked/ball_toss.mp4"] != found["tracked/a.mp4"]
    springs = [found[f"spring/{n}.mp4"] for n in range(6)]
    assert springs == [0, 0, 1, 1, 0, 0]


def test_tokens_around_a_place() -> None:
    tokens = torch.arange(64.0)[:, None]
    assert lab_judge.around(tokens, np.array([20.0, 9.0])).tolist() == [1, 2, 3, 9, 10, 11, 17, 18, 19]
    assert lab_judge.around(tokens, np.array([70.0, -3.0])).tolist() == [6, 7, 7, 6, 7, 7, 14, 15, 15]


def test_probe_reads_a_law_that_holds_in_all_films_and_shrinks_where_none_does() -> None:
    rng = np.random.default_rng(0)

    def row(law: bool) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(rng.normal(size=(12, 5)))
        return x, 3 * x[:, :2] + 7 if law else torch.from_numpy(rng.normal(size=(12, 2)))

    asked, truth = row(True)
    np.testing.assert_allclose(lab_judge.fitted([row(True) for _ in range(4)], asked), truth, atol=0.5)
    assert np.abs(lab_judge.fitted([row(False) for _ in range(4)], asked)).mean() < 0.5


def test_memory_knows_no_later_step() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)
    model = WorldModel(ModelConfig(view=lab_films.VIEW)).eval()
    whole, cut = lab_judge.look(model, frames), lab_judge.look(model, frames[:4])
    for of_all, of_few in zip(whole, cut, strict=True):
        torch.testing.assert_close(of_all[:4], of_few, atol=1e-4, rtol=1e-4)


def test_r2_by_hand() -> None:
    truth = np.array([1.0, 2, 3])
    assert physics_lab.r2(truth, truth) == 1
    assert physics_lab.r2(truth, np.full(3, 2.0)) == 0
    assert np.isnan(physics_lab.r2(np.ones(3), truth))


def test_missing_and_other_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tracks\.csv: cannot be read"):
        lab_films.read_films(tmp_path)
    (tmp_path / "tracks.csv").write_text("file,track\na,b\n")
    with pytest.raises(DataError, match="frame_index_0based"):
        lab_films.read_films(tmp_path)


COLUMNS = "file fps width height mass_kg k_N_per_m measured_freq_hz px_per_metre true_dt_s incline_deg label_consistent"


def write_lab(folder: Path) -> None:
    """Balls that roll, springs and inclines, of noise but for a square, and a cart that is never judged."""
    rows, marks, names = [], [], [f"{kind}/{n}.mp4" for kind in ("ball", "spring", "incline", "cart") for n in range(5)]
    for number, name in enumerate(names):
        frames = np.random.default_rng(number).integers(0, 60, (48, 48, 64, 3), dtype=np.uint8)
        for t in range(48):
            frames[t, 20:28, t : t + 8] = 250
        write_video(folder / name, frames, RATE)
        known = {
            "ball": {"px_per_metre": 100, "true_dt_s": 1 / RATE},
            "spring": {
                "mass_kg": number,
                "k_N_per_m": 3,
                "measured_freq_hz": number / 9,
                "label_consistent": int(number != 5),
            },
            "incline": {"incline_deg": 5 * number},
        }.get(name.split("/")[0], {})
        rows.append({"file": name, "fps": RATE, "width": 64, "height": 48, **known})
        if "true_dt_s" in known:
            marks += [[name, "ball", t, t + 4, 24] for t in range(48)]
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS.split())
        writer.writeheader()
        writer.writerows(rows)
    with (folder / "tracks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "track", "frame_index_0based", "x_px", "y_px"], *marks])


def test_a_whole_run_of_a_tiny_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lab(tmp_path / "lab")
    given = ["lab", "--work", "work", "--steps", "2", "--seeds", "0", "--out", "out"]
    monkeypatch.setattr(sys, "argv", [physics_lab.__file__, *given])
    monkeypatch.setattr(physics_lab, "TRAIN", {"batch": 2, "window": 10})
    monkeypatch.chdir(tmp_path)
    physics_lab.main()
    result = json.loads((tmp_path / "out" / "physics_lab.json").read_text())
    line = result["baselines"]["forecast/marks line/+0.2s/cm"]
    assert line["n"] == 5
    assert line["value"] == pytest.approx(0, abs=1e-6)
    assert result["baselines"]["forecast/marks copy/+0.1s/px"]["value"] == pytest.approx(3)
    assert result["baselines"]["forecast/marks copy/+0.1s/cm"]["value"] == pytest.approx(3)
    assert {"forecast/model moved/+0.1s/px", "label/spring_hz/model, setting left out/r2"} <= result["metrics"].keys()
    assert result["metrics"]["label/mass_kg/model, film left out/mae"]["n"] == 4  # the fifth contradicts its film
    assert result["baselines"]["label/incline_deg/mean, film left out/mae"]["value"] == pytest.approx(7.5)
    for fold in (0, 1):
        split = json.loads((tmp_path / f"work/fold{fold}/m0/config.json").read_text())["split"]
        used = {stretch["name"] for part in split.values() for stretch in part}
        judged = {name for name, of in result["protocol"]["folds"].items() if of == fold}
        assert judged
        assert not judged & used
        assert {"cart/0.mp4", "cart/1.mp4", "cart/2.mp4", "cart/3.mp4"} <= used
