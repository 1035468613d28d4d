"""The command line: `foretell VERB ...`. Nothing heavy is loaded before the verb is known."""

from __future__ import annotations

import importlib
import io
import os
import select
import sys
from collections.abc import Sequence
from typing import NamedTuple

from foretell.errors import ForetellError


class Verb(NamedTuple):
    """Where a verb is written, what it does in a line, and an example of it."""

    module: str
    line: str
    example: str


VERBS = {
    "record": Verb("verbs", "record a simulated world as real videos", "physics --out videos/ --episodes 600 --seed 1"),
    "ingest": Verb("verbs", "decode videos once into a clip store", "videos/ --out store/ --size 64"),
    "train": Verb(
        "training", "learn how a scene unfolds, from a store or a folder of videos", "store/ --out model/ --minutes 8"
    ),
    "calibrate": Verb("verbs", "set the alarm line on normal footage", "model/ normal_videos/"),
    "watch": Verb(
        "verbs", "say where and when videos are surprising", "model/ new_videos/ --out watched/ --alpha 0.05"
    ),
    "evaluate": Verb(
        "evaluating", "examine a model in intuitive physics, beside every baseline", "physics model/ --out result.json"
    ),
    "imagine": Verb(
        "verbs", "see how the model thinks a clip goes on", "model/ clip.mp4 --start 8 --horizon 16 --out imagined.mp4"
    ),
    "branch": Verb("verbs", "learn the different futures of one past, for imagine --samples", "model/"),
    "quantify": Verb(
        "predicting",
        "learn to foretell quantities that are known in some clips, with a band that keeps a promise",
        "model/ recording/ --names x y",
    ),
    "predict": Verb(
        "predicting",
        "foretell the quantities of a clip, or say that it does not know",
        "model/ clip.mp4 --at 8 --out predicted.html",
    ),
    "track": Verb(
        "tracking",
        "foretell quantities along a stream that may drift, with a band that follows",
        "model/ recording/ --out tracked/",
    ),
    "plan": Verb(
        "acting",
        "act in a world by planning in imagination, inside guardrails",
        "model/ --world rooms --guardrails examples/guardrails.toml --out run/",
    ),
    "evaluate planning": Verb(
        "acting",
        "how often a model that acts reaches its goals, beside floors and a ceiling",
        "model/ --world rooms --episodes 100 --planner cem --out result.json",
    ),
    "evaluate uncertainty": Verb(
        "uncertain",
        "whether it knows what it does not know: bands, doubt, odd clips",
        "model/ --world buoy --out uncertainty.json",
    ),
    "what-if": Verb(
        "serve.what_if",
        "imagine what follows if something else is done",
        "model/ clip.mp4 --start 20 --actions examples/left.csv examples/down.csv --out what_if.html",
    ),
    "audit": Verb("acting", "check a log of decisions, and list what was vetoed and why", "run/decisions.jsonl"),
}


def usage() -> str:
    """What `foretell --help` prints."""
    verbs = "\n".join(f"  {name:<20} {verb.line}" for name, verb in VERBS.items())
    examples = "\n".join(f"  foretell {name} {verb.example}" for name, verb in VERBS.items())
    return (
        "foretell: world models from unlabelled video, surprised at a stated false-alarm rate.\n\n"
        f"usage: foretell VERB ...    (foretell VERB --help tells more)\n\nverbs:\n{verbs}\n\n"
        f"from a folder of videos to alarms:\n{examples}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0 done, 1 done and found wrong, 2 the user's fault (one line
    says what), 130 stopped by the user, 141 nobody reads on (as in `| head`)."""
    try:
        try:
            return answer(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()  # here, and not when Python ends, where it would be a traceback
    except BrokenPipeError:
        printed = select.poll()
        printed.register(sys.stdout.fileno(), 0)
        if not printed.poll(0):  # still read: another pipe broke
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def answer(arguments: list[str]) -> int:
    """What `main` does, whoever reads what is printed."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what this terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name = next((both for both in (" ".join(arguments[:2]),) if both in VERBS), arguments[0])
    if name not in VERBS:
        print(f"foretell: no verb {name!r}, expected one of {', '.join(VERBS)}; see foretell --help", file=sys.stderr)
        return 2
    try:
        return run(name, arguments[len(name.split()) :])
    except ForetellError as error:
        print(f"foretell {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"foretell {name}: {str(stopped) or 'stopped; the same command goes on from there'}", file=sys.stderr)
        return 130


def run(name: str, arguments: Sequence[str]) -> int:
    """Read the arguments of a verb and call it."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not hold a busy core
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # foretell train --threads asks for more
    import tyro

    verb = VERBS[name]
    function = getattr(importlib.import_module(f"foretell.{verb.module}"), name.replace(" ", "_").replace("-", "_"))
    function.__annotations__.pop(
        "return", None
    )  # named for type checkers only: to look it up would load what it stands for
    text = f"{function.__doc__.split('Args:')[0].strip()}\n\nExample: foretell {name} {verb.example}"
    result = tyro.cli(function, prog=f"foretell {name}", description=text, args=arguments)
    print(result)
    return 0 if getattr(result, "valid", True) else 1


if __name__ == "__main__":
    sys.exit(main())
