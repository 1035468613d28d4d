"""The verb `evaluate`. In a file of its own, since it trains the networks that stand beside the model."""

from __future__ import annotations

import json
import shlex
import sys
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from foretell import log
from foretell.controls import control_judges, control_tasks, train_controls
from foretell.errors import ConfigError
from foretell.evals.answers import Answers
from foretell.evals.exam import HORIZONS, SEEDS, ExamConfig, Figures, ask, possible_clips, watchfulness
from foretell.evals.intphys import write_intphys_submission
from foretell.evals.judges import Foresight, Judge, LatentCopy, LatentLine, PixelCopy
from foretell.evals.layouts import incomplete_groups, read_layout
from foretell.evals.oracle import StateOracle, train_oracle
from foretell.evals.public_sets import figures_of, plausibilities, surprises_of
from foretell.evals.workers import workers
from foretell.model.folder import load_model, read_config
from foretell.model.likeness import Likeness, load_likeness
from foretell.model.world_model import WorldModel
from foretell.serve.exam_page import write_exam_page
from foretell.surprise.panel import MODEL, load_panel
from foretell.verbs import one_thread
from foretell.worlds.stage import PROPERTIES

PIXEL_COPY, LATENT_COPY, STRAIGHT_LINE, ORACLE = "pixel copy", "latent copy", "straight line", "state oracle"
WORKERS = 2
"""Processes that take questions of the exam."""


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
    data: Path | None = None,
    layout: Literal["intphys", "grasp", "inflevel"] | None = None,
    controls: Path | None = None,
    control_steps: int = 300,
    exam: OmitArgPrefixes[ExamConfig],
) -> ExamSummary | PublicSummary:
    """Examine a model in intuitive physics: nine properties, matched quadruplets, every baseline; a table and a page.

    Args:
        what: Which exam.
        model: The model folder, trained on `foretell record physics --scenario staged --frames 24`.
        out: The result file to write; a page of the same name, .html, lies beside it.
        data: Instead of simulated scenes, the folder of a public benchmark, on your disk.
        layout: Which benchmark it is; for IntPhys' test set its submission file is written beside `out`, too.
        controls: Folder that keeps the trained controls between exams, and what they said; beside `out` unless given.
        control_steps: Training steps of each control.
        exam: How much is asked.
    """
    assert what == "physics"
    one_thread()
    out = Path(out)
    if (data is None) != (layout is None):
        raise ConfigError(f"evaluate physics: got data {data} and layout {layout}, expected both or none")
    if data is not None and layout is not None:
        return evaluate_public(Path(model), out, Path(data), layout)
    return evaluate_simulated(Path(model), out, Path(controls or out.parent / "controls"), control_steps, exam)


def evaluate_simulated(model: Path, out: Path, controls: Path, control_steps: int, exam: ExamConfig) -> ExamSummary:
    """The exam on staged scenes."""
    world_model, panel = load_model(model), load_panel(model)
    view, size = world_model.config.view, world_model.config.view.height
    training = exam.world("train", size)
    if view.width != size or view.fps != training.fps:
        got = f"a view of {view.height}x{view.width} at {view.fps:g} fps"
        raise ConfigError(f"{model}: {got}, expected a square one at {training.fps}: train on staged scenes")
    with workers(WORKERS, one_thread) as pool:
        answers = ask_everyone(world_model, load_likeness(model, world_model), exam, controls, control_steps, pool)
        alarms = watchfulness(panel, exam, size, pool)
    figures = {name: of_judge.figures(exam.alpha) for name, of_judge in answers.items()}
    log.write_result(
        out,
        command=shlex.join(["foretell", *sys.argv[1:]]),
        protocol={
            **exam.protocol,
            "control_steps": control_steps,
            "model": read_config(model)["sha256"],
            "trained": {k: read_config(model)["run"].get(k) for k in ("train", "surprise", "likeness", "hold_out")},
        },
        seeds=[read_config(model)["run"]["train"]["seed"]],
        metrics=figures[MODEL] | alarms,
        baselines={
            f"{name}/{k}": v for name, of_judge in figures.items() if name != MODEL for k, v in of_judge.items()
        },
    )
    page = out.with_suffix(".html")
    verdicts = {kind: {name: of_judge.verdicts[kind] for name, of_judge in answers.items()} for kind in PROPERTIES}
    write_exam_page(
        page, json.loads(out.read_text(encoding="utf-8")), verdicts, exam.world(exam.part, size), SEEDS["quadruplets"]
    )
    return ExamSummary(out, page, figures, alarms)


