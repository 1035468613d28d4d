"""Tensor files: whole or not at all, and damage is named."""

from __future__ import annotations

import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from foretell.errors import CheckpointError, DataError
from foretell.model.tensors import load_tensors, save_tensors


def tensors() -> dict[str, torch.Tensor]:
    picture = torch.arange(24.0).view(2, 3, 4, 1).contiguous(memory_format=torch.channels_last)
    return {
        "picture": picture,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "one": torch.tensor(7),
        "none": torch.empty(0, 4),
    }


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    save_tensors(path, tensors(), {"step": 3, "nested": {"ä": [1.5, None]}})
    loaded, metadata = load_tensors(path)
    assert metadata == {"step": 3, "nested": {"ä": [1.5, None]}}
    assert loaded.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.zeros(3)}, {})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"a\.safetensors: cannot write 0 MB \(No space left on device\): make room"):
        save_tensors(path, {"x": torch.ones(3)}, {})
    assert torch.equal(load_tensors(path)[0]["x"], torch.zeros(3))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_a_cut_file_is_named(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    save_tensors(path, tensors(), {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: missing or damaged"):
        load_tensors(path)


def test_a_missing_file_a_folder_and_a_foreign_file_are_named(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "folder").mkdir()
    for name in ("nothing", "folder", "foreign.safetensors"):
        with pytest.raises(CheckpointError, match=rf"{name}: missing or damaged"):
            load_tensors(tmp_path / name)
