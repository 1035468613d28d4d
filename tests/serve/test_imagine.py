"""Imagine, on a small untrained model: what it writes, what it measures, that it never looks ahead, and what it refuses."""

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foretell.data.clip import View
from foretell.data.ingest import ingest
from foretell.data.writers import write_video
from foretell.errors import ConfigError, DataError
from foretell.model.decoder import FILE, Decoder
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.folder import save_model
from foretell.model.predictors import CausalConfig, RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.serve import fitted
from foretell.serve.imagine import ImagineSummary, imagine, imagine_frames
from foretell.serve.pictures import MARK

HEIGHT, WIDTH, FPS = 32, 48, 8
START, HORIZON = 4, 6
view = View(height=HEIGHT, width=WIDTH, fps=FPS)
dense = ModelConfig(view=view, encoder=DenseConfig(latent_width=5), predictor=RecurrentConfig(hidden=6))
pooled = ModelConfig(view=view, encoder=PooledConfig(latent_width=7), predictor=CausalConfig(depth=1))


def moving_square(steps: int) -> np.ndarray:
    """A square that goes right: uint8 (T, H, W, 3)."""
    frames = np.full((steps, HEIGHT, WIDTH, 3), 60, np.uint8)
    for step, frame in enumerate(frames):
        frame[6:14, 4 + 2 * step : 12 + 2 * step] = (230, 120, 40)
    return frames


def talkative(config: ModelConfig) -> WorldModel:
    """An untrained model that foretells something. As it starts, a predictor says that nothing changes."""
    torch.manual_seed(1)
    model = WorldModel(config).eval()
    speak = model.predictor.speak
    last = speak[-1] if isinstance(speak, nn.Sequential) else speak
    assert isinstance(last, nn.Conv2d | nn.Linear)
    last.weight.data.normal_(std=0.3)
    return model


