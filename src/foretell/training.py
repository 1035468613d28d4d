"""The verb `train`. In a file of its own, since its settings are those of the loop, which needs torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from tyro.conf import AvoidSubcommands, OmitArgPrefixes, Positional

from foretell import presets
from foretell.data.store import Store
from foretell.errors import ConfigError
from foretell.model.likeness import LikenessConfig
from foretell.model.predictors import RecurrentConfig
from foretell.model.upper import UpperConfig
from foretell.model.world_model import ModelConfig
from foretell.objectives.masked import MaskedConfig
from foretell.objectives.next_latent import NextLatentConfig
from foretell.objectives.next_pixels import NextPixelsConfig
from foretell.objectives.objective import ObjectiveConfig
from foretell.surprise.stream import SurpriseConfig
from foretell.train.loop import TrainConfig
from foretell.train.run import RunConfig, run_training
from foretell.train.settled import SettledConfig
from foretell.verbs import Fit, ingest, is_store
from foretell.worlds.coverage import coverage_of

Preset = Literal["dense", "colour", "pooled", "vit", "act", "scenes", "things"]
ACTING = ("act", "scenes", "things")
"""Presets of models that act."""
SETTLED = {"scenes": 3_000, "things": 20_000}
"""Steps that the predictor learns on alone, unless given; with other presets none."""
SKIP = 5
"""Frames that a step of a model that acts lasts, as in the field (arXiv 2603.19312)."""
Kind = Literal["next_latent", "next_pixels", "masked"]


def train(
    source: Positional[str],
    out: Path,
    *,
    preset: Preset = "dense",
    objective: Kind = "next_latent",
    hold_out: float = 0.2,
    size: str = "64",
    fps: float | None = None,
    fit: Fit = "letterbox",
    smooth: int = 1,
    nearest: int = 4,
    farthest: int = 16,
    context: int = 4,
    expect: bool = False,
    likeness: bool = False,
    skip: int | None = None,
    things: int | None = None,
    settled: int | None = None,
    two_levels: bool = False,
    start_from: Path | None = None,
    config: OmitArgPrefixes[AvoidSubcommands[TrainConfig]],
) -> Path:
    """Train a world model on a clip store, or on a folder of videos (ingested into OUT/store first).

    Args:
        source: A store, local or remote, or a folder of videos.
        out: The model folder to write; a run that was cut short goes on, equal to the bit.
        preset: dense for video; colour where colour matters; pooled for small worlds in full view; vit for a GPU;
            act where somebody acts: a recording of a world with a policy, or videos with NAME.csv beside NAME.mp4; scenes the same,
            where walls lie elsewhere in every clip; things the same, where a few things in flat colours are all there is to see.
        objective: next_latent; or, to compare with it, next_pixels or masked, which have the flags --next, --rollout, --horizon
            and --starts in common with it.
        hold_out: Share of the footage set aside to calibrate; never trained on.
        size: For a folder of videos: pixels, as 64 or as HEIGHTxWIDTH.
        fps: For a folder of videos: steps a second.
        fit: For a folder of videos: letterbox or crop.
        smooth: Steps over which surprise is averaged, an odd number: steadier alarms for crowded scenes, half of it late.
        nearest: Fewest steps ahead at which what was foretold is held against what came. 1, with 1 the most, for what is wrong
            at sight; more for what goes wrong little by little.
        farthest: Most steps ahead.
        context: Steps to be seen before the first of them: what comes unannounced at the start of a clip is not judged.
        expect: Hold errors against those that the model expects of itself: what it knows to be hard alarms less, all else sooner.
        likeness: Also learn how things keep their looks, so that `evaluate physics` asks of what comes out from behind a screen
            whether it went in like that. A finished run gets it by the same command with this flag.
        skip: Frames that a step of a model that acts lasts; 5 unless given. Its actions are blocks of as many.
        things: Preset things: how many there are, 1 to 3, whoever acts among them; 2 unless given.
        settled: Steps that the predictor of a model that acts learns on alone: usually 20,000 for things, 3,000 for scenes, none for act.
        two_levels: A model that acts also learns an upper level, for far goals: long steps, places it has seen, and the ways
            between them. A finished run gets one by the same command with this flag.
        start_from: A model folder, of the same preset, whose weights training begins with; unless given, random ones.
        config: How long and how.
    """
    store = opened(source, Path(out), size, fps, fit)
    if preset in ACTING and store.log is not None:
        print(f"what was recorded:\n{coverage_of(store.log)}")
    model = build(preset, things)
    refuse_what_does_not_go_together(
        preset, skip=skip, things=things, settled=settled, expect=expect, likeness=likeness, two_levels=two_levels
    )
    if preset in ACTING:
        config = presets.act_training(config, within=0.0 if preset == "scenes" else 1.0)
    if objective != "next_latent":
        config = dataclasses.replace(config, objective=of_kind(objective, config.objective))
        model = without_carry(model)
    every = max(1, min(SurpriseConfig.every, farthest - nearest + 1))
    run = RunConfig(
        model=model,
        train=config,
        surprise=SurpriseConfig(
            nearest=nearest, farthest=farthest, every=every, context=context, expect=expect, smooth=smooth
        ),
        skip=skip or SKIP if preset in ACTING else 1,
        settled=settled_config(preset, settled),
        upper=UpperConfig() if two_levels else None,
        likeness=LikenessConfig() if likeness else None,
        hold_out=hold_out,
        start_from=None if start_from is None else str(start_from),
    )
    return run_training(store, Path(out), run)


def opened(source: str, out: Path, size: str, fps: float | None, fit: Fit) -> Store:
    """A store as it is; a folder of videos is ingested first."""
    if is_store(source):
        return Store.open(source)
    print(ingest(Path(source), out / "store", size=size, fps=fps, fit=fit))
    return Store.open(out / "store")


def build(preset: Preset, things: int | None) -> ModelConfig:
    """What a preset builds."""
    if preset == "things":
        return presets.things() if things is None else presets.things(things)
    builds = {"dense": presets.dense, "colour": presets.colour, "pooled": presets.pooled, "vit": presets.vit}
    return (builds | {"act": presets.act, "scenes": presets.scenes})[preset]()


TOKENS = ("dense", "colour", "vit")
"""Presets with a grid of tokens, and a memory at each."""
MEANT_FOR: dict[str, tuple[tuple[str, ...], str]] = {
    "skip": (ACTING, "only a model that acts skips frames; add --preset act, or lower --fps"),
    "things": (("things",), "does not tell things apart; add --preset things, or leave it out"),
    "settled": (ACTING, "only a model that acts learns on so; add --preset act, or leave it out"),
    "two_levels": (ACTING, "only a model that acts has an upper level; add --preset act, or leave it out"),
    "expect": (TOKENS, "has no memory at every token; take dense, colour or vit, or leave it out"),
    "likeness": (TOKENS, "sees one token a frame; take dense, colour or vit, or leave it out"),
}
"""Flags that mean something to some presets only: to which, and what to say to the others."""


def refuse_what_does_not_go_together(preset: Preset, **asked: int | bool | None) -> None:
    """Raise ConfigError for a flag that was set, and means nothing to this preset."""
    for flag, value in asked.items():
        presets_meant, says = MEANT_FOR[flag]
        if value is not None and value is not False and preset not in presets_meant:
            raise ConfigError(f"--{flag.replace('_', '-')}: preset {preset}: {says}")


def settled_config(preset: Preset, steps: int | None) -> SettledConfig | None:
    """How long the predictor learns on alone. Raises ConfigError for less than a step."""
    steps = SETTLED.get(preset) if steps is None else steps
    return None if steps is None else SettledConfig(steps=steps)


def without_carry(model: ModelConfig) -> ModelConfig:
    """The same build without what only next_latent teaches: how the picture moves."""
    predictor = model.predictor
    if isinstance(predictor, RecurrentConfig):
        predictor = dataclasses.replace(predictor, carry=False)
    return dataclasses.replace(model, predictor=predictor)


def of_kind(kind: Kind, given: ObjectiveConfig) -> ObjectiveConfig:
    """Settings of another objective, with those that were changed in the `given` ones. Raises ConfigError where it has none such."""
    chosen = {"next_latent": NextLatentConfig, "next_pixels": NextPixelsConfig, "masked": MaskedConfig}[kind]
    usual = type(given)()
    changed = {k: v for k, v in vars(given).items() if v != getattr(usual, k)}
    unknown = changed.keys() - {field.name for field in dataclasses.fields(chosen)}
    if unknown:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unknown))
        raise ConfigError(f"objective {kind}: has no {flags}: leave that out")
    return chosen(**changed)
