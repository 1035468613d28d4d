"""Effects in a linear world have a closed form; bands hold as often as they promise; a removed thing is gone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import ConfigError, ShapeError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import PooledConfig
from foretell.model.heads import Errors
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.plan.counterfactual import (
    effect,
    errors_of_differences,
    imagine_futures,
    margins,
    take_in,
    without,
)

DECAY, PUSH = 0.8, torch.tensor([[0.5, 0.0, 1.0], [0.0, -0.3, 0.0]])  # latents' own course, and what actions do to them


class Linear:
    """z' = DECAY z + a PUSH + m, and a memory m that counts what was done."""

    config = SimpleNamespace(actions=None)

    class predictor:
        @staticmethod
        def start(batch: int) -> Tensor:
            return torch.zeros(batch, 1, 3)

    def encode(self, frames: Tensor) -> Tensor:
        return frames.float().mean((3, 4))[:, :, None] / 255

    def go_on(self, latents: Tensor, memory: Tensor, actions: Tensor) -> tuple[None, Tensor]:
        return None, memory + (actions @ PUSH).sum(1, keepdim=True)

    def imagine(self, latents: Tensor, memory: Tensor, actions: Tensor) -> Tensor:
        said = []
        for done in actions.unbind(1):
            latents = DECAY * latents + (done @ PUSH)[:, None] + memory
            said.append(latents)
        return torch.stack(said, 1)


class Twice:
    """A probe that reads twice the latents."""

    def __call__(self, latents: Tensor) -> Tensor:
        return 2 * latents[..., 0, :]


def test_effects_in_a_linear_world_are_those_of_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    model, frames = Linear(), np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    past = take_in(model, frames, torch.rand(3, 2, generator=generator))  # type: ignore[arg-type]
    blocks = torch.rand(2, 5, 2, generator=generator)
    one, other = imagine_futures(model, Twice(), past, blocks).quantities  # type: ignore[arg-type]
    push = (blocks[1] - blocks[0]) @ PUSH
    expected = torch.stack([sum(2 * DECAY ** (t - s) * push[s] for s in range(t + 1)) for t in range(5)])  # type: ignore[misc]
    found = effect(other, one, torch.full((5, 3), 0.1))
    torch.testing.assert_close(found.difference, expected)
    assert torch.equal(found.sign, (expected.sign() * (expected.abs() > 0.1)).int())
    assert found.sign[:, 1].unique().tolist() != [0]


def test_the_past_is_in_the_memory_and_equal_futures_have_no_effect() -> None:
    model, frames = Linear(), np.zeros((3, 8, 8, 3), np.uint8)
    done = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    past = take_in(model, frames, done)  # type: ignore[arg-type]
    torch.testing.assert_close(past.memory[0], done.sum(0) @ PUSH)
    assert take_in(model, frames[:1], done[:0]).memory.eq(0).all()  # type: ignore[arg-type]
    one, other = imagine_futures(model, Twice(), past, torch.ones(2, 4, 2)).quantities  # type: ignore[arg-type]
    assert effect(one, other, torch.zeros(4, 3)).sign.eq(0).all()
    with pytest.raises(ShapeError, match="3 frames and 1 blocks"):
        take_in(model, frames, done[:1])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="three of"):
        effect(one, other, torch.zeros(3, 3))


