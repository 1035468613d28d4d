"""The examples that README and docs name are there, and fit the world that they are for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from foretell.plan.constraints import Constraints
from foretell.plan.guardrails import Guardrails
from foretell.plan.limits import HardLimits
from foretell.serve.what_if import read_sequence
from foretell.worlds.rooms import Rooms

repository = Path(__file__).resolve().parents[1]
examples = repository / "examples"


def test_the_guardrails_fit_two_rooms_and_their_rate_is_a_limit() -> None:
    rails, world = Guardrails.load(examples / "guardrails.toml"), Rooms()
    limits = HardLimits(rails, world.actions)
    assert Constraints(rails, world.quantities).names == ()
    assert np.array_equal(limits.low, world.actions.low)
    assert np.array_equal(limits.high, world.actions.high)
    assert (limits.rate < limits.high - limits.low).all()  # what could never bind would be no example
    to_and_fro = np.array([limits.high, limits.low])
    assert [reason.kind for reason in limits.against(to_and_fro, limits.rest)] == ["rate limit"]


@pytest.mark.parametrize(("name", "way"), [("left", (-1, 0)), ("down", (0, 1))])
def test_the_csv_files_say_what_their_names_say(name: str, way: tuple[int, int]) -> None:
    world = Rooms()
    done = read_sequence(examples / f"{name}.csv", world.actions)
    assert done.shape == (25, 2)
    world.restore(np.array([48.0, 20.0]))
    before = world.state()
    for action in done[:5]:
        world.step(action)
    assert np.array_equal(np.sign(world.state() - before), way)  # x to the right, y downward, as in the picture


@pytest.mark.parametrize("page", ["README.md", "docs/acting.md", "docs/guardrails.md"])
def test_the_examples_that_are_named_exist(page: str) -> None:
    named = re.findall(r"examples/[\w.]+\w", (repository / page).read_text())
    assert named
    assert all((repository / name).exists() for name in named)
