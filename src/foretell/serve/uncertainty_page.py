"""What a model knows that it does not know, as one page: reliability, coverage, width, risk, odd clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from foretell.evals.intervals import Figure
from foretell.evals.uncertainty import Said, reliability_curve, risk_curves
from foretell.log import write_whole
from foretell.serve.plots import Area, Line, plot

SIGNALS = ("strangeness", "spread", "apart", "shell")
"""What odd clips may be noticed by; the first is the model's answer, the others stand beside it."""


def write_uncertainty_page(
    path: Path,
    test: Said,
    odd: Mapping[str, Said],
    figures: Mapping[str, Figure],
    baselines: Mapping[str, Figure],
    oracle: np.ndarray | None,
    level: float,
) -> None:
    """Write the page of one evaluation. Raises DataError if it cannot be written.

    test, odd: what was said of fresh and of odd clips. figures, baselines: as in the result file. oracle (N, H, Q): the true
    deviation of what came, if a law is known.
    """
    folder = jinja2.PackageLoader("foretell.serve")
    page = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = page.get_template("uncertainty.html").render(
        css=Markup(page.get_template("report.css").render()),
        level=level,
        tiles=_tiles(figures),
        charts=_charts(test, figures, oracle, level),
        signals=SIGNALS,
        noticed={kind: [_of_signal(signal, kind, figures, baselines) for signal in SIGNALS] for kind in odd},
        answers=[("Fresh clips like those it knows", _answers(test))]
        + [(kind, _answers(of)) for kind, of in odd.items()],
        figures=figures,
        baselines=baselines,
    )
    write_whole(path, text)


def _tiles(figures: Mapping[str, Figure]) -> list[tuple[str, str, str]]:
    """Heading, number, small print."""
    worst = next((name for name in figures if name.startswith("coverage, worst slice")), None)
    tiles = [("Inside the band", "coverage, whole horizon", "all steps, all quantities"), ("Worst slice", worst, "")]
    tiles += [
        ("Calibration error", "calibration error", "0: calibrated"),
        ("Of the way to an oracle", "gap closed, all steps", "how well doubt ranks errors; 0 is random"),
    ]
    shown = []
    for heading, name, small in tiles:
        if name is None:
            continue
        value = figures[name]["value"]
        number = f"{value:.3f}" if name == "calibration error" else f"{100 * value:.1f}%"
        shown.append((heading, number, small or name.partition("(")[2].rstrip(")")))
    return shown


def _charts(
    test: Said, figures: Mapping[str, Figure], oracle: np.ndarray | None, level: float
) -> list[tuple[str, str, Markup]]:
    """Heading, what it says, picture."""
    stated, came = reliability_curve(test)
    steps = range(1, test.truth.shape[1] + 1)
    covered = [figures[f"coverage, step {step}"] for step in steps]
    widths = [("model", [figures[f"width, step {step}"]["value"] for step in steps])]
    if oracle is not None:
        shares = [figures[f"width over oracle, step {step}"]["value"] for step in steps]
        widths.append(("oracle", [w / s for w, s in zip(widths[0][1], shares, strict=True)]))
    curves = risk_curves(test)
    kinds = {"its doubt": "model", "oracle": "oracle", "random": "random"}
    return [
        (
            "Does it mean what it says?",
            "Of truths said to be below a value with this probability, so many were. Dashed: calibrated.",
            plot(
                "stated probability",
                "share that came",
                [Line(points=[(0, 0), (1, 1)], kind="guide"), Line(points=list(zip(stated, came, strict=True)), kind="model")],
            ),
        ),
        (
            "Inside the band, step by step",
            "With 95% intervals. Dashed: what was promised.",
            plot(
                "steps ahead",
                "share inside",
                [_level(steps, level), Line(points=[(s, f["value"]) for s, f in zip(steps, covered, strict=True)], kind="model")],
                [Area(edges=[(s, f["low"], f["high"]) for s, f in zip(steps, covered, strict=True)], kind="band")],
                floor=level - 0.05,
            ),
        ),
        (
            "How wide the band is",
            "Mean over clips and quantities. Grey: of who knows the law and the true state.",
            plot("steps ahead", "width", [Line(points=list(zip(steps, w, strict=True)), kind=k) for k, w in widths], floor=0.0),
        ),
        (
            "If it may stay silent where it doubts most",
            "Mean error of the surest share. Grey: if the errors themselves were known. Dashed: silent at random.",
            plot(
                "share answered",
                "mean error",
                [Line(points=list(zip(*curve, strict=True)), kind=kinds[name]) for name, curve in curves.items()],
                floor=0.0,
            ),
        ),
    ]  # fmt: skip


def _level(steps: Sequence[int], level: float) -> Line:
    return Line(points=[(steps[0], level), (steps[-1], level)], kind="guide")


def _of_signal(signal: str, kind: str, figures: Mapping[str, Figure], baselines: Mapping[str, Figure]) -> Figure | None:
    name = f"AUROC, {kind}"
    return figures.get(name) if signal == SIGNALS[0] else baselines.get(f"{signal}/{name}")


def _answers(said: Said) -> tuple[float, float, float]:
    """Percent of steps: claimed and right, claimed and wrong, not known."""
    inside = ((said.joint[0] <= said.truth) & (said.truth <= said.joint[1])).all(-1)
    claimed = ~said.abstained
    right, wrong = float((inside & claimed).mean()), float((~inside & claimed).mean())
    return 100 * right, 100 * wrong, 100 * (1 - right - wrong)
