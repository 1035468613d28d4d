"""Branching futures: a road forks, and a sign shows the odds. Are both ways foretold, and with the right chances?

    python bench/branches.py --work WORK [--seeds 0 1 2] [--steps 900]

Trains a model on recordings of `foretell record chance` (forks), and its branches on its frozen latents; then judges fresh
episodes, seen up to the eighth frame, before any fork, ten frames after the fork. Places are read by a ridge probe of each
token's neighbourhood, fitted on episodes that nothing else is judged on. Beside it: the model's one future, that future with
isotropic noise of the errors' size, the branches with a prior that knows nothing, and codes that are permuted among episodes.
A model that WORK already holds is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from result import write_result
from torch import Tensor

import foretell
from foretell import presets
from foretell.data.clip import Clip
from foretell.data.store import Store
from foretell.evals.forecast import as_frames
from foretell.evals.intervals import Figure
from foretell.evals.place import LocalFit
from foretell.evals.reliability import brier
from foretell.evals.thrown import FRAME, places_of
from foretell.log import Samples
from foretell.model.branches import Branches, BranchesConfig, load_branches, past_of
from foretell.model.folder import load_model, read_config
from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import NextLatentConfig
from foretell.train.branches import BranchesTraining, bits_used, learn_branches, rollout_errors
from foretell.train.run import RunConfig, run_training
from foretell.worlds.chance import Chance
from foretell.worlds.record import record

SEEN, AFTER = 8, 10
"""Frames that are seen, all before the fork; and frames after it at which a way is judged."""
SAMPLES, FEW = 20, 5
TRAIN_SEED, PROBE_FROM, TEST_FROM = 401, 7_100_000, 9_700_000
HOLD_OUT = 0.1
AT_ONCE = 32
BARS = {
    "mode_coverage_at_20": "at least 0.95",
    "ece": "at most 0.05",
    "bits_beyond_truth": "at most 0.2 either way",
    "best_of_5_over_one_future": "at most 0.5",
}


class Told(NamedTuple):
    """What is foretold of N episodes, and what is true of them. Places are in pixels of a 64 px frame, at the judged moment."""

    ways: np.ndarray  # (N, K, 2) where each code leads
    chances: np.ndarray  # (N, K) of each code
    one: np.ndarray  # (N, 2) where the model's one future leads
    read: np.ndarray  # (N, 2) as the probe reads it from the frame that came: its floor
    bits: np.ndarray  # (N,) that what came told beyond the prior
    errors: np.ndarray  # (N, K) of each code's latents, mean over the rollout
    answer: np.ndarray  # (N,) the code that answers for what came
    truth: np.ndarray  # (N, 2)
    other: np.ndarray  # (N, 2) had it gone the other way
    up: np.ndarray  # (N,) whether it went up
    odds: np.ndarray  # (N,) the simulator's chance of that
    radius: np.ndarray  # (N,)


class Found(NamedTuple):
    """What is foretold of one episode."""

    came: Tensor  # (T, P, D) latents of its frames
    ways: Tensor  # (K, H, P, D)
    one: Tensor  # (H, P, D)
    chances: Tensor  # (K,) logarithms
    evidence: Tensor  # (K,)
    errors: Tensor  # (K,)


def main() -> None:
    """Train each seed, judge it, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--episodes", type=int, default=3000, help="to train on")
    parser.add_argument("--probe-episodes", type=int, default=300, help="to fit the probe on")
    parser.add_argument("--test-episodes", type=int, default=600)
    parser.add_argument("--test-from", type=int, default=TEST_FROM, help="first seed of those; another to develop on")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "branches.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    probe_clips = [Chance().episode(PROBE_FROM + k) for k in range(arguments.probe_episodes)]
    test_clips = [Chance().episode(arguments.test_from + k) for k in range(arguments.test_episodes)]
    told, minutes = [], []
    for seed in arguments.seeds:
        model, branches, spent = trained(arguments, seed)
        minutes.append(spent)
        told.append(judge(model, branches, probe_clips, test_clips))
        print(seed, spent, {name: round(value, 3) for name, value in figures(told[-1]).items()}, flush=True)

    whole = over_clips(told)
    own = {name: figure for name, figure in whole.items() if not name.startswith("beside/")}
    each: dict[str, Samples] = {f"seeds/{name}": [figures(one)[name] for one in told] for name in own}
    spent_on = {f"cpu_minutes/{what}": [one[what] for one in minutes] for what in minutes[0]}
    write_result(
        arguments.out,
        protocol=protocol(arguments),
        seeds=arguments.seeds,
        metrics=own | each | spent_on,
        baselines={name.removeprefix("beside/"): figure for name, figure in whole.items() if name not in own},
    )


