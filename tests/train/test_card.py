"""The model card: true to the folder, whole whatever is missing, and its words agree with the alarms of collapse.py."""

import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import CheckpointError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import DenseConfig, PooledConfig
from foretell.model.folder import VERSION, config_to_json, read_config
from foretell.model.moments import MomentsConfig
from foretell.model.predictors import CausalConfig, RecurrentConfig, SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.objectives.collapse import alarms, monitors
from foretell.objectives.masked import MaskedConfig
from foretell.objectives.next_latent import NextLatent, NextLatentConfig
from foretell.objectives.next_pixels import NextPixelsConfig
from foretell.objectives.objective import build_objective
from foretell.surprise.calibrate import Calibration
from foretell.train.card import TERMS, count, duration, number, write_card
from foretell.train.curves import HEIGHT, LEFT, POINTS, TOP, WIDTH, draw
from foretell.train.meanings import foresight, monitors_of, raised_alarms, read_alarms

small = ModelConfig(
    view=View(height=32, width=48, fps=5.0),
    encoder=DenseConfig(latent_width=12, stem_channels=8, channels=16),
    predictor=RecurrentConfig(hidden=8),
)
healthy = {
    "error_over_copy_1": 0.5, "error_over_linear_1": 0.75, "error_over_copy_4": 0.3, "error_over_linear_4": 0.6,
    "order": 0.25, "rank": 7.25, "rank_of_variance": 6.25, "std_min": 0.875, "std_median": 1.0, "std_max": 1.125, "std_within": 0.5,
    "sigreg_over_gaussian": 1.75, "motion": 2.5,
}  # fmt: skip
ACTS = ActionConfig(space=ActionSpace(low=(-1.0, 0.0), high=(1.0, 5.0)), skip=4, mean=(0.0, 2.0), std=(1.0, 1.0))
HOSTILE = "</script><b>&\udcff ä.mp4"


def diary(steps: int = 40, every: int = 10) -> list[dict]:
    """A made-up run: a diary whose first look still has an alarm."""
    lines = []
    for step in range(1, steps + 1):
        line = {
            "step": step,
            "loss": 3.0 / step,
            "gradient": 1.0,
            "rate": 1e-3,
            "next": 1.0 / step,
            "rollout": 2.0 / step,
        }
        line |= {"sigreg": 0.001, "within": 0.0, "frames_per_second": 500.0}
        if step % every == 0:
            first = step == every
            line |= healthy | ({"error_over_copy_4": 0.9} if first else {})
            found = alarms({k: v for k, v in line.items() if k in healthy}, 12, 7.25)
            line["alarms"] = "; ".join(map(str, found))
        lines.append(line)
    return lines


def folder_of(path: Path, lines: list[dict], *, config: ModelConfig = small, chosen: dict | None = None) -> Path:
    """A model folder as a run leaves it, as far as the card reads it."""
    path.mkdir()
    objective = {"next": 1.0, "rollout": 1.0, "isotropy": 20.0, "within": 1.0, "regularizer": "sigreg", "horizon": 4}
    stretches = {
        "train": [{"name": f"seen{i}.mp4", "start": 0, "length": 50} for i in range(7)],
        "development": [{"name": "street.mp4", "start": s, "length": 40} for s in (0, 44)],
        "calibration": [{"name": HOSTILE, "start": 0, "length": 30}, {"name": "b.mp4", "start": 0, "length": 25}],
    }
    facts = {
        "version": VERSION,
        "sha256": {},
        "model": config_to_json(config),
        "foretell": "9.8.7",
        "data": {"store": "a/store", "clips": 10, "frames": 485, "mean": [1, 2, 3], "std": [4, 5, 6]},
        "run": {
            "train": {"minutes": 8.0, "steps": None, "batch": 3, "window": 16, "seed": 11, "objective": objective},
            "surprise": {"nearest": 4, "context": 6},
            "hold_out": 0.2,
        },
        "split": stretches,
        "chosen": chosen or [line for line in lines if "rank" in line][-1],
        "untrained_seed": 1,
    }
    (path / "config.json").write_text(json.dumps(facts))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def calibrated(units: int) -> Calibration:
    return Calibration(scores=np.linspace(1, 2, units), unit="clip", unit_seconds=7.5, names=("b.mp4", HOSTILE))


