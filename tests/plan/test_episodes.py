"""Tasks can be solved as they were recorded, are never solved from the start, and nobody gets more steps than the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretell.errors import ConfigError, DataError
from foretell.plan.actors import (
    AgentActor,
    OracleActor,
    PolicyActor,
    difference,
    image_cost,
    true_states,
    way_length,
)
from foretell.plan.agent import Agent, AgentConfig
from foretell.plan.episodes import Acts, TaskConfig, begin_task, draw_tasks, run_tasks
from foretell.plan.planners import CEMConfig
from foretell.worlds.played import Played
from foretell.worlds.record import episode_seed
from tests.plan.small import small_model, small_world

FEW = TaskConfig(episodes=6, goal_ahead=12, budget=23, lookback=12, frames=40, seed=7)


class Script:
    """Does what it is told; keeps what it was shown."""

    def __init__(self, actions: np.ndarray, skip: int) -> None:
        """actions (N tasks, steps, A)."""
        self.actions, self.skip, self.step, self.shown = actions, skip, 0, []

    def begin(self, worlds, tasks):
        self.step = 0

    def act(self, live, frames):
        self.shown.append((live.copy(), frames))
        part = self.actions[live, self.step : self.step + self.skip]
        self.step += self.skip
        return Acts(part, np.zeros(len(live), bool))


@pytest.fixture(scope="module")
def drawn():
    return draw_tasks(small_world(), FEW)


def recorded_actions(tasks) -> np.ndarray:
    """What was done in the recorded episodes after each task's start, (N, 26, A); zeros where the episode ends."""
    found = []
    for task in tasks:
        clip = Played(small_world(), FEW.policy, FEW.frames).episode(task.seed)
        rest = clip.actions[len(task.done) :][:26]
        found.append(np.concatenate([rest, np.zeros((26 - len(rest), rest.shape[1]), np.float32)]))
    return np.stack(found)


@pytest.mark.parametrize("skip", [1, 5])
def test_doing_what_was_recorded_solves_every_task_in_time(drawn, skip):
    """Start, replay, goal frame and state belong together: an action too early or too late would miss."""
    world = small_world()
    found = run_tasks(world, drawn.tasks, Script(recorded_actions(drawn.tasks), skip), FEW.budget)
    assert ((found.reached > 0) & (found.reached <= FEW.goal_ahead)).all()
    for task, actions in zip(drawn.tasks, recorded_actions(drawn.tasks), strict=True):
        begun = begin_task(world, task)
        for action in actions[: FEW.goal_ahead]:
            begun.step(action)
        np.testing.assert_array_equal(begun.state(), task.goal)
        np.testing.assert_array_equal(begun.render(), task.goal_frame)


def test_tasks_are_a_function_of_world_and_seed(drawn):
    again = draw_tasks(small_world(), FEW)
    other = draw_tasks(small_world(), TaskConfig(**(vars(FEW) | {"seed": 8})))
    assert [task.seed for task in again.tasks] == [task.seed for task in drawn.tasks]
    assert all(np.array_equal(a.done, b.done) for a, b in zip(again.tasks, drawn.tasks, strict=True))
    assert not {task.seed for task in drawn.tasks} & {task.seed for task in other.tasks}
    assert not {task.seed for task in drawn.tasks} & {episode_seed(1, i) for i in range(1000)}  # what people train on
    for task in drawn.tasks:
        assert len(task.seen) == FEW.lookback
        begun = begin_task(small_world(), task)
        assert not begun.success(task.goal)
        back = small_world()
        back.reset(task.seed)
        for action in task.done[: len(task.done) - 3]:
            back.step(action)
        np.testing.assert_array_equal(back.render(), task.seen[-3])


def test_solved_starts_are_left_out_and_counted(drawn):
    near = draw_tasks(small_world(), TaskConfig(**(vars(FEW) | {"goal_ahead": 3, "episodes": 3})))
    assert near.solved > drawn.solved
    with pytest.raises(DataError, match=r"of 3 tasks; \d+ starts were solved"):
        draw_tasks(small_world(), TaskConfig(**(vars(FEW) | {"goal_ahead": 1, "episodes": 3, "policy": "smooth"})))


def test_an_episode_that_ends_early_is_counted_as_short():
    class Brief(type(small_world())):
        @property
        def over(self):
            return self.made >= 10

        def reset(self, seed):
            super().reset(seed)
            self.made = 0

        def step(self, action):
            super().step(action)
            self.made += 1

    with pytest.raises(DataError, match="60 episodes too short"):
        draw_tasks(Brief(), FEW)


def test_the_budget_is_kept_to_the_step(drawn):
    """23 steps in blocks of 5: the last block is cut; a goal reached at step 24 is not reached."""
    at = 1 if len(drawn.tasks) > 1 else 0
    still = np.zeros((len(drawn.tasks), 40, 2), np.float32)
    counted = []

    class Counting(type(small_world())):
        def step(self, action):
            counted.append(1)
            super().step(action)

    world = Counting(small_world().config)
    replay = sum(len(task.done) for task in drawn.tasks)
    found = run_tasks(world, drawn.tasks, Script(still, 5), FEW.budget)
    assert not found.reached.any()
    assert len(counted) - replay == len(drawn.tasks) * FEW.budget
    assert found.decisions == 5 * len(drawn.tasks)
    late = recorded_actions(drawn.tasks)
    first = run_tasks(small_world(), drawn.tasks, Script(late, 1), 26).reached[at]
    exact = run_tasks(small_world(), drawn.tasks, Script(late, 1), int(first)).reached[at]
    short = run_tasks(small_world(), drawn.tasks, Script(late, 1), int(first) - 1).reached[at]
    assert (exact, short) == (first, 0)


