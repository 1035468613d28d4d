"""Does a model of latents hallucinate less than a model of pixels? The same clips, one referee, five training seeds.

    python bench/hallucination.py --work WORK [--seeds 0 1 2 3 4] [--equal-steps 0] [--four-times 0]

Thrown balls: 8 frames are seen, 10 are foretold. Of each seed a JEPA, and the matched model of pixels at equal CPU time
(bench/matched_models.py); of some seeds also that model at equal steps, and at four times the time. HR-div, HR-phys and
HR-conf of each (evals/hallucination.py), beside the referee's own error on the frames that came, a copy of the last frame
and, through the places that the referee sees, a parabola. Each model is read in whichever of two ways is better for it on
clips of its own: a probe of its imagined latents, or the referee on its painted frames; both are told. What was found for a
seed is kept in WORK, so that an interrupted run goes on. Writes hallucination.json, and pictures of rollouts to WORK.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from matched_models import HORIZON, Kind, Matched
from result import write_result
from torch import Tensor

import foretell
from foretell.data.sampler import WindowSampler
from foretell.data.store import Store
from foretell.evals.foretellers import Copy, Flights, Imagination, Said, fit_heads, flights_of
from foretell.evals.hallucination import COVERAGES, Verdict, abstention, events_in, judge, paired_bootstrap, verdict
from foretell.evals.intervals import bootstrap, share
from foretell.evals.referee import impossible, look, set_stage
from foretell.evals.thrown import SEEN, fitted_parabola
from foretell.log import write_whole
from foretell.model.tensors import load_tensors, save_tensors
from foretell.model.world_model import WorldModel
from foretell.objectives.next_pixels import NextPixels
from foretell.objectives.objective import load_objective
from foretell.serve.pictures import write_png
from foretell.train.decoder import fit_decoder
from foretell.worlds.physics import Physics
from foretell.worlds.scenes import GRAVITY

WORLD = Physics(scenario="thrown", shapes="ball")
PULL = GRAVITY / WORLD.fps**2
"""Pixels per frame squared."""
FIRST = 12
"""Frame from which on a flight is judged: from frame 20 on the ball may land or meet a wall, too (in one clip of six)."""
EPISODES, TRAIN_SEED, SMALL_SEED = 1200, 501, 2000
FROM = {
    "probe": 5_300_000,
    "confidence": 5_400_000,
    "calibration": 5_500_000,
    "development": 5_100_000,
    "test": 9_700_000,
}
COUNTS = {"probe": 300, "confidence": 400, "calibration": 400, "development": 200, "test": 600}
DECODER_STEPS = 1600
TOLD = (1, 2, 4, 6, 8, 10)
READS = ("chosen", "probe", "referee")
BAR = "HR-conf at step 10 at most half of the pixel model's at equal CPU time, p < 0.01, at coverage 0.9"


def main() -> None:
    """Train and judge each seed, then compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--equal-steps", type=int, nargs="*", default=[0], help="seeds judged at equal steps, too")
    parser.add_argument("--four-times", type=int, nargs="*", default=[0], help="seeds judged at four times the time")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--judged", choices=("test", "development"), default="test")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    matched = Matched(work=arguments.work, world=WORLD, episodes=EPISODES, seed=TRAIN_SEED, steps=arguments.steps)
    clips = {name: drawn(name) for name in ("probe", "confidence", "calibration", arguments.judged)}
    found: dict[Kind, dict[int, dict[str, Any]]] = {}
    for kind, seeds in seeds_of(arguments).items():
        found[kind] = {seed: of_seed(matched, kind, seed, clips, arguments.judged) for seed in seeds}
    metrics, told = compare(found)
    write_result(
        arguments.out / "hallucination.json",
        protocol=protocol(arguments, matched),
        seeds=arguments.seeds,
        metrics=metrics,
        baselines=told | floors(clips[arguments.judged]),
    )


