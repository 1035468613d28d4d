"""Guardrails as people write them, every fault of theirs named; and the constraints they mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foretell.errors import ConfigError
from foretell.plan.constraints import Constraints, allowed, state_excess
from foretell.plan.guardrails import Guardrails
from tests.plan.rails import guardrails

SOUND = """
delta = 0.1
[limits]
low = [-2.0, -1]
high = [2.0, 1]
rate = [0.5, inf]
[[keep]]
quantity = "x"
min = 4.0
max = 60.0
[[keep]]
quantity = "clearance"
min = 0
[[avoid]]
quantities = ["x", "y"]
centre = [20.0, 30.0]
radius = 6.0
[surprise]
alpha = 0.05
[watchdog]
plan_seconds = 0.5
frame_seconds = 0.2
frozen_frames = 2
[fallback]
kind = "hold"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "guardrails.toml"
    path.write_text(text)
    return path


def test_a_sound_file_says_what_is_meant(tmp_path):
    loaded = Guardrails.load(write(tmp_path, SOUND))
    assert loaded == guardrails()
    assert loaded.sum == guardrails().sum != guardrails(delta=0.2).sum
    assert loaded.rest == (0.0, 0.0)
    assert loaded.settings["limits"]["rate"] == [0.5, None]


def test_the_example_of_the_docs_is_sound(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "guardrails.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    assert Guardrails.load(write(tmp_path, example)).delta is not None


@pytest.mark.parametrize("text", ["", "\n# nothing yet\n", None])
def test_nothing_configured_is_refused(tmp_path, text):
    path = tmp_path / "guardrails.toml" if text is None else write(tmp_path, text)
    with pytest.raises(ConfigError, match=r"guardrails\.toml: .*without guardrails nothing is done"):
        Guardrails.load(path)


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    for text in ("limits = [", "\x00"):
        with pytest.raises(ConfigError, match="is not TOML"):
            Guardrails.load(write(tmp_path, text))


def test_every_section_must_be_there(tmp_path):
    with pytest.raises(ConfigError) as caught:
        Guardrails.load(write(tmp_path, "delta = 0.1"))
    for section in ("limits", "surprise", "watchdog", "fallback"):
        assert f"[{section}]: missing" in str(caught.value)
    assert "delta and no constraint" in str(caught.value)


@pytest.mark.parametrize("line", [line for line in SOUND.strip().splitlines() if "=" in line])
def test_every_setting_must_be_there(tmp_path, line):
    """But max of a quantity with a min, and a constraint's other edge: one is enough."""
    if line.startswith(("max", "min = 4")):
        Guardrails.load(write(tmp_path, SOUND.replace(line + "\n", "", 1)))
        return
    with pytest.raises(ConfigError, match="1 fault, nothing is done until mended"):
        Guardrails.load(write(tmp_path, SOUND.replace(line + "\n", "", 1)))


def test_all_faults_are_named_at_once(tmp_path):
    text = SOUND.replace("delta = 0.1", "delta = 3\nspeed = 1").replace("low = [-2.0, -1]", "low = [1.0, -1]")
    text = text.replace("alpha = 0.05", 'alpha = "small"').replace("radius = 6.0", "radius = -1\ncolour = 3")
    text = text.replace("frozen_frames = 2", "frozen_frames = 1").replace("plan_seconds = 0.5", "plan_seconds = 0")
    text = text.replace("min = 4.0", "min = 70")
    with pytest.raises(ConfigError) as caught:
        Guardrails.load(write(tmp_path, text))
    for says in (
        "9 faults",
        "speed: unknown",
        "delta: got 3",
        "breaks the limits [1.0, -1.0]",
        "surprise.alpha: got 'small', expected a number",
        "avoid[1].colour: unknown",
        "watchdog: got plan_seconds 0",
        "watchdog: got frozen_frames 1",
        "keep[1]: got min 70 and max 60",
    ):
        assert says in str(caught.value), says


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("high = [2.0, 1]", "high = [2.0]", "limits: got 2 lows, 1 highs and 2 rates"),
        ("high = [2.0, 1]", "high = [inf, 1]", "limits: got low .* expected finite numbers"),
        ("high = [2.0, 1]", "high = 2.0", r"limits.high: got 2.0, expected numbers in \[ \]"),
        ("high = [2.0, 1]", "high = [2.0, nan]", "limits.high: got .* expected numbers"),
        ("high = [2.0, 1]", "high = [2.0, true]", "limits.high: got .* expected numbers"),
        ("rate = [0.5, inf]", "rate = [0.5, 0]", "limits: got rate .*, expected more than 0"),
        ("rate = [0.5, inf]", "rate = []", "got 2 lows, 2 highs and 0 rates"),
        ('kind = "hold"', 'kind = "best plan"', "fallback: got kind 'best plan'"),
        ('kind = "hold"', 'kind = "action"', "fallback: got kind action and value .*expected a value"),
        ('kind = "hold"', 'kind = "hold"\nvalue = [1, 0]', "expected no value: use kind action"),
        ('kind = "hold"', 'kind = "action"\nvalue = [3, 0]', "fallback: its action .*breaks the limits"),
        ('kind = "hold"', 'kind = "action"\nvalue = [1]', "fallback.value: got 1 numbers, expected 2"),
        ("delta = 0.1", "delta = nan", "delta: got nan, expected a number"),
        ("frozen_frames = 2", "frozen_frames = 2.5", "watchdog.frozen_frames: got 2.5, expected a whole number"),
        ('quantity = "x"', "quantity = 3", r"keep\[1\].quantity: got 3, expected a text"),
        ("[[avoid]]", "[avoid]", r"avoid: expected tables that begin with \[\[avoid\]\]"),
        ("centre = [20.0, 30.0]", "centre = [20.0]", r"avoid\[1\]: got 2 quantities and a centre of 1"),
        ("alpha = 0.05", "alpha = 1", "surprise: got alpha 1"),
        ('kind = "hold"', 'kind = "hold"\nretreat = 1', "fallback.retreat: got 1, expected true or false"),
        ("frame_seconds = 0.2", "frame_seconds = inf", "watchdog: got frame_seconds inf"),
    ],
)
def test_each_fault_is_named_with_its_key(tmp_path, old, new, says):
    assert old in SOUND
    with pytest.raises(ConfigError, match=f"1 fault, nothing is done until mended:\n  .*{says}"):
        Guardrails.load(write(tmp_path, SOUND.replace(old, new)))


