"""Moments against theory: what moves by pixels moves by as much, what turns turns with its number of times, round is round."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretell.data.clip import View
from foretell.errors import ConfigError, DataError
from foretell.model.folder import load_model, save_model
from foretell.model.moments import NUMBERS, MomentsConfig, MomentsEncoder, flat_colours
from foretell.model.predictors import CausalConfig
from foretell.model.world_model import ModelConfig, WorldModel, scaled
from foretell.worlds.paint import paint_disc, paint_outline
from foretell.worlds.pusht import outline

SIZE = 64
GROUND, BLOCK, DISC = (240.0, 235.0, 220.0), (110.0, 130.0, 140.0), (40.0, 90.0, 210.0)


def picture(block: tuple[float, float, float], disc: tuple[float, float]) -> np.ndarray:
    """A T at (x, y, angle), 128 pixels wide per 512 units, and a disc: uint8 (SIZE, SIZE, 3)."""
    frame = np.empty((SIZE, SIZE, 3))
    frame[:] = GROUND
    for corners in outline(np.array(block), 8.0):
        paint_outline(frame, corners, BLOCK)
    paint_disc(frame, *disc, 3.0, DISC)
    return np.rint(frame).astype(np.uint8)


def pictures(poses: list[tuple[float, float, float]], discs: list[tuple[float, float]]) -> torch.Tensor:
    frames = np.stack([picture(pose, disc) for pose, disc in zip(poses, discs, strict=True)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def encode(encoder: MomentsEncoder, frames: torch.Tensor) -> torch.Tensor:
    """(N, things, 8)"""
    return encoder(scaled(frames)[None])[0, :, 0].unflatten(1, (-1, NUMBERS))


@pytest.fixture(scope="module")
def recording() -> torch.Tensor:
    rng = np.random.default_rng(0)
    poses = [(*rng.uniform(20, 28, 2), rng.uniform(-3, 3)) for _ in range(200)]
    return pictures(poses, [tuple(rng.uniform(42, 58, 2)) for _ in range(200)])


@pytest.fixture(scope="module")
def encoder(recording: torch.Tensor) -> MomentsEncoder:
    made = MomentsEncoder(MomentsConfig(things=2), SIZE, SIZE)
    made.look_at(recording)
    return made


def test_ground_and_pure_colours_are_found(recording: torch.Tensor) -> None:
    ground, colours = flat_colours(recording, 2)
    assert ground.tolist() == list(GROUND)
    assert {tuple(colour) for colour in colours.tolist()} == {BLOCK, DISC}


def test_a_move_by_pixels_is_a_move_of_the_place_by_as_many_and_of_nothing_else(encoder: MomentsEncoder) -> None:
    frames = pictures([(20, 20, 0.7), (23, 18, 0.7)], [(45, 50), (50, 48)])
    disc, block = 0, 1  # the farthest from the ground comes first
    for thing, moved in ((block, (3.0, -2.0)), (disc, (5.0, -2.0))):
        numbers = encoder.numbers(scaled(frames)).unflatten(1, (-1, NUMBERS))[:, thing]
        change = numbers[1] - numbers[0]
        torch.testing.assert_close(change[:2], torch.tensor(moved), atol=0.02, rtol=0)
        assert change[2:].abs().max() < 0.02 * numbers[0, 2:].abs().max() + 0.5


def test_a_quarter_turn_of_the_picture_turns_each_number_its_number_of_times(encoder: MomentsEncoder) -> None:
    frames = pictures([(24, 26, 0.4)], [(50, 45)])
    turned = torch.rot90(frames, -1, (2, 3))  # right becomes down
    before, after = (
        encoder.numbers(scaled(f)).unflatten(1, (-1, NUMBERS))[0, 1].unflatten(0, (4, 2)) for f in (frames, turned)
    )
    before, after = (torch.view_as_complex(x.contiguous()) for x in (before, after))
    expected = before * torch.tensor([1j, 1j, -1, -1j])  # place and once, twice, three times
    torch.testing.assert_close(after, expected, atol=1e-2, rtol=1e-4)


def test_a_small_turn_is_as_far_as_the_outline_moves(encoder: MomentsEncoder) -> None:
    """Each turning number, once a unit is a pixel, moves by the same radius times the angle."""
    angle = 0.1
    at = encode(encoder, pictures([(24, 24, 0.3), (24, 24, 0.3 + angle)], [(50, 50)] * 2))[:, 1]
    unit = encoder.scale.unflatten(0, (-1, NUMBERS))[1, 0]
    moved = ((at[1] - at[0]) / unit)[2:].unflatten(0, (3, 2)).norm(dim=1)
    radius = moved / angle
    assert 2.0 < radius.min() < radius.max() < 9.0  # of a T 15 pixels wide and high
    assert radius.max() < 1.15 * radius.min()


def test_what_looks_round_has_a_place_and_nothing_else(encoder: MomentsEncoder) -> None:
    assert (encoder.scale.unflatten(0, (-1, NUMBERS))[0, 2:] == 0).all()
    assert (encoder.scale.unflatten(0, (-1, NUMBERS))[1] > 0).all()


def test_latents_are_as_far_from_their_mean_as_those_of_other_encoders(
    encoder: MomentsEncoder, recording: torch.Tensor
) -> None:
    latents = encode(encoder, recording)
    assert math.isclose(latents.pow(2).mean().item(), 1.0, rel_tol=1e-3)


def test_pictures_that_are_not_flat_colours_are_refused(recording: torch.Tensor) -> None:
    with pytest.raises(DataError, match="found 2 colours beside the ground"):
        flat_colours(recording, 3)
    noise = torch.randint(0, 256, (20, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with pytest.raises(DataError, match="moments: "):
        flat_colours(noise, 2)
    with pytest.raises(ConfigError, match="moments things: got 4"):
        MomentsConfig(things=4)


def test_what_it_found_comes_back_from_the_folder(encoder: MomentsEncoder, recording: torch.Tensor, tmp_path) -> None:
    config = ModelConfig(view=View(), encoder=MomentsConfig(things=2), predictor=CausalConfig(width=8, depth=1))
    model = WorldModel(config).eval()
    model.encoder.load_state_dict(encoder.state_dict())
    save_model(tmp_path, model, {})
    assert torch.equal(load_model(tmp_path).encode(recording[None, :3]), model.encode(recording[None, :3]))