def trained(arguments: argparse.Namespace, seed: int) -> tuple[WorldModel, Branches, dict[str, float]]:
    """One seed's model and branches, and the CPU-minutes that each took."""
    out = arguments.work / f"model{seed}"
    minutes = {"model": trained_model(arguments, seed)}
    note = arguments.work / f"branches{seed}.json"
    if not note.exists():
        began = time.process_time()
        learn_branches(out, seed=seed)
        note.write_text(json.dumps((time.process_time() - began) / 60))
    minutes["branches"] = json.loads(note.read_text())
    model = load_model(out)
    return model, load_branches(out, model), minutes


def trained_model(arguments: argparse.Namespace, seed: int) -> float:
    """Record, ingest and train one seed's model, unless it is there; the CPU-minutes that training took."""
    note = arguments.work / f"model{seed}.json"
    if not note.exists():
        record(Chance(), arguments.work / "videos", episodes=arguments.episodes, seed=TRAIN_SEED)
        foretell.ingest(arguments.work / "videos", arguments.work / "store", workers=1)
        began = time.process_time()
        run_training(Store.open(arguments.work / "store"), arguments.work / f"model{seed}", run_config(arguments, seed))
        note.write_text(json.dumps((time.process_time() - began) / 60))
    return float(json.loads(note.read_text()))


def trained_steps(folder: Path) -> int:
    """Steps that a model was trained, which one that was there already may have been otherwise."""
    return int(read_config(folder)["run"]["train"]["steps"])


def run_config(arguments: argparse.Namespace, seed: int) -> RunConfig:
    """The dense model; its encoder rests for the last third."""
    objective = NextLatentConfig(horizon=8, settle=0.33)
    train = foretell.TrainConfig(steps=arguments.steps, seed=seed, objective=objective)
    return RunConfig(model=presets.dense(), train=train, hold_out=HOLD_OUT)


@torch.no_grad()
def judge(model: WorldModel, branches: Branches, probe_clips: list[Clip], test_clips: list[Clip]) -> Told:
    """What is foretold of the test clips, read by a probe that is fitted on the others."""
    horizon = branches.config.horizon
    fit = LocalFit(model.grid, FRAME / model.grid[1])
    for number, (clip, found) in enumerate(zip(probe_clips, foretold(model, branches, probe_clips), strict=True)):
        places = torch.from_numpy(places_of(clip, SEEN + horizon))
        answering = found.ways[int((found.chances + found.evidence).argmax())]
        latents = torch.cat([found.came[: SEEN + horizon], answering])
        fit.add(latents[number % 4 :: 4], torch.cat([places, places[SEEN:]])[number % 4 :: 4])
    probe = fit.solve().read

    rows = []
    for clip, found in zip(test_clips, foretold(model, branches, test_clips), strict=True):
        frame = int(clip.states["fork_frame"][0]) + AFTER - 1
        states, step = {name: values[frame] for name, values in clip.states.items()}, frame - SEEN
        rows.append(
            Told(
                ways=probe(found.ways[:, step]).numpy(),
                chances=found.chances.exp().numpy(),
                one=probe(found.one[step]).numpy(),
                read=probe(found.came[frame]).numpy(),
                bits=bits_used(found.chances, found.evidence).numpy(),
                errors=found.errors.numpy(),
                answer=(found.chances + found.evidence).argmax().numpy(),
                truth=np.array([states["x"][0], states["y"][0]]),
                other=np.array([states["other_x"][0], states["other_y"][0]]),
                up=states["branch"] == 1,
                odds=states["chance_up"],
                radius=states["radius"][0],
            )
        )
    return Told(*(np.array(column) for column in zip(*rows, strict=True)))