def test_a_promise_needs_constraints_and_constraints_a_promise():
    with pytest.raises(ConfigError, match="constraints and no delta"):
        guardrails(delta=None)
    with pytest.raises(ConfigError, match="delta and no constraint"):
        guardrails(keep=(), avoid=())
    assert Constraints(guardrails(delta=None, keep=(), avoid=()), ("x",)).names == ()


def test_g_is_how_far_beyond_what_is_allowed():
    constraints = Constraints(guardrails(), ("y", "x", "clearance"))
    assert constraints.names == (
        "x at least 4",
        "x at most 60",
        "clearance at least 0",
        "(x, y) 6 or more from (20, 30)",
    )
    g = constraints.g(torch.tensor([[[30.0, 3.0, 2.0], [30.0, 62.0, -1.0]], [[34.0, 23.0, 0.0], [30.0, 20.0, 5.0]]]))
    expected = [[[1, -57, -2, -11], [-58, 2, 1, -36]], [[-19, -37, 0, 1], [-16, -40, -5, 6]]]
    torch.testing.assert_close(g, torch.tensor(expected, dtype=torch.float32))
    with pytest.raises(ConfigError, match="constraints on clearance, x, which is not foretold; known are y"):
        Constraints(guardrails(), ("y",))


def test_a_disc_crossed_between_two_steps_is_seen():
    constraints = Constraints(guardrails(keep=()), ("x", "y"))
    now, foretold = torch.tensor([10.0, 30.0]), torch.tensor([[30.0, 30.0], [40.0, 30.0]])
    assert (constraints.g(foretold) <= 0).all()
    torch.testing.assert_close(constraints.between(now, foretold, 4)[:, 0], torch.tensor([6.0, -6.5]))
    torch.testing.assert_close(constraints.between(now, foretold, 1), constraints.g(foretold))
    frames = torch.tensor([[12.0, 30], [20, 30], [28, 30], [30, 30], [31, 30], [33, 30], [36, 30], [40, 30]])
    torch.testing.assert_close(constraints.worst_frames(frames, 4)[:, 0], torch.tensor([6.0, -5.0]))


def test_state_excess_is_nothing_where_there_is_room_and_adds_up_where_not():
    g = torch.tensor([[[[-3.0, -1.0], [-1.0, 2.0]], [[-3.0, -3.0], [-3.0, -3.0]]]])  # (B, S, T, K)
    room = torch.tensor([[1.0, 0.5], [2.0, 0.0]])
    most = allowed(torch.tensor([[-5.0, -5.0]]), room, retreat=True)
    torch.testing.assert_close(most, -room[None])
    torch.testing.assert_close(state_excess(g, most), torch.tensor([[3.0, 0.0]]))
    assert state_excess(torch.full((1, 1, 2, 2), torch.nan), most).isnan().all()


def test_a_retreat_comes_no_nearer_and_keeps_the_margin_by_its_last_step():
    room = torch.tensor([[1.0, 1.0], [1.5, 1.5], [2.0, 2.0]])
    now = torch.tensor([[0.5, -3.0], [-0.75, -1.0]])
    torch.testing.assert_close(allowed(now, room, retreat=False), (-room).expand(2, 3, 2))
    most = allowed(now, room, retreat=True)
    torch.testing.assert_close(most[0], torch.tensor([[0.5, -1.0], [0.5, -1.5], [-2.0, -2.0]]))
    torch.testing.assert_close(most[1], torch.tensor([[-0.75, -1.0], [-0.75, -1.5], [-2.0, -2.0]]))
    torch.testing.assert_close(allowed(now, room[:1], retreat=True), (-room[:1]).expand(2, 1, 2))
