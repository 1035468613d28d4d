"""What-if against the simulator's own do(): are effects found, of the right sign and size, and none where there is none?

Rooms whose wall, one or two doors and two hazards lie elsewhere in every episode. One past, then two sequences of actions: what the
policy did, and something else from the same state. The world is restored and both are really done. Then two
interventions on the scene: a hazard is painted over (it never changes where anybody goes), and the part of the wall that
stops the agent (it does). Recordings, development and test have seeds of their own; the model's seeds are the unit.

python bench/what_if.py --work scratch/ --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from result import write_result

import foretell
from foretell.data.clip import Clip
from foretell.evals.intervals import Figure, bootstrap, share
from foretell.model.folder import load_model
from foretell.model.heads import Heads, load_heads
from foretell.model.world_model import WorldModel
from foretell.plan.counterfactual import imagine_futures, take_in, without
from foretell.plan.effects import ALPHA, DOUBT, Bands, effect, fit_bands, misses_of_differences, together
from foretell.train.loop import TrainConfig
from foretell.training import train
from foretell.worlds.played import Played
from foretell.worlds.policies import PolicyName, policy
from foretell.worlds.record import episode_seed, record
from foretell.worlds.rooms import RADIUS, WALL, Rooms, RoomsConfig

DEVELOPMENT, TEST = 4202, 4404
"""Seeds, of episodes that no two parts share."""
POLICY: PolicyName = "smooth"
"""Who acts in episodes that are asked about."""
RECORDED: dict[PolicyName, tuple[int, int]] = {"smooth": (3000, 4101), "mixed": (1000, 4102)}
"""Episodes and seed of each recording. Most are acted in without looking: who walks on purpose walks briskly through doors alone, and
from such walks only it is learned that who walks briskly is not stopped."""
FRAMES, STEPS, HOLD_OUT = 100, 3000, 0.2
SEEN = 5
"""Steps of the model that the past lasts."""
LEAST = RADIUS / 2
"""Pixels: a true effect beyond this has a sign that must be found."""
REMOVED = 5
"""Pixels from a hazard's centre to the edges of the box that is painted over."""
GAP = 8
"""And half the height of the hole in the wall."""
STILL = ("wall", "door", "other_door", "hazard_0_x", "hazard_0_y", "hazard_1_x", "hazard_1_y")
"""What nothing that is done can change."""
BASELINES = ("straight line", "copy", "random sign")
"""Walls ignored; nothing ever changes (no false effect by design); a coin."""
KINDS = ("random", "smooth", "scripted", "still", "mirrored", "straight on")


class Case(NamedTuple):
    """One intervention."""

    frames: np.ndarray  # uint8 (SEEN + 1, H, W, 3)
    done: np.ndarray  # (SEEN * skip, A)
    actions: np.ndarray  # (2, horizon * skip, A): as it was, and otherwise
    edited: np.ndarray | None  # the frames of the other future's past, where the scene is changed and not the actions
    truth: np.ndarray  # (2, horizon, Q)
    state: np.ndarray  # (Q,) where they part
    moot: tuple[str, ...]  # quantities of what is not there any more


class Verdict(NamedTuple):
    """What was said of one intervention, and what is the case, all (horizon, Q); `straight` ignores walls."""

    said: np.ndarray
    margin: np.ndarray
    sign: np.ndarray
    true: np.ndarray
    straight: np.ndarray
    moot: tuple[str, ...]


def world_of() -> Rooms:
    """The world of the bench."""
    return Rooms(RoomsConfig(varied=True, hazards=2))


