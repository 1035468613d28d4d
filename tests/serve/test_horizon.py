"""Curves of error over horizon: what is drawn is where the numbers say, and names can be read."""

import itertools
import re
from xml.etree import ElementTree

import pytest

from foretell.serve.horizon import HEIGHT, LINE_OF_TEXT, TOP, WIDTH, Chart, Curve, draw_charts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*curves, note="a note"):
    return ElementTree.fromstring(draw_charts([Chart(title="A & B", unit="metres", curves=curves)], note))


def points(picture):
    return [
        [tuple(float(part) for part in point.split(",")) for point in line.get("points").split()]
        for line in picture.iter(f"{SVG}polyline")
    ]


def texts(picture):
    return {text.text: text for text in picture.iter(f"{SVG}text")}


def test_values_stand_at_their_heights():
    picture = drawn(Curve(name="one", values=[0.0, 0.4, 0.2], colour="red"))
    ((_, first), (_, second), (_, third)) = points(picture)[0]
    marks = {
        float(name): float(text.get("y")) - 4 for name, text in texts(picture).items() if re.fullmatch(r"[\d.]+", name)
    }
    assert second == pytest.approx(marks[0.4], abs=0.2)
    assert third == pytest.approx(marks[0.2], abs=0.2)
    assert first == pytest.approx(marks[0.0], abs=0.2)


def test_names_do_not_touch():
    values = {"one": 0.50, "two": 0.501, "three": 0.499, "four": 0.0, "five": 0.001}
    picture = drawn(*(Curve(name=name, values=[0.1, value], colour="red") for name, value in values.items()))
    heights = sorted(float(texts(picture)[name].get("y")) for name in values)
    assert all(later - one >= LINE_OF_TEXT - 0.2 for one, later in itertools.pairwise(heights))
    assert heights[-1] < HEIGHT


def test_a_line_that_would_flatten_the_others_leaves_through_the_top():
    low = Curve(name="low", values=[1.0, 1.0, 1.0, 1.0], colour="red")
    wild = Curve(name="wild", values=[0.5, 1.0, 100.0, 1e6], colour="grey", may_leave=True)
    picture = drawn(low, wild)
    (one, other) = points(picture)
    assert len(one) == 4
    assert len(other) == 3
    assert other[-1][1] == pytest.approx(TOP)
    assert other[1][0] < other[2][0] < one[2][0]
    assert float(texts(picture)["wild"].get("x")) == pytest.approx(other[-1][0] + 8, abs=0.2)


def test_a_line_that_is_out_from_the_start_is_still_named():
    low = Curve(name="low", values=[1.0], colour="red")
    picture = drawn(low, Curve(name="wild", values=[9.0], colour="grey", may_leave=True))
    assert "wild" in texts(picture)


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [1e-9, 3e-9], [1e7] * 40])
def test_any_numbers_can_be_drawn(values):
    picture = drawn(Curve(name="one", values=values, colour="red"), note="<clip> & co")
    assert ("one" in texts(picture)) == bool(values)
    assert {"A & B", "metres", "<clip> & co"} <= texts(picture).keys()
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for line in points(picture) for x, y in line)