@dataclass
class Place:
    """A folder with a clip, a store and a model that was trained on it."""

    folder: Path
    clip: Path
    store: Path
    model: Path

    def imagine(self, clip: Path | None = None, *, start: int = START, data: Path | None = None) -> ImagineSummary:
        out = self.folder / "out" / "dream.mp4"
        return imagine(self.model, clip or self.clip, out, start=start, horizon=HORIZON, data=data)

    def video(self) -> np.ndarray:
        with av.open(str(self.folder / "out" / "dream.mp4")) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fitted, "STEPS", 2)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Three videos and a store of them."""
    folder = tmp_path_factory.mktemp("ground")
    for name, steps in {"long": 17, "long2": 13, "short": 7}.items():
        write_video(folder / "videos" / f"{name}.mp4", moving_square(steps), FPS)
    ingest(folder / "videos", folder / "store", view_size=(HEIGHT, WIDTH), workers=1, progress=False)
    return folder


@pytest.fixture
def place(ground, tmp_path):
    facts = {"data": {"store": str(ground / "store")}}
    save_model(tmp_path / "model", talkative(dense), facts)
    return Place(tmp_path, ground / "videos" / "long.mp4", ground / "store", tmp_path / "model")


kinds = pytest.mark.parametrize("config", [dense, pooled], ids=["dense", "pooled"])


@kinds
def test_it_never_looks_ahead(config):
    """Two clips that part after the last step seen are imagined alike, whatever becomes of them."""
    model, decoder = talkative(config), Decoder(config)
    one = moving_square(START + HORIZON)
    other = one.copy()
    other[START:] = 255 - one[::-1][:HORIZON]
    dreams = [imagine_frames(model, decoder, frames, start=START, horizon=HORIZON) for frames in (one, other)]
    assert np.array_equal(dreams[0].pictures.decoded, dreams[1].pictures.decoded)
    assert dreams[0].latent_error["imagined"] != dreams[1].latent_error["imagined"]


@kinds
def test_errors_are_what_they_are_said_to_be(config):
    model, decoder, frames = talkative(config), Decoder(config), moving_square(START + HORIZON - 2)
    found = imagine_frames(model, decoder, frames, start=START, horizon=HORIZON)
    assert found.pictures.decoded.shape == (START + HORIZON, HEIGHT, WIDTH, 3)
    assert {len(errors) for errors in (found.latent_error | found.pixel_error).values()} == {HORIZON - 2}
    with torch.no_grad():
        z = torch.cat([model.encode(torch.from_numpy(f).permute(2, 0, 1)[None, None]) for f in frames], 1)
        said = model.rollout(z[:, :START], HORIZON)
    z, said, last = z[0], said[0], START - 1
    for ahead in range(1, HORIZON - 1):
        happened, dreamt = z[last + ahead], said[ahead - 1]
        expected = {
            "imagined": square(dreamt, happened),
            "copy": square(z[last], happened),
            "linear": square(z[last] + ahead * (z[last] - z[last - 1]), happened),
        }
        assert {k: v[ahead - 1] for k, v in found.latent_error.items()} == pytest.approx(expected, rel=1e-3)
        true = frames[last + ahead]
        expected = {
            "imagined": grey_levels(painted(decoder, dreamt), true),
            "decoder": grey_levels(painted(decoder, happened), true),
            "copy": grey_levels(frames[last], true),
        }
        assert {k: v[ahead - 1] for k, v in found.pixel_error.items()} == pytest.approx(expected, abs=0.01)


def square(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean())


def grey_levels(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def painted(decoder: Decoder, latents: Tensor) -> np.ndarray:
    return decoder.decode(latents[None, None])[0, 0].permute(1, 2, 0).numpy()


@kinds
def test_a_model_that_says_nothing_changes_errs_like_a_copy(config):
    """Every predictor starts like this."""
    model = WorldModel(config).eval()
    errors = imagine_frames(model, Decoder(config), moving_square(9), start=START, horizon=5).latent_error
    assert errors["imagined"] == pytest.approx(errors["copy"], rel=1e-4)
    assert errors["copy"][-1] > errors["copy"][0] > 0


def test_what_is_written(place):
    summary = place.imagine()
    assert summary.notes == []
    written = sorted(path.name for path in (place.folder / "out").iterdir())
    assert written == ["dream.json", "dream.mp4", "dream.png", "dream.svg"]
    assert sorted(Path(name).name for name in summary.files) == written
    said = json.loads((place.folder / "out" / "dream.json").read_text())
    assert (said["start"], said["horizon"], said["fps"]) == (START, HORIZON, FPS)
    assert said["latent_error"] == summary.latent_error
    assert said["pixel_error"] == summary.pixel_error
    assert "saw 4 steps, imagined 6 (0.75 s)" in str(summary)
    svg = (place.folder / "out" / "dream.svg").read_text()
    assert all(f">{name}</text>" in svg for name in ("imagined", "copy", "straight line", "decoder alone"))


def test_frame_turns_red_where_imagining_begins(place):
    place.imagine()
    video = place.video()
    assert len(video) == START + HORIZON
    red = np.abs(video.astype(int) - MARK).max(-1) < 40
    share = red.mean((1, 2))
    assert share[:START].max() < 0.01
    assert share[START:].min() > 0.04


def test_a_decoder_is_fitted_once_and_kept(place, monkeypatch):
    first = place.imagine()
    assert "what the model was trained on" in first.decoder
    before = (place.model / FILE).read_bytes()
    monkeypatch.setattr(fitted, "fit_decoder", None)
    again = place.imagine()
    assert again == first
    assert (place.model / FILE).read_bytes() == before


def test_only_what_was_trained_on_is_painted_from(place, monkeypatch):
    """What the split set aside is not shown to the decoder."""
    facts = {"data": {"store": str(place.store)}, "split": {"train": [{"name": "long2.mp4", "start": 3, "length": 5}]}}
    save_model(place.model, talkative(dense), facts)
    seen = []

    def remember(model, batches, *, steps, seed):
        seen.extend(batches(step) for step in range(3))
        return Decoder(model.config)

    monkeypatch.setattr(fitted, "fit_decoder", remember)
    place.imagine()
    lefts = {int((frame[0, 0, 8] > 150).nonzero()[0]) for batch in seen for frame in batch}
    assert lefts == {4 + 2 * step for step in range(3, 8)}


def test_a_decoder_of_other_weights_is_fitted_again(place):
    place.imagine()
    torch.manual_seed(2)
    save_model(place.model, WorldModel(dense), {"data": {"store": str(place.store)}})
    assert "fitted for another model" in "".join(place.imagine().notes)
    assert place.imagine().notes == []


def test_store_is_gone(place, tmp_path):
    save_model(place.model, talkative(dense), {"data": {"store": str(tmp_path / "gone")}})
    summary = place.imagine()
    assert summary.decoder == "this clip alone"
    assert "--data" in summary.notes[0]
    assert not (place.model / FILE).exists()
    summary = place.imagine(data=place.store)
    assert summary.notes == []
    assert summary.decoder == str(place.store.resolve())
    assert (place.model / FILE).exists()


def test_store_inside_a_moved_model_folder(place, ground):
    (ground / "store").rename(place.model / "store")
    try:
        save_model(place.model, talkative(dense), {"data": {"store": "elsewhere/model/store"}})
        assert place.imagine().notes == []
    finally:
        (place.model / "store").rename(ground / "store")


def test_data_of_another_view_is_refused(place, ground):
    ingest(ground / "videos", place.folder / "other", view_size=(HEIGHT, 32), workers=1, progress=False)
    with pytest.raises(DataError, match="view"):
        place.imagine(data=place.folder / "other")


def test_a_model_folder_that_cannot_be_written(place, monkeypatch):
    def full(*_):
        raise DataError("no room")

    monkeypatch.setattr(fitted, "save_decoder", full)
    assert "could not be kept" in "".join(place.imagine().notes)


def test_a_clip_that_ends_early(place, ground):
    """Imagined on beyond its end; there the true panel is blank and no error is given."""
    summary = place.imagine(ground / "videos" / "short.mp4")
    assert "7 steps" in summary.notes[0]
    assert {len(errors) for errors in (summary.latent_error | summary.pixel_error).values()} == {7 - START}
    video = place.video()
    assert len(video) == START + HORIZON
    left = video[:, :, : video.shape[2] // 3]
    assert (left[7:] == 60).mean() < 0.01 < (np.abs(left[:7].astype(int) - 60) < 9).mean()


def test_a_clip_that_ends_where_imagining_begins(place, ground):
    summary = place.imagine(ground / "videos" / "short.mp4", start=7)
    assert summary.latent_error == {"imagined": [], "copy": [], "linear": []}
    assert "the clip ends where imagining begins" in (place.folder / "out" / "dream.svg").read_text()


def test_a_clip_too_short_to_be_seen(place, ground):
    with pytest.raises(DataError, match=r"short\.mp4: has 7 steps at 8 a second, expected at least the 8"):
        place.imagine(ground / "videos" / "short.mp4", start=8)
    assert not (place.model / FILE).exists()


def test_a_damaged_clip_is_used_as_far_as_it_goes(place):
    noise = np.random.default_rng(0).integers(0, 256, (START + HORIZON, HEIGHT, WIDTH, 3), np.uint8)
    cut = place.folder / "cut.mp4"
    write_video(cut, noise, FPS)
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * 0.7)])
    summary = place.imagine(cut)
    assert "what came before was used" in summary.notes[0]
    assert 0 < len(summary.latent_error["imagined"]) < HORIZON


@pytest.mark.parametrize(
    ("out", "start", "horizon", "error", "says"),
    [
        ("a.mp4", 1, 3, ConfigError, "at least 2 steps"),
        ("a.mp4", 2, 0, ConfigError, "at least 1"),
        ("a.png", 4, 3, ConfigError, r"ends in \.mp4"),
        ("file/a.mp4", 4, 3, DataError, "cannot be written"),
    ],
)
def test_refused_before_any_work(place, out, start, horizon, error, says):
    (place.folder / "file").write_text("")
    with pytest.raises(error, match=says):
        imagine(place.folder / "no model", place.clip, place.folder / out, start=start, horizon=horizon)


def test_a_folder_of_clips_is_not_a_clip(place, ground):
    with pytest.raises(DataError, match="3 files, expected one"):
        place.imagine(ground / "videos")