def test_who_is_done_is_no_longer_asked(drawn):
    script = Script(recorded_actions(drawn.tasks), 1)
    found = run_tasks(small_world(), drawn.tasks, script, FEW.budget)
    for step, (live, frames) in enumerate(script.shown):
        np.testing.assert_array_equal(live, np.flatnonzero(found.reached > step))
        assert len(frames) == len(live)


def test_what_an_actor_doubts_is_kept(drawn):
    class Doubtful(Script):
        def act(self, live, frames):
            return Acts(super().act(live, frames).actions, live == 2)

    still = np.zeros((len(drawn.tasks), 40, 2), np.float32)
    found = run_tasks(small_world(), drawn.tasks, Doubtful(still, 5), FEW.budget)
    assert found.alarmed.tolist() == [i == 2 for i in range(len(drawn.tasks))]


def test_a_policy_that_knows_no_goal_depends_on_its_seed_alone(drawn):
    def run(seed):
        return run_tasks(small_world(), drawn.tasks, PolicyActor("random", seed), FEW.budget).reached.tolist()

    assert run(0) == run(0)


def test_the_agent_takes_in_the_past_in_whole_steps(drawn):
    """12 frames before the start make two steps of the model: frames 10 and 5 before, and what was done from them on."""
    model, heads = small_model()
    actor = AgentActor(Agent(model, AgentConfig(mode="fast"), torch.Generator(), heads), "latent")
    actor.begin([], drawn.tasks)
    for i in (0, 3):
        task = drawn.tasks[i]
        film = torch.from_numpy(task.seen[[-10, -5]]).permute(0, 3, 1, 2)[None]
        blocks = torch.from_numpy(task.done[-10:].reshape(1, 2, -1))
        with torch.no_grad():
            foretold = model.predict(model.encode(film), blocks)
        torch.testing.assert_close(actor.agent.memory[i], foretold.memories[0, -1])


@pytest.mark.parametrize("mode", ["fast", "both"])
def test_the_agent_acts_within_limits_and_does_as_well_beside_others_as_alone(drawn, mode):
    model, heads = small_model()

    def actor():
        planner = CEMConfig(samples=8, iterations=2, elites=2)
        return AgentActor(
            Agent(model, AgentConfig(mode=mode, planner=planner), torch.Generator().manual_seed(0), heads)
        )

    together = run_tasks(small_world(), drawn.tasks, actor(), FEW.budget)  # the world refuses what is outside
    assert together.decisions <= 5 * len(drawn.tasks)
    assert together.seconds > 0
    if mode == "fast":
        alone = [run_tasks(small_world(), [task], actor(), FEW.budget).reached[0] for task in drawn.tasks]
        assert together.reached.tolist() == alone


def test_an_oracle_solves_them_all(drawn):
    model, _ = small_model()
    for distance in (way_length, difference((0, 1), (1.0, 1.0))):
        planner, chance = CEMConfig(samples=64, iterations=3, elites=8), torch.Generator().manual_seed(0)
        oracle = OracleActor(model.config.actions, planner, 4, chance, distance)
        found = run_tasks(small_world(), drawn.tasks, oracle, FEW.budget)
        assert (found.reached > 0).mean() >= (1.0 if distance is way_length else 0.8)


def test_rooms_all_at_once_are_rooms_one_by_one():
    world, rng = small_world(layout="four", hazards=2), np.random.default_rng(0)
    world.reset(5)
    start, actions = world.state(), rng.uniform(-0.5, 0.5, (4, 30, 2))
    came = true_states(world, start, actions)
    for ways, one in zip(came, actions, strict=True):
        world.restore(start)
        for state, action in zip(ways, one, strict=True):
            world.step(action)
            np.testing.assert_allclose(state[:2], world.state()[:2], atol=1e-9)


def test_an_oracle_asks_for_a_world_that_can_be_put_into_a_state(drawn):
    class Fixed:
        def __init__(self, inner):
            self.reset, self.step, self.render = inner.reset, inner.step, inner.render
            self.state, self.success, self.over = inner.state, inner.success, False

    model, _ = small_model()
    oracle = OracleActor(model.config.actions, CEMConfig(), 4, torch.Generator(), way_length)
    with pytest.raises(ConfigError, match="without the ceiling"):
        oracle.begin([Fixed(small_world())], drawn.tasks)


def test_the_way_leads_round_walls():
    world = small_world()
    world.reset(0)
    goal = np.array([24.0, 6.0])  # at 32 px the wall stands at 16, its door at 16
    far = way_length(world, goal)
    here, behind = np.array([[24.0, 9.0], [8.0, 6.0]])
    assert far(goal) == 0
    assert far(here) == pytest.approx(3, abs=1)
    assert far(behind) > np.abs(behind - goal).max() + 2
    assert far(np.stack([[here, behind], [behind, here]])).shape == (2, 2)


def test_a_goal_image_asks_for_nearness_and_haste():
    _, heads = small_model()
    goal, futures = torch.randn(2, 1, 6), torch.randn(2, 3, 4, 1, 6)
    near, soon, blend = (image_cost(aim, goal, heads)(futures, futures) for aim in ("latent", "reach", "blend"))
    torch.testing.assert_close(blend, soon + 4 * near)
    with pytest.raises(ConfigError, match="no heads"):
        image_cost("reach", goal, None)


@pytest.mark.parametrize(
    "fields", [{"episodes": 0}, {"goal_ahead": 0}, {"budget": 0}, {"lookback": -1}, {"frames": 37, "lookback": 25}]
)
def test_impossible_tasks_are_refused(fields):
    with pytest.raises(ConfigError, match="tasks"):
        TaskConfig(**({"goal_ahead": 12, "frames": 40} | fields))
