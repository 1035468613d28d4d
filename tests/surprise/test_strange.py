"""Strangeness: below 1 for what is normal, more for whatever departs from it, in pixels or in latents."""

import numpy as np
import pytest
import torch

from foretell.errors import DataError, ShapeError
from foretell.evals.odd import SPOILT
from foretell.surprise.strange import WINDOW, Passing, fit_normal, fit_passing, picture_summary, strangeness
from foretell.worlds.buoy import Buoy


def stretches(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    walk = 0.3 * torch.randn(count, 5, 4, 6, generator=drawn)
    seen = torch.randn(count, 1, 4, 6, generator=drawn) + walk.cumsum(1)
    foretold = seen[:, 1:] + 0.2 * torch.randn(count, 4, 4, 6, generator=drawn)
    return seen, foretold, torch.randn(count, 9, generator=drawn)


def test_one_in_twenty_normal_stretches_is_beyond_1_and_new_ones_are_not_told_from_them():
    normal = fit_normal(*stretches(2000, 0))
    old, new = strangeness(*stretches(2000, 0), normal), strangeness(*stretches(2000, 1), normal)
    for found in (old, new):
        assert 0.04 < float((found > 1).float().mean()) < 0.12  # of either distance, and they are the larger of two
    assert abs(float(new.mean() / old.mean()) - 1) < 0.1


@pytest.mark.parametrize("how", ["shifted", "still", "jumping", "unforeseen", "one token", "pictures"])
def test_every_departure_is_stranger_than_all_but_a_few_normal_ones(how):
    normal = fit_normal(*stretches(2000, 0))
    usual = strangeness(*stretches(500, 1), normal)
    seen, foretold, pictures = stretches(100, 2)
    if how == "shifted":
        seen, foretold = seen + 2, foretold + 2
    elif how == "still":
        seen = seen[:, :1].expand_as(seen)
        foretold = seen[:, 1:]
    elif how == "jumping":
        seen = seen * torch.tensor([1.0, -1, 1, -1, 1])[:, None, None]
    elif how == "unforeseen":
        foretold = foretold + torch.randn(foretold.shape, generator=torch.Generator().manual_seed(3))
    elif how == "pictures":
        pictures = pictures + torch.tensor([0.0, 0, 0, 0, 5, 0, 0, 0, 0])
    else:
        seen = seen.clone()
        seen[:, 3, 2] += 8
    assert float((strangeness(seen, foretold, pictures, normal) > usual.quantile(0.95)).float().mean()) > 0.9


@pytest.mark.parametrize("kind", SPOILT)
def test_pixels_tell_spoilt_clips(kind):
    world, rng = Buoy(size=32, frames=6), np.random.default_rng(0)
    clips = [world.episode(seed).frames for seed in range(60)]
    plain = picture_summary(torch.from_numpy(np.stack(clips)))
    spoilt = picture_summary(torch.from_numpy(np.stack([SPOILT[kind](frames, rng) for frames in clips])))
    gap = (spoilt.mean(0) - plain.mean(0)).abs() / plain.std(0).clamp_min(0.02)
    assert plain.isfinite().all()
    assert float(gap.max()) > 2


def test_spoilt_clips_are_what_they_say():
    frames, rng = Buoy(size=32, frames=5).episode(1).frames, np.random.default_rng(0)
    assert (SPOILT["frozen"](frames, rng) == frames[0]).all()
    noise = SPOILT["noise"](frames, rng).astype(float) - frames
    assert abs(noise.std() - 0.05 * 255) < 1
    blurred = SPOILT["blur"](frames, rng).astype(float)
    assert abs(blurred.mean() - frames.mean()) < 0.5
    assert np.abs(np.diff(blurred, axis=2)).max() < 0.7 * np.abs(np.diff(frames.astype(float), axis=2)).max()


def passing(steps: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A video passing by, as a model sees it."""
    drawn = torch.Generator().manual_seed(seed)
    seen = torch.randn(1, 4, 6, generator=drawn) + 0.3 * torch.randn(steps, 4, 6, generator=drawn).cumsum(0)
    foretold = seen + 0.2 * torch.randn(steps, 4, 6, generator=drawn)
    foretold[0] = torch.nan
    frames = np.concatenate([Buoy(size=32, frames=8).episode(seed + k).frames for k in range(-(-steps // 8))])[:steps]
    return seen, foretold, torch.from_numpy(frames)


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_a_passing_video_is_judged_as_its_stretches_are_in_chunks_of_any_size(chunk):
    """Two forms of one quantity: sums over steps as they pass, and over each stretch by itself."""
    normal = fit_passing(lambda: (passing(30, 10 * seed) for seed in range(6)))
    seen, foretold, frames = passing(40, 7)
    stream = Passing(normal)
    parts = [stream.next(*(part[at : at + chunk] for part in (seen, foretold, frames))) for at in range(0, 40, chunk)]
    found = torch.cat(parts)
    assert found[: WINDOW - 1].isnan().all()
    assert found.shape == (40,)
    windows = [slice(end - WINDOW, end) for end in range(WINDOW, 41)]
    pictures = picture_summary(torch.stack([frames[window] for window in windows]))
    latents, said = (torch.stack([part[window] for window in windows]) for part in (seen, foretold))
    torch.testing.assert_close(
        found[WINDOW - 1 :], strangeness(latents, said[:, 1:], pictures, normal), rtol=1e-3, atol=1e-3
    )


def test_videos_that_are_all_too_short_teach_nothing():
    with pytest.raises(DataError, match="got 0 normal stretches"):
        fit_passing(lambda: [passing(WINDOW - 1, 0)])


def test_impossible_input_is_refused():
    seen, foretold, pictures = stretches(5, 0)
    with pytest.raises(DataError, match="got 1 normal stretches"):
        fit_normal(seen[:1], foretold[:1], pictures[:1])
    with pytest.raises(ShapeError, match="T of 2 or more"):
        strangeness(seen, foretold[:, 1:], pictures, fit_normal(seen, foretold, pictures))
