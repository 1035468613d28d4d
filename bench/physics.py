"""How fast the physics world makes frames on one core: frames per CPU-second, motion and drawing together.

python bench/physics.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from result import write_result

from foretell.worlds.physics import SCENARIOS, Physics
from foretell.worlds.record import record

bar = 1000  # frames per CPU-second


def frames_per_cpu_second(work: Callable[[int], int], seed: int) -> float:
    """`work` of a seed gives how many frames it made."""
    begin = time.process_time()
    frames = work(seed)
    return frames / (time.process_time() - begin)


def make(world: Physics, episodes: int) -> Callable[[int], int]:
    """A run of `episodes` episodes whose seeds follow from the run's own."""
    return lambda seed: sum(len(world.episode(1000 * seed + i).frames) for i in range(episodes))


def record_to_files(world: Physics, episodes: int) -> Callable[[int], int]:
    """The same, encoded to H.264 and written to disk with the table of states."""

    def work(seed: int) -> int:
        with TemporaryDirectory() as folder:
            return record(world, folder, episodes=episodes, seed=seed, progress=False).frames

    return work


def main() -> None:
    """Each kind of work in turn, several rounds, the first of them not counted (it loads the libraries)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "physics.json")
    arguments = parser.parse_args()

    works = {"mixed": make(Physics(), arguments.episodes)}
    works |= {scenario: make(Physics(scenario=scenario), arguments.episodes) for scenario in SCENARIOS}
    works |= {"thrown_jump": make(Physics(violation="jump"), arguments.episodes)}
    works |= {"mixed_128_px": make(Physics(size=128), arguments.episodes)}
    works |= {"mixed_recorded": record_to_files(Physics(), arguments.episodes)}
    seeds = list(range(arguments.runs + 1))
    rounds = [{name: frames_per_cpu_second(work, seed) for name, work in works.items()} for seed in seeds][1:]
    write_result(
        arguments.out,
        protocol={
            "runs": arguments.runs,
            "episodes_per_run": arguments.episodes,
            "frames_per_episode": Physics().frames,
            "size": Physics().size,
            "unit": "frames per CPU-second, one process",
            "bars": {"mixed": bar},
        },
        seeds=seeds[1:],
        metrics={name: [one[name] for one in rounds] for name in works},
        baselines={},
    )


if __name__ == "__main__":
    main()
