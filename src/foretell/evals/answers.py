"""What one judge said in an exam, kept in a file: a judge that does not depend on the model need not sit twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from foretell.errors import CheckpointError
from foretell.evals.intervals import Figure
from foretell.evals.intuitive_physics import Verdicts
from foretell.model.tensors import load_tensors, save_tensors
from foretell.surprise.calibrate import Calibration


@dataclass(frozen=True, kw_only=True)
class Answers:
    """An alarm line, and verdicts property by property."""

    calibration: Calibration
    """The largest surprise of possible clips that nothing is asked of."""
    verdicts: dict[str, Verdicts]
    """property -> what was said of its quadruplets."""

    def figures(self, alpha: float) -> dict[str, Figure]:
        """ "property/name" -> figure: those of Verdicts.figures."""
        return {
            f"{kind}/{name}": figure
            for kind, verdicts in self.verdicts.items()
            for name, figure in verdicts.figures(self.calibration, alpha).items()
        }

    def save(self, path: Path) -> None:
        """Write one safetensors file. Raises DataError if the disk takes no more."""
        tensors = {"scores": torch.from_numpy(self.calibration.scores.copy())}
        for kind, verdicts in self.verdicts.items():
            tensors[f"{kind}/surprise"] = torch.from_numpy(verdicts.surprise)
            tensors[f"{kind}/shows"] = torch.from_numpy(verdicts.shows)
        line = self.calibration
        facts = {"unit": line.unit, "unit_seconds": line.unit_seconds, "gap_seconds": line.gap_seconds}
        save_tensors(
            path, tensors, {**facts, "left_out": line.left_out, "names": line.names, "kinds": [*self.verdicts]}
        )

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read what `save` wrote. Raises CheckpointError if it is damaged."""
        tensors, facts = load_tensors(path)
        try:
            kinds = facts.pop("kinds")
            facts["names"] = tuple(facts["names"])
            return cls(
                calibration=Calibration(scores=tensors["scores"].numpy(), **facts),
                verdicts={
                    kind: Verdicts(surprise=tensors[f"{kind}/surprise"].numpy(), shows=tensors[f"{kind}/shows"].numpy())
                    for kind in kinds
                },
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: holds no answers ({error}): delete it, and they are asked for again"
            ) from error


def joined(parts: Iterable[Verdicts]) -> Verdicts:
    """Verdicts of one judge on all quadruplets of all parts."""
    parts = list(parts)
    return Verdicts(
        surprise=np.concatenate([part.surprise for part in parts], axis=1),
        shows=np.concatenate([part.shows for part in parts]),
    )


def code() -> str:
    """A checksum of what draws scenes and judges them: another version of it may say something else."""
    package = Path(__file__).parents[1]
    files = sorted(file for folder in ("evals", "model", "worlds") for file in (package / folder).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
