from collections import Counter

import numpy as np
import pytest

from foretell.data.sampler import WindowSampler, permute
from foretell.errors import ConfigError, DataError

LENGTHS = [9, 40, 3, 17, 10, 2]


def sampler(**changes: int) -> WindowSampler:
    settings = {"window": 4, "stride": 3, "batch": 7, "seed": 5, **changes}
    return WindowSampler(LENGTHS, **settings)


def test_every_window_once_an_epoch() -> None:
    order = sampler()
    assert (order.span, order.too_short, order.windows) == (10, 3, 31 + 8 + 1)
    drawn = [window for step in range(40) for window in order.at(step)]  # 280 = 7 epochs of 40
    expected = {(clip, start) for clip, length in enumerate(LENGTHS) for start in range(length - 9)}
    for epoch in range(7):
        assert set(drawn[40 * epoch : 40 * (epoch + 1)]) == expected
    assert drawn[:40] != drawn[40:80]


def test_a_step_is_a_pure_function_of_seed_step_and_rank() -> None:
    forward = [sampler().at(step) for step in range(30)]
    backward = [sampler().at(step) for step in reversed(range(30))]
    assert forward == backward[::-1]
    assert sampler(seed=6).at(0) != forward[0]
    assert all(isinstance(number, int) for window in forward[0] for number in window)


def test_ranks_take_disjoint_parts_of_the_same_order() -> None:
    alone = [window for step in range(10) for window in sampler(batch=20).at(step)]
    ranks = [sampler(batch=5, rank=rank, world_size=4) for rank in range(4)]
    together = [window for step in range(10) for rank in ranks for window in rank.at(step)]
    assert together == alone
    assert set(Counter(together[:40]).values()) == {1}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 64, 65, 257, 5000])
def test_permute_is_a_permutation_under_every_key(size: int) -> None:
    for key in (0, 1, 2**64 - 1):
        places = permute(np.arange(size), size, np.full(size, key, np.uint64))
        assert sorted(places.tolist()) == list(range(size))


def test_permute_leaves_no_trace_of_the_order() -> None:
    size = 20_000
    places = permute(np.arange(size), size, np.full(size, 11, np.uint64)) / size
    assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 0.03
    assert abs(np.corrcoef(places, np.arange(size))[0, 1]) < 0.03
    counts, _ = np.histogram(places[:2000], bins=10, range=(0, 1))
    assert abs(counts - 200).max() < 60


def test_a_huge_epoch_costs_nothing() -> None:
    order = WindowSampler([10**9] * 5, window=16, batch=3, seed=0)
    assert all(0 <= clip < 5 and 0 <= start <= 10**9 - 16 for clip, start in order.at(10**8))


def test_no_clip_is_long_enough() -> None:
    with pytest.raises(DataError, match=r"spans 46 frames, the longest of 6 clips has 40"):
        sampler(window=16)
    with pytest.raises(DataError, match="longest of 0 clips has 0"):
        WindowSampler([], window=1, batch=1, seed=0)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        sampler(rank=2, world_size=2)
    with pytest.raises(ConfigError, match="batch 0"):
        sampler(batch=0)
