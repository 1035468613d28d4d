"""The page of the exam: it says what the result says, shows all that was asked, and needs nothing from outside."""

import functools
import json
import re
from html import escape

import numpy as np
import pytest

from foretell.errors import DataError
from foretell.evals.intervals import share
from foretell.evals.intuitive_physics import Verdicts, example
from foretell.log import write_result
from foretell.serve.exam_page import FIGURES, IMPOSSIBLE, ORACLE, SHAPES, told, write_exam_page
from foretell.surprise.panel import MODEL
from foretell.worlds.physics import Physics
from foretell.worlds.stage import PROPERTIES

WORLD = Physics(scenario="staged", part="test", frames=24, size=32)
SEED, QUADRUPLETS = 2, 30
HOSTILE = 'a <script>"judge" & /co'
JUDGES = {MODEL: 2.0, "pixel copy": 0.0, HOSTILE: 0.3, ORACLE: 4.0}
ALARMS = {
    "false_alarms": share([1.0] * 3 + [0.0] * 58),
    "familiar_alarms": share([1.0] * 4 + [0.0] * 57),
    "false_alarms/worst_slice": share([1.0] * 3 + [0.0] * 14),
    "false_alarms/ramp": share([1.0] * 2 + [0.0] * 21),
    "visible/caught": share([1.0] * 37 + [0.0] * 6),
    "visible/delay": {"value": 1.5, "low": 1.0, "high": 2.0, "n": 37},
    "visible/changes <b>colour": share([1.0] * 7 + [0.0] * 4),
}


first_asked = functools.cache(lambda world, kind, seed: example(world, kind, seed))


@pytest.fixture(autouse=True)
def each_quadruplet_is_drawn_once(monkeypatch):
    monkeypatch.setattr("foretell.serve.exam_page.example", first_asked)


@pytest.fixture(scope="module")
def verdicts():
    """Surprise rises where an impossible clip shows it, by as much as JUDGES says."""
    rng = np.random.default_rng(0)

    def said(kind, strength):
        surprise = np.repeat(rng.uniform(0.5, 1.0, (1, QUADRUPLETS, WORLD.frames)), 4, axis=0)
        shows = np.full(QUADRUPLETS, first_asked(WORLD, kind, SEED).shows)
        surprise[2:, :, shows[0]] += strength * rng.normal(0.3, 0.4, QUADRUPLETS)
        surprise[:, :, :8] = np.nan
        return Verdicts(surprise=surprise, shows=shows)

    return {kind: {judge: said(kind, strength) for judge, strength in JUDGES.items()} for kind in PROPERTIES}


@pytest.fixture
def result(verdicts, tmp_path):
    """As the verb writes it and reads it back."""
    rng = np.random.default_rng(1)
    figures = {
        f"{judge}/{kind}/{name}": share(verdict.relative) if name == "relative" else figure(rng)
        for kind, of_kind in verdicts.items()
        for judge, verdict in of_kind.items()
        for name, *_ in FIGURES
    }
    own = {name.removeprefix(f"{MODEL}/"): of_it for name, of_it in figures.items() if name.startswith(f"{MODEL}/")}
    write_result(
        tmp_path / "result.json",
        command="foretell evaluate physics '<my> model'",
        protocol={"part": "test", "alpha": 0.05, "horizons": [1, 2], "seeds": {"normal": 71_001}},
        seeds=[3],
        metrics=own | ALARMS,
        baselines={name: of_it for name, of_it in figures.items() if not name.startswith(f"{MODEL}/")},
    )
    return json.loads((tmp_path / "result.json").read_text())


@pytest.fixture
def write(verdicts, tmp_path):
    def write(result):
        write_exam_page(tmp_path / "result.html", result, verdicts, WORLD, SEED)
        return (tmp_path / "result.html").read_text()

    return write


def figure(rng):
    low, value, high = np.sort(rng.uniform(0, 1, 3)).tolist()
    return {"value": value, "low": low, "high": high, "n": 7}


