"""Stretches of video: none shared, neighbours apart, every part has some, and a seed decides which."""

from __future__ import annotations

from itertools import pairwise

import pytest

from foretell.data.split import Split, split_stretches
from foretell.errors import DataError


def split(lengths: list[int], *, fps: float = 10, seed: int = 0, **shares: float) -> Split:
    return split_stretches(lengths, fps=fps, seed=seed, **{"calibration": 0.2, "development": 0.1} | shares)


def test_short_clips_stay_whole_and_shares_are_met():
    parts = split([30 + clip for clip in range(50)])
    assert (len(parts.calibration), len(parts.development), len(parts.train)) == (10, 5, 35)
    dealt = [*parts.calibration, *parts.development, *parts.train]
    assert sorted(s.clip for s in dealt) == list(range(50))
    assert all((s.start, s.length) == (0, 30 + s.clip) for s in dealt)


def test_long_recordings_are_cut_with_gaps():
    """At 10 fps a stretch is 200 steps and a gap 20; clips of up to 300 steps are left whole."""
    parts = split([5000, 300, 301])
    dealt = sorted([*parts.calibration, *parts.development, *parts.train], key=lambda s: (s.clip, s.start))
    assert [s.clip for s in dealt].count(0) == 23
    assert [(s.start, s.length) for s in dealt if s.clip == 1] == [(0, 300)]
    assert [(s.start, s.length) for s in dealt if s.clip == 2] == [(0, 200)]  # what is left is less than half of one
    long = [s for s in dealt if s.clip == 0]
    assert all(after.start - (s.start + s.length) == 20 for s, after in pairwise(long))
    assert all(s.length == 200 for s in long[:-1])
    assert 100 <= long[-1].length <= 200
    assert long[-1].start + long[-1].length <= 5000


def test_the_seed_decides():
    lengths = [40] * 30
    assert split(lengths, seed=1) == split(lengths, seed=1)
    assert split(lengths, seed=1) != split(lengths, seed=2)


def test_each_part_gets_at_least_one():
    for count in (3, 4, 5):
        parts = split([25] * count, calibration=0.9, development=0.9)
        assert (len(parts.calibration), len(parts.development), len(parts.train)) == (1, 1, count - 2)
        parts = split([25] * count, calibration=0.01, development=0.01)
        assert (len(parts.calibration), len(parts.development), len(parts.train)) == (1, 1, count - 2)


def test_too_little_footage_is_said():
    with pytest.raises(DataError, match=r"2 stretch\(es\) of video, expected at least 3 .* longer than 30 s"):
        split([0, 25, 25])


def test_a_slow_rate_cuts_no_empty_stretches():
    parts = split([7, 9], fps=0.01)
    assert min(s.length for s in (*parts.calibration, *parts.development, *parts.train)) >= 1
