import base64
import html.parser
import json
import re

import numpy as np
import pytest

from foretell.data.readers import find_sources, read
from foretell.data.writers import write_video
from foretell.serve import gallery
from foretell.serve.report import clock, duration
from foretell.serve.watch import watch


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with their attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said, self._open = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open not in ("script", "style"):
            self.said += " " + " ".join(data.split())

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]


@pytest.fixture
def page(tmp_path, scorer, calibration):
    """Watch videos/ and give (text, Page, the script's data)."""

    def make(**changes):
        settings = {"scorer": scorer, "calibration": calibration, "controls": {}, "progress": False} | changes
        watch(tmp_path / "videos", tmp_path / "out", **settings)
        text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
        return text, Page(text), json.loads(data.group(1))

    return make


def flash(start=20, level=200):
    return [30] * start + [level] * 3 + [30] * 17


def test_the_page_stands_alone(page, film, scorer, calibration):
    film("a.mp4", flash())
    text, seen, _ = page(controls={"motion": (type(scorer)(scorer.view), calibration)})
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    for tag, attributes in seen.tags:
        assert tag not in ("link", "iframe", "base", "object", "embed")
        for name in ("src", "href", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:video/mp4;base64,", "data:image/jpeg;base64,", "#")), (
                tag,
                name,
            )
    policy = next(attributes["content"] for tag, attributes in seen.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>.mp4",
        'a" onmouseover="alert(1)\' .mp4',
        "<script>alert(1)<!--.mp4",
        "{{ 7 * 7 }}.mp4",
        "]]> &amp;.mp4",
    ],
)
def test_hostile_file_names_are_shown_and_do_nothing(page, film, name, tmp_path):
    film(name, flash())
    (tmp_path / "videos" / f"{name}.txt").write_text("skipped too")
    (tmp_path / "videos" / "plain.mp4").write_bytes((tmp_path / "videos" / name).read_bytes())
    _, seen, _ = page()
    assert name in seen.said
    assert not [attributes for _, attributes in seen.tags if {"onerror", "onmouseover"} & set(attributes)]
    assert sum(tag == "script" for tag, _ in seen.tags) == 2
    assert not [attributes for tag, attributes in seen.tags if attributes.get("src") == "x"]


def test_the_embedded_video_and_its_heat_are_in_step(page, film, tmp_path, view):
    film("a.mp4", flash(15, 220))
    _, seen, data = page()
    video = next(attributes for tag, attributes in seen.tags if tag == "video" and "src" in attributes)
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "a.mp4").write_bytes(base64.b64decode(video["src"].split(",")[1]))
    (source,) = find_sources(tmp_path / "back")
    frames = np.concatenate([chunk.frames for chunk in read(source, view)])
    info = data["videos"][0]
    rows, columns = info["grid"]
    heat = np.frombuffer(base64.b64decode(info["heat"]), np.uint8).reshape(-1, rows, columns)
    assert (rows, columns) == (4, 6)
    assert len(frames) == len(heat) == info["length"] == 35
    assert info["runs"] == [[0, 35]]
    bright = frames.mean((1, 2, 3)) > 120
    assert bright.nonzero()[0].tolist() == [15, 16, 17]
    assert (heat[bright] > 200).all()
    assert (heat[~bright] < 10).all()


def test_it_says_what_was_promised_and_what_happened(page, film, tmp_path, scorer, calibration):
    film("flash.mp4", flash())
    film("calm.mp4", [30] * 20)
    (tmp_path / "videos" / "notes.txt").write_text("no video")
    controls = {
        "motion": (type(scorer)(scorer.view), calibration),
        "untrained network": (type(scorer)(scorer.view), None),
    }
    _, seen, _ = page(controls=controls)
    for words in (
        "1 of 2 videos raised an alarm",
        "at most 5% of normal clips raise any alarm.",
        "Alarm at 2 s",
        "None of the 99 normal clips used for calibration came this far (p = 0.01).",
        "Motion: would have alarmed",
        "Motion: no alarm",
        "Untrained network: not calibrated",
        "1 unreadable, 0 not scored",
        "not a video",
    ):
        assert words in seen.said, words
    assert len(seen.of_class("card")) == 2
    assert len(seen.of_class("moment")) == 1  # only alarms are shown as moments when there are some
    assert len(seen.of_class("at-line")) == 2


