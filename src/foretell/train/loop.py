"""The training loop, on one screen."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from foretell.errors import ConfigError, ForetellError
from foretell.log import Metrics, progress
from foretell.model.actions import Batch
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import NextLatentConfig
from foretell.objectives.objective import Objective, ObjectiveConfig
from foretell.parallel import average_gradients, keep_freed_memory, mean_over_ranks, rank
from foretell.train.checkpoint import load_checkpoint, save_checkpoint
from foretell.train.optim import OptimConfig, build_optimizer, learning_rate


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, in what portions, and how it is watched."""

    minutes: float | None = None
    """Wall time to train; the number of steps is settled after the first ones, from their speed."""
    steps: int | None = None
    """Steps to train; the alternative to minutes."""
    batch: int = 8
    """Windows in a step, on each rank."""
    window: int = 24
    """Steps of video in a window."""
    seed: int = 0
    """Start weights, order of samples and all random draws follow from it."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 where the processor multiplies it fast."""
    objective: ObjectiveConfig = field(default_factory=NextLatentConfig)
    """What is learned."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it is learned."""
    threads: int = 1
    """Processor threads. More pay only on idle cores: on two busy ones, two threads ran at a twentieth of the speed of one."""
    tensorboard: bool = False
    """Also write TensorBoard files (needs the extra `track`)."""
    check_every: int = 100
    """Steps between two looks at the monitors, on held-out clips."""
    save_every: int = 100
    """Steps between two checkpoints to resume from."""

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ConfigError(f"train: got minutes {self.minutes} and steps {self.steps}, expected one of the two")
        seen = self.objective.seen if isinstance(self.objective, NextLatentConfig) else 1
        if self.window < seen + self.objective.horizon:
            raise ConfigError(
                f"train window: got {self.window}, expected {seen} steps to be seen and the horizon {self.objective.horizon}, or more"
            )


Evaluate = Callable[[WorldModel, int], dict[str, float]]
"""(model, step) -> numbers to log; called every `check_every` steps and at the end, with the model in eval mode."""

SHOWN = ("loss", "error_over_copy_4", "rank", "frames_per_second")
"""What the progress bar shows."""

PROBE_STEPS = 20
"""Steps after which `minutes` become a number of steps."""


def train_loop(
    model: WorldModel,
    objective: Objective,
    batches: Callable[[int], Batch],
    config: TrainConfig,
    folder: Path,
    evaluate: Evaluate,
) -> int:
    """Train `model`, and what `objective` owns, in place on `batches(step)`; returns the steps.

    A checkpoint in `folder` is gone on from, equal to the bit to a run without a break. Ctrl-C or a termination signal saves
    and leaves with KeyboardInterrupt. Raises ForetellError before the optimizer sees a loss or gradient that is not finite.
    """
    keep_freed_memory()
    learner = nn.ModuleDict({"model": model, "objective": objective})
    optimizer = build_optimizer(config.optim, learner)
    checkpoint = folder / "checkpoint.safetensors"
    run: dict[str, Any] = {"step": 0, "steps": config.steps, "seconds": 0.0}
    if checkpoint.exists():
        run |= load_checkpoint(checkpoint, learner, optimizer)
    diary = Metrics(folder, resumed_step=run["step"] or None, tensorboard=config.tensorboard)
    began = time.monotonic() - run["seconds"]
    with _StopSignal() as stop, closing(diary), progress(run["steps"], "train", "step", done=run["step"]) as bar:
        while run["steps"] is None or run["step"] < run["steps"]:
            step = run["step"]
            rate = learning_rate(config.optim, step, run["steps"] or 10**9)
            for group in optimizer.param_groups:
                group["lr"] = rate

            model.train()
            objective.before_step(model, step / (run["steps"] or math.inf))
            frames, actions = batches(step)
            with mixed_precision(config.precision, frames.device):
                terms = objective.terms(model, frames, step_generator(config.seed, step), actions)
            loss = weighted_sum(terms, objective.weights)
            optimizer.zero_grad()
            loss.backward()
            average_gradients(learner.parameters())
            norm = torch.nn.utils.clip_grad_norm_(learner.parameters(), config.optim.clip)
            stop_if_not_finite(step, loss, norm, terms)
            optimizer.step()
            objective.after_step(model)

            run |= {"step": step + 1, "seconds": time.monotonic() - began}
            if run["steps"] is None and step + 1 == PROBE_STEPS:
                run["steps"] = bar.total = settle_steps(config, over_ranks(run["seconds"], loss.device))
            done, stopped = step + 1 == run["steps"], over_ranks(stop.asked, loss.device) > 0
            line: dict[str, float] = {"loss": loss.item(), "gradient": norm.item(), "rate": rate}
            line |= {name: term.item() for name, term in terms.items()}
            line["frames_per_second"] = (step + 1) * frames.shape[0] * frames.shape[1] / run["seconds"]
            if (step + 1) % config.check_every == 0 or done:
                line |= evaluate(model.eval(), step + 1)
            diary.write(step + 1, line)
            bar.set_postfix({name: line[name] for name in SHOWN if name in line}, refresh=False)
            bar.update()
            if ((step + 1) % config.save_every == 0 or done or stopped) and rank() == 0:
                save_checkpoint(checkpoint, learner, optimizer, run)
            if stopped and not done:
                raise KeyboardInterrupt(f"stopped at step {step + 1}: the same command goes on from there")
    return int(run["step"])


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The loss. The names of `terms` must be those of `weights`, so that no term is lost or weighed twice."""
    assert terms.keys() == weights.keys(), f"terms {sorted(terms)}, weights {sorted(weights)}"
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def stop_if_not_finite(step: int, loss: Tensor, norm: Tensor, terms: dict[str, Tensor]) -> None:
    """Raise ForetellError, before the optimizer is touched, if loss or gradient is not finite."""
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        values = ", ".join(f"{name} {term.item():.3g}" for name, term in terms.items())
        raise ForetellError(
            f"step {step + 1}: loss {loss.item():.3g} and gradient {norm.item():.3g} must be finite ({values}); weights are "
            "as they were before this step: try a smaller --peak or --precision fp32"
        )


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random draws of one step, a function of (seed, step); dropout follows the same seed."""
    drawn = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(drawn)
    return torch.Generator().manual_seed(drawn)


def settle_steps(config: TrainConfig, seconds: float) -> int:
    """How many steps fit in `config.minutes`, from the seconds that the first PROBE_STEPS took."""
    assert config.minutes is not None
    return max(PROBE_STEPS, round(config.minutes * 60 / seconds * PROBE_STEPS))


def over_ranks(value: float, device: torch.device) -> float:
    """Mean of a number over ranks, so that all of them decide alike."""
    return mean_over_ranks(torch.tensor(float(value), device=device)).item()


class _StopSignal:
    """Turns Ctrl-C and SIGTERM into a wish that the loop grants after its step; a second Ctrl-C stops at once."""

    asked = False

    def __enter__(self) -> _StopSignal:
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt("stopped at once; the same command goes on from the last checkpoint")
        self.asked = True

    def __exit__(self, *exception: object) -> None:
        if self.main:
            for number, handler in self.before.items():
                signal.signal(number, handler)
