"""The verb `evaluate uncertainty`: does a model know what it does not know? On fresh episodes of a world, no two parts sharing one."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import OmitArgPrefixes, Positional

from foretell import log
from foretell.data.clip import Clip, View
from foretell.errors import ConfigError
from foretell.evals.intervals import Figure
from foretell.evals.odd import SPOILT, Frames
from foretell.evals.uncertainty import Said, answer_figures, band_figures, odd_figures, risk_figures, shell_figures
from foretell.evals.watched import watch_figures
from foretell.model.folder import load_model, read_config
from foretell.model.quantities import QuantitiesConfig
from foretell.model.world_model import WorldModel
from foretell.predicting import check_watches
from foretell.serve.uncertainty_page import write_uncertainty_page
from foretell.surprise.panel import load_panel
from foretell.train.forecaster import Forecaster, ForecasterConfig, fit_forecaster
from foretell.train.quantities import Told, imagine_windows
from foretell.verbs import one_thread
from foretell.worlds.buoy import Buoy, law
from foretell.worlds.physics import Physics
from foretell.worlds.world import World

NAMES = ("x", "y")
LEARN, SCALE, CALIBRATE, TEST, ODD = 61_000_000, 62_000_000, 63_000_000, 64_000_000, 65_000_000
"""Seeds of the first episode of each part; those of recordings are hashes of 128 bits."""
APART, SEEDS = 100_000, 9
"""Between the parts of two seeds of the evaluation, and how many seeds have parts that no other part runs into: beyond them what one
is calibrated on would be what another is judged on."""
Spoil = Callable[[Frames, np.random.Generator], Frames]


@dataclass(frozen=True, kw_only=True)
class UncertaintyConfig:
    """How much is asked."""

    learn: int = 3000
    """Episodes for the heads to learn from."""
    scale: int = 500
    """Episodes to set the scale of spreads."""
    calibrate: int = 6000
    """Episodes to calibrate bands, and what is strange."""
    test: int = 4000
    """Fresh episodes."""
    odd: int = 300
    """Episodes of each kind that was never seen in training, and as many to watch."""
    context: int = 8
    """Steps that are seen."""
    horizon: int = 10
    """Steps that are foretold."""
    level: float = 0.9
    """Coverage that is promised."""
    seed: int = 0
    """Of the episodes and the heads."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < SEEDS:
            raise ConfigError(f"evaluate uncertainty: got seed {self.seed}, expected 0 to {SEEDS - 1}")


@dataclass(frozen=True, kw_only=True)
class UncertaintySummary:
    """What was found, as the command line prints it."""

    out: Path
    """The result file; the page lies beside it."""
    figures: Mapping[str, Figure]
    """Of the model."""
    baselines: Mapping[str, Figure]
    """Of other signals."""

    def __str__(self) -> str:
        """A line for each figure."""
        rows = [
            f"{name:<44} {figure['value']:8.4f}  [{figure['low']:.4f}, {figure['high']:.4f}]  n {figure['n']}"
            for name, figure in (*self.figures.items(), *self.baselines.items())
        ]
        return "\n".join([*rows, f"{self.out}, {self.out.with_suffix('.html')}"])


