"""The model card, card.html: what a model is, what it saw, how well it foretells, and how far to trust it.

One page that opens anywhere, without network or script. It says nothing that is not in the model folder.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import torch
from markupsafe import Markup

from foretell.errors import CheckpointError
from foretell.log import finite, read_metrics, write_whole
from foretell.model.folder import config_from_json, read_config
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.collapse import HORIZONS
from foretell.surprise.calibrate import Calibration, units_needed
from foretell.surprise.panel import CALIBRATIONS, MODEL
from foretell.train.curves import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Points, draw
from foretell.train.meanings import foresight, measured, monitors_of, raised_alarms

ALPHA = 0.05
"""The promise that the card spells out."""
HEADLINE_STEPS = 4
"""How far ahead the page's first sentence looks, as do the alarms."""
NAMES_SHOWN = 500
"""Held-out clips that are named; the rest are in config.json."""
TERMS = {term: term for term in ("next", "rollout", "within", "carry", "inverse", "masked")}
TERMS |= {"sigreg": "isotropy", "vcreg": "isotropy"}
"""Terms of the loss -> the setting that weighs them."""


def write_card(folder: Path) -> Path:
    """Write `folder/card.html` from its config.json, metrics.jsonl and calibration.json (if there is one).

    Returns the card's path. Raises CheckpointError if one of these is damaged, DataError if the disk takes no more.
    """
    facts, diary = read_config(folder), read_metrics(folder / "metrics.jsonl")
    if not diary:
        raise CheckpointError(f"{folder / 'metrics.jsonl'}: holds no step: bring it back, or train again")
    calibrated = folder / CALIBRATIONS[MODEL]
    calibration = Calibration.load(calibrated) if calibrated.exists() else None
    page = render(folder.resolve().name, facts, diary, calibration)
    readable = page.encode("utf-8", "backslashreplace").decode()  # a file name may not be valid text
    write_whole(folder / "card.html", readable)
    return folder / "card.html"


def render(name: str, facts: dict[str, Any], diary: list[dict[str, Any]], calibration: Calibration | None) -> str:
    """The page of the model folder `name` as text."""
    config = config_from_json(facts["model"])
    acts = config.actions
    calibrated = "alarm line" if acts is None else "margins and the gate of guardrails"
    looks = [line for line in diary if "rank" in line]
    chosen = facts["chosen"]
    errors = foresight(chosen)
    alarms = raised_alarms(looks, chosen["step"])
    model = _model(config)
    learned = model["parameters"]["encoder"] > 0
    return (
        _templates()
        .get_template("card.html")
        .render(
            name=name,
            command=shlex.quote(name + "/"),
            facts=facts,
            view=config.view,
            acts=acts,
            step_seconds=(1 if acts is None else acts.skip) / config.view.fps,
            model=model,
            training=_training(facts, diary),
            parts=_parts(facts["split"], config.view.fps, calibrated),
            errors=errors,
            headline=_headline(errors),
            monitors=[
                (monitor, measured(chosen, monitor.key))
                for monitor in monitors_of(config.encoder.latent_width, acting=acts is not None, learned=learned)
            ],
            chosen=chosen,
            rank=measured(chosen, "rank"),
            looks=looks,
            alarms=alarms,
            standing=[alarm for alarm in alarms if alarm.stands],
            charts=_charts(facts, diary, looks, config.encoder.latent_width),
            sheet={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP},
            promise=_promise(calibration) if calibration else None,
            alpha=ALPHA,
            context=facts["run"]["surprise"]["context"],
            protocol=json.dumps(finite({k: v for k, v in facts.items() if k != "split"}), indent=2, ensure_ascii=False),
            names_shown=NAMES_SHOWN,
        )
    )


def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("foretell.train", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "count": count, "duration": duration}
    environment.globals["css"] = Markup(loader.get_source(environment, "card.css")[0])  # our own text, not the user's
    return environment


def _model(config: ModelConfig) -> dict[str, Any]:
    """Its build and size. Weights are counted without making any."""
    with torch.device("meta"):
        model = WorldModel(config)
    of = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in ("encoder", "predictor")}
    return {
        "encoder": type(config.encoder).__name__.removesuffix("Config"),
        "predictor": type(config.predictor).__name__.removesuffix("Config"),
        "parameters": of,
        "grid": model.grid,
        "width": config.encoder.latent_width,
    }


def _training(facts: dict[str, Any], diary: list[dict[str, Any]]) -> dict[str, Any]:
    settings, steps = facts["run"]["train"], diary[-1]["step"]
    speed = measured(diary[-1], "frames_per_second")
    frames = steps * settings["batch"] * settings["window"]
    settled = (facts["run"].get("settled") or {}).get("steps")
    return settings | {"steps": steps, "speed": speed, "seconds": frames / speed if speed else None, "settled": settled}


