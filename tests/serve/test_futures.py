"""Imagine several futures, on a small untrained model: what is written, that it never looks ahead, and what it refuses."""

import json

import av
import numpy as np
import pytest
import torch
from torch import nn

from foretell.cli import main
from foretell.data.clip import View
from foretell.data.writers import write_video
from foretell.errors import CheckpointError, ConfigError
from foretell.model.branches import Branches, BranchesConfig, past_of, save_branches
from foretell.model.decoder import Decoder, save_decoder
from foretell.model.encoders import DenseConfig
from foretell.model.folder import load_model, save_model
from foretell.model.predictors import RecurrentConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.serve.futures import different_ways, imagine_futures, imagine_ways, percent

START, HORIZON, STEPS = 4, 5, 12
view = View(height=32, width=48, fps=8)
dense = ModelConfig(view=view, encoder=DenseConfig(latent_width=5), predictor=RecurrentConfig(hidden=6))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model folder with branches and a decoder, and a clip."""
    folder = tmp_path_factory.mktemp("futures")
    torch.manual_seed(1)
    model = WorldModel(dense).eval()
    last = model.predictor.speak[-1]
    assert isinstance(last, nn.Conv2d)
    last.weight.data.normal_(std=0.3)
    save_model(folder / "model", model, {})
    save_decoder(folder / "model", Decoder(dense), "nothing")
    branches = Branches(BranchesConfig(codes=3, horizon=HORIZON), model)
    branches.ways.data[:] = torch.tensor([2.0, -2.0, 2.0])[:, None]  # the first and the last say the same
    for reader in branches.prior.readers:
        reader.weigh[-1].bias.data[:] = torch.tensor([0.3, 0.5, 0.2]).log()
    branches.spread.fill_(1e-3)
    save_branches(folder / "model", branches)
    frames = np.full((STEPS, 32, 48, 3), 60, np.uint8)
    for step, frame in enumerate(frames):
        frame[6:14, 4 + 2 * step : 12 + 2 * step] = (230, 120, 40)
    write_video(folder / "clip.mp4", frames, 8.0)
    return folder, model, branches.eval(), frames


def test_codes_that_go_on_alike_are_one_future(place):
    _, model, branches, frames = place
    with torch.no_grad():
        seen = model.encode(torch.from_numpy(frames[:START]).permute(0, 3, 1, 2)[None])
        ways = different_ways(branches, past_of(model, seen), seen, 3)
    assert ways.codes in ([[0, 2], [1]], [[1], [0, 2]])
    assert sorted(ways.probabilities) == pytest.approx([0.5, 0.5], abs=1e-5)
    assert ways.latents.shape == (2, 3, 24, 5)


def test_what_is_written(place, tmp_path):
    folder, *_ = place
    out = tmp_path / "futures.mp4"
    summary = imagine_futures(
        folder / "model", folder / "clip.mp4", out, samples=6, start=START, horizon=HORIZON + STEPS
    )
    told = json.loads(out.with_suffix(".json").read_text())
    assert [future["probability"] for future in told["futures"]] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert told["not_shown"] == 0
    assert all(len(future["latent_error"]) == STEPS - START for future in told["futures"])
    assert "futures were learned for 5 steps" in " ".join(summary.notes)
    assert "future 1: 50%" in str(summary)
    assert out.with_suffix(".png").stat().st_size > 1000
    with av.open(str(out)) as video:
        pages = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(pages) == START + HORIZON + STEPS
    assert pages[0].shape[1] > 3 * view.width  # true, and two futures


def test_it_never_looks_ahead_and_shows_no_more_than_asked_for(place):
    _, model, branches, frames = place
    other = frames.copy()
    other[START:] = 255 - other[START:]
    found = [
        imagine_ways(model, branches, Decoder(dense).eval(), clip, start=START, horizon=STEPS - START, samples=1)
        for clip in (frames, other)
    ]
    (ways, fan), (again, _) = found
    torch.testing.assert_close(ways.latents, again.latents)
    assert ways.probabilities == again.probabilities
    assert list(fan.ways) == ["1 50%"]
    assert fan.rows()["true"].shape == (STEPS, 32, 48, 3)


def test_refusals_are_one_clear_line(place, tmp_path, capsys):
    folder, model, *_ = place
    save_model(tmp_path / "plain", model, {})
    with pytest.raises(CheckpointError, match=r"has no branches.safetensors.*foretell branch"):
        imagine_futures(tmp_path / "plain", folder / "clip.mp4", tmp_path / "a.mp4", samples=6)
    with pytest.raises(ConfigError, match="got 13, expected 1 to 12"):
        imagine_futures(folder / "model", folder / "clip.mp4", tmp_path / "a.mp4", samples=13)
    words = ["imagine", f"{tmp_path}/plain", f"{folder}/clip.mp4", "--samples", "6", "--out", f"{tmp_path}/a.mp4"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "learn them first, with foretell branch" in error
    assert error.count("\n") == 1


def test_shares_in_words():
    assert [percent(share) for share in (0, 0.004, 0.006, 0.623, 1)] == ["0%", "<1%", "1%", "62%", "100%"]


def test_the_folder_still_loads_with_branches(place):
    load_model(place[0] / "model")
