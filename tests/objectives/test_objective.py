"""Each kind of settings builds its objective, and what it owns lies beside the model's weights and comes back whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError
from foretell.model.encoders import DenseConfig
from foretell.model.folder import load_model, read_config, save_model
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.masked import Masked, MaskedConfig
from foretell.objectives.next_latent import NextLatent, NextLatentConfig
from foretell.objectives.next_pixels import NextPixels, NextPixelsConfig
from foretell.objectives.objective import FILE, ObjectiveConfig, build_objective, load_objective, save_objective

kinds = [
    (NextLatentConfig(horizon=3), NextLatent),
    (NextPixelsConfig(hidden=7), NextPixels),
    (MaskedConfig(hidden=6, momentum=0.5), Masked),
]
every_kind = pytest.mark.parametrize(("config", "kind"), kinds, ids=[kind.__name__ for _, kind in kinds])


def folder_of(folder: Path, config: ObjectiveConfig) -> tuple[WorldModel, torch.nn.Module]:
    torch.manual_seed(0)
    encoder = DenseConfig(latent_width=5, stem_channels=6, channels=7)
    view = View(height=16, width=24)
    model = WorldModel(ModelConfig(view=view, encoder=encoder, predictor=RecurrentConfig(hidden=6)))
    objective = build_objective(config, model)
    settings = dataclasses.asdict(config) | {"class": type(config).__name__}
    save_model(folder, model, {"run": {"train": {"objective": settings}}})
    save_objective(folder, objective)
    return model, objective


@every_kind
def test_what_it_owns_comes_back(config, kind, tmp_path):
    _, objective = folder_of(tmp_path, config)
    assert (tmp_path / FILE).exists() == (FILE in read_config(tmp_path)["sha256"]) == (kind is not NextLatent)
    found = load_objective(tmp_path, load_model(tmp_path))
    assert type(objective) is type(found) is kind
    assert found.config == config
    assert not found.training
    assert found.state_dict().keys() == objective.state_dict().keys()
    assert all(torch.equal(tensor, objective.state_dict()[key]) for key, tensor in found.state_dict().items())


def test_a_file_that_is_missing_or_of_other_settings_is_named(tmp_path):
    model, _ = folder_of(tmp_path, NextPixelsConfig(hidden=7))
    kept = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).unlink()
    with pytest.raises(CheckpointError, match=FILE):
        load_objective(tmp_path, model)
    folder_of(tmp_path, NextPixelsConfig(hidden=8))
    (tmp_path / FILE).write_bytes(kept)
    with pytest.raises(CheckpointError, match=FILE):
        load_objective(tmp_path, model)
    with pytest.raises(CheckpointError, match="altered"):
        load_model(tmp_path)
