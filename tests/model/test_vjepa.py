"""V-JEPA 2 as a frozen encoder: says what transformers' own model says, never learns, and is found out if it was altered."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from foretell.data.clip import View
from foretell.errors import CheckpointError, ConfigError, ForetellError
from foretell.model.encoders import latent_grid
from foretell.model.folder import config_from_json, config_to_json, load_model, save_model
from foretell.model.predictors import RecurrentConfig
from foretell.model.vjepa import PORTION, VJepaConfig, load_network
from foretell.model.world_model import ModelConfig, WorldModel, scaled
from foretell.objectives.collapse import alarms, monitors
from foretell.objectives.next_latent import NextLatent, NextLatentConfig

CROP, PATCH, OWN_WIDTH = 32, 8, 24
BATCH, STEPS, HEIGHT, WIDTH = 2, 5, 32, 64
OWN = CROP // PATCH
TOKENS = OWN * OWN
MODEL, PROJECTED, BARE = "model", 7, OWN_WIDTH


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it comes from the Hub, of a small network with random weights."""
    from transformers import VJEPA2Config, VJEPA2Model

    torch.manual_seed(4)
    settings: dict[str, Any] = {
        "crop_size": CROP,
        "patch_size": PATCH,
        "frames_per_clip": 4,
        "hidden_size": OWN_WIDTH,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "mlp_ratio": 2.5,
        "drop_path_rate": 0.5,  # would show in training mode
        "initializer_range": 0.3,  # so that frames differ in what is said of them
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 1,
        "pred_num_hidden_layers": 1,
    }
    folder = tmp_path_factory.mktemp("original")
    VJEPA2Model(VJEPA2Config(**settings)).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def weights(original: Path, tmp_path: Path) -> Path:
    """The same folder, to be altered."""
    return Path(shutil.copytree(original, tmp_path / "weights"))


def build(weights: Path, latent_width: int = PROJECTED, height: int = HEIGHT, width: int = WIDTH) -> WorldModel:
    torch.manual_seed(0)
    encoder = VJepaConfig(folder=str(weights), latent_width=latent_width)
    view = View(height=height, width=width)
    return WorldModel(ModelConfig(view=view, encoder=encoder, predictor=RecurrentConfig(hidden=6)))


def video(batch: int = BATCH, steps: int = STEPS, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, steps, 3, height, width), generator=generator, dtype=torch.uint8)


def theirs(weights: Path) -> Any:
    from transformers import VJEPA2Model

    return VJEPA2Model.from_pretrained(weights, local_files_only=True, use_safetensors=True).eval()


def as_they_want_it(frames: torch.Tensor) -> torch.Tensor:
    """uint8 (B, T, 3, H, W) -> brightness 0 to 1, normalised by the numbers that transformers has for ImageNet."""
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return (frames / 255 - mean) / std


@torch.no_grad()
def test_features_are_those_of_transformers_own_model(original):
    model, frames = build(original, height=CROP, width=CROP), video(height=CROP, width=CROP)
    found = model.encoder.features(scaled(frames))
    videos = as_they_want_it(frames).flatten(0, 1)[:, None].repeat(1, 2, 1, 1, 1)
    expected = theirs(original)(videos, skip_predictor=True).last_hidden_state
    assert found.shape == (BATCH, STEPS, TOKENS, OWN_WIDTH)
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=1e-5, rtol=0)
    assert expected.std(0).min() > 0.05  # not the same for all frames, or the test would say nothing


