"""A small world, and a model of it with heads; nobody trained them."""

from __future__ import annotations

from pathlib import Path

import torch

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.model.actions import ActionConfig
from foretell.model.encoders import PooledConfig
from foretell.model.heads import Errors, Heads
from foretell.model.mind import Mind
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.worlds.rooms import Rooms, RoomsConfig

SIZE, SKIP, WIDTH = 32, 5, 6


def small_world(**changes) -> Rooms:
    return Rooms(RoomsConfig(size=SIZE, **changes))


def small_model(space: ActionSpace | None = None, skip: int = SKIP) -> tuple[WorldModel, Heads]:
    torch.manual_seed(0)
    space = space or small_world().actions
    acts = ActionConfig(space=space, skip=skip, mean=(0.1,) * space.width, std=(0.7,) * space.width)
    encoder = PooledConfig(latent_width=WIDTH, channels=4, hidden=16)
    view = View(height=SIZE, width=SIZE, fps=10.0)
    model = WorldModel(
        ModelConfig(view=view, encoder=encoder, predictor=SteeredConfig(hidden=16, memory=4), actions=acts)
    )
    with torch.no_grad():
        for weights in model.predictor.parameters():  # the last layer begins at zero: then nothing would ever happen
            weights.add_(0.3 * torch.randn(weights.shape))
    return model.eval(), Heads(model, ("x", "y"), farthest=8).eval()


def small_mind(folder: Path) -> Mind:
    """The same as one that was read from a folder."""
    model, heads = small_model()
    steps, quantities = 5, len(heads.quantities)
    errors = Errors(
        precision=torch.eye(WIDTH) / WIDTH,
        mean=torch.zeros(1, WIDTH),
        familiar=torch.zeros(WIDTH, WIDTH),
        surprises=torch.ones(50),
        truth=torch.zeros(0, steps, quantities),
        foretold=torch.zeros(0, steps, quantities),
        now=torch.zeros(0, quantities),
        between=torch.zeros(0, steps * SKIP, quantities),
    )
    return Mind(folder=folder, model=model, heads=heads, errors=errors)
