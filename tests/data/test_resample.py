"""Against the definition, with made-up time stamps: no file is involved."""

from collections.abc import Iterator

import numpy as np
import pytest

from foretell.data.resample import STEPS_PER_CHUNK, Chunk, Resampler


def paint(index: int) -> np.ndarray:
    return np.full((2, 3, 3), index % 251, np.uint8)


def run(times: np.ndarray, fps: float) -> list[Chunk]:
    return list(Resampler(fps, paint).run((float(time), index) for index, time in enumerate(times)))


def by_definition(times: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Step k shows the last source frame with t <= (k + 1/4) / fps; a frame belongs to step floor(t fps + 1/4)."""
    steps = np.floor(times * fps + 0.25).astype(int)
    shown = [np.flatnonzero(times <= (step + 0.25) / fps).max() for step in range(steps.max() + 1)]
    return np.array(shown), steps


def jittered(rng: np.random.Generator) -> np.ndarray:
    gaps = rng.gamma(0.7, 0.11, 400)
    gaps[[50, 200]] = 9.0
    return np.concatenate([[0.0], np.cumsum(gaps)])


@pytest.mark.parametrize("fps", [3.0, 10.0, 24.0])
@pytest.mark.parametrize(
    "times",
    [
        np.arange(130) / 10,
        np.round(np.arange(250) / 29.97, 3),
        np.arange(40) / 2.5,
        np.array([0.0]),
        np.array([0.0, 0.05]),
        jittered(np.random.default_rng(5)),
    ],
    ids=["steady", "ntsc rounded to ms", "slow", "one", "two in a step", "jitter and gaps"],
)
def test_steps_and_frames_are_those_of_the_definition(times: np.ndarray, fps: float) -> None:
    chunks = run(times, fps)
    shown, steps = by_definition(times, fps)
    frames = np.concatenate([chunk.frames for chunk in chunks])
    assert frames.shape == (len(shown), 2, 3, 3)
    np.testing.assert_array_equal(frames[:, 0, 0, 0], shown % 251)
    np.testing.assert_array_equal(np.concatenate([chunk.seconds for chunk in chunks]), times)
    np.testing.assert_array_equal(np.concatenate([chunk.steps for chunk in chunks]), steps)


def test_the_frames_of_a_step_come_with_the_chunk_that_holds_it() -> None:
    first = 0
    chunks = run(jittered(np.random.default_rng(6)), 11.0)
    assert len(chunks) > 3
    for chunk in chunks:
        assert 1 <= len(chunk.frames) <= STEPS_PER_CHUNK
        assert all(first <= step < first + len(chunk.frames) for step in chunk.steps)
        first += len(chunk.frames)


def test_only_frames_that_are_shown_are_painted_about() -> None:
    painted = []
    resampler = Resampler(10.0, lambda index: (painted.append(index), paint(index))[1])
    list(resampler.run((index / 60, index) for index in range(600)))
    assert len(painted) < 1.2 * 100


def test_what_came_before_an_error_is_yielded_first() -> None:
    def breaks() -> Iterator[tuple[float, int]]:
        for index in range(100):
            yield index / 10, index
        raise OSError("gone")

    chunks = Resampler(10.0, paint).run(breaks())
    assert [len(next(chunks).frames), len(next(chunks).frames)] == [64, 36]
    with pytest.raises(OSError, match="gone"):
        next(chunks)


def test_large_views_come_in_short_chunks() -> None:
    resampler = Resampler(10.0, lambda _: np.zeros((1024, 2048, 3), np.uint8))
    chunks = list(resampler.run((index / 10, index) for index in range(7)))
    assert [len(chunk.frames) for chunk in chunks] == [2, 2, 2, 1]
