"""Figures of tasks against numbers worked out by hand."""

import math

import numpy as np
import pytest

from foretell.evals.intervals import share
from foretell.evals.planning import ahead_of, no_silent_failure, steps_taken, success

REACHED = np.array([[10, 0, 4, 0], [20, 0, 0, 8]])  # two seeds on four tasks


def test_seeds_are_averaged_within_a_task_and_tasks_alone_are_counted():
    figure = success(REACHED)
    assert (figure["value"], figure["n"]) == (0.5, 4)
    assert figure == share([1.0, 0.0, 0.5, 0.5])
    assert success(np.repeat(REACHED, 50, 0))["high"] == figure["high"]  # more seeds do not narrow it


def test_steps_are_those_of_solved_tasks():
    assert steps_taken(REACHED) == {"value": 9.0, "low": 7.0, "high": 12.5, "n": 4}
    assert math.isnan(steps_taken(np.zeros((1, 3)))["value"])


def test_who_is_ahead_is_asked_task_by_task():
    figure = ahead_of(REACHED, np.array([[0, 0, 5, 0]]))
    assert figure["value"] == pytest.approx((1 + 0 - 0.5 + 0.5) / 4)
    assert figure["low"] < 0 < figure["high"]
    assert ahead_of(REACHED, REACHED) == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 4}


def test_a_failure_with_an_alarm_is_not_silent():
    alarmed = np.array([[False, True, False, False], [False, False, True, False]])
    figure = no_silent_failure(REACHED, alarmed)
    assert figure["value"] == pytest.approx((1 + 0.5 + 1 + 0.5) / 4)