def ask_everyone(
    model: WorldModel, likeness: Likeness | None, exam: ExamConfig, controls: Path, control_steps: int, pool: Executor
) -> dict[str, Answers]:
    """What all judges say, the model first.

    Those that do not depend on the model's weights are kept in `controls`, and asked only what they were never asked before.
    """
    size = model.config.view.height
    training = exam.world("train", size)
    kind = None if likeness is None else likeness.config
    tasks = {task.name: task for task in control_tasks(model.config, training, control_steps, likeness=kind)}
    kept = {
        name: controls / f"{name.replace(' ', '-')}-{exam.key(repr(tasks.get(name, name)), size)}.answers"
        for name in (PIXEL_COPY, *tasks, ORACLE)
    }
    missing = [name for name, path in kept.items() if not path.exists()]
    wanted = [task for name, task in tasks.items() if name in missing]
    trained = train_controls(wanted, controls, pool)
    oracle = pool.submit(_oracle, exam) if ORACLE in missing else None
    normal = possible_clips(training, exam.normal, SEEDS["normal"])
    own: dict[str, Judge] = {
        MODEL: Foresight(model, normal, HORIZONS, likeness),
        LATENT_COPY: LatentCopy(model),
        STRAIGHT_LINE: LatentLine(model),
    }
    asked = [ask(own, exam, size, pool)]  # so that no process is idle while the last control is trained
    for future in trained:
        future.result()
    others: dict[str, Judge] = {PIXEL_COPY: PixelCopy()} if PIXEL_COPY in missing else {}
    others |= control_judges(wanted, controls, normal, HORIZONS)
    if oracle is not None:
        others[ORACLE] = oracle.result()
    if others:
        asked.append(ask(others, exam, size, pool))
    answers = {name: of_judge for of_some in asked for name, of_judge in of_some.answers().items()}
    for name, path in kept.items():
        if name in missing:
            answers[name].save(path)
        else:
            answers[name] = Answers.load(path)
    return {name: answers[name] for name in (MODEL, PIXEL_COPY, LATENT_COPY, STRAIGHT_LINE, *tasks, ORACLE)}


def _oracle(exam: ExamConfig) -> StateOracle:
    clips = possible_clips(exam.world("train", 16), exam.oracle_clips, SEEDS["normal"])
    return train_oracle(clips, HORIZONS, steps=exam.oracle_steps)


class PublicSummary:
    """What `evaluate physics --data` found, as the command line prints it."""

    def __init__(self, out: Path, figures: Figures, left_out: list[str], submission: Path | None) -> None:
        self.out, self.figures, self.left_out, self.submission = out, figures, left_out, submission

    def __str__(self) -> str:
        """A line for each figure of each scorer."""
        rows = [
            f"{scorer:<18} {name:<24} {figure['value']:.3f}  [{figure['low']:.3f}, {figure['high']:.3f}]  n {figure['n']}"
            for scorer, of_scorer in self.figures.items()
            for name, figure in of_scorer.items()
        ]
        if self.left_out:
            rows.append(
                f"left out, without a partner or a label: {len(self.left_out)} groups, {', '.join(self.left_out[:5])}"
            )
        return "\n".join([*rows, str(self.out), *([str(self.submission)] if self.submission else [])])


def evaluate_public(
    model: Path, out: Path, data: Path, layout: Literal["intphys", "grasp", "inflevel"]
) -> PublicSummary:
    """A public benchmark, each clip scored as `foretell watch` scores it; nothing is chosen on its labels."""
    panel, clips = load_panel(model), read_layout(data, layout)
    surprises = surprises_of(panel, clips)
    figures = {name: figures_of(of_scorer, clips) for name, of_scorer in surprises.items()}
    submission = None
    if layout == "intphys" and all(clip.possible is None for clip in clips):
        submission = out.with_suffix(".zip")
        write_intphys_submission(submission, plausibilities(surprises[MODEL]))
    log.write_result(
        out,
        command=shlex.join(["foretell", *sys.argv[1:]]),
        protocol={
            "layout": layout,
            "clips": len(clips),
            "view": repr(panel.view),
            "model": read_config(model)["sha256"],
        },
        seeds=[read_config(model)["run"]["train"]["seed"]],
        metrics=figures[MODEL],
        baselines={f"{name}/{k}": v for name, found in figures.items() if name != MODEL for k, v in found.items()},
    )
    return PublicSummary(out, figures, incomplete_groups(clips), submission)
