"""What a model makes of the lab films: where marked things will be, and what is read of mass, spring and incline.

Of bench/physics_lab.py. Probes are fitted on other films than the one they read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from lab_films import AHEAD, LABELS, RULES, VIEW, Film, Moment, letterbox, moments, shown_frames
from torch import Tensor

from foretell.data.readers import Source, read
from foretell.evals.probe import ridge_fit
from foretell.model.world_model import WorldModel

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
PLACE_PENALTY = 0.01
"""That of evals/thrown.py."""

Row = tuple[Tensor, Tensor]
"""What a probe is fitted on, or asked about, of one film: features (N, F) and truth (N, K)."""


class Sight(NamedTuple):
    """What a model makes of a film of T steps."""

    latents: Tensor  # (T, P, D)
    memories: Tensor  # (T, P, M)
    ahead: Tensor  # (T, AHEAD, P, D), foretold at each step of those that follow


Errors = dict[str, np.ndarray]
"""Film -> distances from the truth (moments, AHEAD), in pixels of its video."""
Reads = dict[str, np.ndarray]
"""Label -> (films, 4): truth; read by a probe fitted on the other films, and on those of other settings; from one frame."""
ModelOf = Callable[[Film], WorldModel]
"""The model that has not trained on a film."""


class Judge:
    """The films that every model is judged on, decoded once."""

    def __init__(self, films: Iterable[Film]) -> None:
        self.films = [film for film in films if film.labels or film.is_forecast]
        self.frames, self.moments = {}, {}
        for film in self.films:
            chunks = list(read(Source(path=film.path, name=film.name, kind="video"), VIEW))
            self.frames[film.name] = np.concatenate([chunk.frames for chunk in chunks])
            shown = shown_frames(np.concatenate([c.seconds for c in chunks]), len(self.frames[film.name]), VIEW.fps)
            tracks = film.tracks if film.is_forecast else {}
            self.moments[film.name] = {k: moments(marks, shown, film.seconds) for k, marks in tracks.items()}
        self.tracked = [film for film in self.films if film.is_forecast]

    def __call__(self, model_of: ModelOf) -> tuple[dict[str, Errors], Reads]:
        """Errors by way of reading and film, and what is read of each label."""
        errors: dict[str, Errors] = {"moved": {}, "placed": {}, "placed_seen": {}}
        read_off: dict[str, dict[str, list[float]]] = {label: {} for label in LABELS}
        for model, films in by_model(model_of, self.films):
            sights = {film.name: look(model, self.frames[film.name]) for film in self.films}
            for film in films:
                if film.is_forecast:
                    placed, placed_seen = self._placed(sights, film)
                    of_film = {"moved": self._moved(sights, film), "placed": placed, "placed_seen": placed_seen}
                    for name, wrong in of_film.items():
                        errors[name][film.name] = wrong
                for label in film.labels:
                    read_off[label][film.name] = self._read_off(sights, film, label)
        reads = {label: np.array([of[film.name] for film in self._with(label)]) for label, of in read_off.items()}
        return errors, reads

    def rules(self) -> dict[str, Errors]:
        """Errors of what goes on from the marks."""
        return {
            name: {
                film.name: np.stack([distance(rule(m.past, m.then[:, 0]), m) for m in self.moments_of(film)])
                for film in self.tracked
            }
            for name, rule in RULES.items()
        }

    def means(self) -> Reads:
        """As the labels are read, but what is said is the mean of the films that a probe is fitted on."""
        found = {}
        for label in LABELS:
            films = self._with(label)
            truth = np.array([film.labels[label] for film in films])
            said = [[truth[keep].mean() for keep in others(films, film)] for film in films]
            found[label] = np.column_stack([truth, said, np.array(said)[:, 0]])
        return found

    def moments_of(self, film: Film) -> list[Moment]:
        """Of all marked things of a film, one after another."""
        return [moment for of_track in self.moments[film.name].values() for moment in of_track]

    def _with(self, label: str) -> list[Film]:
        return [film for film in self.films if label in film.labels]

    def _moved(self, sights: dict[str, Sight], film: Film) -> np.ndarray:
        """Errors (moments, AHEAD) of the last mark moved by what probes say, one probe for each step ahead."""
        scale, said = letterbox(film.size, VIEW)[0], []
        for ahead in range(AHEAD):
            rows = [self._moves(sights, other, ahead) for other in self.tracked if other is not film]
            said.append(fitted(rows, self._moves(sights, film, ahead)[0]) / scale)
        moved = np.stack(said, 1)
        return np.stack([distance(m.past[-1, 1:] + by, m) for by, m in zip(moved, self.moments_of(film), strict=True)])

    def _placed(self, sights: dict[str, Sight], film: Film) -> list[np.ndarray]:
        """Errors (moments, AHEAD) of the first object's place as a probe reads it from foretold latents; from those that came."""
        scale, corner = letterbox(film.size, VIEW)
        rows = [self._places(sights, other) for other in self.tracked if other is not film]
        probe = ridge_fit(*map(torch.cat, zip(*rows, strict=True)), penalty=PLACE_PENALTY)
        sight, own = sights[film.name], first_of(self.moments[film.name])
        errors = []
        for latents in ([sight.ahead[m.step] for m in own], [sight.latents[m.step + 1 :][:AHEAD] for m in own]):
            places = [(probe.read(one.flatten(1)).numpy() - corner) / scale for one in latents]
            errors.append(np.stack([distance(said, m) for said, m in zip(places, own, strict=True)]))
        return errors

    def _moves(self, sights: dict[str, Sight], film: Film, ahead: int) -> Row:
        """Around each last mark what the latents are said to become, and the memory; how far the mark moves in the view."""
        sight, (scale, corner) = sights[film.name], letterbox(film.size, VIEW)
        features, truth = [], []
        for m in self.moments_of(film):
            change = torch.cat([sight.ahead[m.step, ahead] - sight.latents[m.step], sight.memories[m.step]], -1)
            features.append(around(change, m.past[-1, 1:] * scale + corner))
            truth.append((m.then[ahead, 1:] - m.past[-1, 1:]) * scale)
        return torch.stack(features), torch.from_numpy(np.array(truth))

    def _places(self, sights: dict[str, Sight], film: Film) -> Row:
        """All latents of the steps ahead of moments, seen and foretold; the place of the first object in the view."""
        sight, (scale, corner) = sights[film.name], letterbox(film.size, VIEW)
        features, truth = [], []
        for m in first_of(self.moments[film.name]):
            for h in range(AHEAD):
                features += [sight.latents[m.step + h + 1].flatten(), sight.ahead[m.step, h].flatten()]
                truth += [m.then[h, 1:] * scale + corner] * 2
        return torch.stack(features), torch.from_numpy(np.array(truth))

    def _read_off(self, sights: dict[str, Sight], film: Film, label: str) -> list[float]:
        """A row of Reads. All films are cut to the shortest: how long they are would tell of the label."""
        films = self._with(label)
        steps = min(len(self.frames[one.name]) for one in films)
        all_others, other_settings = others(films, film)

        def said(keep: np.ndarray, steps: int) -> float:
            rows = [
                (pooled(sights[films[n].name], steps), torch.tensor([[films[n].labels[label]]]))
                for n in np.flatnonzero(keep)
            ]
            return float(fitted(rows, pooled(sights[film.name], steps))[0, 0])

        return [film.labels[label], said(all_others, steps), said(other_settings, steps), said(all_others, 1)]