@torch.no_grad()
def foretold(model: WorldModel, branches: Branches, clips: list[Clip]) -> Iterator[Found]:
    """What is foretold of each clip after its first frames."""
    horizon = branches.config.horizon
    for at in range(0, len(clips), AT_ONCE):
        frames = as_frames(clips[at : at + AT_ONCE])
        seen = model.encode(frames[:, :SEEN])  # alone, so that nothing of what follows can be in it
        came = model.encode(frames[:, SEEN:])
        past = past_of(model, seen)
        ways, one = branches.rollouts(past, horizon), model.rollout(seen, horizon)
        errors = rollout_errors(ways, seen, came[:, :horizon])
        parts = (branches.chances(past), branches.evidence(errors), errors.mean(-1))
        yield from map(Found, torch.cat([seen, came], 1), ways, one, *parts)


def away(places: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distances (N, ...) of places (N, ..., 2) from true ones (N, 2)."""
    return np.linalg.norm(places - truth.reshape(len(truth), *(1,) * (places.ndim - 2), 2), axis=-1)


def coverage(told: Told, ways: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Expected share of the two ways, (N,), that at least one of 20 draws hits, within a radius of the ball."""
    hits = [(chances * (away(ways, place) <= told.radius[:, None])).sum(1) for place in (told.truth, told.other)]
    return np.mean([1 - (1 - hit.clip(0, 1)) ** SAMPLES for hit in hits], 0)


def best_of(told: Told, ways: np.ndarray, chances: np.ndarray, draws: int) -> np.ndarray:
    """Expected least distance from where it truly went, (N,), of so many draws."""
    far = away(ways, told.truth)
    order = far.argsort(1)
    far, chance = np.take_along_axis(far, order, 1), np.take_along_axis(chances, order, 1)
    left = 1 - np.concatenate([np.zeros((len(far), 1)), chance.cumsum(1)], 1).clip(0, 1)  # that a draw is farther still
    left[:, -1] = 0
    return (far * (left[:, :-1] ** draws - left[:, 1:] ** draws)).sum(1)


def chance_up(told: Told, chances: np.ndarray) -> np.ndarray:
    """Of all codes that lead nearer to where the road goes up than to where it goes down, (N,)."""
    true = away(told.ways, told.truth) < away(told.ways, told.other)
    return (chances * np.where(told.up[:, None], true, ~true)).sum(1).clip(0, 1)


def ece(said: np.ndarray, truth: np.ndarray) -> float:
    """Mean gap in ten bins of what was said (N,), weighed by their episodes, to known chances or outcomes (N,)."""
    bins = np.minimum((10 * said).astype(int), 9)
    return float(sum(abs((said - truth)[bins == one].sum()) for one in range(10)) / len(said))


def brier_up(said: np.ndarray, up: np.ndarray) -> float:
    """Brier's score of going up alone, half of that over both ways: chances (N,), and whether it came (N,)."""
    return brier(np.stack([1 - said, said], 1), up.astype(int)) / 2


def entropy(chance: np.ndarray) -> np.ndarray:
    """Bits of a choice between two."""
    chance = chance.clip(1e-9, 1 - 1e-9)
    return -(chance * np.log2(chance) + (1 - chance) * np.log2(1 - chance))


def figures(told: Told) -> dict[str, float]:
    """All figures of one model on these episodes; "beside/" those of what it is held against."""
    even = np.full_like(told.chances, 1 / told.chances.shape[1])
    said, far = chance_up(told, told.chances), away(told.one, told.truth).mean()
    noise = np.random.default_rng(0).standard_normal((len(told.one), 400, 2))
    noisy = told.one[:, None] + noise * np.sqrt(np.mean((told.one - told.truth) ** 2))
    alike = np.full(noisy.shape[:2], 1 / noisy.shape[1])
    answered = np.take_along_axis(told.errors, told.answer[:, None], 1).mean()
    permuted = np.take_along_axis(told.errors, np.roll(told.answer, 1)[:, None], 1).mean()
    return {
        "mode_coverage_at_20": coverage(told, told.ways, told.chances).mean(),
        "ece": ece(said, told.odds),
        "ece_of_outcomes": ece(said, told.up),
        "brier": brier_up(said, told.up),
        "chance_off": np.abs(said - told.odds).mean(),
        "bits": told.bits.mean(),
        "bits_beyond_truth": told.bits.mean() - entropy(told.odds).mean(),
        "best_of_5_over_one_future": best_of(told, told.ways, told.chances, FEW).mean() / far,
        "best_of_5": best_of(told, told.ways, told.chances, FEW).mean(),
        "nearest_code": away(told.ways, told.truth).min(1).mean(),
        "nearest_code_other_way": away(told.ways, told.other).min(1).mean(),
        "error_of_permuted_codes_over_answering": permuted / answered,
        "beside/truth/bits": entropy(told.odds).mean(),
        "beside/truth/brier": brier_up(told.odds, told.up),
        "beside/truth/ece_of_outcomes": ece(told.odds, told.up),
        "beside/perfect/mode_coverage_at_20": 1 - np.mean([told.odds**SAMPLES, (1 - told.odds) ** SAMPLES]),
        "beside/probe/floor": away(told.read, told.truth).mean(),
        "beside/one future/error": far,
        "beside/one future/mode_coverage": coverage(told, told.one[:, None], np.ones((len(told.one), 1))).mean(),
        "beside/one future with noise/mode_coverage_at_20": coverage(told, noisy, alike).mean(),
        "beside/one future with noise/best_of_5_over_one_future": best_of(told, noisy, alike, FEW).mean() / far,
        "beside/even prior/mode_coverage_at_20": coverage(told, told.ways, even).mean(),
        "beside/even prior/ece": ece(chance_up(told, even), told.odds),
        "beside/even prior/brier": brier_up(chance_up(told, even), told.up),
        "beside/even prior/best_of_5_over_one_future": best_of(told, told.ways, even, FEW).mean() / far,
    }


def over_clips(told: list[Told], draws: int = 300) -> dict[str, Figure]:
    """Each figure's mean over the seeds, and its 95% interval over episodes, which all seeds share, drawn anew."""
    n = len(told[0].odds)
    rng = np.random.default_rng(0)

    def mean(drawn: np.ndarray) -> dict[str, float]:
        each = [figures(Told(*(column[drawn] for column in one))) for one in told]
        return {name: float(np.mean([of_seed[name] for of_seed in each])) for name in each[0]}

    value, again = mean(np.arange(n)), [mean(rng.integers(n, size=n)) for _ in range(draws)]
    found: dict[str, Figure] = {}
    for name in value:
        low, high = np.percentile([one[name] for one in again], [2.5, 97.5])
        found[name] = {"value": value[name], "low": float(low), "high": float(high), "n": n}
    return found


def protocol(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every setting that could change a number, and what the names of figures mean."""
    return {
        "world": repr(Chance()),
        "train": {
            "episodes": arguments.episodes,
            "recorded with seed": TRAIN_SEED,
            "run": repr(run_config(arguments, 0)),
            "steps of each seed's model": [trained_steps(arguments.work / f"model{seed}") for seed in arguments.seeds],
            "branches": repr(BranchesConfig()),
            "branches training": repr(BranchesTraining()),
        },
        "probe": {
            "episodes": arguments.probe_episodes,
            "from seed": PROBE_FROM,
            "fitted on": "frames, and answering codes",
        },
        "test": {"episodes": arguments.test_episodes, "from seed": arguments.test_from},
        "seen": SEEN,
        "judged": f"{AFTER} frames after the fork",
        "hit": "within one radius of the ball, read by the probe",
        "mode_coverage_at_20": "expected share of the two ways that 20 draws hit; both have a chance of 0.05 at least",
        "ece": "ten bins of the chance said of going up; against the simulator's chance, and of_outcomes",
        "bits": "KL(posterior || prior) of the codes, mean over episodes; truth: the simulator's entropy",
        "best_of_5": "expected least error of five draws, in pixels, and over that of the model's one future",
        "permuted": "latent error with the code that answers for another episode, over that of the right one",
        "intervals": "over episodes, of the mean over seeds; seeds/ has each seed's own",
        "bars": BARS,
    }


if __name__ == "__main__":
    main()
