"""A model folder gives back the model that was saved, or says which of its files is wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from foretell.data.clip import View
from foretell.errors import CheckpointError
from foretell.model.encoders import DenseConfig, EncoderConfig, PooledConfig, ViTConfig
from foretell.model.folder import add_to_sums, config_from_json, config_to_json, load_model, read_config, save_model
from foretell.model.predictors import CausalConfig, PredictorConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel

choices: list[tuple[EncoderConfig, PredictorConfig]] = [
    (DenseConfig(latent_width=5, stem_channels=6, channels=7), RecurrentConfig(hidden=4)),
    (PooledConfig(latent_width=5, channels=3, hidden=7), CausalConfig(width=8, depth=2, heads=2, history=3)),
    (ViTConfig(latent_width=5, width=6, depth=1, heads=2), RecurrentConfig(hidden=4)),
]


def model_of(encoder: EncoderConfig, predictor: PredictorConfig) -> WorldModel:
    torch.manual_seed(3)
    model = WorldModel(ModelConfig(view=View(height=16, width=32, fps=7), encoder=encoder, predictor=predictor))
    for tensor in (*model.parameters(), *model.buffers()):  # running statistics, too, are not those of a new model
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand(tensor.shape)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path, model_of(*choices[0]), {"note": "facts are kept"})
    return tmp_path


@pytest.mark.parametrize(("encoder", "predictor"), choices, ids=["dense", "pooled", "vit"])
@torch.no_grad()
def test_round_trip_gives_equal_outputs(tmp_path, encoder, predictor):
    model = model_of(encoder, predictor)
    save_model(tmp_path, model, {})
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert not loaded.training
    frames = torch.randint(0, 256, (2, 4, 3, 16, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    latents = model.encode(frames)
    assert torch.equal(loaded.encode(frames), latents)
    assert torch.equal(loaded.rollout(latents, 3), model.rollout(latents, 3))


@pytest.mark.parametrize(("encoder", "predictor"), choices, ids=["dense", "pooled", "vit"])
def test_settings_survive_json(encoder, predictor):
    config = ModelConfig(view=View(height=24, width=40), encoder=encoder, predictor=predictor)
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


def test_facts_and_sums_are_kept(folder):
    (folder / "more.bin").write_bytes(b"abc")
    add_to_sums(folder, ["more.bin"])
    facts = read_config(folder)
    assert facts["note"] == "facts are kept"
    assert set(facts["sha256"]) == {"model.safetensors", "more.bin"}
    load_model(str(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "more.bin"])
def test_a_missing_or_altered_file_is_named(folder, name):
    (folder / "more.bin").write_bytes(b"abc")
    add_to_sums(folder, ["more.bin"])
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=rf"{name}: altered \(sum .*, expected .*\): bring it back"):
        load_model(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: missing"):
        load_model(folder)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "not json", '{"version": ', '{"version": 1}'])
def test_a_damaged_config_is_named(folder, text):
    path = folder / "config.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: missing or damaged .* is this a model folder"):
        load_model(folder)


def altered_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_version_is_refused(folder):
    altered_config(folder, version=99)
    with pytest.raises(CheckpointError, match=r"config\.json: version 99, expected 2: use the foretell that wrote it"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"class": "NoSuchEncoder"},
        {"class": "DenseConfig", "latent_width": 6, "stem_channels": 6, "channels": 7},
        {"class": "DenseConfig", "depth": 6},
        {"latent_width": 5},
        None,
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(folder, change):
    model = read_config(folder)["model"]
    altered_config(folder, model=model | {"encoder": change})
    with pytest.raises(CheckpointError, match=r"weights and config\.json do not fit"):
        load_model(folder)


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_weights_are_read_without_executing_code(folder, tmp_path):
    mark = tmp_path / "executed"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    add_to_sums(folder, ["model.safetensors"])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: missing or damaged"):
        load_model(folder)
    assert not mark.exists()