def seeds_of(arguments: argparse.Namespace) -> dict[Kind, list[int]]:
    """Which training seeds are judged of each kind; of those that take longer and say less, fewer."""
    return {
        "jepa": arguments.seeds,
        "pixels_equal_time": arguments.seeds,
        "pixels_equal_steps": arguments.equal_steps,
        "pixels_four_times": arguments.four_times,
    }


def drawn(name: str) -> Flights:
    """The flights of one part; no two parts share a seed."""
    return flights_of([WORLD.episode(FROM[name] + k) for k in range(COUNTS[name])], FIRST, SEEN + HORIZON)


def of_seed(matched: Matched, kind: Kind, seed: int, clips: dict[str, Flights], judged: str) -> dict[str, Any]:
    """All that one model did on the clips it is judged on; kept in WORK."""
    kept = matched.work / f"{judged}-{kind}{seed}.json"
    if not kept.exists():
        folder, took = matched.trained(kind, seed)
        began = time.process_time()
        model = foretell.load_model(folder)
        paint = painter(folder, model, matched.store())
        asked = Imagination(model, paint, fit_heads(model, clips["probe"], SEEN))
        shares = asked.settle(clips["confidence"], SEEN)
        calibration = asked.imagine(clips["calibration"].frames[:, :SEEN], HORIZON)
        imagined = asked.imagine(clips[judged].frames[:, :SEEN], HORIZON)
        told: dict[str, Any] = {"took": took, "reads": asked.reads, "shares_on_confidence_clips": shares}
        happened = events_in(imagined.frames, clips[judged], SEEN, PULL)
        for reads in shares:
            result = verdict(asked.state(imagined, reads), clips[judged], SEEN, happened)
            stated = asked.state(calibration, reads).confidence
            told[reads] = lists(result, {c: abstention(stated, c) for c in COVERAGES})
        told["impossible"] = {name: flags.any(1).tolist() for name, flags in happened.items()}
        if kind == "jepa":
            told["impossible_repainted"] = repainted(model, paint, clips[judged])
        told["judge_cpu_seconds"] = time.process_time() - began
        strip(matched.work / f"{judged}-{kind}{seed}.png", clips[judged], imagined.frames)
        write_whole(kept, json.dumps(told) + "\n")
    found: dict[str, Any] = json.loads(kept.read_text())
    print(seed, kind, found["took"], found["reads"], summary(found), flush=True)
    return found


def lists(result: Verdict, thresholds: dict[float, np.ndarray]) -> dict[str, Any]:
    """A verdict as a file holds it: of every clip and step."""
    return {
        "error": np.round(np.minimum(result.error, 999), 3).tolist(),
        "diverged": result.diverged.astype(int).tolist(),
        "answered": {str(c): (result.confidence >= t).astype(int).tolist() for c, t in thresholds.items()},
        "wrong": {str(c): result.confidently_wrong(t).astype(int).tolist() for c, t in thresholds.items()},
    }


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """A line to look at while it runs."""
    line: dict[str, Any] = {"phys": round(float(np.any(list(found["impossible"].values()), axis=0).mean()), 3)}
    for reads in ("probe", "referee"):
        errors = np.array(found[reads]["error"])
        line[reads] = {"median": np.median(errors, axis=0)[[3, 9]].round(2).tolist()}
        line[reads] |= {c: round(float(np.array(w)[:, -1].mean()), 4) for c, w in found[reads]["wrong"].items()}
    return line


def painter(folder: Path, model: WorldModel, store: Store) -> Callable[[Tensor], Tensor]:
    """latents (B, T, P, D) -> frames uint8 (B, T, 3, H, W): what a pixel model learned; for a JEPA a decoder of real latents."""
    objective = load_objective(folder, model)
    if isinstance(objective, NextPixels):
        decode = objective.decode
        return lambda latents: decode(latents).mul(255).round().clamp(0, 255).byte()
    sampler = WindowSampler(store.lengths, window=1, batch=8, seed=SMALL_SEED)

    def batches(step: int) -> Tensor:
        frames = np.stack([store.window(clip, at, 1) for clip, at in sampler.at(step)])
        return rearrange(torch.from_numpy(frames), "b t h w c -> b t c h w")

    kept = folder / "painter.safetensors"
    decoder = fit_decoder(model, batches, steps=0 if kept.exists() else DECODER_STEPS, seed=SMALL_SEED)
    if kept.exists():
        decoder.load_state_dict(load_tensors(kept)[0])
    else:
        save_tensors(kept, dict(decoder.state_dict()), {})
    return decoder.decode


