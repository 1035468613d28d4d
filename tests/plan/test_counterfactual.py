"""Effects in a linear world have a closed form; a removed thing is gone."""

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
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.plan.counterfactual import imagine_futures, take_in, without
from foretell.plan.effects import effect

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

    std = torch.full((3,), 2.0)

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
    futures = imagine_futures(model, Twice(), past, blocks)  # type: ignore[arg-type]
    torch.testing.assert_close(futures.gone, (futures.latents - past.latents)[:, :, 0].norm(dim=-1))


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