class Page(HTMLParser):
    """Text, tags that load something, and whether all tags close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words, self.tags, self.open, self.loads = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def page_of(folder: Path) -> Page:
    path = write_card(folder)
    assert path == folder / "card.html"
    return Page(path)


def test_tells_what_is_in_the_folder(tmp_path):
    folder = folder_of(tmp_path / "my model", diary())
    calibrated(99).save(folder / "calibration.json")
    page = page_of(folder)
    parameters = {
        part: sum(p.numel() for p in getattr(WorldModel(small), part).parameters()) for part in ("encoder", "predictor")
    }
    for said in (
        "my model",
        "4 steps (0.8 s) ahead",
        "0.3 times that of repeating what was last seen, where going on in a straight line comes to 0.5.",  # 0.3 / 0.6
        "No alarm stands",
        "4 × 6 tokens of 12 numbers",
        "48 × 32 pixels, 5 steps a second, letterbox",
        f"encoder {count(parameters['encoder'])}, predictor {count(parameters['predictor'])}",
        "40 steps of 3 windows of 16 frames, about 3.84 s at 500 frames a second; seed 11",
        "Step 40, chosen from 4 looks",
        "foretell 9.8.7",
        "10 clips, 485 frames, 97 s",
        "7 stretches, 70 s, to learn from",
        "street.mp4 (2 stretches)",
        "99 clips of 7.5 s on average",
        "up to 24 false alarms an hour",  # 0.05 * 3600 / 7.5
        "Any alpha from 0.01 up",
        "foretell watch 'my model/' new_videos/ --out watched/ --alpha 0.05",
        "Raised at step 10. Had it stayed, to try: ",
        '"untrained_seed": 1',
    ):
        assert said in page.text, said
    assert "seen0.mp4" not in page.text, "only held-out clips are named"


def test_opens_anywhere(tmp_path):
    page = page_of(folder_of(tmp_path / "m", diary()))
    assert page.loads == []
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert r"<b>&\udcff ä.mp4" in page.text, "a name is text, whatever it holds"
    assert page.tags.count("figure") == 6


def test_alarms_that_stand_are_said_first(tmp_path):
    lines = diary()
    found = alarms(healthy | {"rank": 1.5}, 12, 7.25)
    lines[-1] |= {"rank": 1.5, "alarms": "; ".join(map(str, found))}
    page = page_of(folder_of(tmp_path / "m", lines))
    assert "2 alarms stand: collapse, rank falls." in page.text
    assert f"To try: {found[0].remedy}." in page.text


@pytest.mark.parametrize(("units", "alpha"), [(8, 0.112), (18, 0.053), (1, 0.5)])
def test_too_few_units_for_the_usual_promise(units, alpha, tmp_path):
    folder = folder_of(tmp_path / "m", diary())
    calibration = calibrated(units)
    calibration.save(folder / "calibration.json")
    page = page_of(folder)
    assert f"too few units for alpha 0.05: {units}, and it takes 19" in page.text
    assert f"--out watched/ --alpha {alpha} #" in page.text
    calibration.threshold(alpha)  # what the card tells to type is not refused


def test_not_calibrated_says_why_and_what_to_do(tmp_path):
    page = page_of(folder_of(tmp_path / "m", diary()))
    assert "Not calibrated." in page.text
    assert "longer than the 6 steps" in page.text
    assert "foretell calibrate m/ normal_videos/" in page.text
    assert "--alpha" not in page.text


def test_damaged_files_are_refused(tmp_path):
    folder = folder_of(tmp_path / "m", diary())
    (folder / "calibration.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"calibration\.json"):
        write_card(folder)
    (folder / "calibration.json").unlink()
    (folder / "metrics.jsonl").write_text("what?\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 1"):
        write_card(folder)
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: holds no step"):
        write_card(folder)


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_monitors_that_are_not_numbers(value, tmp_path):
    lines = [{"step": 1, "loss": 2.0, "next": 1.0, "alarms": "", **dict.fromkeys(healthy, value)}]
    text = json.dumps(lines[0])  # config.json may hold NaN, which the diary never does
    folder = folder_of(tmp_path / "m", [], chosen=json.loads(text))
    (folder / "metrics.jsonl").write_text(json.dumps(lines[0] | dict.fromkeys(healthy)) + "\n")
    page = page_of(folder)
    assert "could not be measured" in page.text
    assert "not measured" in page.text
    assert not re.search(r"\b(NaN|nan|inf)\b", page.text)


def test_a_run_with_one_short_look(tmp_path):
    """Short clips have no errors far ahead, and one look has dots for curves."""
    near = {k: v for k, v in healthy.items() if not k.endswith("_4")}
    lines = [{"step": 1, "loss": 2.0, "next": 1.0, **near, "alarms": ""}]
    config = ModelConfig(view=small.view, encoder=PooledConfig(latent_width=9), predictor=CausalConfig(width=16))
    page = page_of(folder_of(tmp_path / "m", lines, config=config))
    assert "1 step (0.2 s) ahead" in page.text
    assert "1 × 1 token of 9 numbers" in page.text
    assert "circle" in page.tags


def test_names_are_those_of_the_run():
    """The card asks for what monitors and objective give; they stand on one line of the diary, so no name may be shared."""
    frames = torch.randint(0, 256, (2, 9, 3, 32, 48), dtype=torch.uint8)
    given = monitors(WorldModel(small).eval(), frames).keys()
    assert given == healthy.keys()
    assert given >= {monitor.key for monitor in monitors_of(12)}
    assert not given & TERMS.keys()
    for regularizer in ("sigreg", "vcreg"):
        assert NextLatent(NextLatentConfig(regularizer=regularizer)).weights.keys() <= TERMS.keys()
    settings = {"vcreg": "isotropy"}
    acting = ModelConfig(view=small.view, encoder=PooledConfig(), predictor=SteeredConfig(), actions=ACTS)
    carrying = dataclasses.replace(small, predictor=RecurrentConfig(hidden=8, carry=True))
    for config, build in (
        (NextLatentConfig(), carrying),
        (NextLatentConfig(inverse=2.0), acting),
        (NextPixelsConfig(), small),
        (MaskedConfig(), small),
    ):
        weights = build_objective(config, WorldModel(build)).weights
        assert {term: getattr(config, TERMS[term]) for term in weights} == weights
        settings |= {term: TERMS[term] for term in weights}
    assert settings == TERMS


def test_the_card_of_a_model_that_acts_speaks_of_acting(tmp_path):
    config = ModelConfig(view=small.view, encoder=PooledConfig(latent_width=9), predictor=SteeredConfig(), actions=ACTS)
    lines = [line | {"action_shuffle_ratio": 3.25} for line in diary() if "rank" in line]
    page = page_of(folder_of(tmp_path / "m", lines, config=config))
    assert "4 steps (3.2 s) ahead" in page.text  # a step is four frames at five a second
    assert "from -1.0, 0.0 to 1.0, 5.0, in blocks of 4" in page.text
    assert "margins and the gate of guardrails" in page.text
    assert "3.25" in page.text
    assert "foretell plan" in page.text
    assert "alarm line" not in page.text


def test_the_card_of_an_encoder_without_weights_does_not_judge_its_latents(tmp_path):
    config = ModelConfig(view=small.view, encoder=MomentsConfig(), predictor=SteeredConfig(), actions=ACTS)
    lines = [line | {"rank": 5.5, "std_min": 0.0} for line in diary() if "rank" in line]
    page = page_of(folder_of(tmp_path / "m", lines, config=config))
    assert "5.5of 16 dimensions" in page.text.replace("\n", "")
    assert "Order of time" in page.text
    assert "Deviation, least dimension" not in page.text


def test_loss_curve_has_its_terms(tmp_path):
    card = write_card(folder_of(tmp_path / "m", diary())).read_text()
    drawn = card.split("<h3>Loss</h3>")[1].split("</figure>")[0]
    assert [name in drawn for name in ("all", "next", "rollout", "sigreg", "vcreg")] == [True] * 4 + [False]
    sigreg = re.findall(r'class="curve curve-3" d="([^"]+)"', drawn)[0]
    assert len({point.split()[1] for point in re.split("[ML]", sigreg)[1:]}) == 1, "constant, as the term is"


def test_ranges_are_those_of_the_alarms():
    """Just inside a monitor's range no alarm is raised, just outside there is one: the card and collapse.py agree."""
    assert alarms(healthy, 12, 7.25) == []
    for monitor in monitors_of(12):
        for bound, outwards in ((monitor.low, -1), (monitor.high, 1)):
            if math.isfinite(bound):
                near = 1e-6 * outwards
                inside, outside = (healthy | {monitor.key: bound + side * near} for side in (-1, 1))
                assert alarms(inside, 12, bound if monitor.key == "rank" else 7.25) == [], monitor.key
                assert alarms(outside, 12, bound if monitor.key == "rank" else 7.25), monitor.key
                assert (monitor.judge(inside[monitor.key]), monitor.judge(outside[monitor.key])) == (
                    "in range",
                    "out of range",
                )
    for key, bound in (("error_over_copy_4", 0.8), ("error_over_linear_4", 1.0)):
        assert alarms(healthy | {key: bound - 1e-6}, 12, 7.25) == []
        assert alarms(healthy | {key: bound + 1e-6}, 12, 7.25), "the card says so above its table of errors"
    free = next(monitor for monitor in monitors_of(12) if monitor.key == "sigreg_over_gaussian")
    assert (free.judge(99.0), free.judge(None)) == ("", "unknown")
    assert alarms(healthy | {"sigreg_over_gaussian": 99.0}, 12, 7.25) == []