def other_actions(kind: str, world: Rooms, done: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another sequence (T, A) than `done`, from the world's present state."""
    high = np.array(world.actions.high)
    if kind == "still":
        return np.zeros_like(done)
    if kind == "mirrored":
        return -done
    if kind == "straight on":
        angle = rng.uniform(-np.pi, np.pi)
        return np.tile(world.actions.clip(1.5 * high * [np.cos(angle), np.sin(angle)]), (len(done), 1))
    here, act, chosen = world.state(), policy(kind, world, rng), []
    for _ in done:
        chosen.append(act())
        world.step(chosen[-1])
    world.restore(here)
    return np.stack(chosen)


def really_done(world: Rooms, state: np.ndarray, actions: np.ndarray, skip: int) -> np.ndarray:
    """do(): the states (horizon, Q) that actions (horizon * skip, A) lead to."""
    world.restore(state)
    came = []
    for action in actions:
        world.step(action)
        came.append(world.state())
    return np.stack(came)[skip - 1 :: skip]


def begin(seed: int, number: int, span: tuple[int, int]) -> tuple[Clip, int, np.ndarray, np.random.Generator]:
    """An episode, the frame where futures part, the state then, and chance of its own."""
    clip = Played(world_of(), POLICY, FRAMES).episode(episode_seed(seed, number))
    rng = np.random.default_rng([seed, number, 7])
    start = int(rng.integers(span[0], FRAMES - span[1]))
    return clip, start, np.array([clip.states[name][start] for name in world_of().quantities]), rng


def past_of(clip: Clip, start: int, skip: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames at the model's steps up to `start`, and every action before it."""
    assert clip.actions is not None
    return clip.frames[start - SEEN * skip : start + 1 : skip], clip.actions[start - SEEN * skip : start]


def action_case(seed: int, number: int, skip: int, horizon: int) -> Case:
    """Something else is done."""
    clip, start, state, rng = begin(seed, number, (SEEN * skip, horizon * skip))
    assert clip.actions is not None
    world, as_it_was = world_of(), clip.actions[start : start + horizon * skip]
    world.restore(state)
    otherwise = other_actions(KINDS[number % len(KINDS)], world, as_it_was, rng)
    actions = np.stack([as_it_was, otherwise])
    truth = np.stack([really_done(world, state, one, skip) for one in actions])
    return Case(*past_of(clip, start, skip), actions, None, truth, state, ())


def hazard_case(seed: int, number: int, skip: int, horizon: int) -> Case:
    """A hazard is not there. Nothing that is judged changes."""
    clip, start, state, _ = begin(seed, number, (SEEN * skip, horizon * skip))
    assert clip.actions is not None
    frames, done = past_of(clip, start, skip)
    gone = f"hazard_{number % 2}"
    x, y = (float(clip.states[f"{gone}_{axis}"][start]) for axis in "xy")
    edited, _ = without(frames, box_around(x, y, REMOVED, REMOVED))
    actions = np.stack([clip.actions[start : start + horizon * skip]] * 2)
    truth = np.stack([really_done(world_of(), state, actions[0], skip)] * 2)
    return Case(frames, done, actions, edited, truth, state, (f"{gone}_x", f"{gone}_y", "clearance"))


def wall_case(seed: int, number: int, skip: int, horizon: int) -> Case | None:
    """The wall has a hole in front of the agent, who walks straight on. None if a door is there or it is beside the wall.

    Where doors are is not judged then: the hole is one more.
    """
    clip, start, state, _ = begin(seed, number, (SEEN * skip, horizon * skip))
    frames, done = past_of(clip, start, skip)
    x, y, _, wall, *doors = state[:6]
    if (
        min(abs(y - door) for door in doors) < GAP + 8
        or abs(x - wall) < WALL / 2 + RADIUS + 3
        or not GAP + 4 < y < 60 - GAP
    ):
        return None
    edited, _ = without(frames, box_around(wall, y, WALL / 2 + 1, GAP))
    walk = np.tile(np.array([np.sign(wall - x) * 2.0, 0.0], np.float32), (horizon * skip, 1))
    world = world_of()
    stopped = really_done(world, state, walk, skip)
    world.restore(state)
    split = [[b[0], max(b[1], y + GAP), b[2], b[3]] for b in world.layout.walls[4:]]
    split += [[b[0], b[1], b[2], min(b[3], y - GAP)] for b in world.layout.walls[4:]]
    holed = np.array([*world.layout.walls[:4], *(b for b in split if b[1] < b[3])])
    world.layout = dataclasses.replace(world.layout, walls=holed)
    passed = really_done(world, state, walk, skip)  # restoring the same places keeps the hole
    return Case(
        frames,
        done,
        np.stack([walk] * 2),
        edited,
        np.stack([stopped, passed]),
        state,
        ("clearance", "door", "other_door"),
    )


def box_around(x: float, y: float, wide: float, high: float) -> tuple[int, int, int, int]:
    """Whole pixels of the frame around a place."""
    left, top = max(0, int(np.floor(x - wide))), max(0, int(np.floor(y - high)))
    return left, top, min(64, int(np.ceil(x + wide))), min(64, int(np.ceil(y + high)))


def judge(model: WorldModel, heads: Heads, bands: Bands, case: Case) -> Verdict:
    """Ask the model."""
    assert heads.probe is not None
    steps = len(bands.least)
    blocks = torch.from_numpy(case.actions.reshape(2, steps, -1))
    done = torch.from_numpy(case.done.reshape(SEEN, -1))
    past = take_in(model, case.frames, done)
    changed = past if case.edited is None else take_in(model, case.edited, done)
    one = imagine_futures(model, heads.probe, past, blocks[:1])
    other = imagine_futures(model, heads.probe, changed, blocks[1:])
    found = effect(other.quantities[0], one.quantities[0], bands.margin(together(one.gone[0], other.gone[0])))
    straight = np.zeros_like(case.truth[0])
    gone = case.actions.reshape(2, steps, -1, case.actions.shape[-1]).sum(2).cumsum(1)
    straight[:, :2] = gone[1] - gone[0]
    return Verdict(
        said=found.difference.numpy(),
        margin=found.margin.numpy(),
        sign=found.sign.numpy(),
        true=case.truth[1] - case.truth[0],
        straight=straight,
        moot=case.moot,
    )


def told_rightly(verdict: Verdict, quantity: int) -> float:
    """1 if the band leaves out zero at any step, and where it does so most the sign is right; -1 if wrong; 0 if nowhere."""
    step = int(np.argmax(np.abs(verdict.said[:, quantity]) / verdict.margin[:, quantity]))
    return float(verdict.sign[step, quantity] * np.sign(verdict.true[step, quantity]))


def score(verdicts: Sequence[Verdict], names: Sequence[str]) -> dict[str, Figure]:
    """Figures of one kind of intervention."""
    place, still = [names.index("x"), names.index("y")], [names.index(name) for name in STILL]
    end = [(v.said[-1, q], v.true[-1, q], v.straight[-1, q], told_rightly(v, q)) for v in verdicts for q in place]
    said, true, straight, told = np.array([e for e in end if abs(e[1]) > LEAST]).reshape(-1, 4).T
    no_effect = [
        bool(v.sign[:, q].any()) for v in verdicts for q in still if names[q] not in v.moot and not v.true[:, q].any()
    ]
    untouched = [
        (v.sign[:, q].any(), v.straight[:, q].any()) for v in verdicts for q in place if not v.true[:, q].any()
    ]
    held = [
        bool((np.abs(v.said[:, q] - v.true[:, q]) <= v.margin[:, q]).all())
        for v in verdicts
        for q in range(len(names))
        if names[q] not in v.moot
    ]
    found = {
        "false_effects": share(no_effect + [bool(u[0]) for u in untouched]),
        "false_effects/still": share(no_effect),
        "band_holds": share(held),
    }
    if untouched:
        found["false_effects/place"] = share([u[0] for u in untouched])
        found["straight line/false_effects/place"] = share([u[1] for u in untouched])
    if len(true):
        found |= {
            "sign": share(np.sign(said) == np.sign(true)),
            "told": share(told > 0),
            "told/wrong_sign": share(told < 0),
            "size_error": bootstrap(lambda i: float(np.median((np.abs(said - true) / np.abs(true))[i])), len(true)),
            "random sign/sign": share(np.random.default_rng(0).choice([-1.0, 1.0], len(true)) == np.sign(true)),
            "copy/sign": share(np.zeros(len(true)) == np.sign(true)),
            "straight line/sign": share(np.sign(straight) == np.sign(true)),
            "straight line/size_error": bootstrap(
                lambda i: float(np.median((np.abs(straight - true) / np.abs(true))[i])), len(true)
            ),
        }
        blocked = np.abs(straight - true) > LEAST
        if blocked.any():
            found |= {
                "sign/walls_matter": share((np.sign(said) == np.sign(true))[blocked]),
                "straight line/sign/walls_matter": share((np.sign(straight) == np.sign(true))[blocked]),
            }
    return found


def cases_of(kind: str, seed: int, count: int, skip: int, horizon: int) -> list[Case]:
    """`count` interventions of one kind."""
    make = {"actions": action_case, "hazard": hazard_case, "wall": wall_case}[kind]
    found: list[Case] = []
    number = {"actions": 0, "hazard": 100_000, "wall": 200_000}[kind]
    while len(found) < count:
        case = make(seed, number, skip, horizon)
        found += [] if case is None else [case]
        number += 1
    return found


def trained(work: Path, seed: int) -> Path:
    """A model of this seed, trained unless it is there."""
    folder = work / f"model{seed}"
    if not (folder / "heads.safetensors").exists():
        for name, (episodes, chance) in RECORDED.items():
            record(Played(world_of(), name, FRAMES), work / "rooms" / name, episodes=episodes, seed=chance, workers=1)
        foretell.ingest(work / "rooms", work / "store", workers=1)
        config = TrainConfig(steps=STEPS, seed=seed)
        train(str(work / "store"), folder, preset="scenes", hold_out=HOLD_OUT, config=config)
    return folder


@torch.no_grad()
def examine(folder: Path, seed: int, counts: dict[str, int]) -> dict[str, Figure]:
    """All figures of one model."""
    model = load_model(folder)
    heads, errors = load_heads(folder, model)
    assert model.config.actions is not None
    assert heads.probe is not None
    names, found = heads.quantities, dict[str, Figure]()
    for kind, count in counts.items():
        bands = fit_bands(misses_of_differences(errors, heads.probe.std, one_past=kind == "actions"))
        cases = cases_of(kind, seed, count, model.config.actions.skip, len(bands.least))
        verdicts = [judge(model, heads, bands, case) for case in cases]
        print(f"{folder.name}: {kind}, bands from {len(errors.truth)} stretches", flush=True)
        found |= {f"{kind}/{name}": figure for name, figure in score(verdicts, names).items()}
        if kind == "actions":
            for at, other in enumerate(KINDS):
                of_kind = score(verdicts[at :: len(KINDS)], names)
                found[f"actions/done otherwise, {other}/false_effects"] = of_kind["false_effects"]
    return found


def baseline_of(name: str) -> str:
    """Which baseline a figure is of; empty if it is the model's."""
    return next((baseline for baseline in BASELINES if f"/{baseline}/" in name), "")


def main() -> None:
    """Train what is missing, then examine every seed's model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for recordings and models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--interventions", type=int, default=1000)
    parser.add_argument("--removals", type=int, default=200)
    parser.add_argument("--part", choices=["development", "test"], default="test")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "what_if.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    counts = {"actions": arguments.interventions, "hazard": arguments.removals, "wall": arguments.removals}
    seed = {"development": DEVELOPMENT, "test": TEST}[arguments.part]
    per_seed = [examine(trained(arguments.work, s), seed, counts) for s in arguments.seeds]
    names = sorted(set.union(*(set(one) for one in per_seed)))
    # of one seed the interval over interventions, of several their median, lowest and highest
    figures = {n: per_seed[0][n] if len(per_seed) == 1 else [float(one[n]["value"]) for one in per_seed] for n in names}
    write_result(
        arguments.out,
        protocol={
            "world": repr(world_of()),
            "recorded": {name: {"episodes": n, "frames": FRAMES, "seed": s} for name, (n, s) in RECORDED.items()},
            "policy_asked_about": POLICY,
            "training": {"preset": "scenes", "steps": STEPS, "hold_out": HOLD_OUT},
            "part": arguments.part,
            "seed_of_part": seed,
            "interventions": counts,
            "alternatives": KINDS,
            "steps_seen": SEEN,
            "alpha": ALPHA,
            "doubt": DOUBT,
            "sign": f"of the difference said, at the end of the horizon, of x and y where the true effect is over {LEAST} px",
            "told": "of the same effects, those whose band leaves out zero at any step, the sign being right where most",
            "false_effects": "the band leaves out zero at any step, of what truly stays the same",
            "size_error": "median of |said - true| / |true|, of the same effects as sign",
            "bars": {"actions/sign": 0.9, "actions/false_effects": 0.05},
        },
        seeds=arguments.seeds,
        metrics={name: figure for name, figure in figures.items() if not baseline_of(name)},
        baselines={
            f"{baseline_of(name)}/{name.replace(baseline_of(name) + '/', '')}": figure
            for name, figure in figures.items()
            if baseline_of(name)
        },
    )


if __name__ == "__main__":
    main()
