"""Goals in words: what is read, what is refused, what it costs, and that only the true state decides whether it is there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell.errors import ConfigError
from foretell.model.folder import save_model
from foretell.plan.actors import AgentActor
from foretell.plan.agent import Agent, AgentConfig
from foretell.plan.episodes import TaskConfig, begin_task, draw_tasks, run_tasks
from foretell.plan.guarded import guarded
from foretell.plan.guardrails import ActionLimits, Watchdog
from foretell.plan.planners import CEMConfig
from foretell.plan.set_points import SetPoints, read_set_points
from foretell.serve import fitted
from foretell.serve.witness import carry_out
from tests.plan.rails import rails
from tests.plan.small import small_mind, small_model, small_world

TASKS = TaskConfig(episodes=2, goal_ahead=10, budget=10, lookback=5, frames=30, seed=5)
SEARCH = AgentConfig(mode="slow", planner=CEMConfig(samples=8, iterations=2, elites=4), horizon=3)
LOOSE = rails(
    limits=ActionLimits(low=(-1.0, -1.0), high=(1.0, 1.0), rate=(math.inf, math.inf)),
    watchdog=Watchdog(plan_seconds=1000.0, frame_seconds=1000.0, frozen_frames=9),
    keep=(),
    avoid=(),
    delta=None,
)


def probe():
    found = small_model()[1].probe
    found.std.copy_(torch.tensor([8.0, 4.0]))
    return found


def test_values_and_how_near_is_there():
    asked = read_set_points(["y=20", "x=-1.5"], None, probe())
    assert asked == SetPoints(names=("y", "x"), low=(20.0, -1.5), high=(20.0, -1.5), within=(1.0, 2.0))
    region = read_set_points(["x=-3..4", "y=2"], None, probe())
    assert region == SetPoints(names=("x", "y"), low=(-3.0, 2.0), high=(4.0, 2.0), within=(0.0, 1.0))
    assert str(region) == "x from -3 to 4, y at 2 (within 1)"
    assert str(read_set_points(["x=4"], 3.0, probe())) == "x at 4 (within 3)"


@pytest.mark.parametrize(
    ("texts", "within", "says"),
    [
        (["z=1"], None, "NAME one of x, y"),
        (["x"], None, "'' *, expected a finite number"),
        (["x=left"], None, "'left', expected a finite number"),
        (["x=nan"], None, "expected a finite number"),
        (["x=1", "x=2"], None, "twice"),
        (["x=2..1"], None, "lower edge of x first"),
        (["x=1..1"], None, "lower edge of x first"),
        (["x=1.."], None, "'' *, expected a finite number"),
        (["x=1"], 0.0, "--within 0"),
    ],
)
def test_what_is_refused(texts, within, says):
    with pytest.raises(ConfigError, match=says):
        read_set_points(texts, within, probe())


def test_a_model_without_a_probe_is_told_so():
    with pytest.raises(ConfigError, match="true states"):
        read_set_points(["x=1"], None, None)


def test_the_cost_is_squared_deviations_of_what_is_read():
    read = probe()
    latents = torch.randn(2, 3, 4, 1, 6, generator=torch.Generator().manual_seed(0))
    found = read(latents)
    expected = (((found[..., 0] - 3) / 8) ** 2 + ((found[..., 1] - 5) / 4) ** 2).sum(-1)
    cost = read_set_points(["x=3", "y=5"], None, read).cost(read)(latents, torch.zeros(2, 3, 4, 10))
    assert torch.allclose(cost, expected, atol=1e-5)


def test_inside_a_region_nothing_is_to_be_gained_but_rest():
    read, latents = probe(), torch.randn(2, 3, 4, 1, 6, generator=torch.Generator().manual_seed(0))
    found = read(latents)[..., 0]
    low, high = found.quantile(0.3).item(), found.quantile(0.7).item()
    actions = torch.rand(2, 3, 4, 10, generator=torch.Generator().manual_seed(1))
    cost = read_set_points([f"x={low}..{high}"], None, read).cost(read, 0.5, (2.0,) * 10)(latents, actions)
    beyond = ((low - found).clamp_min(0) + (found - high).clamp_min(0)) / 8
    assert 0.2 < float((beyond == 0).float().mean()) < 0.6
    assert torch.allclose(cost, beyond.square().sum(-1) + 0.5 * (actions / 2).square().mean(-1).sum(-1), atol=1e-5)


def test_the_true_state_decides():
    world, asked = small_world(), SetPoints(names=("y",), low=(10.0,), high=(10.0,), within=(2.0,))
    for y, there in ((8.0, True), (7.9, False), (12.0, True), (12.1, False)):
        world.restore(np.array([8.0, y]))
        assert asked.hold(world) is there
    beyond = replace(asked, names=("speed",))
    assert beyond.unknown_in(world) == ["speed"]
    assert not beyond.hold(world)


def test_starts_that_are_there_already_are_left_out_and_tasks_end_where_it_holds():
    everywhere = SetPoints(names=("x",), low=(0.0,), high=(32.0,), within=(0.0,))
    left = replace(everywhere, high=(16.0,))
    drawn = draw_tasks(small_world(), replace(TASKS, episodes=6), left.hold)
    assert drawn.solved > 0
    assert not any(left.hold(begin_task(small_world(), task)) for task in drawn.tasks)
    actor = AgentActor(Agent(*_search()), wanted=left.cost(probe()))
    tasks = [replace(task, there=everywhere.hold) for task in drawn.tasks]
    assert run_tasks(small_world(), tasks, actor, 10).reached.tolist() == [1] * 6


def _search():
    model, heads = small_model()
    return model, SEARCH, torch.Generator().manual_seed(0), heads


def test_who_reacts_has_no_use_for_it():
    model, _, chance, heads = _search()
    with pytest.raises(ConfigError, match=r"mode both reacts to a goal image.*use mode slow"):
        AgentActor(Agent(model, AgentConfig(), chance, heads), wanted=lambda latents, actions: latents)


@pytest.mark.parametrize(("name", "says"), [("x", "goals reached"), ("speed", "nobody can say")])
def test_the_page_and_the_summary_say_what_was_asked_for(name, says, tmp_path, monkeypatch):
    monkeypatch.setattr(fitted, "STEPS", 2)
    mind, world = small_mind(tmp_path / "model"), small_world()
    save_model(mind.folder, mind.model, {})
    asked = SetPoints(names=(name,), low=(8.0,), high=(8.0,), within=(1.0,))
    cost = replace(asked, names=("x",)).cost(mind.heads.probe)
    inner = AgentActor(Agent(mind.model, SEARCH, torch.Generator().manual_seed(0), mind.heads), wanted=cost)
    actor = guarded(mind, world, LOOSE, inner)
    tasks = draw_tasks(world, TASKS, asked.hold).tasks
    summary = carry_out(mind, world, actor, tasks, 10, tmp_path / "run", command="test", to=asked)
    assert says in str(summary)
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{name} at 8 (within 1), by the true state" in page
    assert says in page
    assert "Seen, foreseen<" in page


def test_a_cost_that_fails_is_told_from_caution(tmp_path, monkeypatch):
    """The guard takes the fallback and the run goes on; but who reads the summary must learn that it was an error."""
    monkeypatch.setattr(fitted, "STEPS", 2)
    mind, world = small_mind(tmp_path / "model"), small_world()
    save_model(mind.folder, mind.model, {})

    def fails(latents, actions):
        raise IndexError("no such quantity")

    inner = AgentActor(Agent(mind.model, SEARCH, torch.Generator().manual_seed(0), mind.heads), wanted=fails)
    tasks = draw_tasks(world, TASKS).tasks
    summary = carry_out(mind, world, guarded(mind, world, LOOSE, inner), tasks, 10, tmp_path / "run", command="test")
    assert summary.audit.decisions > 0
    said = f"{summary.audit.decisions} of {summary.audit.decisions} decisions fell back on an error"
    assert any(said in note and "IndexError: no such quantity" in note for note in summary.notes)
