"""The guard: every fault leads to the fallback within its step, and nothing outside the limits is ever sent."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.errors import CalibrationError, ConfigError, DataError, PlanError, ShapeError
from foretell.model.actions import ActionConfig
from foretell.plan.candidates import Judged
from foretell.plan.decisions import DecisionLog, audit
from foretell.plan.guard import Guard, Proposal
from foretell.plan.guardrails import ActionLimits, Fallback, Watchdog
from foretell.plan.planners import CEMConfig, make_plan
from tests.plan.rails import NAMES, SKIP, SPACE, STEPS, Stage, margin_for, rails


def kinds(decision) -> set[str]:
    return {reason.kind for reason in (*decision.doubts, *decision.vetoes)}


def test_a_sound_plan_is_done_to_the_bit():
    stage = Stage()
    plan = stage.proposal()
    for row, decision in enumerate(stage.step(propose=lambda: plan)):
        assert decision.status == "plan"
        assert kinds(decision) == set()
        np.testing.assert_array_equal(decision.action, plan.actions[row, 0].reshape(SKIP, 2).numpy())
        assert decision.foreseen[0] == (12.0, 40.0)
        # now (10, 40), end (18, 40): nearest to the disc is its end, margin counted
        assert decision.room == pytest.approx(math.hypot(2, 20) - 5 - 1)
        assert (decision.environment, decision.step) == (row, 0)
    plan.actions.zero_()
    assert decision.action.any(), "what was decided does not change with the planner's tensors"


BAD_SEEN = {
    "old frame": (lambda s: s._replace(time=s.time - 0.2), {"stale frame"}),
    "frame from the future": (lambda s: s._replace(time=s.time + 1), {"stale frame"}),
    "no time": (lambda s: s._replace(time=math.nan), {"stale frame"}),
    "black frame": (lambda s: s._replace(frames=np.zeros_like(s.frames)), {"flat frame"}),
    "grey frame with noise": (lambda s: s._replace(frames=128 + s.frames // 128), {"flat frame"}),
    "other size": (lambda s: s._replace(frames=s.frames[:, :4]), {"flat frame"}),
    "floats": (lambda s: s._replace(frames=s.frames / 255), {"flat frame"}),
    "NaN latents": (lambda s: s._replace(latents=s.latents * math.nan), {"not finite"}),
    "infinite latents": (lambda s: s._replace(latents=s.latents / 0), {"not finite"}),
    "NaN quantities": (lambda s: s._replace(quantities=s.quantities * math.nan), {"not finite"}),
    "surprise": (lambda s: s._replace(surprise=torch.full((2,), 38.5)), {"surprise"}),
    "NaN surprise": (lambda s: s._replace(surprise=torch.full((2,), math.nan)), {"not finite"}),
    "infinite surprise": (lambda s: s._replace(surprise=torch.full((2,), math.inf)), {"not finite"}),
    "no surprise": (lambda s: s._replace(surprise=None), {"surprise"}),
}


@pytest.mark.parametrize("name", BAD_SEEN)
def test_every_doubt_about_what_is_seen_leads_to_the_fallback_in_that_step(name):
    spoil, expected = BAD_SEEN[name]
    stage = Stage()
    assert {d.status for d in stage.step(stage.seen(surprise=None))} == {"plan"}
    asked = stage.asked
    for decision in stage.step(spoil(stage.seen())):
        assert decision.status == "fallback"
        assert kinds(decision) == expected
        np.testing.assert_array_equal(decision.action, 0)
    assert stage.asked == asked, "no plan is asked for in doubt"
    assert {d.status for d in stage.step()} == {"plan"}, "and on it goes when the doubt is gone"


def test_a_frozen_camera_is_doubted_until_it_shows_something_else():
    stage = Stage(watchdog=Watchdog(plan_seconds=0.5, frame_seconds=0.2, frozen_frames=3))
    frames = stage.seen().frames
    said = [stage.step(stage.seen(frames=frames))[0] for _ in range(6)]
    assert [d.status for d in said] == ["plan", "plan", "fallback", "fallback", "fallback", "fallback"]
    assert kinds(said[-1]) == {"frozen camera"}
    assert stage.step()[0].status == "plan"


def test_who_does_nothing_may_see_nothing_change():
    stage = Stage()
    frames = stage.seen().frames
    still = stage.proposal(actions=torch.full((2, STEPS, SKIP * 2), 0.1))
    for _ in range(5):
        assert stage.step(stage.seen(frames=frames), lambda: still)[0].status == "plan"


def test_one_environment_in_doubt_does_not_hold_up_the_others():
    stage = Stage(batch=3)
    seen = stage.seen()
    seen.frames[1] = 0
    seen.latents[2, 0, 0] = math.nan
    decisions = stage.step(seen)
    assert [d.status for d in decisions] == ["plan", "fallback", "fallback"]
    assert [kinds(d) for d in decisions] == [set(), {"flat frame"}, {"not finite"}]
    stage.guard.keep(np.array([0, 2]))
    stage.batch = 2
    assert [d.environment for d in stage.step()] == [0, 2]


def spoiled(part: str, value: float):
    def spoil(stage: Stage) -> Proposal:
        proposal = stage.proposal()
        getattr(proposal, part).view(-1)[-1] = value
        return proposal

    return spoil


BAD_PLANS = {
    **{
        f"{part} {value}": (spoiled(part, value), "not finite")
        for part in ("actions", "cost", "excess", "quantities")
        for value in (math.nan, math.inf, -math.inf)
    },
    "not feasible": (spoiled("excess", 1e-6), "no feasible plan"),
    "action beyond its limit": (spoiled("actions", 2.0000002), "action limit"),
    "x beyond its limit": (lambda s: s.proposal(quantities=torch.full((2, STEPS, 2), 50.1)), "constraint"),
    "x within its limit by less than the margin": (
        lambda s: s.proposal(quantities=torch.full((2, STEPS, 2), 49.5)),
        "constraint",
    ),
    "through the disc between two steps": (
        lambda s: s.proposal(quantities=torch.tensor([[28.0, 4.0]] * STEPS).repeat(2, 1, 1)),
        "constraint",
    ),
    "other shape": (lambda s: s.proposal(actions=torch.zeros(2, STEPS, 5)), "no plan"),
    "too far ahead": (
        lambda s: s.proposal(actions=torch.zeros(2, 9, SKIP * 2), quantities=torch.zeros(2, 9, 2)),
        "no plan",
    ),
    "no steps": (
        lambda s: s.proposal(actions=torch.zeros(2, 0, SKIP * 2), quantities=torch.zeros(2, 0, 2)),
        "no plan",
    ),
    "nothing": (lambda s: None, "no plan"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_every_fault_of_a_plan_is_a_veto_in_that_step(name):
    spoil, expected = BAD_PLANS[name]
    stage = Stage()
    decision = stage.step(propose=lambda: spoil(stage))[-1]
    assert (decision.status, decision.doubts) == ("fallback", ())
    assert expected in kinds(decision)
    np.testing.assert_array_equal(decision.action, 0)
    assert stage.step()[-1].status == "plan"


@pytest.mark.parametrize(
    "error", [PlanError("none is finite"), RuntimeError("shape"), AssertionError(), MemoryError(), KeyError("x")]
)
def test_a_planner_may_die_of_anything(error):
    def dies() -> Proposal:
        raise error

    stage = Stage()
    for decision in stage.step(propose=dies):
        assert decision.status == "fallback"
        assert kinds(decision) == {"no plan"}
        assert type(error).__name__ in decision.vetoes[0].words
    with pytest.raises(KeyboardInterrupt):
        stage.step(propose=lambda: (_ for _ in ()).throw(KeyboardInterrupt()))


def test_a_late_plan_is_not_done_and_a_slow_search_is_ended():
    stage = Stage()

    def late() -> Proposal:
        stage.time += 0.51
        return stage.proposal()

    decision = stage.step(propose=late)[0]
    assert (decision.status, kinds(decision)) == ("fallback", {"late plan"})
    assert decision.seconds == pytest.approx(0.51)

    rounds = 0

    def search() -> Proposal:
        excess = stage.guard.excess(lambda latents: latents[..., 0, :2])

        def judge(actions):
            nonlocal rounds
            rounds += 1
            stage.time += 0.2
            latents = torch.full((*actions.shape[:3], 1, 2), 10.0)
            return Judged(actions.pow(2).sum((2, 3)), excess(latents, actions))

        low, high = stage.guard.block_limits
        plan = make_plan(CEMConfig(), judge, low, high, batch=2, horizon=STEPS, generator=torch.Generator())
        return stage.proposal(actions=plan.actions)

    decision = stage.step(propose=search)[0]
    assert (decision.status, kinds(decision), rounds) == ("fallback", {"late plan"}, 3)
    assert "was ended" in decision.vetoes[0].words
    assert stage.step()[0].status == "plan"


def test_stop_stays_until_begun_anew():
    stage = Stage(fallback=Fallback(kind="stop"))
    assert stage.step()[0].status == "plan"
    assert kinds(stage.step(propose=lambda: stage.proposal(excess=torch.ones(2)))[0]) == {"no feasible plan"}
    for _ in range(3):
        decision = stage.step()[0]
        assert (decision.status, kinds(decision)) == ("fallback", {"stopped"})
    stage.guard.begin(2)
    assert stage.step()[0].status == "plan"


def test_a_broken_constraint_is_seen_and_a_way_out_of_it_is_not_invented():
    stage = Stage()
    now = torch.tensor([[20.0, 21.0], [51.0, 40.0]])
    slowly = now[:, None] + torch.tensor([[0.0, 1.5], [0.0, 6.0], [0.0, 9.0], [0.0, 12.0]])
    decisions = stage.step(stage.seen(quantities=now), lambda: stage.proposal(quantities=slowly))
    assert [d.broken for d in decisions] == [("(x, y) 5 or more from (20, 20)",), ("x at most 50",)]
    assert [kinds(d) for d in decisions] == [{"constraint"}] * 2
    out_at_once = now[:, None] + torch.tensor([[-30.0, 0.0]] * STEPS)
    decisions = stage.step(stage.seen(quantities=now), lambda: stage.proposal(quantities=out_at_once))
    assert {d.status for d in decisions} == {"plan"}


def test_a_retreat_is_done_only_if_asked_for_and_only_away():
    now = torch.tensor([[20.0, 25.5], [20.0, 24.0]])  # in the margin; in the disc itself
    away = now[:, None] + torch.tensor([[0.0, 0.5], [0.0, 1.0], [0.0, 1.5], [0.0, 9.0]])
    away[:, -2] = torch.tensor([20.0, 27.0])  # so that the whole last step is out of the margin
    away[:, -1] = torch.tensor([20.0, 33.0])
    nearer_first = away.clone()
    nearer_first[:, 0, 1] = now[:, 1] - 0.1
    too_short = away.clone()
    too_short[:, -1, 1] = 25.9
    for retreat, plan, expected in (
        (True, away, "plan"),
        (False, away, "fallback"),
        (True, nearer_first, "fallback"),
        (True, too_short, "fallback"),
    ):
        stage = Stage(fallback=Fallback(kind="hold", retreat=retreat))
        decisions = stage.step(stage.seen(quantities=now), lambda s=stage, plan=plan: s.proposal(quantities=plan))
        assert {d.status for d in decisions} == {expected}, plan
        assert {d.retreat for d in decisions} == {expected == "plan"}
        assert [bool(d.broken) for d in decisions] == [False, True]


def test_the_fallback_nears_its_action_as_fast_as_rates_allow():
    limits = ActionLimits(low=(-2.0, -2.0), high=(2.0, 2.0), rate=(0.2, 4.0))
    stage = Stage(limits=limits, fallback=Fallback(kind="action", value=(0.0, 1.0)))
    stage.guard.begin(2, last=np.array([[1.0, -1.0], [-2.0, 2.0]]))
    black = np.zeros((2, 8, 12, 3), np.uint8)
    sent = np.stack([[d.action for d in stage.step(stage.seen(frames=black))] for _ in range(2)], 1)  # (B, 2, SKIP, A)
    np.testing.assert_allclose(sent[0, ..., 0].ravel(), [0.8, 0.6, 0.4, 0.2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(sent[1, ..., 0].ravel(), [-1.8, -1.6, -1.4, -1.2, -1, -0.8], atol=1e-6)
    np.testing.assert_array_equal(sent[..., 1], 1)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_beyond_the_limits_is_ever_sent_whatever_is_seen_and_planned(seed, tmp_path):
    """Plans of any size, with NaN and inf, cameras and clocks that fail, planners that raise: limits and rates hold."""
    random = np.random.default_rng(seed)
    rate = (0.3, 1.5) if seed % 2 else (math.inf, 0.7)
    limits = ActionLimits(low=(-1.9, -0.1), high=(0.7, 2.0), rate=rate)
    fallback = [Fallback(kind="hold"), Fallback(kind="stop"), Fallback(kind="action", value=(0.7, -0.1))][seed % 3]
    stage = Stage(limits=limits, fallback=fallback)
    start = np.array([[0.5, 1.9], [-1.9, 0.0]])
    stage.guard.begin(2, last=start)
    stage.guard.log = DecisionLog(tmp_path / "decisions.jsonl", stage.guard.stated)
    last, statuses = np.float32(start).astype(np.float64), set()

    def propose() -> Proposal:
        if random.random() < 0.1:
            raise RuntimeError
        size = random.choice([0.05, 0.3, 1.0, 1e3, 1e30, 1e38])
        actions = torch.from_numpy(random.normal(size=(2, STEPS, SKIP * 2)) * size)
        actions = actions if random.random() < 0.3 else actions.float()
        if random.random() < 0.5:
            actions = stage.guard.follow(actions.float().clamp(*stage.guard.block_limits))
        if random.random() < 0.3:
            actions.view(-1)[random.integers(actions.numel())] = random.choice([math.nan, math.inf, -math.inf])
        return stage.proposal(actions=actions, excess=torch.from_numpy(random.choice([0.0, 0.0, 0.0, 1.0], 2)))

    for step in range(150):
        seen = stage.seen()
        if random.random() < 0.3:
            seen = BAD_SEEN[random.choice([n for n in BAD_SEEN if n not in ("other size", "floats")])][0](seen)
        if fallback.kind == "stop" and step % 5 == 0:
            stage.guard.begin(2, last=last)
        for row, decision in enumerate(stage.step(seen, propose)):
            statuses.add(decision.status)
            for action in decision.action.astype(np.float64):
                assert np.isfinite(action).all()
                assert (action >= limits.low).all()
                assert (action <= limits.high).all()
                assert (np.abs(action - last[row]) <= rate).all()
                last[row] = action
    assert statuses == {"plan", "fallback"}
    stage.guard.log.close()
    found = audit(tmp_path / "decisions.jsonl")
    assert found.valid
    assert found.decisions == 300
    assert found.fallbacks > 100


def test_every_decision_is_logged_and_without_a_log_nothing_is_done(tmp_path):
    stage = Stage()
    stage.guard.log = DecisionLog(tmp_path / "decisions.jsonl", {**stage.guard.stated, "model_sum": "abc"})
    for _ in range(3):
        stage.step()
    stage.step(stage.seen(frames=np.zeros((2, 8, 12, 3), np.uint8)))
    stage.guard.log.close()
    found = audit(tmp_path / "decisions.jsonl")
    assert (found.decisions, found.fallbacks, dict(found.doubts)) == (8, 2, {"flat frame": 2})
    with pytest.raises(DataError, match=r"cannot be written .*nothing more is done"):
        stage.step()
    stage.guard.log._file = Path("/dev/full").open("wb")  # noqa: SIM115
    with pytest.raises(DataError, match=r"No space left .*nothing more is done"):
        stage.step()


def test_a_search_behind_the_guard_goes_round_the_disc():
    """The same point as planners' tests: straight on leads through the disc; the guard's excess sends it around."""
    stage = Stage(batch=1)
    now, goal = torch.tensor([[12.0, 20.5]]), torch.tensor([30.0, 20.0])

    def foretold(blocks):
        moved = blocks.unflatten(-1, (SKIP, 2)).sum(-2).cumsum(-2)
        return now[:, None, None] + moved if blocks.ndim == 4 else now[:, None] + moved

    def search(guarded: bool) -> Proposal:
        excess = stage.guard.excess(lambda latents: latents[..., 0, :])

        def judge(blocks):
            ends = foretold(blocks)
            cost = (ends[:, :, -1] - goal).pow(2).sum(-1)
            return Judged(cost, excess(ends[..., None, :], blocks) if guarded else torch.zeros_like(cost))

        low, high = stage.guard.block_limits
        random = torch.Generator().manual_seed(0)
        config = CEMConfig(samples=256, iterations=12, elites=24)
        plan = make_plan(config, judge, low, high, batch=1, horizon=STEPS, generator=random)
        return Proposal(plan.actions, plan.cost, plan.excess, foretold(plan.actions))

    unguarded = stage.step(stage.seen(quantities=now), lambda: search(False))[0]
    assert (unguarded.status, kinds(unguarded)) == ("fallback", {"constraint"})
    guarded = stage.step(stage.seen(quantities=now), lambda: search(True))[0]
    assert guarded.status == "plan"
    assert guarded.room >= 0
    assert guarded.foreseen[-1][0] > 22


def test_what_does_not_fit_is_refused_before_anything_is_done():
    actions = ActionConfig(space=SPACE, skip=SKIP, mean=(0.0, 0.0), std=(1.0, 1.0))
    fine = {"surprises": np.arange(40.0), "margin": margin_for(rails())}
    Guard(rails(), actions, SPACE, NAMES, **fine)
    double = ActionSpace(low=(-4.0, -4.0), high=(4.0, 4.0))
    with pytest.raises(ConfigError, match="at another scale a plan means something else"):
        Guard(rails(), actions, double, NAMES, **fine)
    with pytest.raises(ConfigError, match="not foretold"):
        Guard(rails(), actions, SPACE, ("x", "speed"), **fine)
    with pytest.raises(CalibrationError, match="constraints and no margins"):
        Guard(rails(), actions, SPACE, NAMES, surprises=fine["surprises"])
    with pytest.raises(CalibrationError, match=r"expected delta 0\.05"):
        Guard(rails(delta=0.05), actions, SPACE, NAMES, **fine)
    with pytest.raises(CalibrationError, match="calibrate them again with these guardrails"):
        Guard(rails(keep=()), actions, SPACE, NAMES, **fine)
    with pytest.raises(CalibrationError, match=r"surprise gate, alpha 0.05: got 18 .*at least 19"):
        Guard(rails(), actions, SPACE, NAMES, **(fine | {"surprises": np.arange(18.0)}))
    with pytest.raises(ConfigError, match="got last actions"):
        Guard(rails(), actions, SPACE, NAMES, **fine).begin(1, last=np.array([[2.5, 0.0]]))
    only_actions = Guard(rails(keep=(), avoid=(), delta=None), actions, SPACE, (), surprises=np.arange(40.0))
    assert only_actions.stated["margin"] is None


def test_frames_of_other_environments_are_the_callers_fault():
    stage = Stage(batch=2)
    with pytest.raises(ShapeError, match="frames of 1 environments, expected 2"):
        stage.step(stage.seen(frames=np.zeros((1, 8, 12, 3), np.uint8)))
    with pytest.raises(ShapeError, match="quantities"):
        stage.step(stage.seen(quantities=torch.zeros(2, 3)))
