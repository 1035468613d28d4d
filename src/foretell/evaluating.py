"""The verb `evaluate`. In a file of its own, since it trains the networks that stand beside the model."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from foretell import log
from foretell.controls import control_judges, control_tasks
from foretell.evals.exam import HORIZONS, SEEDS, ExamConfig, Figures, possible_clips, sit, watchfulness
from foretell.evals.judges import Foresight, Judge, LatentCopy, LatentLine, PixelCopy
from foretell.evals.oracle import train_oracle
from foretell.model.folder import load_model, read_config
from foretell.serve.exam_page import write_exam_page
from foretell.surprise.panel import MODEL, load_panel
from foretell.verbs import one_thread
from foretell.worlds.stage import PROPERTIES

ORACLE = "state oracle"


class ExamSummary:
    """What `evaluate physics` found, as the command line prints it."""

    def __init__(self, out: Path, page: Path, figures: Figures, alarms: dict[str, Any]) -> None:
        self.out, self.page, self.figures, self.alarms = out, page, figures, alarms

    def __str__(self) -> str:
        """A row for each property: the model, and the best of the baselines."""
        rows = ["relative accuracy, %      model  [95% interval]   best baseline"]
        for kind in PROPERTIES:
            name = f"{kind}/relative"
            own = self.figures[MODEL][name]
            best = max(
                (f for f in self.figures if f not in (MODEL, ORACLE)), key=lambda f: self.figures[f][name]["value"]
            )
            other = self.figures[best][name]["value"]
            rows.append(
                f"{kind:<24} {100 * own['value']:6.1f}  [{100 * own['low']:.1f}, {100 * own['high']:.1f}]"
                f"     {100 * other:.1f} {best}"
            )
        for name, figure in self.alarms.items():
            rows.append(f"{name:<34} {figure['value']:.3f}  [{figure['low']:.3f}, {figure['high']:.3f}]")
        return "\n".join([*rows, f"{self.out}, {self.page}"])


def evaluate(
    what: Positional[Literal["physics"]],
    model: Positional[Path],
    out: Path = Path("result.json"),
    *,
    controls: Path | None = None,
    control_steps: int = 300,
    exam: OmitArgPrefixes[ExamConfig],
) -> ExamSummary:
    """Examine a model in intuitive physics: nine properties, matched quadruplets, every baseline; a table and a page.

    Args:
        what: Which exam.
        model: The model folder, trained on `foretell record physics --scenario staged --frames 24`.
        out: The result file to write; a page of the same name, .html, lies beside it.
        controls: Folder that keeps the trained controls between exams; beside `out` unless given.
        control_steps: Training steps of each control.
        exam: How much is asked.
    """
    assert what == "physics"
    one_thread()
    out = Path(out)
    world_model, panel = load_model(Path(model)), load_panel(Path(model))
    size = world_model.config.view.height
    training = exam.world("train", size)
    normal = possible_clips(training, exam.normal, SEEDS["normal"])
    tasks = control_tasks(world_model.config, training, control_steps)
    judges: dict[str, Judge] = {
        MODEL: Foresight(world_model, normal, HORIZONS),
        "pixel copy": PixelCopy(),
        "latent copy": LatentCopy(world_model),
        "straight line": LatentLine(world_model),
        **control_judges(tasks, Path(controls or out.parent / "controls"), normal, HORIZONS),
        ORACLE: train_oracle(
            possible_clips(exam.world("train", 16), exam.oracle_clips, SEEDS["normal"]), steps=exam.oracle_steps
        ),
    }
    figures, verdicts = sit(judges, exam, size)
    alarms = watchfulness(panel, exam, size)
    log.write_result(
        out,
        command=shlex.join(["foretell", *sys.argv[1:]]),
        protocol={
            **exam.protocol,
            "control_steps": control_steps,
            "model": read_config(Path(model))["sha256"],
        },
        seeds=[read_config(Path(model))["run"]["train"]["seed"]],
        metrics=figures[MODEL] | alarms,
        baselines={
            f"{name}/{k}": v for name, of_judge in figures.items() if name != MODEL for k, v in of_judge.items()
        },
    )
    page = out.with_suffix(".html")
    write_exam_page(
        page, json.loads(out.read_text(encoding="utf-8")), verdicts, exam.world(exam.part, size), SEEDS["quadruplets"]
    )
    return ExamSummary(out, page, figures, alarms)
