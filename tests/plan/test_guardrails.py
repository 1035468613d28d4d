"""Guardrails as people write them, constraints with margins against theory, and hard limits against anything."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.errors import CalibrationError, CheckpointError, ConfigError, ShapeError
from foretell.plan.constraints import Constraints, allowed, rate_excess, state_excess, within_rate
from foretell.plan.guardrails import ActionLimits, Avoid, Fallback, Guardrails, Keep, SurpriseGate, Watchdog
from foretell.plan.limits import HardLimits
from foretell.plan.margin import Margin, band, calibrate_margin, margin

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


def guardrails(**changes) -> Guardrails:
    parts = {
        "limits": ActionLimits(low=(-2.0, -1.0), high=(2.0, 1.0), rate=(0.5, math.inf)),
        "surprise": SurpriseGate(alpha=0.05),
        "watchdog": Watchdog(plan_seconds=0.5, frame_seconds=0.2, frozen_frames=2),
        "fallback": Fallback(kind="hold"),
        "keep": (Keep(quantity="x", min=4.0, max=60.0), Keep(quantity="clearance", min=0.0)),
        "avoid": (Avoid(quantities=("x", "y"), centre=(20.0, 30.0), radius=6.0),),
        "delta": 0.1,
    }
    return Guardrails(**(parts | changes))


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


# Margins


@pytest.mark.parametrize(("plans", "delta"), [(9, 0.1), (20, 0.1), (57, 0.05), (199, 0.02)])
def test_coverage_meets_the_promise_from_both_sides(plans, delta):
    random, trials = np.random.default_rng(plans), 4000
    scores = random.gamma(2.0, size=(trials, plans + 1))
    beyond = np.mean([row[-1] > margin(row[:-1], delta) for row in scores])
    noise = 4 * math.sqrt(delta * (1 - delta) / trials)
    assert delta - 1 / (plans + 1) - noise <= beyond <= delta + noise


def test_the_band_holds_over_the_whole_horizon_and_all_constraints_at_once():
    """Errors that grow over the horizon, of two units, correlated: a new plan breaks any of them as seldom as promised."""
    random, trials, plans, delta = np.random.default_rng(0), 1500, 80, 0.1
    size = np.array([1.0, 2.0, 4.0])[:, None] * np.array([1.0, 50.0])
    errors = random.normal(size=(trials, plans + 1, 3, 2)).cumsum(2) * size + 0.5 * size
    beyond, one = 0, 0
    for plan in errors:
        room, count = band(plan[:-1], delta)
        assert count == 60
        beyond += (plan[-1] > room).any()
        one += plan[-1][0, 0] > room[0, 0]
    noise = 4 * math.sqrt(delta * (1 - delta) / trials)
    assert delta - 1 / 61 - noise <= beyond / trials <= delta + noise
    assert one < beyond / 2, "a band over all costs more room than one for a single step"
    assert (room[2] > 1.5 * room[0]).all()
    assert (room[:, 1] > 20 * room[:, 0]).all()


def test_margins_from_quantities_cover_what_lines_between_steps_leave_out():
    random = torch.Generator().manual_seed(0)
    constraints = Constraints(guardrails(), ("x", "y", "clearance"))
    frames = 20 + torch.randn(200, 6, 3, generator=random).cumsum(1)
    now, foretold = frames[:, 0], frames[:, [2, 5]] + 0.1 * torch.randn(200, 2, 3, generator=random)
    made = calibrate_margin(constraints, now, foretold, frames, 0.1, "recorded")
    assert (made.steps, made.plans, made.source, made.constraints) == (2, 150, "recorded", constraints.names)
    fresh = 20 + torch.randn(4000, 6, 3, generator=random).cumsum(1)
    said = fresh[:, [2, 5]] + 0.1 * torch.randn(4000, 2, 3, generator=random)
    worse = constraints.worst_frames(fresh, 3) - constraints.between(fresh[:, 0], said, 3)
    beyond = (worse > torch.tensor(made.room)).any(-1).any(-1).double().mean()
    assert 0.02 < beyond < 0.18  # given one calibration set it is a Beta draw, of deviation 0.025
    with pytest.raises(ShapeError, match="expected"):
        calibrate_margin(constraints, now, foretold, frames[:, :5], 0.1, "recorded")
    with pytest.raises(CalibrationError, match="1 of 200 plans"):
        calibrate_margin(constraints, now, foretold.index_fill(0, torch.tensor([3]), torch.nan), frames, 0.1, "planned")


def test_room_is_never_less_than_none():
    room, _ = band(-5 - np.random.default_rng(0).random((40, 2, 3)), 0.1)
    np.testing.assert_array_equal(room, 0)


def test_a_place_without_errors_does_not_stretch_the_rest():
    worse = np.random.default_rng(0).normal(size=(400, 3, 2))
    plain, _ = band(worse, 0.1)
    still = worse.copy()
    still[::4, 0, 0] = 0  # where sizes are told; those that calibrate do err there, a little
    still[:, 0, 0] *= 1e-3
    stretched, _ = band(still, 0.1)
    assert (stretched[1:] < 1.5 * plain[1:]).all()


def test_too_few_plans_are_refused_with_the_number_needed():
    with pytest.raises(CalibrationError, match=r"delta 0.05: got 18 plans, expected at least 19 .*delta 0.05263 or"):
        margin(np.arange(18.0), 0.05)
    assert margin(np.arange(19.0), 0.05) == 18
    assert margin(np.arange(20.0)[::-1], 0.1) == 18
    with pytest.raises(
        CalibrationError, match="got 15 plans, expected at least 19 for calibration, so about 27 in all"
    ):
        band(np.zeros((20, 2, 1)), 0.05)
    band(np.zeros((27, 2, 1)), 0.05)
    for delta in (0, 1, math.nan):
        with pytest.raises(ConfigError):
            margin(np.arange(9.0), delta)


def test_margins_come_back_as_they_were_and_damage_is_named(tmp_path):
    made = Margin(room=((0.1, 2.0), (0.3, 1e-7)), delta=0.05, plans=40, source="planned", constraints=("a", "b"))
    made.save(tmp_path / "margin.json")
    assert Margin.load(tmp_path / "margin.json") == made
    text = (tmp_path / "margin.json").read_text()
    for damaged, says in (
        (text.replace("2.0", "1.0"), "altered"),
        (text.replace("planned", "recorded"), "altered"),
        (text[:50], "damaged"),
        ("[]", "damaged"),
        (text.replace('"version": 1', '"version": 7'), "got version 7"),
    ):
        (tmp_path / "margin.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=rf"{says}.*calibrate the margins again"):
            Margin.load(tmp_path / "margin.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Margin.load(tmp_path / "none.json")


# Hard limits and rates

SPACE = ActionSpace(low=(-2.0, -1.5), high=(2.0, 1.0))


def test_limits_are_kept_to_the_bit_although_actions_are_float32():
    tenth = guardrails(limits=ActionLimits(low=(-0.1, -0.7), high=(0.1, 0.3), rate=(9.0, 9.0)))
    limits, nothing = HardLimits(tenth, SPACE), np.zeros(2, np.float32)
    assert float(limits.high[0]) < 0.1 < float(np.float32(0.1))
    assert limits.against(np.stack([limits.low, limits.high]), nothing) == []
    for bound, out in ((limits.high, np.inf), (limits.low, -np.inf)):
        beyond = np.nextafter(bound, np.float32(out))
        for number in range(2):
            action = nothing.copy()
            action[number] = beyond[number]
            assert [reason.kind for reason in limits.against(action[None], nothing)] == ["action limit"]


def test_the_fallback_comes_as_fast_as_rates_allow_and_no_faster():
    limits = HardLimits(guardrails(), SPACE)
    last = np.array([1.3, -0.9], np.float32)
    ramp = limits.fallback(last, 5)
    np.testing.assert_allclose(ramp[:, 0], [0.8, 0.3, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(ramp[:, 1], 0)
    assert limits.against(ramp, last) == []


@pytest.mark.parametrize("seed", range(20))
def test_from_anywhere_the_fallback_keeps_limits_and_rates(seed):
    random = np.random.default_rng(seed)
    low, high = -(10.0 ** random.uniform(-4, 4, 2)), 10.0 ** random.uniform(-4, 4, 2)
    rate = 10.0 ** random.uniform(-5, 4, 2)
    value = tuple(random.uniform(low, high).tolist())
    rails = guardrails(
        limits=ActionLimits(low=tuple(low.tolist()), high=tuple(high.tolist()), rate=tuple(rate.tolist())),
        fallback=Fallback(kind="action", value=value),
    )
    limits = HardLimits(rails, ActionSpace(low=tuple(low.tolist()), high=tuple(high.tolist())))
    for _ in range(50):
        last = random.uniform(limits.low, limits.high).astype(np.float32).clip(limits.low, limits.high)
        assert limits.against(limits.fallback(last, 7), last) == []


@pytest.mark.parametrize("seed", range(20))
def test_candidates_that_follow_rates_have_no_excess_and_pass_the_hard_limits(seed):
    random = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.empty(2).uniform_(-3, 3, generator=random)
    rate = tuple((0.3 * scale.double()).tolist()) if seed % 4 else (math.inf, float(scale[1]))
    rails = guardrails(
        limits=ActionLimits(low=tuple((-scale).tolist()), high=tuple(scale.tolist()), rate=rate),
    )
    limits = HardLimits(rails, ActionSpace(low=tuple((-scale).tolist()), high=tuple(scale.tolist())))
    blocks = (torch.rand(3, 5, 4, 6, generator=random) * 2 - 1) * scale.repeat(3)  # (B, S, T, skip * A)
    last = ((torch.rand(3, 2, generator=random) * 2 - 1) * scale).clamp(-scale, scale)
    rates = torch.from_numpy(limits.rate)
    assert (rate_excess(blocks, last, rates) > 0).any()
    slow = within_rate(blocks, last[:, None], rates, torch.from_numpy(limits.low), torch.from_numpy(limits.high))
    assert slow.shape == blocks.shape
    assert (rate_excess(slow, last, rates) == 0).all()
    for b in range(3):
        for s in range(5):
            assert limits.against(slow[b, s].reshape(12, 2).numpy(), last[b].numpy()) == []
    again = within_rate(slow, last[:, None], rates, torch.from_numpy(limits.low), torch.from_numpy(limits.high))
    torch.testing.assert_close(again, slow, rtol=0, atol=0)


def test_gradients_pass_through_following():
    blocks = torch.full((1, 2, 1, 4), 0.1, requires_grad=True)
    bounds = torch.ones(2)
    within_rate(blocks, torch.zeros(1, 1, 2), torch.full((2,), 0.5).double(), -bounds, bounds).sum().backward()
    torch.testing.assert_close(blocks.grad, torch.ones_like(blocks))


def test_guardrails_of_another_world_are_refused():
    with pytest.raises(ConfigError, match="limits of 2 numbers, the world's actions have 1"):
        HardLimits(guardrails(), ActionSpace(low=(-2.0,), high=(2.0,)))
    with pytest.raises(ConfigError, match="the world allows no more than"):
        HardLimits(guardrails(), ActionSpace(low=(-1.0, -1.0), high=(1.0, 1.0)))


def test_choices_are_one_of_them():
    space = ActionSpace(low=(0.0,) * 3, high=(1.0,) * 3, discrete=True)
    limits = ActionLimits(low=(0.0,) * 3, high=(1.0,) * 3, rate=(math.inf,) * 3)
    with pytest.raises(ConfigError, match="actions are choices"):
        HardLimits(guardrails(limits=limits), space)
    rails = guardrails(limits=limits, fallback=Fallback(kind="stop", value=(0, 1, 0)))
    hard, last = HardLimits(rails, space), np.float32([1, 0, 0])
    assert hard.against(np.eye(3, dtype=np.float32), last) == []
    np.testing.assert_array_equal(hard.fallback(last, 1), [[0, 1, 0]])
    for wrong in ([0, 0, 0], [1, 1, 0], [0.5, 0.5, 0]):
        assert hard.against(np.float32([wrong]), last)[0].kind == "action limit"
