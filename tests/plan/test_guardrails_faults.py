"""Faults on purpose, in a real world with a real, untrained model: the fallback comes in their very step, everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError
from foretell.model.heads import whitened_error
from foretell.plan.actors import AgentActor
from foretell.plan.agent import Agent, AgentConfig
from foretell.plan.decisions import DecisionLog, audit
from foretell.plan.episodes import TaskConfig, draw_tasks, run_tasks
from foretell.plan.faults import FaultyActor
from foretell.plan.guard import Guard
from foretell.plan.guarded import GuardedActor
from foretell.plan.guardrails import ActionLimits, Fallback, Guardrails, SurpriseGate, Watchdog
from foretell.plan.planners import CEMConfig
from tests.plan.small import SKIP, WIDTH, small_model, small_world

CONFIG = TaskConfig(episodes=3, goal_ahead=25, budget=35, frames=60, seed=5)
ONSET = 3
CAUGHT = {
    "latents not finite": {"not finite"},
    "frozen camera": {"frozen camera"},
    "black camera": {"flat frame"},
    "late camera": {"stale frame"},
    "planner late": {"late plan"},
    "planner dies": {"no plan"},
}


@pytest.fixture(scope="module")
def tasks():
    return draw_tasks(small_world(), CONFIG).tasks


def guarded(alpha: float = 0.05, surprises=None, mode: str = "slow", rate: float = math.inf) -> GuardedActor:
    model, heads = small_model()
    speed = model.config.actions.space.high
    rails = Guardrails(
        limits=ActionLimits(low=model.config.actions.space.low, high=speed, rate=(rate, rate)),
        surprise=SurpriseGate(alpha=alpha),
        watchdog=Watchdog(plan_seconds=0.5, frame_seconds=0.3, frozen_frames=2),
        fallback=Fallback(kind="hold"),
    )
    ticks = iter(range(10**9))
    guard = Guard(
        rails,
        model.config.actions,
        small_world().actions,
        heads.quantities,
        surprises=np.full(40, 1e9) if surprises is None else surprises,
        clock=lambda: next(ticks) / 1000,  # every look at the clock takes a millisecond
    )
    config = AgentConfig(mode=mode, horizon=2, planner=CEMConfig(samples=8, iterations=2, elites=2))
    agent = Agent(model, config, torch.Generator().manual_seed(0), heads)
    return GuardedActor(AgentActor(agent, "latent"), guard, surprise)


def surprise(foreseen: Tensor | None, latents: Tensor) -> Tensor:
    """Whitened error where something was foreseen, every direction alike."""
    eye = torch.eye(WIDTH) / WIDTH
    return latents.new_zeros(len(latents)) if foreseen is None else whitened_error(foreseen, latents, eye)


@pytest.mark.parametrize("mode", ["slow", "fast", "both"])
def test_without_a_fault_nothing_is_vetoed(mode, tasks, tmp_path):
    actor = FaultyActor(guarded(mode=mode), "none", ONSET, 0.5)
    actor.actor.guard.log = DecisionLog(tmp_path / "log.jsonl", actor.actor.guard.stated)
    outcomes = run_tasks(small_world(), tasks, actor, CONFIG.budget)
    assert not outcomes.alarmed.any()
    closing = actor.actor.guard.log.close()
    found = audit(tmp_path / "log.jsonl", expect=closing)
    assert (found.valid, found.fallbacks, found.decisions) == (True, 0, outcomes.decisions)


@pytest.mark.parametrize("mode", ["slow", "fast", "both"])
def test_plans_keep_to_rates_and_are_carried_out(mode, tasks):
    """Of candidates drawn at random none would: change by change each would have to be slow by chance."""
    rate = 0.05
    actor, sent = guarded(mode=mode, rate=rate), [tasks[0].done[None, -1:].astype(np.float64)]
    act = actor.act

    def noted(live, frames):
        acts = act(live, frames)
        sent.append(acts.actions.astype(np.float64))
        return acts

    actor.act = noted
    assert not run_tasks(small_world(), tasks[:1], actor, CONFIG.budget).alarmed.any()
    changes = np.abs(np.diff(np.concatenate(sent, 1), axis=1))
    assert 0.5 * rate < changes.max() <= rate


@pytest.mark.parametrize("fault", CAUGHT)
def test_every_fault_leads_to_the_fallback_in_its_step_and_as_long_as_it_lasts(fault, tasks, tmp_path):
    actor = FaultyActor(guarded(), fault, ONSET, 0.5)
    guard = actor.actor.guard
    guard.log = DecisionLog(tmp_path / "log.jsonl", guard.stated)
    outcomes = run_tasks(small_world(), tasks, actor, CONFIG.budget)
    assert actor.seen_wrong.any(), "no episode lasted until the fault"
    assert (actor.fallback_at[actor.seen_wrong] == 0).all()
    assert not actor.before.any()
    np.testing.assert_array_equal(outcomes.alarmed, actor.seen_wrong)
    guard.log.close()
    found = audit(tmp_path / "log.jsonl")
    assert found.valid
    assert set(found.doubts) | set(found.vetoes) == CAUGHT[fault]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert found.fallbacks == sum(f'"step":{step},' in line for line in lines for step in range(ONSET, 99))


def test_what_was_not_foreseen_closes_the_gate(tasks):
    """The gate's bar lies above all that happens until the camera is turned aside."""
    usual = FaultyActor(guarded(), "none", 0, 0.5)
    largest: list[float] = []
    seen = usual.actor._seen

    def noted(frames, foreseen):
        found = seen(frames, foreseen)
        largest.extend([] if found.surprise is None else found.surprise.tolist())
        return found

    usual.actor._seen = noted
    run_tasks(small_world(), tasks, usual, CONFIG.budget)
    bar = np.full(40, max(largest) * 1.01)
    calm = FaultyActor(guarded(surprises=bar), "none", ONSET, 0.5)
    assert not run_tasks(small_world(), tasks, calm, CONFIG.budget).alarmed.any()
    strange = guarded(surprises=np.full(40, min(largest) * 0.99))
    outcomes = run_tasks(small_world(), tasks, strange, CONFIG.budget)
    assert outcomes.alarmed.all()
    assert {reason.kind for decision in strange.decisions for reason in decision.doubts} == {"surprise"}