def by_model(model_of: ModelOf, films: Sequence[Film]) -> list[tuple[WorldModel, list[Film]]]:
    """Each model with the films that it judges."""
    found: dict[int, tuple[WorldModel, list[Film]]] = {}
    for film in films:
        found.setdefault(id(model_of(film)), (model_of(film), []))[1].append(film)
    return list(found.values())


def others(films: Sequence[Film], film: Film) -> list[np.ndarray]:
    """Which of `films` a probe may be fitted on that reads `film`: all others; those of other settings."""
    return [
        np.array([other is not film for other in films]),
        np.array([other.group != film.group for other in films]),
    ]


@torch.no_grad()
def look(model: WorldModel, frames: np.ndarray) -> Sight:
    """What `model` makes of frames uint8 (T, H, W, 3), at each step knowing those up to it."""
    latents = model.encode(rearrange(torch.from_numpy(frames), "t h w c -> 1 t c h w"))
    foretold, steps = model.predict(latents), list(range(len(frames)))
    memories = model.predictor.memory_after(foretold.memories, steps)[0].flatten(2)
    return Sight(latents[0], memories, model.rollouts(foretold, steps, AHEAD)[0])


def around(tokens: Tensor, place: np.ndarray) -> Tensor:
    """The 3x3 tokens around a place (x, y) of the view, of all (P, D): (9 D,); beyond the edge those at the edge."""
    rows, columns = VIEW.height // 8, VIEW.width // 8
    near = np.arange(-1, 2)
    row = np.clip(np.clip(place[1] // 8, 0, rows - 1).astype(int) + near, 0, rows - 1)
    column = np.clip(np.clip(place[0] // 8, 0, columns - 1).astype(int) + near, 0, columns - 1)
    return tokens[(row[:, None] * columns + column).ravel()].flatten()


def pooled(sight: Sight, steps: int) -> Tensor:
    """Of latents and memory of the first steps, over tokens, the mean, and the mean deviation in time: (1, 2 (D + M)).

    Of one step, the mean of its latents alone: (1, D).
    """
    if steps == 1:
        return sight.latents[0].mean(0, keepdim=True)
    both = torch.cat([sight.latents, sight.memories], -1)[:steps]
    return torch.cat([both.mean((0, 1)), both.std(0).mean(0)])[None]


def fitted(films: Sequence[Row], asked: Tensor) -> np.ndarray:
    """What a ridge probe of the features in their own deviations says of `asked` (N, F): (N, K).

    Its penalty is the one of PENALTIES that reads each of `films` best when fitted on the rest of them.
    """
    together = torch.cat([x for x, _ in films])
    centre, deviation = together.mean(0), together.std(0).clamp_min(1e-6)
    rows = [((x - centre) / deviation, y) for x, y in films]

    def said(of: Sequence[Row], about: Tensor, penalty: float) -> Tensor:
        return ridge_fit(torch.cat([x for x, _ in of]), torch.cat([y for _, y in of]), penalty=penalty).read(about)

    def error(penalty: float) -> float:
        wrong = [
            (said([*rows[:n], *rows[n + 1 :]], x, penalty) - y).norm(dim=1).mean() for n, (x, y) in enumerate(rows)
        ]
        return float(torch.stack(wrong).mean())

    return said(rows, (asked - centre) / deviation, min(PENALTIES, key=error)).numpy()


def first_of(moments: dict[str, list[Moment]]) -> list[Moment]:
    """Those of the object that was marked first."""
    return next(iter(moments.values()))


def distance(places: np.ndarray, moment: Moment) -> np.ndarray:
    """How far each of (AHEAD, 2) is from the truth."""
    return np.linalg.norm(places - moment.then[:, 1:], axis=-1)