def evaluate_uncertainty(
    model: Positional[Path],
    out: Path = Path("uncertainty.json"),
    *,
    world: Literal["buoy", "physics"] = "buoy",
    config: OmitArgPrefixes[UncertaintyConfig],
) -> UncertaintySummary:
    """Evaluate whether a model knows what it does not know: bands that hold, doubt that points at errors, odd clips noticed.

    Heads learn, spreads are scaled, bands are calibrated and all is judged on fresh episodes of a world, no part sharing one. Writes
    a result file and a page.

    Args:
        model: The folder of a model that was trained on that world.
        out: The result file to write; the page lies beside it.
        world: buoy, a ball in the wind, of which the best possible forecast is known; or physics: thrown balls.
        config: How much is asked.
    """
    one_thread()
    folder, out = Path(model), Path(out)
    network = load_model(folder)
    check_watches(network)
    place = world_for(world, network.config.view)
    kinds = odd_kinds(place)
    parts = Parts(network, place, config)
    learn, scale, calibrate = (
        parts.told(first, count, every)
        for first, count, every in (
            (LEARN, config.learn, ForecasterConfig.every),
            (SCALE, config.scale, None),
            (CALIBRATE, config.calibrate, None),
        )
    )
    began = time.process_time()
    settings = ForecasterConfig(level=config.level, seed=config.seed)
    forecaster = fit_forecaster(network, learn, scale, calibrate, parts.quantities, settings)
    fitting = (time.process_time() - began) / 60
    test = parts.said(forecaster, TEST, config.test)
    odd = {
        kind: parts.said(forecaster, ODD + APART // 2 * number, config.odd, other, spoil)
        for number, (kind, (other, spoil)) in enumerate(kinds.items())
    }
    slices, oracle = parts.slices(TEST, config.test), parts.oracle(TEST, config.test)
    figures = band_figures(test, slices, oracle, config.level) | risk_figures(test, odd) | answer_figures(test)
    noticed, others = odd_figures(test, odd)
    figures |= noticed | {"CPU-minutes of fitting": log.spread([fitting])}
    others |= shell_figures(test, odd)
    figures |= watch_figures(
        load_panel(folder), place, {k: s for k, (_, s) in kinds.items() if s}, ODD - APART, config.odd
    )
    log.write_result(
        out,
        command=shlex.join(["foretell", *sys.argv[1:]]),
        protocol={
            "world": repr(place),
            "odd": {kind: repr(other) if spoil is None else spoil.__name__ for kind, (other, spoil) in kinds.items()},
            "config": dataclasses.asdict(config) | {"forecaster": dataclasses.asdict(settings)},
            "first_seeds": {"learn": LEARN, "scale": SCALE, "calibrate": CALIBRATE, "test": TEST, "odd": ODD},
            "quantities": NAMES,
            "model": read_config(folder)["sha256"],
        },
        seeds=[config.seed],
        metrics=figures,
        baselines=others,
    )
    write_uncertainty_page(out.with_suffix(".html"), test, odd, figures, others, oracle, config.level)
    return UncertaintySummary(out=out, figures=figures, baselines=others)


def world_for(name: Literal["buoy", "physics"], view: View) -> World:
    """The world as a model of that view saw it. Raises ConfigError if it is not shown so."""
    size = view.height
    world = Buoy(size=size) if name == "buoy" else Physics(size=size, scenario="thrown", shapes="ball")
    if (view.width, view.fps) != (size, world.fps):
        got = f"a model of {view.height}x{view.width} at {view.fps:g} steps a second"
        raise ConfigError(f"{name}: got {got}, the world is square and shown at {world.fps} a second")
    return world


def odd_kinds(world: World) -> dict[str, tuple[World, Spoil | None]]:
    """What was never seen in training: spoilt frames of this world, and worlds that differ in one thing."""
    kinds: dict[str, tuple[World, Spoil | None]] = {kind: (world, spoil) for kind, spoil in SPOILT.items()}
    if isinstance(world, Buoy):
        high = world.gusts[1]
        kinds |= {
            "new colour": (dataclasses.replace(world, hues=(0.58, 0.92)), None),
            "new shape": (dataclasses.replace(world, shape="square"), None),
            "new background": (dataclasses.replace(world, sky="striped"), None),
            "new speed": (dataclasses.replace(world, gusts=(2 * high, 2.5 * high)), None),
        }
    elif isinstance(world, Physics):
        kinds |= {
            "new background": (dataclasses.replace(world, texture=0.15), None),
            "camera shake": (dataclasses.replace(world, jitter=1.5), None),
        }
    return kinds


class Parts:
    """Episodes of a world by part, as windows that the model has seen and imagined."""

    def __init__(self, model: WorldModel, world: World, config: UncertaintyConfig) -> None:
        self.model, self.world, self.config = model, world, config
        self.quantities = QuantitiesConfig(names=NAMES, context=config.context, horizon=config.horizon)

    def episodes(self, first: int, count: int, world: World | None = None) -> Iterator[Clip]:
        """Episodes of a part of this evaluation's seed. Raises ConfigError for more than lie between two seeds."""
        if count > APART // 2:
            raise ConfigError(f"evaluate uncertainty: got {count} episodes of a part, expected at most {APART // 2}")
        return ((world or self.world).episode(first + APART * self.config.seed + k) for k in range(count))

    def told(
        self, first: int, count: int, every: int | None = None, world: World | None = None, spoil: Spoil | None = None
    ) -> Told:
        """What the model saw and imagined of them."""

        def clips() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            with log.progress(count, "episodes", "episode") as bar:
                for number, clip in enumerate(self.episodes(first, count, world)):
                    bar.update()
                    frames = clip.frames if spoil is None else spoil(clip.frames, np.random.default_rng(number))
                    yield frames, np.stack([clip.states[name][:, 0] for name in NAMES], 1)

        return imagine_windows(self.model, clips(), self.quantities, every=every)

    def said(
        self, forecaster: Forecaster, first: int, count: int, world: World | None = None, spoil: Spoil | None = None
    ) -> Said:
        """What the forecaster says of them, beside what came. Episodes whose truth is not wholly known are left out."""
        told = self.told(first, count, None, world, spoil)
        told = told.where(told.truth.isfinite().flatten(1).all(1))
        found = forecaster(told)
        mean, spread = found.mean, found.spread
        return Said(
            truth=told.truth.double().numpy(),
            mean=mean,
            spread=spread,
            apart=found.apart,
            each=forecaster.band.interval(mean, spread, whole_horizon=False),
            joint=forecaster.band.interval(mean, spread),
            pit=found.mixture.cdf(told.truth).double().numpy(),
            abstained=found.abstained,
            strange=forecaster.strangeness(told),
            shell=told.shell,
        )

    def slices(self, first: int, count: int) -> np.ndarray:
        """A label for each episode: how fast it was when it was last seen, in thirds, and how windy, where there is wind."""
        at = self.config.context - 1
        rows = [
            [np.hypot(clip.states["vx"][at, 0], clip.states["vy"][at, 0]), clip.states.get("gust", np.zeros((at + 1, 1)))[at, 0]]
            for clip in self.episodes(first, count)
        ]  # fmt: skip
        speed, gust = np.array(rows).T
        words = [np.array(["slow", "brisk", "fast"])[_thirds(speed)]]
        if isinstance(self.world, Buoy):
            words.append(np.array(["calm", "fresh", "windy"])[_thirds(gust)])
        return np.array([", ".join(label) for label in zip(*words, strict=True)])

    def oracle(self, first: int, count: int) -> np.ndarray | None:
        """Deviation of what comes for who knows the law and the true state, (N, H, Q); None where no law is known."""
        if not isinstance(self.world, Buoy):
            return None
        config = self.config
        return np.stack([law(clip, config.context - 1, config.horizon).std for clip in self.episodes(first, count)])


def _thirds(values: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
