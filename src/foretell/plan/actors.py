"""Who acts in the tasks of an evaluation: the model's agent, policies that know no goal, and an oracle that knows the world."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from foretell.errors import ConfigError
from foretell.model.actions import ActionConfig
from foretell.model.heads import Heads
from foretell.plan.agent import Agent, Excess
from foretell.plan.candidates import Judged
from foretell.plan.costs import Cost, GoalLatent, Over, Reach, Weighted
from foretell.plan.episodes import Acts, Task
from foretell.plan.planners import Plan, PlannerConfig, make_plan, shifted
from foretell.worlds.floorplan import advance, look_up, steps_to
from foretell.worlds.policies import Policy, PolicyName, policy
from foretell.worlds.rooms import Rooms
from foretell.worlds.world import ActWorld, Restorable

Aim = Literal["latent", "reach", "blend"]
"""What a goal image asks for: latents near its own; few steps to it, as the head says; or both."""
NEARNESS = 4.0
"""Steps that a mean squared distance of 1 between latents counts as, where both are asked for."""


def image_cost(aim: Aim, goal: Tensor, heads: Heads | None, over: Over = "sum") -> Cost:
    """The cost of not being at a goal, given its latents (B, P, D). Raises ConfigError if it needs heads."""
    near = GoalLatent(goal, over=over)
    if aim == "latent":
        return near
    if heads is None:
        raise ConfigError(f"aim {aim}: needs the model's reachability head, got no heads; aim at latents")
    soon = Reach(heads.reach, goal, over=over)
    return soon if aim == "reach" else Weighted(((1.0, soon), (NEARNESS, near)))


class AgentActor:
    """The model's agent, after a goal image or whatever else is wanted. It looks at frames alone."""

    def __init__(self, agent: Agent, aim: Aim = "blend", over: Over = "sum", wanted: Cost | None = None) -> None:
        """wanted: a cost in place of that of the goal images, for all environments alike.

        Raises ConfigError if the agent reacts: the inverse model knows no other goals than images.
        """
        mode = agent.config.mode
        if wanted is not None and mode != "slow":
            raise ConfigError(f"agent: mode {mode} reacts to a goal image, and there is none; use mode slow")
        self.agent, self.aim, self.over, self.wanted = agent, aim, over, wanted
        self.skip = agent.actions.skip

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """Encode the goals, and take in what was seen and done before the start, as far as it fills whole steps."""
        self.agent.begin(len(tasks))
        self.goals = self.agent.encode(np.stack([task.goal_frame for task in tasks]))
        self.rows = np.arange(len(tasks))
        for back in range(len(tasks[0].seen) // self.skip * self.skip, 0, -self.skip):
            self.agent.see(np.stack([task.seen[-back] for task in tasks]))
            done = np.stack([task.done[len(task.done) - back :][: self.skip] for task in tasks])
            self.agent.did(torch.from_numpy(done).flatten(1).float())

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """See, propose, do."""
        self.agent.keep(np.searchsorted(self.rows, live))
        self.rows = live
        self.agent.see(frames)
        block = self.propose(live).actions[:, 0]
        self.agent.did(block)
        return Acts(rearrange(block.numpy(), "b (k a) -> b k a", k=self.skip), np.zeros(len(live), bool))

    def propose(self, live: np.ndarray, excess: Excess | None = None) -> Plan:
        """The agent's plan for the environments `live` (n,), after what was seen last; excess: constraints."""
        goal = self.goals[torch.from_numpy(live)]
        cost = image_cost(self.aim, goal, self.agent.heads, self.over) if self.wanted is None else self.wanted
        return self.agent.propose(cost, goal, excess)


class PolicyActor:
    """A floor: a policy that knows no goal."""

    skip = 1

    def __init__(self, name: PolicyName, seed: int) -> None:
        self.name, self.seed = name, seed

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """One policy for each world, each with chance of its own."""
        self.policies: list[Policy] = [
            policy(self.name, world, np.random.default_rng([task.seed, self.seed, 3]))
            for world, task in zip(worlds, tasks, strict=True)
        ]

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """Whatever each policy does next."""
        return Acts(np.stack([self.policies[i]()[None] for i in live]), np.zeros(len(live), bool))


Distance = Callable[[np.ndarray], np.ndarray]
"""States (..., Q) -> how far each is from the goal (...)."""


class OracleActor:
    """A ceiling: the same planner, with the true world in place of a model and the true distance to the goal's state.

    It minds the distance after every step that is done, so it makes haste.
    """

    def __init__(
        self,
        actions: ActionConfig,
        planner: PlannerConfig,
        horizon: int,
        generator: torch.Generator,
        distance: Callable[[ActWorld, np.ndarray], Distance],
    ) -> None:
        """distance: from a world, just begun, and the goal's state (Q,) to the distance there."""
        self.actions, self.planner, self.horizon, self.generator = actions, planner, horizon, generator
        self.distance, self.skip = distance, actions.skip

    def begin(self, worlds: Sequence[ActWorld], tasks: Sequence[Task]) -> None:
        """Look at the worlds, and keep copies to try things in. Raises ConfigError if they cannot be put into a state."""
        self.worlds, self.trial = worlds, [_restorable(copy.deepcopy(world)) for world in worlds]
        self.far = [self.distance(world, task.goal) for world, task in zip(worlds, tasks, strict=True)]
        self.plan: Plan | None = None
        self.rows = np.arange(len(tasks))

    def act(self, live: np.ndarray, frames: np.ndarray) -> Acts:
        """Plan in the true world."""
        rows = live.tolist()
        states = [self.worlds[i].state() for i in rows]

        def judge(candidates: Tensor) -> Judged:
            actions = rearrange(candidates.double().numpy(), "b s t (k a) -> b s (t k) a", k=self.skip)
            cost = [
                self.far[i](true_states(self.trial[i], state, trials)).mean(-1)
                for i, state, trials in zip(rows, states, actions, strict=True)
            ]
            found = torch.from_numpy(np.stack(cost)).float()
            return Judged(found, torch.zeros_like(found))

        kept = torch.from_numpy(np.searchsorted(self.rows, live))
        self.plan = make_plan(
            self.planner,
            judge,
            self.actions.low,
            self.actions.high,
            batch=len(live),
            horizon=self.horizon,
            generator=self.generator,
            warm=None if self.plan is None else shifted(self.plan.actions[kept]),
        )
        self.rows = live
        blocks = rearrange(self.plan.actions[:, 0].numpy(), "b (k a) -> b k a", k=self.skip)
        return Acts(blocks, np.zeros(len(live), bool))


def _restorable(world: ActWorld) -> Restorable:
    if not isinstance(world, Restorable):
        raise ConfigError(f"oracle: {world!r} cannot be put into a state; evaluate without the ceiling")
    return world


def true_states(world: Restorable, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What comes of S ways to act (S, N, A) from `state` (Q,), after each step: (S, N, Q). Changes the world."""
    world.restore(state)
    came = np.empty((*actions.shape[:2], len(state)))
    if isinstance(world, Rooms):  # all at once: this is what makes a ceiling of a hundred episodes affordable
        came[:], places = state, np.repeat(state[None, :2], len(actions), 0)
        for step in range(actions.shape[1]):
            places = advance(world.layout, places, actions[:, step])
            came[:, step, :2] = places
        return came
    for way, one in zip(came, actions, strict=True):
        world.restore(state)
        for step, action in enumerate(one):
            world.step(action)
            way[step] = world.state()
    return came


def way_length(world: ActWorld, goal: np.ndarray) -> Distance:
    """In rooms: steps of the shortest way to the goal, round the walls; within a step, what is left of it."""
    assert isinstance(world, Rooms)
    layout, steps = world.layout, steps_to(world.layout, goal[:2])
    beyond = steps[np.isfinite(steps)].max()

    def far(states: np.ndarray) -> np.ndarray:
        places = states[..., :2].reshape(-1, 2)
        straight = np.abs(places - goal[:2]).max(-1) / layout.speed
        by_table = np.minimum(look_up(steps, places), beyond)
        return np.where(by_table <= 2, straight, np.maximum(by_table, straight)).reshape(states.shape[:-1])

    return far


def difference(indices: Sequence[int], units: Sequence[float]) -> Callable[[ActWorld, np.ndarray], Distance]:
    """In any world: the norm of the differences of some quantities, each in units that matter."""

    def between(world: ActWorld, goal: np.ndarray) -> Distance:
        at, unit = list(indices), np.asarray(units)
        return lambda states: np.linalg.norm((states[..., at] - goal[at]) / unit, axis=-1)

    return between
