"""`evaluate planning` on a small scale: a model nobody trained, among floors and a ceiling, and what the result file holds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from foretell.errors import ConfigError
from foretell.model.folder import save_model
from foretell.plan.agent import AgentConfig
from foretell.plan.episodes import TaskConfig
from foretell.plan.planners import CEMConfig, GradientConfig
from foretell.planning import PlanningConfig, evaluate_in, fewer
from tests.plan.small import small_mind, small_world

SMALL = PlanningConfig(
    tasks=TaskConfig(episodes=4, goal_ahead=10, budget=12, lookback=5, frames=30, seed=5),
    agent=AgentConfig(planner=CEMConfig(samples=16, iterations=2, elites=4), horizon=3),
    samples=(4,),
    planner_seeds=2,
)


@pytest.fixture(scope="module")
def mind(tmp_path_factory):
    mind = small_mind(tmp_path_factory.mktemp("model"))
    save_model(mind.folder, mind.model, {"run": {"train": {"seed": 0}}})
    return mind


def result_of(mind, out, config=SMALL, **rest):
    summary = evaluate_in(small_world(), mind, out, config, command="test", **rest)
    return summary, json.loads(out.read_text())


def test_the_table_has_the_model_in_all_modes_the_floors_and_the_ceiling(mind, tmp_path):
    summary, result = result_of(mind, tmp_path / "r.json", changed={"ground": small_world(ground="sand")})
    assert set(result["baselines"]) == {"success, random", "success, scripted", "success, oracle"}
    assert result["baselines"]["success, oracle"]["value"] == 1
    for name in ("fast", "slow", "both", "4 samples", "changed ground"):
        assert result["metrics"][f"success, {name}"]["n"] == 4
        assert result["metrics"][f"seconds a decision, {name}"]["value"] > 0
    assert result["metrics"]["success"] == result["metrics"]["success, both"]
    assert result["metrics"]["success beyond oracle"]["value"] <= 0
    assert {f"seconds of one plan, {mode}" for mode in ("fast", "slow", "both")} <= set(result["metrics"])
    assert "no silent failure, changed ground" in result["metrics"]
    assert str(result["protocol"]["solved_starts_removed"]) in str(summary)


def test_every_setting_is_in_the_protocol_and_equal_runs_are_equal(mind, tmp_path):
    alone = replace(SMALL, samples=(), planner_seeds=1)
    _, first = result_of(mind, tmp_path / "a.json", alone)
    _, again = result_of(mind, tmp_path / "b.json", alone)
    _, other = result_of(mind, tmp_path / "c.json", replace(alone, tasks=replace(alone.tasks, seed=6)))
    assert first["protocol_hash"] == again["protocol_hash"] != other["protocol_hash"]
    assert first["protocol"]["tasks"] != other["protocol"]["tasks"]
    successes = [name for name in first["metrics"] if name.startswith("success")]
    assert all(first["metrics"][name] == again["metrics"][name] for name in successes)
    assert first["protocol"]["config"]["agent"]["planner"]["samples"] == 16
    assert first["protocol"]["config"]["planner"] == "CEMConfig"


def test_behind_guardrails_a_failure_that_was_doubted_is_not_silent(mind, tmp_path):
    class Doubtful:
        def __init__(self, inner):
            self.inner, self.skip, self.begin = inner, inner.skip, inner.begin

        def act(self, live, frames):
            return self.inner.act(live, frames)._replace(alarmed=np.ones(len(live), bool))

    looks = {"walls": small_world(walls="brick")}
    _, result = result_of(mind, tmp_path / "r.json", replace(SMALL, samples=()), changed=looks, behind=Doubtful)
    figures = result["metrics"]
    assert figures["no silent failure, guarded, changed walls"]["value"] == 1
    assert figures["no silent failure, changed walls"]["value"] == figures["success, changed walls"]["value"]
    assert figures["doubted, guarded"]["value"] == figures["doubted, guarded, changed walls"]["value"] == 1
    assert figures["success, guarded"]["value"] == figures["success"]["value"]


def test_another_world_than_the_models_is_refused(mind, tmp_path):
    with pytest.raises(ConfigError, match="actions"):
        evaluate_in(small_world(speed=3.0), mind, tmp_path / "r.json", SMALL, command="test")
    with pytest.raises(ConfigError, match="fps"):
        evaluate_in(small_world(fps=20.0), mind, tmp_path / "r.json", SMALL, command="test")


def test_fewer_samples_keep_their_share_of_elites():
    assert fewer(AgentConfig(mode="fast"), 32) == AgentConfig(mode="slow", planner=CEMConfig(samples=32, elites=4))
    assert fewer(AgentConfig(planner=GradientConfig()), 3).planner == GradientConfig(samples=3)
    with pytest.raises(ConfigError, match="samples"):
        PlanningConfig(samples=(1,))
