"""The verb `train`. In a file of its own, since its settings are those of the loop, which needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes, Positional

from foretell import presets
from foretell.data.store import Store
from foretell.surprise.score import SurpriseConfig
from foretell.train.loop import TrainConfig
from foretell.train.run import RunConfig, run_training
from foretell.verbs import Fit, ingest, is_store

Preset = Literal["dense", "pooled", "vit"]


def train(
    source: Positional[str],
    out: Path,
    *,
    preset: Preset = "dense",
    hold_out: float = 0.2,
    size: str = "64",
    fps: float | None = None,
    fit: Fit = "letterbox",
    smooth: int = 1,
    config: OmitArgPrefixes[TrainConfig],
) -> Path:
    """Train a world model on a clip store, or on a folder of videos (ingested into OUT/store first).

    Args:
        source: A store, local or remote, or a folder of videos.
        out: The model folder to write; a run that was cut short goes on, equal to the bit.
        preset: dense for video; pooled for small worlds in full view; vit for a GPU.
        hold_out: Share of the footage set aside to calibrate; never trained on.
        size: For a folder of videos: pixels, as 64 or as HEIGHTxWIDTH.
        fps: For a folder of videos: steps a second.
        fit: For a folder of videos: letterbox or crop.
        smooth: Steps over which surprise is averaged, an odd number: steadier alarms for crowded scenes, half of it late.
        config: How long and how.
    """
    if is_store(source):
        store = Store.open(source)
    else:
        print(ingest(Path(source), Path(out) / "store", size=size, fps=fps, fit=fit))
        store = Store.open(Path(out) / "store")
    model = {"dense": presets.dense, "pooled": presets.pooled, "vit": presets.vit}[preset]()
    run = RunConfig(model=model, train=config, surprise=SurpriseConfig(smooth=smooth), hold_out=hold_out)
    return run_training(store, Path(out), run)
