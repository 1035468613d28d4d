"""What-if, on a small model and a real recording: what the page says, and what is refused."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import ConfigError, DataError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import PooledConfig
from foretell.model.folder import save_model
from foretell.model.heads import Errors, Heads, save_heads
from foretell.model.predictors import SteeredConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.plan.effects import Effect
from foretell.serve import fitted
from foretell.serve.what_if import WhatIfSummary, known_actions, parse_box, read_sequence, what_if
from foretell.serve.what_if_page import Cell
from foretell.worlds.played import Played
from foretell.worlds.record import record
from foretell.worlds.rooms import Rooms, RoomsConfig

SKIP, FRAMES, HORIZON = 2, 21, 3
world = Rooms(RoomsConfig(size=32))
acts = ActionConfig(space=world.actions, skip=SKIP, mean=(0.0, 0.0), std=(0.5, 0.5))


@dataclass
class Place:
    """A folder with a recording, a model of it, and three sequences of actions."""

    folder: Path
    clip: Path
    model: Path
    a: Path
    b: Path

    def ask(self, *actions: Path, **options: object) -> WhatIfSummary:
        out = self.folder / "page.html"
        return what_if(self.model, self.clip, actions=actions or (self.a, self.b), out=out, **options)  # type: ignore[arg-type]

    def page(self) -> str:
        return (self.folder / "page.html").read_text()


def sequence(path: Path, rows: list[list[float]] | np.ndarray, header: str = "action_0,action_1") -> Path:
    path.write_text("\n".join([header, *(",".join(f"{float(x):.9g}" for x in row) for row in rows)]) + "\n")
    return path


def model_folder(folder: Path, store: Path, stretches: int = 200, margin: float = 1e-5) -> Path:
    """A model that foretells something, untrained, with heads and errors of a size that is given."""
    torch.manual_seed(1)
    encoder = PooledConfig(latent_width=4, channels=2, hidden=8)
    view = View(height=32, width=32, fps=10.0)
    predictor = SteeredConfig(hidden=8, memory=4)
    model = WorldModel(ModelConfig(view=view, encoder=encoder, predictor=predictor, actions=acts)).eval()
    model.predictor.speak[-1].weight.data.normal_()  # type: ignore[index, operator, union-attr]
    save_model(folder, model, {"data": {"store": str(store)}})
    truth = torch.zeros(stretches, HORIZON, 2)
    foretold = margin * torch.randn(stretches, HORIZON, 2, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(stretches, 2), torch.zeros(stretches, HORIZON * SKIP, 2)
    errors = Errors(
        precision=torch.eye(4),
        mean=torch.zeros(1, 4),
        familiar=torch.eye(4),
        surprises=torch.ones(1),
        truth=truth,
        foretold=foretold,
        now=nothing[0],
        between=nothing[1],
    )
    save_heads(folder, Heads(model, world.quantities, farthest=4), errors)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted, "STEPS", 2)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    record(Played(world, "smooth", FRAMES), folder, episodes=2, seed=5, workers=1, progress=False)
    return folder


@pytest.fixture
def place(recording: Path, tmp_path: Path) -> Place:
    clip = next(iter(sorted(recording.glob("*.mp4"))))
    a = sequence(tmp_path / "still.csv", np.zeros((HORIZON * SKIP, 2)))
    b = sequence(tmp_path / "right.csv", np.tile([1.0, 0.0], (HORIZON * SKIP, 1)))
    return Place(tmp_path, clip, model_folder(tmp_path / "model", tmp_path / "gone"), a, b)


def test_the_page_shows_every_future_and_tells_its_effects(place: Place) -> None:
    told = place.ask(start=10)
    page = place.page()
    assert "2 futures of one past" in page
    assert page.count('class="film player"') == 3  # two, and what truly came
    assert page.count("<polyline") == 2 * len(world.quantities)
    assert page.count("<polygon") == 2 * len(world.quantities)
    assert re.search(r"6 frames, 2 apart, the last one frame 10 of 21", page)
    assert len(told.lines) == 1
    assert told.lines[0].startswith("right, beside still: ")
    assert str(told).splitlines()[0].endswith("page.html")
    assert not re.search(r'(src|href)="(?!data:)', page)  # self-contained
    assert "http" not in page.replace("http-equiv", "")


def test_the_same_actions_have_no_effect_and_others_have_the_one_that_the_model_imagines(place: Place) -> None:
    same = place.ask(place.a, sequence(place.folder / "again.csv", np.zeros((6, 2))), start=10)
    assert same.lines == ["again, beside still: no clear effect on x, y"]
    assert "change nothing that can be told from chance" in place.page()
    assert any("higher by" in line or "lower by" in line for line in place.ask(start=10).lines)


def test_what_is_removed_is_another_future_of_the_same_actions(place: Place) -> None:
    told = place.ask(place.b, start=10, remove="0,0,32,16")
    assert len(told.lines) == 1
    assert told.lines[0].startswith("right, without it, beside right: ")
    assert "the box 0,0,32,16, painted in the median" in place.page()
    assert any("painted over" in note for note in told.notes)
    assert "2 futures of one past, with a thing and without it" in place.page()


def test_without_known_actions_the_past_is_one_frame_and_the_page_says_so(place: Place) -> None:
    lonely = place.folder / "lonely.mp4"
    lonely.write_bytes(place.clip.read_bytes())
    place.clip = lonely
    told = place.ask(start=10)
    assert any("one frame and an empty memory" in note and "lonely.csv" in note for note in told.notes)
    assert "one frame and an empty memory" in place.page()
    sequence(place.folder / "lonely.csv", np.zeros((FRAMES, 2)))
    assert not any("one frame" in note for note in place.ask(start=10).notes)
    assert any("one frame" in note for note in place.ask(start=0).notes)


def test_the_past_is_what_the_recording_says(place: Place) -> None:
    done = known_actions(place.clip, acts, FRAMES, [])
    assert done is not None
    assert done.shape == (FRAMES, 2)
    episode = Played(world, "smooth", FRAMES)
    assert any(np.allclose(done, episode.episode(seed).actions) for seed in _seeds(place.clip))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="20 frames at the model's rate and 21 actions"):
        known_actions(place.clip, acts, 20, [])


def _seeds(clip: Path) -> list[int]:
    from foretell.worlds.record import episode_seed

    return [episode_seed(5, number) for number in range(2)]


def test_from_the_last_frame_on_nothing_is_known_of_what_came(place: Place) -> None:
    place.ask()
    assert "what truly came" not in place.page()
    assert "the last one frame 20 of 21" in place.page()


def test_bands_end_where_nothing_was_calibrated(place: Place) -> None:
    long = [sequence(place.folder / f"{n}.csv", np.full((11, 2), n - 1.0)) for n in (0, 2)]
    told = place.ask(*long, start=10)
    assert any("do not fill a step" in note for note in told.notes)
    assert any("calibrated for 3 steps" in note for note in told.notes)
    assert "after 0.6 s, clear" in told.lines[0]
    assert "after 1 s" not in told.lines[0]
    few = model_folder(place.folder / "few", place.folder, stretches=6)
    place.model = few
    told = place.ask(start=10)
    assert told.lines == ["right, beside still: no clear effect on x, y"]
    assert place.page().count("not known") == 2
    assert any("too few" in note for note in told.notes)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("action_0,action_1\n0,1.5\n", ConfigError, "row 2"),
        ("action_0,action_1\n0,0\n0,nan\n", DataError, "row 3"),
        ("action_0\n0\n0\n", ConfigError, "1 columns, expected 2"),
        ("action_0,action_1\n", DataError, "holds no actions"),
        ("action_0,action_1\n0,0\n0\n", DataError, "holds no actions"),
        ("action_0,action_1\n0,left\n", DataError, "left"),
        ("0,0\n0,0\n", DataError, "header"),
        ("", DataError, "holds no actions"),
    ],
)
def test_bad_csv_files_are_refused(text: str, error: type, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(error, match=says) as caught:
        read_sequence(tmp_path / "bad.csv", world.actions)
    assert "bad.csv" in str(caught.value)


def test_missing_binary_and_discrete_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no_such"):
        read_sequence(tmp_path / "no_such.csv", world.actions)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError):
        read_sequence(tmp_path / "binary.csv", world.actions)
    space = ActionSpace(low=(0.0, 0.0), high=(1.0, 1.0), discrete=True)
    assert read_sequence(sequence(tmp_path / "d.csv", [[0, 1], [1, 0]]), space).tolist() == [[0, 1], [1, 0]]


def test_impossible_requests_are_refused(place: Place) -> None:
    short, uneven = sequence(place.folder / "s.csv", [[0, 0]]), sequence(place.folder / "u.csv", np.zeros((8, 2)))
    for ask, says in [
        (lambda: place.ask(place.a), "two or more"),
        (lambda: place.ask(short, short), "expected one length of 2 or more"),
        (lambda: place.ask(place.a, uneven), "6, 8 actions"),
        (lambda: place.ask(start=21), "start 21 in a clip of 21 frames"),
        (lambda: place.ask(start=-1), "start -1"),
        (lambda: place.ask(start=10, remove="0,0,33,4"), "expected x0,y0,x1,y1"),
        (lambda: place.ask(start=10, remove="1,2,3"), "four whole numbers"),
        (lambda: place.ask(start=10, remove="a,b,c,d"), "four whole numbers"),
        (lambda: what_if(place.model, place.clip, actions=(place.a, place.b), out=Path("x.mp4")), "html"),
    ]:
        with pytest.raises(ConfigError, match=says):
            ask()
    with pytest.raises(DataError, match="no such file"):
        what_if(place.model, place.folder / "none.mp4", actions=(place.a, place.b))
    assert not (place.folder / "page.html").exists()


def test_it_is_a_verb(place: Place) -> None:
    out = place.folder / "cli.html"
    arguments = [str(place.model), str(place.clip), "--actions", str(place.a), str(place.b), "--start", "10"]
    told = tyro.cli(what_if, args=[*arguments, "--out", str(out)])
    assert out.exists()
    assert len(told.lines) == 1


def test_names_are_escaped(place: Place) -> None:
    evil = sequence(place.folder / "<b>&x.csv", np.ones((6, 2)) / 2)
    place.ask(place.a, evil, start=10)
    assert "<b>&x" not in place.page()
    assert "&lt;b&gt;&amp;x" in place.page()


def test_effects_in_words() -> None:
    def said(difference: list[float], margin: list[float]) -> tuple[str, str]:
        d, m = torch.tensor(difference)[:, None], torch.tensor(margin)[:, None]
        cell = Cell.of(Effect(d, m, (d.sign() * (d.abs() > m)).int()), 0, 0.5)
        return cell.kind, str(cell)

    assert said([0.1, 3, 5], [1, 1, 1]) == ("higher", "higher by 5.0 ± 1.0 after 1.5 s, clear from 1 s on")
    assert said([-2.0, -3, -5], [1, 1, 1]) == ("lower", "lower by 5.0 ± 1.0 after 1.5 s, clear from 0.5 s on")
    assert said([0, 2, 0], [1, 1, 1]) == ("passing", "higher by 2.0 ± 1.0 after 1 s, not clear in the end")
    assert said([0, 0.3, 0.2], [1, 1, 1]) == ("none", "+0.2 ± 1.0")
    assert said([0, 3.0, 9], [1, 1, float("inf")]) == ("higher", "higher by 3.0 ± 1.0 after 1 s, clear from 1 s on")
    assert said([170.4], [312.0]) == ("none", "+170 ± 312")
    assert said([-0.0123], [0.034]) == ("none", "-0.012 ± 0.034")
    assert said([3.0], [float("inf")]) == ("unknown", "not known (no band)")


def test_boxes() -> None:
    assert parse_box("1,2, 3,4") == (1, 2, 3, 4)
