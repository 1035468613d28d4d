"""How much a start costs: CPU-seconds of `foretell --help` and `import foretell`, Python's own start included.

python bench/start.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

from result import write_result

script = str(Path(sys.executable).with_name("foretell"))
commands = {
    "help_cpu_seconds": [script, "--help"],
    "import_cpu_seconds": [sys.executable, "-c", "import foretell"],
    "python_cpu_seconds": [sys.executable, "-c", "pass"],
    "import_tyro_cpu_seconds": [sys.executable, "-c", "import tyro"],
}
bars = {"help_cpu_seconds": 0.4, "import_cpu_seconds": 0.1}


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run each command in turn, several rounds, the first of them not counted (it fills the file cache)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "start.json")
    arguments = parser.parse_args()

    rounds = [{name: cpu_seconds(command) for name, command in commands.items()} for _ in range(arguments.runs + 1)][1:]
    figures = {name: [one[name] for one in rounds] for name in commands}
    write_result(
        arguments.out,
        protocol={"runs": arguments.runs, "measure": "user + system CPU-seconds of the whole process", "bars": bars},
        seeds=[],
        metrics={name: figures[name] for name in bars},
        baselines={name: figures[name] for name in commands if name not in bars},
    )


if __name__ == "__main__":
    main()