def test_one_spoilt_environment_leaves_the_others_their_plans(tasks):
    actor = guarded()
    worlds = [small_world() for _ in tasks]
    for world, task in zip(worlds, tasks, strict=True):
        world.reset(task.seed)
    actor.begin(worlds, tasks)
    encode = actor.agent.encode
    live, statuses = np.arange(len(tasks)), []
    for step in range(4):
        spoilt = step == 1

        def half_blind(frames, spoilt=spoilt):
            latents = encode(frames)
            latents[1] = math.nan if spoilt else latents[1]
            return latents

        actor.agent.encode = half_blind
        acts = actor.act(live, np.stack([world.render() for world in worlds]))
        statuses.append(acts.alarmed.tolist())
        for world, actions in zip(worlds, acts.actions, strict=True):
            for action in actions:
                world.step(action)
    assert statuses[0] == [False] * 3
    assert statuses[1] == [False, True, False]
    assert statuses[3] == [False] * 3, "it begins anew with what it sees next"
    assert actor.agent.memory.isfinite().all()


def test_rates_begin_at_what_was_done_before_the_start(tasks):
    actor = guarded()
    actor.begin([small_world() for _ in tasks], tasks)
    np.testing.assert_array_equal(actor.guard.last, np.stack([task.done[-1] for task in tasks]))
    assert actor.skip == SKIP


def test_a_guard_for_another_probe_or_another_scale_is_refused():
    actor, (model, _) = guarded(), small_model()
    rails = actor.guard.guardrails
    other = Guard(rails, model.config.actions, small_world().actions, ("x", "speed"), surprises=np.arange(40.0))
    with pytest.raises(ConfigError, match=r"watches \('x', 'speed'\), the probe reads \('x', 'y'\)"):
        GuardedActor(actor.inner, other, surprise)
    doubled = ActionSpace(
        low=tuple(2 * x for x in model.config.actions.space.low), high=model.config.actions.space.high
    )
    with pytest.raises(ConfigError, match="at another scale"):
        Guard(rails, model.config.actions, doubled, ("x", "y"), surprises=np.arange(40.0))