def test_a_real_model_is_imagined_from_its_own_memory() -> None:
    torch.manual_seed(0)
    acts = ActionConfig(space=ActionSpace(low=(-1.0,), high=(1.0,)), skip=2, mean=(0.0,), std=(1.0,))
    encoder = PooledConfig(latent_width=4, channels=2, hidden=8)
    config = ModelConfig(
        view=View(height=16, width=16), encoder=encoder, predictor=SteeredConfig(hidden=8, memory=4), actions=acts
    )
    model = WorldModel(config).eval()
    model.predictor.speak[-1].weight.data.normal_()  # type: ignore[index, operator, union-attr]
    frames = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    blocks = torch.rand(5, 2)
    past = take_in(model, frames, blocks)
    with torch.no_grad():
        foretold = model.predict(past.seen[None], torch.cat([blocks, blocks[:1]])[None])
        expected = foretold.next[0, -1]
    futures = imagine_futures(model, None, past, blocks[None, :1])
    torch.testing.assert_close(futures.latents[0, 0], expected)
    assert futures.quantities.shape == (1, 1, 0)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_bands_hold_at_all_steps_as_often_as_they_promise(alpha: float) -> None:
    """Errors that grow, hang together over time and have heavy tails; another calibration for each of many new cases."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> Tensor:
        return torch.from_numpy(rng.standard_t(4, (count, 6, 2)).cumsum(1) * [1.0, 20.0])

    held = []
    for _ in range(1500):
        margin = margins(draw(80), alpha)
        held.append((draw(1)[0].abs() <= margin).all(0).double())
    share = torch.stack(held).mean(0)
    slack = 3 * (alpha * (1 - alpha) / 1500) ** 0.5
    assert (share >= 1 - alpha - slack).all()
    assert (share <= 1 - alpha + 1 / 65 + slack).all()


def test_bands_widen_where_errors_do_and_are_infinite_where_too_little_is_known() -> None:
    errors = torch.randn(400, 4, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 2, 4, 8.0])[:, None]
    margin = margins(errors, 0.1)
    assert (margin.diff(dim=0) > 0).all()
    assert margins(errors[:22], 0.05).isinf().all()
    assert margins(errors[:0], 0.05).isinf().all()
    assert effect(torch.ones(4, 1), torch.zeros(4, 1), margins(errors[:0])).sign.eq(0).all()
    with pytest.raises(ConfigError, match="alpha"):
        margins(errors, 1.0)


def errors_of(foretold: Tensor, truth: Tensor, now: Tensor, between: Tensor) -> Errors:
    nothing = {"mean": torch.zeros(1, 1), "familiar": torch.eye(1), "surprises": torch.ones(1)}
    return Errors(precision=torch.eye(1), truth=truth, foretold=foretold, now=now, between=between, **nothing)


def test_what_is_misread_at_the_start_falls_out_of_a_difference() -> None:
    """Things move evenly and are read wrong by as much at all times: changes are foretold without error."""
    place = torch.randn(7, 1, 1, generator=torch.Generator().manual_seed(0))
    frames = place + torch.arange(1.0, 7)[None, :, None]
    truth, wrong = frames[:, 1::2], 5 * place
    errors = errors_of(truth + wrong, truth, (place + wrong)[:, 0], frames)
    assert errors_of_differences(errors, one_past=True).shape == (3, 3, 1)
    torch.testing.assert_close(errors_of_differences(errors, one_past=True), torch.zeros(3, 3, 1), atol=1e-5, rtol=0)
    everything = errors_of_differences(errors, one_past=False)
    torch.testing.assert_close(everything[:, 0, 0], 5 * (place[:3] - place[3:6])[:, 0, 0])
    late = errors_of(truth + wrong + place, truth, (place + wrong)[:, 0], frames)
    torch.testing.assert_close(errors_of_differences(late, one_past=True)[:, 0, 0], (place[:3] - place[3:6])[:, 0, 0])


def test_the_band_of_strangers_holds_for_futures_that_err_alike() -> None:
    """What two futures share makes their difference err less: the band holds, too often rather than too seldom."""
    rng = torch.Generator().manual_seed(1)

    def two(count: int) -> tuple[Tensor, Tensor]:
        shared = torch.randn(count, 3, 1, generator=rng)
        return shared + torch.randn(count, 3, 1, generator=rng), shared + torch.randn(count, 3, 1, generator=rng)

    still = torch.zeros(4000, 3, 1)
    margin = margins(errors_of_differences(errors_of(two(4000)[0], still, still[:, 0], still), one_past=True), 0.1)
    one, other = two(4000)
    assert ((one - other).abs() <= margin).all(1).double().mean() > 0.95


def scene(steps: int) -> np.ndarray:
    """A striped floor, a red square that stands, a blue one that walks past: uint8 (T, 24, 32, 3)."""
    frames = np.full((steps, 24, 32, 3), 200, np.uint8)
    frames[:, :, ::8] = 190
    frames[:, 10:14, 20:24] = (220, 30, 30)
    for step, frame in enumerate(frames):
        frame[2:6, 2 * step : 2 * step + 4] = (30, 30, 220)
    return frames


def test_what_moved_leaves_its_background_and_what_stood_is_painted_like_its_surroundings() -> None:
    frames = scene(9)
    bare = np.full((24, 32, 3), 200, np.uint8)
    bare[:, ::8] = 190
    gone, how = without(frames, (0, 2, 24, 6))
    assert "over time" in how
    assert np.array_equal(gone[:, 2:6], np.broadcast_to(bare[2:6], (9, 4, 32, 3)))
    assert np.array_equal(gone[:, 6:], frames[:, 6:])
    gone, how = without(frames, (20, 10, 24, 14))
    assert "around" in how
    assert (gone[:, 10:14, 20:24] == 200).all()
    assert np.array_equal(np.delete(gone, slice(10, 14), 1), np.delete(frames, slice(10, 14), 1))


def test_what_passes_in_front_of_a_removed_thing_stays() -> None:
    frames = scene(9)
    frames[4, 11:13, 21:23] = (30, 30, 220)
    gone, _ = without(frames, (19, 9, 25, 15))
    assert (gone[4, 11:13, 21:23] == (30, 30, 220)).all()
    assert (gone[3, 11:13, 21:23] == 200).all()


@pytest.mark.parametrize("box", [(-1, 0, 4, 4), (0, 0, 33, 4), (0, 20, 4, 25), (5, 5, 5, 9), (9, 5, 5, 9)])
def test_a_box_outside_the_frame_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="expected x0,y0,x1,y1"):
        without(scene(3), box)