def test_every_alarm_is_read_back_from_the_diary():
    broken = healthy | {"motion": 0.0, "order": 1.0, "error_over_copy_4": 2.0, "error_over_linear_4": 2.0}
    broken |= {
        "rank": 1.0,
        "rank_of_variance": 1.0,
        "std_max": 9.0,
        "std_within": 0.0,
        "sigreg_over_gaussian": math.inf,
    }
    found = alarms(broken, 12, 7.25)
    assert len(found) == 10, "a new alarm: is it read back?"
    assert read_alarms("; ".join(map(str, found))) == found
    assert read_alarms("") == []


def test_alarms_by_name():
    def look(step, *names):
        return {"step": step, "alarms": "; ".join(f"{name}: at {step}. Try: a; or b." for name in names)}

    raised = raised_alarms([look(10, "x", "y"), look(20, "y"), look(30, "z", "y"), look(40)], chosen_step=30)
    assert [(one.alarm.name, one.alarm.meaning, one.steps, one.stands) for one in raised] == [
        ("y", "at 30", [10, 20, 30], True),
        ("z", "at 30", [30], True),
        ("x", "at 10", [10], False),
    ]


def test_straight_line_beside_the_model():
    [near, far] = foresight({"error_over_copy_1": 0.4, "error_over_linear_1": 0.5, "error_over_copy_4": None})
    assert (near.steps, near.model, near.straight) == (1, 0.4, pytest.approx(0.8))
    assert (far.steps, far.model, far.straight) == (4, None, None)