def test_without_an_alarm_the_most_surprising_moments_are_said_to_be_below_the_line(page, film):
    film("a.mp4", [30] * 10 + [60] * 3 + [30] * 7)
    _, seen, _ = page()
    assert "Nothing raised an alarm" in seen.said
    assert "all below the alarm line" in seen.said
    assert len(seen.of_class("moment")) == 1


def test_of_many_videos_the_most_surprising_are_shown_and_all_are_listed(page, film, monkeypatch):
    monkeypatch.setattr(gallery, "SHOWN", 5)
    for k in range(12):
        film(f"clip {k}.mp4", flash(6, 100 + 10 * ((5 * k) % 12)))
    _, seen, data = page()
    titles = [attributes["id"] for attributes in seen.of_class("card")]
    assert titles == [f"video-{k}" for k in range(5)]
    assert all(seen.said.count(f"clip {k}.mp4") >= 1 for k in range(12))
    best = sorted(range(12), key=lambda k: -((5 * k) % 12))[:5]
    shown = [seen.said.count(f"clip {k}.mp4") > 1 for k in range(12)]
    assert [k for k in range(12) if shown[k]] == sorted(best)
    assert len(data["videos"]) == 5
    assert "7 less surprising ones" in seen.said


def test_a_long_video_is_cut_to_its_worst_moments_and_the_page_says_so(page, film):
    level = np.full(900, 30)
    level[200:203], level[700:703] = 180, 230
    film("long.mp4", level)
    _, seen, data = page()
    assert "2 stretches around its worst moments" in seen.said or "3 stretches" in seen.said
    info = data["videos"][0]
    assert info["length"] == 900
    kept = {step for first, end in info["runs"] for step in range(first, end)}
    assert {*range(180, 220), *range(680, 720)} <= kept
    assert len(kept) < 250
    assert len(data["values"][0]) == gallery.POINTS
    assert np.nanmax([value for value in data["values"][0] if value is not None]) > 1
    assert "Worst moment, 1:10" in seen.said
    assert len(seen.of_class("moment")) == 2


def test_the_page_stays_within_its_budget(page, tmp_path, monkeypatch):
    """Noise is the worst that an encoder can meet."""
    monkeypatch.setattr(gallery, "BUDGET_BYTES", 900_000)
    noise = np.random.default_rng(0).integers(0, 80, (300, 32, 48, 3), np.uint8)
    noise[200:203] += 100
    for k in range(3):
        write_video(tmp_path / "videos" / f"{k}.mp4", noise, 10, crf=20)
    text, seen, data = page()
    assert len(text) < 4 / 3 * 900_000 + 400_000  # and stills, curves, style and script
    assert "To keep this page small" in seen.said
    for info in data["videos"]:
        assert any(first <= 201 < end for first, end in info["runs"])


def test_normal_videos_do_not_glow(page, film):
    """With an alarm elsewhere on the page, or without any."""
    rng = np.random.default_rng(0)
    for k in range(4):
        film(f"calm {k}.mp4", 30 + rng.integers(0, 6, 40))
    _, _, alone = page()
    film("flash.mp4", flash(20, 240))
    _, _, beside = page()
    for data in (alone, beside):
        calm = [info for info in data["videos"] if info["length"] == 40][-4:]
        heat = np.concatenate([np.frombuffer(base64.b64decode(info["heat"]), np.uint8) for info in calm[-3:]])
        assert (heat > 150).mean() < 0.02
    assert np.frombuffer(base64.b64decode(beside["videos"][0]["heat"]), np.uint8).max() > 230


def test_a_page_on_which_nothing_could_be_scored(page, film):
    film("short.mp4", [30])
    _, seen, data = page()
    assert data["videos"] == []
    assert "Not scored" in seen.said
    assert "Nothing could be scored" in seen.said


@pytest.mark.parametrize(
    ("seconds", "long", "moment"),
    [(0.0, "0 s", "0 s"), (3.25, "3.2 s", "3.2 s"), (65.9, "1 min 06 s", "1:05"), (7260.0, "2 h 01 min", "2:01:00")],
)
def test_times_are_said_as_people_say_them(seconds, long, moment):
    assert duration(seconds) == long
    assert clock(seconds) == moment
