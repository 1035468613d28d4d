"""Learns several futures of one past on a finished model's frozen latents: which rollout came, and how likely it was.

Expectation and maximisation (Dempster, Laird and Rubin 1977), one batch at a time: all K rollouts are held against what came,
which says how much each code answers for it; one code is drawn by that, and its rollout alone learns. That is an unbiased
gradient of the mixture's likelihood at (K + 3) / 3K of its price.

What came has tens of thousands of numbers that err together; a Gaussian that counted them all would let codes explain every
slight error of the rollouts, and their choice would say more than the world left open. So a whole rollout counts as
`weight` independent numbers: enough to tell an up from a down, too few to tell a slight error from another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from foretell.errors import DataError
from foretell.model.branches import Branches, BranchesConfig, past_of
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import change_weight
from foretell.train.loop import step_generator

LEAST_SEEN = 4
"""Steps that are seen at least before a rollout begins."""
MOST_SEEN = 16
PORTION, PRIOR_BATCH, CHECK = 32, 128, 25
"""Windows explained at once; of the prior, windows in a step, and steps between two looks at clips held out."""


@dataclass(frozen=True, kw_only=True)
class BranchesTraining:
    """How long, and how sharply codes are told apart."""

    steps: int = 320
    """Training steps of the rollouts."""
    batch: int = 16
    """Pasts in a step."""
    peak: float = 5e-4
    """Highest learning rate."""
    sharper: float = 6.0
    """Times which a rollout counts as more in the first part, in which codes that are still alike have to part."""
    early: float = 0.5
    """Share of the steps, the first, that this part has. """
    prior_steps: int = 500
    """Steps at most in which the prior learns at the end."""


def fit_branches(
    model: WorldModel,
    clips: Sequence[Tensor],
    held_out: Sequence[Tensor],
    config: BranchesConfig,
    training: BranchesTraining,
    seed: int,
) -> Branches:
    """Learn branches from the latents of whole clips, (T, P, D) each; a function of its arguments. The model is left alone.

    `held_out` clips say when the prior has learned enough. Raises DataError if no clip is long enough for a rollout, and
    ConfigError for a model that cannot have branches.
    """
    torch.manual_seed(seed)
    branches = Branches(config, model)
    trained, others = Windows(clips, config.horizon), Windows(held_out, config.horizon)
    optimizer = torch.optim.AdamW(branches.parameters(), lr=training.peak, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.peak, total_steps=training.steps, pct_start=0.1)
    for step in range(training.steps):
        generator = step_generator(seed, step)
        optimizer.zero_grad()
        early = step < training.early * training.steps
        sharper = training.sharper if early else 1.0
        with mixed_precision("auto", torch.device("cpu")):
            loss = mixture_error(model, branches, trained.draw(training.batch, generator), sharper, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(branches.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    fit_prior(model, branches, trained, others, training, seed)
    return branches.eval()


class Windows:
    """Draws stretches of clips: some steps that are seen, as many in all of a batch, and a rollout's that follow."""

    def __init__(self, clips: Sequence[Tensor], horizon: int) -> None:
        self.clips = [clip for clip in clips if len(clip) >= LEAST_SEEN + horizon]
        self.horizon = horizon
        if not self.clips:
            raise DataError(
                f"branches: no clip has {LEAST_SEEN + horizon} steps, {LEAST_SEEN} to be seen and a horizon of {horizon}: take "
                "a shorter horizon or longer clips"
            )
        self.most = min(MOST_SEEN, min(len(clip) for clip in self.clips) - horizon)

    def draw(self, count: int, generator: torch.Generator, of: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Latents seen (N, T, P, D) and what followed (N, H, P, D), of any clips or of these."""

        def below(most: int) -> int:
            return int(torch.randint(most, (), generator=generator))

        seen = LEAST_SEEN + below(self.most - LEAST_SEEN + 1)
        chosen = [self.clips[below(len(self.clips)) if of is None else of[i]] for i in range(count)]
        starts = [below(len(clip) - seen - self.horizon + 1) for clip in chosen]
        spans = torch.stack([c[s : s + seen + self.horizon] for c, s in zip(chosen, starts, strict=True)]).float()
        return spans[:, :seen], spans[:, seen:]


def mixture_error(
    model: WorldModel,
    branches: Branches,
    window: tuple[Tensor, Tensor],
    sharper: float,
    generator: torch.Generator,
) -> Tensor:
    """Error of the rollout of one code of each window, drawn by how much it answers for what came.

    Here all codes are as likely: a prior that learned beside them would let the likelier ones take all, and others die.
    """
    seen, came = window
    with torch.no_grad():
        past = past_of(model, seen)
        errors = rollout_errors(branches.rollouts(past, came.shape[1]), seen, came)
        branches.follow(errors)
        answers = evened(branches.evidence(errors, sharper).softmax(-1))
        codes = torch.multinomial(answers, 1, generator=generator)[:, 0]
    said = branches.rollout(past, codes, came.shape[1])
    return (rollout_errors(said[:, None], seen, came)[:, 0] / branches.spread).mean()


def rollout_errors(said: Tensor, seen: Tensor, came: Tensor) -> Tensor:
    """Squared errors of rollouts (N, K, H, P, D) of what came (N, H, P, D) after `seen`, of each step: (N, K, H).

    Places count by how much they change, as in next_latent: in a fixed view most never do.
    """
    weight = change_weight(torch.cat([seen[:, -1:], came], 1))
    return (weight[:, None] * (said.float() - came[:, None]).square()).mean((-2, -1))


def evened(answers: Tensor) -> Tensor:
    """Answers (N, K), rows of sum 1, half of the way to all codes answering for as much: a step of Sinkhorn's, damped."""
    answers = answers / answers.sum(0).clamp_min(1e-6).sqrt()
    return answers / answers.sum(1, keepdim=True)


def fit_prior(
    model: WorldModel, branches: Branches, trained: Windows, others: Windows, training: BranchesTraining, seed: int
) -> None:
    """Learn how likely each code is: the mixture's likelihood, with the rollouts as they are.

    There are only as many outcomes as clips, which are soon known by heart; clips that nothing learned from say when to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens, evidence = explained(model, branches, trained, generator)
    aside, aside_evidence = explained(model, branches, others, generator)
    prior = branches.prior
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-3, weight_decay=1.0)
    best, kept = math.inf, {k: v.clone() for k, v in prior.state_dict().items()}
    for step in range(training.prior_steps):
        if step % CHECK == 0:
            with torch.no_grad():
                error = float(surprise_of(prior(aside), aside_evidence))
            if error < best:
                best, kept = error, {k: v.clone() for k, v in prior.state_dict().items()}
        drawn = torch.randint(len(tokens), (PRIOR_BATCH,), generator=generator)
        optimizer.zero_grad()
        surprise_of(prior(tokens[drawn]), evidence[drawn]).backward()
        optimizer.step()
    prior.load_state_dict(kept)


def surprise_of(scores: Tensor, evidence: Tensor) -> Tensor:
    """Minus the mixture's log likelihood, but for a constant, of a prior's scores and codes' evidence, (N, K) each."""
    return -(scores.log_softmax(-1) + evidence).logsumexp(-1).mean()


@torch.no_grad()
def explained(
    model: WorldModel, branches: Branches, windows: Windows, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Of a window of every clip, what the prior reads, (N, P, C), and how well each code explains what came, (N, K)."""
    tokens, evidence = [], []
    order = torch.randperm(len(windows.clips), generator=generator).tolist()
    for at in range(0, len(order), PORTION):
        of = order[at : at + PORTION]
        with mixed_precision("auto", torch.device("cpu")):
            seen, came = windows.draw(len(of), generator, of)
            past = past_of(model, seen)
            errors = rollout_errors(branches.rollouts(past, came.shape[1]), seen, came)
        tokens.append(past.tokens)
        evidence.append(branches.evidence(errors))
    return torch.cat(tokens), torch.cat(evidence)