@torch.no_grad()
def repainted(model: WorldModel, paint: Callable[[Tensor], Tensor], flights: Flights) -> dict[str, list[bool]]:
    """What the decoder alone invents: events in frames that came, encoded and painted again."""
    parts = []
    for at in range(0, len(flights.frames), 16):
        frames = rearrange(torch.from_numpy(flights.frames[at : at + 16, SEEN:]), "b t h w c -> b t c h w")
        parts.append(rearrange(paint(model.encode(frames)), "b t c h w -> b t h w c").numpy())
    events = events_in(np.concatenate(parts), flights, SEEN, PULL)
    return {name: flags.any(1).tolist() for name, flags in events.items()}


def strip(path: Path, flights: Flights, foretold: np.ndarray, rows: int = 6) -> None:
    """Write a picture: of a few clips what came, and below it what was foretold; each pixel drawn as four."""
    pairs = [
        np.concatenate(list(part), axis=1) for n in range(rows) for part in (flights.frames[n, SEEN:], foretold[n])
    ]
    write_png(path, np.concatenate(pairs).repeat(2, axis=0).repeat(2, axis=1))


def compare(found: dict[Kind, dict[int, dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of the JEPA, each seed's and in all; and those of the pixel models, with what the two are to each other."""
    metrics: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    for kind, by_seed in found.items():
        into, seeds = metrics if kind == "jepa" else baselines, list(by_seed.values())
        if not seeds:
            continue
        for name in ("steps", "cpu_seconds", "parameters"):
            into[f"{kind}/training/{name}"] = [float(one["took"][name]) for one in seeds]
        for reads in READS:
            into |= rates(f"{kind}/{reads}", [words(one, reads) for one in seeds])
        into |= events(f"{kind}/HR-phys", [one["impossible"] for one in seeds])
        if kind == "jepa":
            metrics |= events("jepa/repainted frames/HR-phys", [one["impossible_repainted"] for one in seeds])
            continue
        ours = [found["jepa"][seed] for seed in by_seed]
        for coverage, reads in itertools.product(COVERAGES, READS):
            pair = paired_bootstrap(*(wrong(of_kind, reads, coverage) for of_kind in (ours, seeds)))
            name = f"jepa over {kind}/{reads}/HR-conf/{coverage:.0%}/+{HORIZON}"
            metrics |= {f"{name}/ratio": pair.ratio, f"{name}/p_less": [pair.p_less], f"{name}/p_half": [pair.p_half]}
    return metrics, baselines


def words(found: dict[str, Any], reads: str) -> dict[str, Any]:
    """What one read-out said, or the one that was better on the confidence clips."""
    said: dict[str, Any] = found[found["reads"] if reads == "chosen" else reads]
    return said


def wrong(of_kind: list[dict[str, Any]], reads: str, coverage: float) -> list[np.ndarray]:
    """Of each seed which clips are wrong with confidence at the last step, (B,)."""
    return [np.array(words(one, reads)["wrong"][str(coverage)])[:, -1] for one in of_kind]


def rates(name: str, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """HR-div and HR-conf by step, intervals over seeds and clips; HR-conf of all steps; the median error of each seed."""
    told: dict[str, Any] = {}
    for ahead in TOLD:
        diverged = [np.array(one["diverged"])[:, ahead - 1] for one in verdicts]
        told[f"{name}/HR-div/+{ahead}"] = paired_bootstrap(diverged, diverged).ours
        errors = [np.array(one["error"])[:, ahead - 1] for one in verdicts]
        told[f"{name}/median error/+{ahead}"] = [float(np.median(one)) for one in errors]
    for coverage in COVERAGES:
        of_steps = [np.array(one["wrong"][str(coverage)]) for one in verdicts]
        last = [steps[:, -1] for steps in of_steps]
        told[f"{name}/HR-conf/{coverage:.0%}/+{HORIZON}"] = paired_bootstrap(last, last).ours
        told[f"{name}/HR-conf/{coverage:.0%}/+{HORIZON}/seeds"] = [float(one.mean()) for one in last]
        means = [steps.mean(1) for steps in of_steps]
        told[f"{name}/HR-conf/{coverage:.0%}/all steps"] = paired_bootstrap(means, means).ours
        told[f"{name}/answered/{coverage:.0%}/+{HORIZON}"] = [
            float(np.array(one["answered"][str(coverage)])[:, -1].mean()) for one in verdicts
        ]
    return told


def events(name: str, of_seeds: list[dict[str, list[bool]]]) -> dict[str, Any]:
    """Share of rollouts with an impossible event, of any kind and of each."""
    flags = {kind: [np.array(one[kind]) for one in of_seeds] for kind in of_seeds[0]}
    flags["any"] = [np.any(list(one.values()), axis=0) for one in of_seeds]
    return {f"{name}/{kind}": paired_bootstrap(values, values).ours for kind, values in flags.items()}


def floors(flights: Flights) -> dict[str, Any]:
    """The referee on the frames that came, a copy of the last one, and a parabola through the places that it sees."""
    past, came = flights.frames[:, :SEEN], flights.frames[:, SEEN:]
    stage = set_stage(past)
    before, after = look(past, stage), look(came, stage)
    happened = impossible(before, after, stage, PULL)
    places = after.places.astype(np.float64)
    told: dict[str, Any] = {}
    thrown = np.nan_to_num(fitted_parabola(before.places.astype(np.float64), HORIZON))
    sure = np.zeros(places.shape[:2])
    judged: dict[str, Verdict] = {
        "referee on the frames that came": verdict(Said(came, places, sure), flights, SEEN, happened),
        "copy": judge(Copy(), flights, SEEN, PULL),
        "parabola": verdict(Said(came, thrown, sure), flights, SEEN, happened),
    }
    for name, result in judged.items():
        told |= {f"{name}/HR-div/+{ahead}": share(result.diverged[:, ahead - 1]) for ahead in TOLD}
        told[f"{name}/HR-conf/100%/all steps"] = share(result.diverged.ravel())
        if name != "parabola":  # which paints nothing
            told |= {f"{name}/HR-phys/{kind}": share(flags.any(1)) for kind, flags in result.events.items()}
            told[f"{name}/HR-phys/any"] = share(result.impossible)
    own = judged["referee on the frames that came"].error
    told["referee/error of place in pixels"] = bootstrap(lambda chosen: float(own[chosen].mean()), len(own))
    told["referee/greatest error of place in pixels"] = [float(own.max())]
    told["referee/wrong counts"] = share((after.things != 1).ravel())
    return told


def protocol(arguments: argparse.Namespace, matched: Matched) -> dict[str, Any]:
    """Every setting that could change a number."""
    return {
        "bar": BAR,
        "world": repr(WORLD),
        "seen, foretold, first frame judged": (SEEN, HORIZON, FIRST),
        "train": {"seed": TRAIN_SEED, "episodes": EPISODES, "steps": arguments.steps},
        "settings": {
            kind: repr(matched.run_config(kind, 0, arguments.steps)) for kind in ("jepa", "pixels_equal_steps")
        },
        "cpu seconds a step": json.loads((arguments.work / "speed.json").read_text())["cpu_seconds_a_step"],
        "judged": arguments.judged,
        "from seeds": FROM,
        "clips": COUNTS,
        "training seeds": seeds_of(arguments),
        "decoder steps": DECODER_STEPS,
        "radius": "the true one of each clip, 7 to 9 px",
        "chosen": "the read-out (probe or referee) of fewer errors above a radius at the last step on the confidence clips",
        "thresholds": "of each step, on the calibration clips",
        "p": "paired bootstrap over training seeds and clips, one-sided",
    }


if __name__ == "__main__":
    main()
