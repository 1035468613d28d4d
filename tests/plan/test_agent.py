"""The agent imagines what the model says, remembers what was really done, and answers in one way, fast or slow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell.data.actions import ActionSpace
from foretell.errors import ConfigError, PlanError, ShapeError
from foretell.model.predictors import CausalConfig
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.plan.agent import Agent, AgentConfig
from foretell.plan.costs import GoalLatent
from foretell.plan.planners import CategoricalConfig, CEMConfig, GradientConfig, shifted
from tests.plan.small import SIZE, SKIP, WIDTH, small_model

B, T, A = 3, 4, 2 * SKIP
QUICK = CEMConfig(samples=16, iterations=3, elites=4)


def pictures(seed: int, batch: int = B) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)


def agent_of(mode="slow", batch: int = B, model=None, **rest) -> Agent:
    model, heads = model or small_model()
    config = AgentConfig(mode=mode, horizon=T, **{"planner": QUICK} | rest)
    agent = Agent(model, config, torch.Generator().manual_seed(0), heads)
    agent.begin(batch)
    return agent


def some_blocks(agent: Agent, seed: int, *shape: int) -> torch.Tensor:
    low, high = agent.actions.low, agent.actions.high
    drawn = torch.rand(*shape, len(low), generator=torch.Generator().manual_seed(seed))
    return low + drawn * (high - low)


def goal_of(agent: Agent, batch: int = B) -> torch.Tensor:
    return agent.encode(pictures(99, batch))


def test_it_remembers_as_the_model_does_when_it_reads_the_whole_film():
    agent = agent_of()
    frames, blocks = [pictures(k) for k in range(3)], [some_blocks(agent, k, B) for k in range(3)]
    for shown, done in zip(frames, blocks, strict=True):
        agent.see(shown)
        agent.did(done)
    film = torch.from_numpy(np.stack(frames, 1)).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        foretold = agent.model.predict(agent.model.encode(film), torch.stack(blocks, 1))
    torch.testing.assert_close(agent.memory, foretold.memories[:, -1])


def test_what_it_imagines_is_what_the_model_says_of_each_environment_and_candidate():
    agent = agent_of()
    agent.see(pictures(0))
    agent.did(some_blocks(agent, 0, B))
    agent.see(pictures(1))
    candidates = some_blocks(agent, 1, B, 7, T)
    imagined = agent.imagine(candidates)
    assert imagined.shape == (B, 7, T, 1, WIDTH)
    for b, s in ((0, 3), (2, 6)):
        now, memory = agent.latents[[b]], agent.memory[[b]]
        for t in range(T):
            told = agent.actions.normalised(candidates[b, s, t][None])
            now, memory = agent.model.predictor.step(now, memory, told)
            torch.testing.assert_close(imagined[b, s, t], now[0])


def test_it_goes_on_from_what_was_done_not_from_what_it_proposed():
    memories = []
    for scale in (1.0, 0.0):
        agent = agent_of()
        agent.see(pictures(0))
        block = agent.propose(GoalLatent(goal_of(agent))).actions[:, 0]
        agent.did(scale * block)
        memories.append(agent.memory)
    assert not torch.allclose(*memories)


@pytest.mark.parametrize("mode", ["fast", "slow", "both"])
def test_every_mode_answers_alike(mode):
    agent = agent_of(mode)
    agent.see(pictures(0))
    goal = goal_of(agent)
    plan = agent.propose(GoalLatent(goal), goal)
    assert plan.actions.shape == (B, T, A)
    assert plan.cost.shape == plan.excess.shape == (B,)
    assert ((plan.actions >= agent.actions.low) & (plan.actions <= agent.actions.high)).all()
    assert plan.evaluated == {"fast": 1, "slow": 48, "both": 49}[mode]
    torch.testing.assert_close(plan.cost, GoalLatent(goal)(agent.imagine(plan.actions[:, None]), None)[:, 0])


def test_slow_deliberation_from_a_reaction_is_never_worse_than_the_reaction():
    fast, both = agent_of("fast"), agent_of("both")
    for step in range(3):
        for agent in (fast, both):
            agent.see(pictures(step))
        goal = goal_of(fast)
        reaction, plan = fast.propose(GoalLatent(goal), goal), both.propose(GoalLatent(goal), goal)
        assert (plan.cost <= reaction.cost).all()
        assert (plan.cost < reaction.cost).any()
        for agent in (fast, both):
            agent.did(reaction.actions[:, 0])


def test_the_last_plan_shifted_is_a_proposal_again():
    agent = agent_of("slow")
    agent.see(pictures(0))
    cost = GoalLatent(goal_of(agent))
    first = agent.propose(cost)
    agent.did(first.actions[:, 0])
    agent.see(pictures(1))
    agent.config = replace(agent.config, planner=CEMConfig(samples=2, elites=1, iterations=1))
    again = agent.propose(cost)
    handed_on = cost(agent.imagine(shifted(first.actions)[:, None]), None)[:, 0]
    assert (again.cost <= handed_on * (1 + 1e-5)).all()


def test_a_plan_is_done_for_some_steps_before_the_next_is_made():
    agent = agent_of("slow", every=2)
    calls = []

    def cost(latents, actions):
        calls.append(1)
        return GoalLatent(goal)(latents, actions)

    goal = goal_of(agent)
    agent.see(pictures(0))
    first = agent.propose(cost)
    searched = len(calls)
    agent.did(first.actions[:, 0])
    agent.see(pictures(1))
    second = agent.propose(cost)
    assert len(calls) == searched
    assert second.evaluated == 0
    assert torch.equal(second.actions, shifted(first.actions))
    agent.did(second.actions[:, 0])
    agent.see(pictures(2))
    assert agent.propose(cost).evaluated > 0


def test_each_frame_is_encoded_once(monkeypatch):
    agent, seen = agent_of("both"), []
    encode = WorldModel.encode
    monkeypatch.setattr(WorldModel, "encode", lambda self, frames: seen.append(len(frames)) or encode(self, frames))
    goal = goal_of(agent)
    for step in range(2):
        agent.see(pictures(step))
        agent.did(agent.propose(GoalLatent(goal), goal).actions[:, 0])
    assert seen == [B, B, B]  # the goals, and two steps


@pytest.mark.parametrize("mode", ["fast", "both"])
def test_environments_that_are_kept_go_on_as_they_were(mode):
    agent = agent_of(mode)
    goal = goal_of(agent)
    agent.see(pictures(0))
    plan = agent.propose(GoalLatent(goal), goal)
    agent.did(plan.actions[:, 0])
    memory, rows = agent.memory.clone(), np.array([0, 2])
    agent.see(pictures(1))
    agent.keep(rows)
    assert torch.equal(agent.memory, memory[rows])
    assert torch.equal(agent.plan.actions, plan.actions[rows])
    agent.see(pictures(1)[rows])
    assert agent.propose(GoalLatent(goal[rows]), goal[rows]).actions.shape == (2, T, A)


def test_constraints_are_judged_on_what_is_imagined():
    agent = agent_of("both")
    agent.see(pictures(0))
    goal = goal_of(agent)

    def excess(latents, actions):  # half of all futures are forbidden: the first latent must stay below what it is now
        return (latents[..., 0, 0].amax(-1) - agent.latents[:, None, 0, 0]).clamp_min(0)

    plan = agent.propose(GoalLatent(goal), goal, excess)
    said = excess(agent.imagine(plan.actions[:, None]), None)[:, 0]
    torch.testing.assert_close(plan.excess, said)
    free = agent_of("both")
    free.see(pictures(0))
    without = free.propose(GoalLatent(goal), goal)
    assert (plan.excess <= excess(agent.imagine(without.actions[:, None]), None)[:, 0]).all()


def test_the_slope_goes_through_the_model():
    agent = agent_of("slow", planner=GradientConfig(samples=4, iterations=10))
    agent.see(pictures(0))
    goal = goal_of(agent)
    middle = GoalLatent(goal)(agent.imagine(((agent.actions.low + agent.actions.high) / 2).expand(B, 1, T, A)), None)
    assert (agent.propose(GoalLatent(goal)).cost < middle[:, 0]).all()


@pytest.mark.parametrize("mode", ["fast", "slow", "both"])
def test_choices_stay_choices(mode):
    space = ActionSpace(low=(0.0,) * 3, high=(1.0,) * 3, discrete=True)
    planner = CategoricalConfig(samples=16, iterations=3, elites=4, choices=3)
    agent = agent_of(mode, model=small_model(space, skip=2), planner=planner)
    agent.see(pictures(0))
    goal = goal_of(agent)
    choices = agent.propose(GoalLatent(goal), goal).actions.view(B, T, 2, 3)
    assert ((choices == 0) | (choices == 1)).all()
    assert (choices.sum(-1) == 1).all()


def test_it_refuses_what_it_cannot_do():
    model, heads = small_model()
    chance = torch.Generator()
    with pytest.raises(ConfigError, match="no heads"):
        Agent(model, AgentConfig(mode="fast"), chance)
    with pytest.raises(ConfigError, match="every 6"):
        AgentConfig(horizon=5, every=6)
    watching = ModelConfig(
        view=model.config.view, encoder=model.config.encoder, predictor=CausalConfig(width=8, depth=1)
    )
    with pytest.raises(ConfigError, match="only watches"):
        Agent(WorldModel(watching), AgentConfig(mode="slow"), chance, heads)
    agent = agent_of("both")
    with pytest.raises(ShapeError, match="2 environments"):
        agent.see(pictures(0, 2))
    agent.see(pictures(0))
    with pytest.raises(ConfigError, match="latents of a goal"):
        agent.propose(GoalLatent(goal_of(agent)))


@pytest.mark.parametrize("mode", ["fast", "slow", "both"])
def test_doubt_is_an_error_not_a_plan(mode):
    """One environment whose latents are not finite: no plan for any, and its number is said."""
    agent = agent_of(mode)
    agent.see(pictures(0))
    goal = goal_of(agent)
    agent.latents[1] = torch.nan
    with pytest.raises(PlanError, match=r"\[1\]"):
        agent.propose(GoalLatent(goal), goal)


def test_a_reaction_is_rolled_in_imagination():
    """Each of its blocks is what the inverse model says where the ones before are imagined to lead."""
    agent = agent_of("fast")
    agent.see(pictures(0))
    goal = goal_of(agent)
    blocks = agent.propose(GoalLatent(goal), goal).actions
    with torch.no_grad():
        imagined = agent.imagine(blocks[:, None])[:, 0]
        for t in range(1, T):
            left = agent.heads.reach(imagined[:, t - 1], goal).round().clamp_min(1)
            torch.testing.assert_close(blocks[:, t], agent.heads.inverse(imagined[:, t - 1], goal, left))
    assert not torch.allclose(blocks[:, 1], blocks[:, 0])
