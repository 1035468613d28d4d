"""A centred mean over time is the same however a video is cut, and makes up nothing far from what was scored."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.surprise.smooth import Smoother


def surprise(steps: int = 40) -> np.ndarray:
    values = np.random.default_rng(2).gamma(2.0, size=steps)
    values[:5] = values[[17, 30, 31]] = np.nan
    return values


def by_hand(values: np.ndarray, steps: int) -> np.ndarray:
    half = steps // 2
    near = [values[max(0, t - half) : t + half + 1] for t in range(len(values))]
    return np.array([np.nan if np.isnan(of).all() else np.nanmean(of) for of in near])


@pytest.mark.parametrize("steps", [1, 3, 9, 99])
@pytest.mark.parametrize("chunk", [1, 4, 7, 40])
def test_it_is_the_mean_of_the_neighbours(steps: int, chunk: int) -> None:
    values, smoother = surprise(), Smoother(steps)
    parts = [smoother.add(values[at : at + chunk]) for at in range(0, 40, chunk)]
    np.testing.assert_allclose(np.concatenate([*parts, smoother.end()]), by_hand(values, steps), rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_a_value_comes_as_late_as_stated(steps: int) -> None:
    values, smoother = surprise(), Smoother(steps)
    given = 0
    for t, value in enumerate(values):
        given += len(smoother.add(np.array([value])))
        assert given == max(0, t + 1 - steps // 2)


def test_memory_does_not_grow() -> None:
    smoother = Smoother(9)
    for _ in range(50):
        smoother.add(surprise())
        assert len(smoother.known) <= 9


@pytest.mark.parametrize("steps", [0, -1, 2, 8])
def test_only_a_window_with_a_centre(steps: int) -> None:
    with pytest.raises(ConfigError, match="odd"):
        Smoother(steps)