def rows(table):
    """Name of each row -> what stands in its cells, a number and its interval."""
    found = {}
    for row in re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", table, re.DOTALL):
        name, cells = row.split("</th>", 1)
        values = [re.sub(r"<.*?>", "|", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", cells)]
        found[re.sub("<.*?>", "", name)] = values
    return found


def cell(figure, unit):
    return f"{told(figure['value'], unit)}|{told(figure['low'], unit)} to {told(figure['high'], unit)}|"


def test_page_asks_nothing_of_the_outside(result, write):
    page = write(result)
    assert not re.search(r"https?:|<script|<link|@import|src=\"(?!data:)", page)
    assert "default-src 'none'" in page
    assert all(address.startswith("data:image/png;base64,") for address in re.findall(r"url\((.*?)\)", page))


def test_tables_say_what_the_result_says(result, write):
    tables = re.findall(r"<table.*?</table>", write(result), re.DOTALL)
    own, of_all = rows(tables[0]), [rows(table) for table in tables[1 : 1 + len(FIGURES)]]
    judges = [name for name in JUDGES if name != MODEL]
    for kind in PROPERTIES:
        assert own[kind] == [cell(result["metrics"][f"{kind}/{name}"], unit) for name, _, unit, _ in FIGURES]
        for (name, _, unit, _), table in zip(FIGURES, of_all, strict=True):
            theirs = [cell(result["baselines"][f"{judge}/{kind}/{name}"], unit) for judge in judges]
            assert table[kind] == [own[kind][[f[0] for f in FIGURES].index(name)], *theirs]


def test_numbers_are_said_in_their_units():
    said = {(0.87654, "%"): "87.7", (0.87654, ""): "0.877", (1.5, "frames"): "1.5", (None, "%"): "–"}
    assert [told(*number) for number in said] == list(said.values())


def test_marks_stand_where_the_numbers_say(result, write):
    page = write(result)
    ticks = [(float(x), float(label)) for x, label in re.findall(r'<text x="([\d.]+)%" y="[\d.]+">(\d+)</text>', page)]
    (first, low), (last, high) = ticks[0], ticks[-1]
    at = [float(x) for x in re.findall(r'<circle cx="([-\d.]+)%"', page)]
    values = [low + (x - first) / (last - first) * (high - low) for x in at]
    assert values == pytest.approx(
        [100 * result["metrics"][f"{kind}/relative"]["value"] for kind in PROPERTIES], abs=0.05
    )
    marks = re.findall(r'<use href="#shape-1" x="([-\d.]+)%"', page)
    hostile = [100 * result["baselines"][f"{HOSTILE}/{kind}/relative"]["value"] for kind in PROPERTIES]
    assert [low + float(x) / 100 * (high - low) for x in marks] == pytest.approx(hostile, abs=0.05)
    assert page.count('<line class="ceiling" x1="') == len(PROPERTIES) + 1  # and one in the legend


def test_headline_counts_properties(result, write):
    for place, kind in enumerate(PROPERTIES):
        result["metrics"][f"{kind}/relative"] = {"value": 0.9, "low": 0.8 if place < 4 else 0.5, "high": 1.0, "n": 9}
        for judge in (HOSTILE, "pixel copy"):
            high = 0.85 if place == 0 and judge == HOSTILE else 0.7
            result["baselines"][f"{judge}/{kind}/relative"] = {"value": 0.6, "low": 0.5, "high": high, "n": 9}
    page = write(result)
    assert "tells the possible from the impossible in 4 of 9 properties" in page
    assert re.findall(r"<dd>(\d)<span class=\"of\"> of 9", page) == ["4", "3"]


def test_a_model_at_chance_is_told_so(result, write):
    for kind in PROPERTIES:
        result["metrics"][f"{kind}/relative"] = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    assert "It does not tell the possible from the impossible" in write(result)


def test_names_from_outside_are_escaped(result, write):
    page = write(result)
    assert escape(HOSTILE) in page.replace("&#34;", "&quot;")
    assert "&lt;my&gt; model" in page
    assert "changes &lt;b&gt;colour" in page
    assert not re.search("<script|<my>|<b>colour", page)


def test_a_path_that_is_not_text_does_not_stop_the_page(result, write):
    result["command"] = "foretell evaluate physics \udcff"
    assert "\\udcff" in write(result)


def test_each_property_shows_its_first_quadruplet(result, write, verdicts):
    cards = re.findall(r'<article class="lesson".*?</article>', write(result), re.DOTALL)
    assert [re.search('id="(.*?)"', card).group(1) for card in cards] == list(PROPERTIES) == list(IMPOSSIBLE)
    for kind, card in zip(PROPERTIES, cards, strict=True):
        four = first_asked(WORLD, kind, SEED)
        assert escape(PROPERTIES[kind].__doc__) in card
        assert escape(IMPOSSIBLE[kind]) in card
        assert re.findall(r"<b>(.*?)</b>", card) == ["Possible 1", "Possible 2", "Impossible 1", "Impossible 2"]
        assert len(re.findall('<i class="film"', card)) == 4 * 12
        places = {name: {float(x) for x in re.findall(rf'class="at {name}" style="left: ([\d.]+)%', card)}
                  for name in ("swap", "shows")}  # fmt: skip
        assert places["swap"] == {round(100 * swap / 24, 3) for swap in four.swaps}
        assert places["shows"] == {round(100 * four.shows / 24, 3)}
        assert "not told apart" in card or verdicts[kind][MODEL].relative[0] == 1


def test_curves_of_a_quadruplet_have_one_scale_and_keep_step(result, write, verdicts):
    card = re.search(r'<article class="lesson" id="shape".*?</article>', write(result), re.DOTALL).group()
    surprise = verdicts["shape"][MODEL].surprise[:, 0]
    lines = re.findall(r'<path class="line" d="M(.*?)"', card)
    points = np.array([[point.split() for point in line.split("L")] for line in lines], float)
    assert (points[:, :, 0] == np.arange(8, 24) + 0.5).all()
    heights = 100 - points[:, :, 1]
    np.testing.assert_allclose(heights / heights.max(), surprise[:, 8:] / np.nanmax(surprise), atol=0.002)


def test_single_clips_are_told(result, write):
    page = write(result)
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    false, caught = rows(tables[-2]), rows(tables[-1])
    expected = {"all": "false_alarms", "the worst kind": "false_alarms/worst_slice", "ramp": "false_alarms/ramp"}
    for name, key in expected.items():
        figure = ALARMS[key]
        interval = f"{told(figure['low'], '%')} to {told(figure['high'], '%')}"
        assert false[name] == [told(figure["value"], "%"), interval, str(figure["n"])]
    assert list(false) == list(expected)
    familiar = ALARMS["familiar_alarms"]
    assert f"of {familiar['n']} fresh ones of the ranges trained on {told(familiar['value'], '%')}%" in page
    assert list(caught) == ["all", "changes &lt;b&gt;colour"]
    assert "<dd>1.5<small>1 to 2, median" in page


def test_without_an_alarm_line_nothing_is_said_of_single_clips(result, write):
    for name in ALARMS:
        del result["metrics"][name]
    page = write(result)
    assert "the model has no alarm line" in page
    assert "False alarms" not in page


def test_what_was_not_measured_is_a_dash(result, write):
    result["metrics"]["visible/delay"] = {"value": None, "low": None, "high": None, "n": 0}
    result["metrics"]["gravity/relative"] = {"value": None, "low": None, "high": None, "n": 0}
    del result["metrics"]["gravity/caught"]
    own = rows(re.search(r"<table.*?</table>", write(result), re.DOTALL).group())
    assert own["gravity"][0] == own["gravity"][3] == "–"


def test_protocol_is_all_there(result, write):
    page = write(result)
    assert "<dt>horizons</dt><dd>1, 2</dd>" in page
    assert "<dt>seeds</dt><dd>normal 71001</dd>" in page
    assert result["protocol_hash"] in page
    assert all(f"<dt>Machine: {name}</dt>" in page for name in result["machine"])


def test_the_six_baselines_of_the_exam_have_marks_of_their_own():
    assert len(set(SHAPES)) == len(SHAPES) >= 6  # the model has a dot


def test_page_that_cannot_be_written_says_so(result, verdicts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_exam_page(tmp_path / "file" / "a.html", result, verdicts, WORLD, SEED)