def test_heights_on_both_axes():
    linear = draw("t", "s", {"a": [(0, 0.0), (50, 5.0), (100, 10.0)]}, guides={"half": 5.0}, mark=50, log=False)
    assert linear.curves[0].value == 5.0
    assert linear.curves[0].dots[1] == (linear.mark, linear.guides[0].at)
    assert [tick.label for tick in linear.up] == ["0", "2", "4", "6", "8", "10"]
    log = draw("t", "s", {"a": [(1, 0.01), (2, 0.1), (3, 1.0)]}, guides={}, mark=None, log=True)
    heights = [y for _, y in log.curves[0].dots]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("scale", [1e-7, 0.3, 1.0, 4e5])
def test_every_line_has_an_axis_and_stays_on_it(log, scale):
    points = [(step, scale * (1 + 0.3 * math.sin(step))) for step in range(1, 1000)]
    chart = draw("t", "s", {"a": points, "b": [(1, None)]}, guides={}, mark=None, log=log)
    assert [curve.name for curve in chart.curves] == ["a"]
    assert 2 <= len(chart.up) <= 8
    places = [tuple(map(float, place.split())) for place in re.split("[ML]", chart.curves[0].path)[1:]]
    assert len(places) <= POINTS
    assert all(LEFT <= x <= WIDTH and TOP <= y <= HEIGHT for x, y in places)


def test_lines_break_where_nothing_was_measured():
    points = [(1, 1.0), (2, 2.0), (3, None), (4, 0.0), (5, 3.0)]
    assert draw("t", "s", {"a": points}, guides={}, mark=None, log=False).curves[0].path.count("M") == 2
    assert draw("t", "s", {"a": points}, guides={}, mark=None, log=True).curves[0].path.count("M") == 2
    assert draw("t", "s", {"a": [(1, 0.0), (2, None)]}, guides={}, mark=None, log=True) is None
    assert draw("t", "s", {}, guides={"copy": 1.0}, mark=None, log=True) is None


def test_flat_and_zero_lines_can_be_drawn():
    for value in (0.0, 1.0, 1e-12):
        assert draw("t", "s", {"a": [(7, value)]}, guides={}, mark=7, log=False).curves[0].value == value


def test_numbers_as_one_would_say_them():
    assert [count(n) for n in (950, 597_632, 1_200_000)] == ["950", "598 k", "1.2 M"]
    assert [number(v) for v in (None, 0.29849, 1331.7, 98.917)] == ["–", "0.298", "1,332", "98.9"]
    assert [duration(s) for s in (0.25, 90, 450, 9000)] == ["0.25 s", "90 s", "7.5 min", "2.5 h"]


def test_card_leaves_the_folder_as_it_was(tmp_path):
    folder = folder_of(tmp_path / "m", diary())
    before = read_config(folder)
    write_card(folder)
    assert read_config(folder) == before
    assert sorted(p.name for p in folder.iterdir()) == ["card.html", "config.json", "metrics.jsonl"]
