"""The forecaster: what a model says of quantities, with a band that keeps a promise, and "I don't know" as an answer.

Clips with known quantities are dealt out in four parts that share none: one for the heads to learn from, one to set the
scale of their spreads, one to calibrate the band and the bar of strangeness; what is left is nobody's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from foretell.doubt.bands import Band, fit_band, unit_scores
from foretell.errors import CheckpointError, ConfigError
from foretell.model.folder import add_to_sums
from foretell.model.quantities import Mixture, Quantities, QuantitiesConfig
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel
from foretell.surprise.strange import Normal, fit_normal, strangeness
from foretell.train.quantities import Told, fit_quantities, foretell_quantities, stretch_spreads

FILE, BAND = "quantities.safetensors", "band.json"
VERSION = 2
"""Of the tensors in the file."""


@dataclass(frozen=True, kw_only=True)
class ForecasterConfig:
    """How quantities are learned, and when nothing is said of them."""

    steps: int = 900
    """Training steps of each head."""
    level: float = 0.9
    """Share of new clips whose quantities stay inside the band over the whole horizon, at least."""
    strange: float = 0.01
    """Share of normal clips that may be taken for unlike anything seen; of these nothing is said."""
    widest: float = 0.1
    """Share of normal forecasts, at every step ahead those of the widest band, that are not given."""
    parts: tuple[float, float, float] = (0.5, 0.1, 0.4)
    """Shares of clips to learn from, to scale spreads on, and to calibrate on."""
    every: int = 4
    """Steps between the windows of a clip that heads learn from; all other parts take one window of a clip."""
    seed: int = 0
    """Of the heads, and of who belongs to which part."""

    def __post_init__(self) -> None:
        shares = (self.level, self.strange, self.widest, *self.parts)
        if not all(0 < share < 1 for share in shares) or sum(self.parts) > 1 + 1e-9:
            raise ConfigError(
                f"forecaster: got {shares}; expected shares above 0 and below 1, parts of 1 together at most"
            )


class Forecast(NamedTuple):
    """What is said of N clips over H steps, of Q quantities in their own units. Where `abstained`, nothing is claimed."""

    mean: np.ndarray  # (N, H, Q)
    spread: np.ndarray  # (N, H, Q) stated deviation
    low: np.ndarray  # (N, H, Q) band over the whole horizon; -inf where abstained
    high: np.ndarray  # (N, H, Q); inf where abstained
    apart: np.ndarray  # (N, H, Q) deviation between heads, in the same units: what more footage would mend
    abstained: np.ndarray  # (N, H) bool
    strange: np.ndarray  # (N,) p-value: share of normal clips, itself counted, at least as strange
    mixture: Mixture  # (N, H, C), (N, H, C, Q): all that is said, step by step

    def samples(self, count: int, seed: int = 0) -> np.ndarray:
        """`count` futures (count, N, H, Q): each keeps to one component and one side of it from beginning to end.

        Steps by themselves follow the stated mixture; how they hang together is a simplification.
        """
        rng = np.random.default_rng(seed)
        weights, means, stds = (part.double().numpy() for part in self.mixture)
        cumulative = weights[:, 0].cumsum(-1) / weights[:, 0].sum(-1, keepdims=True)  # (N, C) of the first step
        drawn = (rng.random((count, len(weights), 1)) > cumulative).sum(-1).clip(max=weights.shape[-1] - 1)
        side = rng.standard_normal((count, len(weights), 1, means.shape[-1]))
        at = drawn[:, :, None, None, None]
        mean, std = (np.take_along_axis(part[None], at, 3)[:, :, :, 0] for part in (means, stds))
        return mean + side * std


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecaster:
    """Foretells quantities. Made by `fit_forecaster`, or read from a model folder."""

    quantities: Quantities
    """The ensemble on imagined latents."""
    normal: Normal
    """What normal stretches are like."""
    strange: np.ndarray
    """(n,) strangeness of calibration clips, rising."""
    band: Band
    """How many spreads keep the promise."""
    misses: np.ndarray
    """(n,) largest miss of each calibration clip over the horizon, in spreads, rising: what a band that follows begins with."""
    widest: np.ndarray
    """(H,) spread, in deviations of the quantity, above which nothing is said of a step."""
    strange_share: float
    """Share of normal clips that may be taken for strange."""

    def __call__(self, told: Told) -> Forecast:
        """What is said of each window, knowing what was seen of it alone."""
        said = foretell_quantities(self.quantities, told.said)
        with torch.no_grad():
            apart = self.quantities.apart(said).numpy()
        mean, spread = said.mean.double().numpy(), said.variance.sqrt().double().numpy()
        low, high = self.band.interval(mean, spread)
        strange = self.p_value(told)
        doubtful = self.relative(spread) > self.widest
        abstained = doubtful | (strange <= self.strange_share)[:, None]
        nothing = abstained[:, :, None]
        return Forecast(
            mean,
            spread,
            np.where(nothing, -np.inf, low),
            np.where(nothing, np.inf, high),
            apart,
            abstained,
            strange,
            said,
        )

    def relative(self, spread: np.ndarray) -> np.ndarray:
        """Spread (..., Q) -> the largest, in deviations of its quantity (...)."""
        return np.asarray((spread / self.quantities.std.numpy()).max(-1))

    def p_value(self, told: Told) -> np.ndarray:
        """How strange each window is, as a share of normal clips at least so strange, itself counted (N,)."""
        found = self.strangeness(told)
        at_least = len(self.strange) - np.searchsorted(self.strange, found, side="left")
        return np.asarray((1 + at_least) / (len(self.strange) + 1))

    def strangeness(self, told: Told) -> np.ndarray:
        """How unlike normal clips each window is, (N,): about 1 for these."""
        return strangeness(told.seen, told.next, told.pictures, self.normal).double().numpy()

    def save(self, folder: Path) -> None:
        """Write beside the model. Raises DataError if the disk takes no more."""
        tensors = dict(self.quantities.state_dict()) | {f"normal.{k}": v for k, v in self.normal._asdict().items()}
        tensors |= {"strange": torch.from_numpy(self.strange), "misses": torch.from_numpy(self.misses)}
        facts = {
            "version": VERSION,
            "config": asdict(self.quantities.config),
            "widest": self.widest.tolist(),
            "strange_share": self.strange_share,
        }
        save_tensors(folder / FILE, tensors, facts)
        self.band.save(folder / BAND)
        add_to_sums(folder, [FILE])

    @staticmethod
    def load(folder: Path, model: WorldModel) -> Forecaster:
        """Read what `save` wrote for this model. Raises CheckpointError if it is missing or does not fit."""
        if not (folder / FILE).exists():
            raise CheckpointError(
                f"{folder}: foretells no quantities yet: run foretell quantify on clips with known ones"
            )
        tensors, facts = load_tensors(folder / FILE)
        if facts.get("version", 1) != VERSION:
            got = f"version {facts.get('version', 1)}, expected {VERSION}"
            raise CheckpointError(
                f"{folder / FILE}: {got}: heads read latents in another way now: run foretell quantify again"
            )
        try:
            config = QuantitiesConfig(**facts["config"] | {"names": tuple(facts["config"]["names"])})
            normal = Normal(*(tensors.pop(f"normal.{name}") for name in Normal._fields))
            strange, misses = (tensors.pop(name).double().numpy() for name in ("strange", "misses"))
            quantities = Quantities(config, model.config.encoder.latent_width, model.grid)
            quantities.load_state_dict(tensors)
        except (RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / FILE}: does not fit ({error}): run foretell quantify again") from error
        band = Band.load(folder / BAND)
        if len(band.per_horizon) != config.horizon:
            raise CheckpointError(f"{folder / BAND}: of {len(band.per_horizon)} steps, expected {config.horizon}")
        return Forecaster(
            quantities=quantities.eval(),
            normal=normal,
            strange=strange,
            band=band,
            misses=misses,
            widest=np.array(facts["widest"]),
            strange_share=float(facts["strange_share"]),
        )


def fit_forecaster(
    model: WorldModel, learn: Told, scale: Told, calibrate: Told, names: QuantitiesConfig, config: ForecasterConfig
) -> Forecaster:
    """From windows of clips that share none. The model is left alone; a function of its arguments.

    Windows of `calibrate` whose truth is not wholly known are left out. Raises DataError if the truth is not known,
    CalibrationError if the clips are too few for the level.
    """
    quantities = fit_quantities(model, learn, names, steps=config.steps, seed=config.seed)
    stretch_spreads(quantities, scale)
    first = learn.first_of_each
    normal = fit_normal(first.seen, first.next, first.pictures)  # the same kind of window as is judged later
    whole = calibrate.truth.isfinite().flatten(1).all(1)
    said = foretell_quantities(quantities, calibrate.said)
    spread = said.variance.sqrt().double().numpy()
    residuals = (calibrate.truth - said.mean).double().numpy()[whole]
    band = fit_band(residuals, spread[whole], config.level)
    relative = (spread / quantities.std.numpy()).max(-1)
    return Forecaster(
        quantities=quantities,
        normal=normal,
        strange=np.sort(strangeness(calibrate.seen, calibrate.next, calibrate.pictures, normal).double().numpy()),
        band=band,
        misses=np.sort(unit_scores(residuals, spread[whole]).max(1)),
        widest=np.quantile(relative, 1 - config.widest, axis=0),
        strange_share=config.strange,
    )