@torch.no_grad()
def test_without_projection_latents_are_the_normed_features(original):
    model, frames = build(original, BARE, CROP, CROP).train(), video(height=CROP, width=CROP)
    features = model.encoder.features(scaled(frames)).flatten(0, 2)
    expected = (features - features.mean(0)) / (features.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(model.encode(frames).flatten(0, 2), expected, atol=1e-4, rtol=1e-4)
    assert not list(model.encoder.parameters())


@torch.no_grad()
def test_another_size_is_brought_to_the_networks_own(original):
    """Even colours stay what they are, and a picture of 2x2 pixel squares comes back at half the size."""
    large = build(original, height=2 * CROP, width=2 * CROP).encoder
    small = torch.randint(0, 256, (1, 1, 3, 4, 4), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    squares = small.repeat_interleave(CROP // 2, 3).repeat_interleave(CROP // 2, 4)
    seen = large.pictures(scaled(squares)[0])
    expected = as_they_want_it(small)[0].repeat_interleave(CROP // 4, 2).repeat_interleave(CROP // 4, 3)
    inside = [y for y in range(CROP) if 1 < y % (CROP // 4) < CROP // 4 - 2]
    assert seen.shape == (1, 3, CROP, CROP)
    torch.testing.assert_close(seen[..., inside, :][..., inside], expected[..., inside, :][..., inside])


@pytest.mark.parametrize("latent_width", [PROJECTED, BARE])
def test_latents_have_the_promised_shape(original, latent_width):
    model = build(original, latent_width)
    latents = model.encode(video())
    assert model.grid == (4, 4)
    assert latents.shape == (BATCH, STEPS, TOKENS, latent_width)
    assert latents.dtype == torch.float32
    assert model.predict(latents).next.shape == latents.shape


@pytest.mark.parametrize("latent_width", [PROJECTED, BARE])
@torch.no_grad()
def test_a_frame_is_encoded_alone(original, latent_width):
    model, frames = build(original, latent_width).eval(), video(steps=PORTION)  # more frames than go through at a time
    before = model.encode(frames)
    frames[1, 3] = 255 - frames[1, 3]
    changed = (model.encode(frames) - before).abs().amax((2, 3))
    assert changed[1, 3] > 1e-3
    changed[1, 3] = 0
    assert changed.max() < 1e-5
    one_by_one = torch.cat([model.encode(frames[:, t : t + 1]) for t in range(PORTION)], 1)
    torch.testing.assert_close(one_by_one, model.encode(frames), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("latent_width", [PROJECTED, BARE])
def test_training_norms_every_dimension_over_all_tokens(original, latent_width):
    latents = build(original, latent_width).train().encode(video()).flatten(0, -2)
    torch.testing.assert_close(latents.mean(0), torch.zeros(latent_width), atol=1e-4, rtol=0)
    assert 0.9 < latents.std(0, correction=0).min() <= latents.std(0, correction=0).max() < 1.001


@torch.no_grad()
def test_tokens_lie_row_by_row_where_their_pixels_are(original):
    """A picture that is black but for one square: its features differ most from a black one's where the square is."""
    encoder = build(original, height=CROP, width=CROP).encoder
    black = torch.zeros(1, 1, 3, CROP, CROP, dtype=torch.uint8)
    square = black.clone()
    square[..., PATCH : 2 * PATCH, 3 * PATCH :] = 255
    changed = (encoder.features(scaled(square)) - encoder.features(scaled(black))).pow(2).sum((0, 1, 3))
    assert changed.argmax() == 1 * OWN + 3


@torch.no_grad()
def test_a_small_view_has_the_mean_of_neighbouring_tokens(original):
    """16x32 pixels are 2x4 squares of 8x8: four tokens of the network's own 4x4 become 2 rows, and 4 columns stay."""
    model, frames = build(original, BARE, 16, 32).eval(), video(height=16, width=32)
    own = model.encoder.features(scaled(frames)).unflatten(2, (OWN, OWN))
    assert model.grid == (2, 4)
    expected = model.encoder.norm((own[:, :, 0::2] + own[:, :, 1::2]).flatten(2, 3) / 2)
    torch.testing.assert_close(model.encode(frames), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("height", "width", "grid"), [(16, 16, (2, 2)), (32, 64, (4, 4)), (96, 128, (4, 4))])
def test_no_token_stands_for_less_than_eight_pixels(original, height, width, grid):
    assert latent_grid(VJepaConfig(folder=str(original)), height, width) == grid


@pytest.mark.parametrize(("height", "width"), [(24, 32), (32, 40), (48, 32)])
def test_a_view_that_tokens_do_not_fit_is_refused(original, height, width):
    with pytest.raises(ConfigError, match=rf"got a view of {height}x{width}, which 4x4 tokens do not fit: take edges"):
        build(original, height=height, width=width)


def train_two_steps(model: WorldModel) -> None:
    objective = NextLatent(NextLatentConfig(horizon=2, starts=1, tokens=40, directions=8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(2):
        model.train()
        terms = objective.terms(model, video(), torch.Generator().manual_seed(step))
        loss = torch.stack([objective.weights[name] * term for name, term in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("latent_width", [PROJECTED, BARE])
def test_training_leaves_the_network_as_it_was(original, latent_width):
    model = build(original, latent_width).train()
    network = model.encoder.frozen[0]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features = model.encoder.features(scaled(video()))
    train_two_steps(model)
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert not any(module.training for module in network.modules())
    for name, tensor in load_network(model.config.encoder).state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    assert torch.equal(model.encoder.features(scaled(video())), features)
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"encoder", "predictor"}  # of the encoder the norm's running statistics, and the projection if any


def test_gradients_reach_the_projection_and_nothing_else(original):
    model = build(original).train()
    latents = model.encode(video())
    (latents * torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    reached = {n for n, p in model.encoder.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached == {n for n, _ in model.encoder.named_parameters()} == {"project.weight", "project.bias"}


def collapse(model: WorldModel) -> None:
    """All rows of the projection alike: every dimension then has deviation 1 after the norm, and all say the same."""
    model.encoder.project.weight.data = model.encoder.project.weight.data[:1].repeat(PROJECTED, 1)


def test_a_collapsed_projection_does_not_hide_behind_the_norm(original):
    model, frames = build(original), video(batch=3, steps=8)
    collapse(model)
    model.encoder.norm.norm.momentum = 1.0  # after one pass the running statistics are those of these frames
    model.train().encode(frames)
    values = monitors(model.eval(), frames)
    assert 0.9 < values["std_min"] <= values["std_max"] < 1.1
    assert values["rank"] < 1.1
    assert "collapse" in {alarm.name for alarm in alarms(values, PROJECTED, values["rank"])}


@pytest.mark.parametrize("latent_width", [PROJECTED, BARE])
@torch.no_grad()
def test_a_model_folder_gives_back_the_model_without_a_copy_of_the_network(weights, tmp_path, latent_width):
    model = build(weights, latent_width)
    model.train().encode(video())
    save_model(tmp_path / MODEL, model.eval(), {})
    loaded = load_model(tmp_path / MODEL)
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(video()), model.encode(video()))
    with safe_open(tmp_path / MODEL / "model.safetensors", framework="pt") as file:
        kept = {name for name in file.keys() if name.startswith("encoder.")}  # noqa: SIM118
    projection = {"encoder.project.weight", "encoder.project.bias"} if latent_width != BARE else set()
    assert kept - {n for n in kept if n.startswith("encoder.norm.")} == projection


def test_settings_survive_json_and_name_the_files_by_their_sums(weights, monkeypatch):
    monkeypatch.chdir(weights.parent)
    config = ModelConfig(encoder=VJepaConfig(folder=weights.name))
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config
    assert config.encoder == VJepaConfig(folder=str(weights))
    assert config.encoder.folder == str(weights)
    assert len(config.encoder.settings_sha256) == len(config.encoder.weights_sha256) == 64


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_altered_or_missing_file_is_named(weights, tmp_path, name):
    save_model(tmp_path / MODEL, build(weights), {})
    path = weights / name
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    with pytest.raises(
        CheckpointError, match=rf"weights/{name}: altered \(sum .*, expected .*\): .* trained on the other"
    ):
        load_model(tmp_path / MODEL)
    path.unlink()
    with pytest.raises(
        CheckpointError, match=rf"weights/{name}: missing .* a folder with config.json and model.safeten"
    ):
        load_model(tmp_path / MODEL)


def test_a_folder_that_is_gone_is_named_and_one_that_moved_is_found_again(weights, tmp_path):
    save_model(tmp_path / MODEL, build(weights), {})
    moved = weights.rename(tmp_path / "moved")
    with pytest.raises(
        CheckpointError, match=r"weights/config\.json: missing .* write its new place as the encoder's `fold"
    ):
        load_model(tmp_path / MODEL)
    path = tmp_path / MODEL / "config.json"
    path.write_text(path.read_text().replace(str(weights), str(moved)))
    assert load_model(tmp_path / MODEL).config.encoder.folder == str(moved)


def test_new_settings_for_a_folder_that_is_not_there():
    with pytest.raises(CheckpointError, match=r"nowhere/config\.json: missing"):
        VJepaConfig(folder="nowhere")


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_pickle_is_refused(weights, tmp_path, name):
    (weights / "model.safetensors").unlink()
    (weights / name).write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(
        CheckpointError, match=rf"model\.safetensors: missing .*{name} beside it is a pickle and not read"
    ):
        build(weights)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_under_the_name_of_safetensors_is_refused(weights, tmp_path):
    (weights / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: damaged or no safetensors file .* a pickle is not read"
    ):
        build(weights)
    assert not (tmp_path / "executed").exists()


def test_names_of_code_in_the_settings_are_not_followed(weights):
    """Neither code beside the weights, nor kernels or adapters from the Hub."""
    path = weights / "config.json"
    (weights / "evil.py").write_text("raise SystemExit('executed')")
    values = json.loads(path.read_text()) | {
        "auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"},
        "_attn_implementation": "somebody/kernel",
        "attn_implementation": "somebody/kernel",
        "quantization_config": {"quant_method": "evil"},
    }
    path.write_text(json.dumps(values))
    assert build(weights).encode(video()).shape == (BATCH, STEPS, TOKENS, PROJECTED)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "vit"}, "got model_type 'vit', expected 'vjepa2'"),
        ({"crop_size": None}, "got crop_size None, expected a whole number"),
        ({"patch_size": [8, 8]}, r"got patch_size \[8, 8\], expected a whole number"),
        ({"hidden_size": 0}, "got hidden_size 0, expected a whole number"),
        ({"tubelet_size": True}, "got tubelet_size True, expected a whole number"),
        ({"in_chans": 1}, "got 1 colours"),
        ({"crop_size": 36}, "a crop of 36 in patches of 8"),
        ({"num_hidden_layers": 4}, r"model\.safetensors: does not fit config\.json beside it"),
        ({"num_hidden_layers": 2}, r"model\.safetensors: does not fit config\.json beside it"),
        ({"hidden_size": 32}, r"model\.safetensors: does not fit config\.json beside it"),
        ({"hidden_act": "no_such"}, r"model\.safetensors: does not fit config\.json beside it"),
        ({"mlp_ratio": "wide"}, r"model\.safetensors: does not fit config\.json beside it"),
    ],
)
def test_settings_of_something_else_are_refused(weights, change, says):
    path = weights / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=says):
        build(weights)


@pytest.mark.parametrize("text", ["", "[]", "not json", "\ud800"])
def test_damaged_settings_are_refused(weights, text):
    (weights / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"config\.json: damaged"):
        build(weights)


def test_a_missing_tensor_is_not_made_up(weights):
    path = weights / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.mlp.fc1.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"(?s)does not fit config\.json beside it .*layer\.1\.mlp\.fc1\.weight"):
        build(weights)


def test_building_draws_no_random_numbers_for_the_network(original):
    torch.manual_seed(0)
    load_network(VJepaConfig(folder=str(original)))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


def test_the_missing_extra_is_named(original, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ConfigError, match=r"needs transformers, which is not installed: pip install \"foretell\[hf\]\""
    ):
        build(original)


def test_impossible_widths_are_refused(original):
    with pytest.raises(ForetellError, match="latent_width: got 0, expected 1 or more"):
        VJepaConfig(folder=str(original), latent_width=0)
