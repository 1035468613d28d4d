"""The form of a bench's result: `from result import write_result`. The command is the one that was typed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell import log


def each_seed(results: Sequence[Mapping[str, Any]], part: str) -> dict[str, list[float]]:
    """Of each figure of a part of several seeds' results its values, and either end of its intervals (NAME/low, NAME/high)."""
    return {
        f"{name}{kind}": [result[part][name][bound] for result in results]
        for name in results[0][part]
        for kind, bound in (("", "value"), ("/low", "low"), ("/high", "high"))
    }


def write_result(
    path: Path,
    *,
    protocol: Mapping[str, Any],
    seeds: Sequence[int],
    metrics: Mapping[str, log.Samples],
    baselines: Mapping[str, log.Samples],
) -> None:
    """Write one bench's JSON file and show its figures; arguments as in foretell.log.write_result."""
    command = shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    log.write_result(path, command=command, protocol=protocol, seeds=seeds, metrics=metrics, baselines=baselines)
    print(path.read_text(encoding="utf-8"))