def _parts(split: dict[str, list[dict[str, Any]]], fps: float, calibrated: str) -> list[dict[str, Any]]:
    """The parts of the footage: how much, for what, and by name where it was held out."""
    purposes = {
        "train": "to learn from",
        "development": "held out: to watch training, choose the checkpoint and learn the usual size of errors",
        "calibration": f"held out: to set the {calibrated}",
    }
    return [
        {
            "name": part,
            "purpose": purpose,
            "stretches": len(split[part]),
            "seconds": sum(stretch["length"] for stretch in split[part]) / fps,
            "names": [] if part == "train" else list(Counter(stretch["name"] for stretch in split[part]).items()),
        }
        for part, purpose in purposes.items()
    ]


def _headline(errors: list[Any]) -> Any:
    """The errors that the first sentence tells: HEADLINE_STEPS ahead, or as far as is known; None if nothing is."""
    known = [error for error in errors if error.model is not None and error.steps <= HEADLINE_STEPS]
    return known[-1] if known else None


def _promise(calibration: Calibration) -> dict[str, Any]:
    """What can be promised with these units, and at ALPHA if they are enough."""
    units, needed = len(calibration.scores), units_needed(ALPHA)
    enough = units >= needed
    return {
        "units": units,
        "unit": calibration.unit,
        "unit_seconds": calibration.unit_seconds,
        "gap_seconds": calibration.gap_seconds,
        "left_out": calibration.left_out,
        "names": calibration.names,
        "smallest_alpha": 1 / (units + 1),
        "needed": needed,
        "alpha": ALPHA if enough else math.ceil(1000 / (units + 1)) / 1000,
        "line": calibration.threshold(ALPHA) if enough else None,
        "per_hour": calibration.false_alarms_per_hour(ALPHA),
        # Given the units, the true rate is Beta distributed about alpha with this deviation (science: arXiv 2107.07511, 3.2).
        "give_or_take": math.sqrt(ALPHA * (1 - ALPHA) / (units + 2)),
    }


def _charts(facts: dict[str, Any], diary: list[dict[str, Any]], looks: list[dict[str, Any]], width: int) -> list[Chart]:
    """All curves that have something to show."""
    mark = facts["chosen"]["step"]

    def over(lines: list[dict[str, Any]], key: str, weight: float = 1.0) -> Points:
        values = [(line["step"], measured(line, key)) for line in lines if key in line]
        return [(step, None if value is None else weight * value) for step, value in values]

    def ahead(kind: str) -> dict[str, Points]:
        found = {f"{h} step{'s' if h > 1 else ''} ahead": over(looks, f"error_over_{kind}_{h}") for h in HORIZONS}
        return {name: points for name, points in found.items() if points}

    weights = facts["run"]["train"]["objective"]
    # what a model folder of before does not name weighed 1, as it does now
    terms = {term: over(diary, term, weights.get(weight, 1.0)) for term, weight in TERMS.items() if term in diary[-1]}
    deviations = {"middle": "std_median", "least": "std_min", "largest": "std_max", "inside clips": "std_within"}
    drawn = [
        draw("Error over copy", "Below 1 it foretells better than repeating the last latent.", ahead("copy"),
             guides={"copy": 1.0}, mark=mark, log=True),
        draw("Error over straight line", "Below 1 it foretells better than going on in a straight line.", ahead("linear"),
             guides={"straight line": 1.0}, mark=mark, log=True),
        draw("Effective rank", f"Dimensions of {width} in use.",
             {"in use": over(looks, "rank"), "that matter": over(looks, "rank_of_variance")},
             guides={f"all {width}": float(width), "alarm below": 0.25 * width}, mark=mark, log=False),
        draw("Deviation of latents", "All but that inside clips should stay between the dashed lines.",
             {name: over(looks, key) for name, key in deviations.items()},
             guides={"healthy below": 1.5, "healthy above": 0.8}, mark=mark, log=False),
        draw("Distance from a Gaussian", "SIGReg on held-out clips, against true Gaussians.",
             {"held out": over(looks, "sigreg_over_gaussian")}, guides={"Gaussian": 1.0}, mark=mark, log=True),
        draw("Loss", "Its terms, each times its weight. A falling loss alone proves nothing.",
             {"all": over(diary, "loss"), **terms}, guides={}, mark=None, log=True),
    ]  # fmt: skip
    return [chart for chart in drawn if chart]


def number(value: float | None) -> str:
    """Three digits; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def count(things: int) -> str:
    """A large count in three digits: 950, 598 k, 1.2 M."""
    for size, unit in ((10**6, "M"), (1000, "k")):
        if things >= size:
            return f"{things / size:.3g} {unit}"
    return str(things)


def duration(seconds: float) -> str:
    """A length of time as one would say it: 8 s, 7.5 min, 3.2 h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
