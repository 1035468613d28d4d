"""Sub-goals on a line with a gap that only a long way around crosses; and two levels at work in a tiny world."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from foretell.data.actions import ActionSpace
from foretell.data.clip import View
from foretell.errors import ConfigError
from foretell.model.actions import ActionConfig
from foretell.model.encoders import PooledConfig
from foretell.model.heads import Heads
from foretell.model.predictors import SteeredConfig
from foretell.model.upper import Upper, UpperConfig, new_upper
from foretell.model.world_model import ModelConfig, WorldModel
from foretell.plan.actors import AgentActor
from foretell.plan.agent import Agent, AgentConfig
from foretell.plan.episodes import TaskConfig, draw_tasks, run_tasks
from foretell.plan.planners import CEMConfig
from foretell.plan.two_levels import TwoLevelsActor, UpperPlanConfig, UpperPlanner, Ways
from foretell.worlds.rooms import Rooms, RoomsConfig

STRIDE, PLACES = 3, 20
SPACE = ActionSpace(low=(-1.0, -1.0), high=(1.0, 1.0))


def ring(gap: bool = True) -> Upper:
    """Places around a circle, a step of the model from each to its neighbours; but none from the last to the first."""
    acts = ActionConfig(space=SPACE, skip=2, mean=(0.0, 0.0), std=(1.0, 1.0))
    upper = Upper(UpperConfig(stride=STRIDE, macro=1, places=PLACES), features=2, tokens=1, actions=acts)
    upper.places.copy_(at(torch.arange(PLACES)))
    number = torch.arange(PLACES).float()
    apart = (number[:, None] - number).abs()
    upper.apart.copy_(apart if gap else torch.minimum(apart, PLACES - apart))

    def turn(latents: Tensor, macros: Tensor) -> Tensor:
        """A macro-action turns by as many places as it says, a step at 1, three at its limits."""
        number = torch.atan2(latents[..., 0, 1], latents[..., 0, 0]) / (2 * torch.pi) * PLACES % PLACES
        turned = number + 1.5 * macros[..., 0]
        return at(turned.clamp(0, PLACES - 1) if gap else turned)

    upper.step = turn  # type: ignore[method-assign]
    return upper


def at(number: Tensor) -> Tensor:
    """Latents (..., 1, 2) of place `number` (...) on the circle."""
    angle = number * (2 * torch.pi / PLACES)
    return torch.stack([angle.cos(), angle.sin()], -1)[..., None, :]


def planner(upper: Upper, seed: int = 0) -> UpperPlanner:
    return UpperPlanner(upper, UpperPlanConfig(horizon=2), torch.Generator().manual_seed(seed))


def test_a_sub_goal_is_a_place_that_was_seen_and_a_stride_away_at_most() -> None:
    upper = ring()
    now = at(torch.tensor([0.2, 7.0, 18.9]))
    found = planner(upper).sub_goal(now, at(torch.tensor([19.0, 15.0, 1.0])))
    index, unlike = upper.nearest(found)
    assert unlike.max() == 0
    here = upper.nearest(now)[0]
    assert (upper.apart[here, index] <= STRIDE).all()
    assert index.tolist() == [3, 10, 16]  # as far as a stride goes, and not across the gap, however near that looks


def test_the_goal_itself_where_a_stride_leads_there() -> None:
    goal = at(torch.tensor([2.4, 9.0]))
    assert torch.equal(planner(ring()).sub_goal(at(torch.tensor([0.0, 9.0])), goal), goal)


@pytest.mark.parametrize(("gap", "strides"), [(True, 7), (False, 1)])
def test_from_sub_goal_to_sub_goal_one_comes_to_the_goal(gap: bool, strides: int) -> None:
    upper = planner(ring(gap))
    now, goal, taken = at(torch.tensor([0.0])), at(torch.tensor([19.0])), 0
    while taken < PLACES and not torch.equal(now, goal):
        now, taken = upper.sub_goal(now, goal), taken + 1
    assert taken == strides


def test_all_chance_comes_from_the_generator() -> None:
    upper, now, goal = ring(), at(torch.linspace(0, 8, 40)), at(torch.full((40,), 19.0))
    one, same, other = (planner(upper, seed).search(now, goal) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_ways_count_steps_to_the_goal_and_what_is_strange() -> None:
    upper = ring()
    cost = Ways(upper, at(torch.tensor([19.0, 4.0])), strange=10.0)
    numbers = torch.tensor(
        [[[0.0, 1.0], [2.0, 3.0], [18.0, 19.0]], [[0.0, 1.0], [2.0, 3.0], [4.0, 4.0]]]
    )  # (B 2, S 3, T 2)
    actions = torch.zeros(2, 3, 2, 4)
    torch.testing.assert_close(cost(at(numbers), actions), torch.tensor([[37.0, 33, 1], [7, 3, 0]]), atol=1e-2, rtol=0)
    assert (cost(1.5 * at(numbers), actions) > cost(at(numbers), actions) + 9).all()  # half a deviation off, twice


def test_settings_that_mean_nothing_are_refused() -> None:
    for wrong in ({"horizon": 0}, {"within": 0.0}, {"strange": -1.0}, {"within": float("inf")}):
        with pytest.raises(ConfigError, match="upper plan: got"):
            UpperPlanConfig(**wrong)


def test_two_levels_act_in_a_world_and_the_same_seed_does_the_same() -> None:
    world = Rooms(RoomsConfig(size=32))
    tasks = draw_tasks(world, TaskConfig(episodes=3, goal_ahead=8, budget=10, lookback=5, frames=20)).tasks
    torch.manual_seed(0)
    model = WorldModel(
        ModelConfig(
            view=View(height=32, width=32),
            encoder=PooledConfig(latent_width=5, channels=2, hidden=8),
            predictor=SteeredConfig(hidden=8, memory=4),
            actions=ActionConfig(space=world.actions, skip=2, mean=(0.0, 0.0), std=(1.0, 1.0)),
        )
    )
    heads, upper = Heads(model, ("x", "y"), 4), new_upper(UpperConfig(stride=2, macro=3, places=7), model)
    upper.places.normal_()

    class Watched(AgentActor):
        """Notes what it is sent to."""

        sent: list[Tensor]

        def act(self, live, frames):
            self.sent.append(self.goals[torch.from_numpy(live)].clone())
            return super().act(live, frames)

    def act(seed: int) -> tuple[np.ndarray, list[Tensor]]:
        chance = torch.Generator().manual_seed(seed)
        config = AgentConfig(mode="slow", planner=CEMConfig(samples=6, iterations=2, elites=2), horizon=2)
        lower = Watched(Agent(model, config, chance, heads), "reach", "sum")
        lower.sent = []
        above = UpperPlanConfig(planner=CEMConfig(samples=6, iterations=2, elites=2))
        outcome = run_tasks(world, tasks, TwoLevelsActor(lower, UpperPlanner(upper, above, chance)), budget=10)
        return outcome.reached, lower.sent

    (one, sent), (same, again) = act(0), act(0)
    assert np.array_equal(one, same)
    assert all(torch.equal(a, b) for a, b in zip(sent, again, strict=True))
    assert sent[0].shape == (3, 1, 5)
