"""Learns several futures of one past on a finished model's frozen latents: which rollout came, and how likely it was.

First what came beyond what the model had foretold is sorted into a few kinds (k-means, Lloyd 1982), and each code learns to
foretell one of them. Then all K rollouts are held against what came, codes without need are dropped, and the prior learns the
mixture's likelihood. (Expectation and maximisation from codes that are alike ended in one future for all, in 3 runs of 7.)

What came has tens of thousands of numbers that err together; a Gaussian that counted them all would let codes explain every
slight error of the rollouts, and their choice would say more than the world left open. So a whole rollout counts as
`weight` independent numbers: enough to tell an up from a down, too few to tell a slight error from another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from foretell.data.split import Stretch
from foretell.data.store import Store
from foretell.errors import DataError
from foretell.log import progress
from foretell.model.branches import FILE, Branches, BranchesConfig, past_of, save_branches
from foretell.model.folder import load_model, read_config
from foretell.model.precision import mixed_precision
from foretell.model.world_model import WorldModel
from foretell.objectives.next_latent import change_weight
from foretell.train.loop import step_generator
from foretell.train.run import as_batch, few_stretches

LEAST_SEEN = 4
"""Steps that are seen at least before a rollout begins."""
MOST_SEEN = 16
MOST_FRAMES, FRAMES_AT_ONCE = 100_000, 256
WORTH = 0.3
"""Nats by which a code must help to explain a window of held-out clips, on average, to be kept."""
ALIKE = 2.0
"""Two rollouts show one future if they are no farther apart than two that err about it, each in its way: 2 in units of the
spread. On the world of chance codes of one way were 0.6 apart at most in nine of ten windows."""
PURE, KINDS_FROM, LLOYD = 12.0, 512, 20
"""How surely a window is of the kind that is most like it; windows that kinds are found from, and rounds of finding them."""
PORTION, JUDGED = 32, 160
"""Windows explained at once, and those that say which codes are needed."""
EACH = 4
"""Windows of each clip that the prior learns from. Where a window begins late nothing may be open any more: on the world of
chance that is every third, and with one window a clip too few were left to learn the odds from."""
READER_BATCH, READER_PEAK, READER_DECAY, CHECK = 128, 4e-3, 0.3, 50
"""Of a reader of the prior: windows in a step, highest learning rate, decay, and steps between two looks at clips held out."""


@dataclass(frozen=True, kw_only=True)
class BranchesTraining:
    """How long."""

    steps: int = 240
    """Training steps of the rollouts."""
    batch: int = 16
    """Pasts in a step."""
    peak: float = 1e-3
    """Highest learning rate."""
    prior_steps: int = 1000
    """Steps in which each reader of the prior learns at the end, of which the best on clips held out counts."""


@dataclass(frozen=True, kw_only=True)
class BranchesSummary:
    """What was learned of open futures."""

    folder: Path
    clips: int
    """Clips that the rollouts learned from, of those that the model was trained on."""
    bits: float
    """What stays open to the model within the horizon, in bits, be it the world or what it has not learned: how much more than
    the prior is known once it has come. On clips that only said when to stop."""
    config: BranchesConfig

    def __str__(self) -> str:
        """What the command line prints."""
        return (
            f"{self.folder / FILE}: {self.config.codes} codes, learned from {self.clips} clips; within {self.config.horizon} "
            f"steps {self.bits:.2f} bits stay open to it. Draw futures with foretell imagine --samples"
        )


def learn_branches(
    folder: Path,
    *,
    data: Path | None = None,
    config: BranchesConfig | None = None,
    training: BranchesTraining | None = None,
    seed: int = 0,
) -> BranchesSummary:
    """Learn the branches of the model in `folder` from the clips that it was trained on, and put them beside it.

    `data` is the store that they lie in, if it has moved. Raises CheckpointError for a damaged folder, DataError if the store
    cannot be used or no clip is long enough, and ConfigError for a model that cannot have branches.
    """
    config = BranchesConfig() if config is None else config
    training = BranchesTraining() if training is None else training
    model = load_model(folder)
    clips, held_out = (clip_latents(model, folder, data, part) for part in ("train", "development"))
    branches = fit_branches(model, clips, held_out, config, training, seed)
    save_branches(folder, branches)
    windows = Windows(held_out, config.horizon)
    tokens, evidence = explained(model, branches, windows, torch.Generator().manual_seed(seed), len(windows.clips))
    with torch.no_grad():
        bits = bits_used(branches.prior(tokens), evidence).mean().item()
    return BranchesSummary(folder=folder, clips=len(clips), bits=bits, config=branches.config)


@torch.no_grad()
def clip_latents(model: WorldModel, folder: Path, data: Path | None, part: str) -> list[Tensor]:
    """Latents (T, P, D) of the clips that had a part (train, development) in a model's training, each frame encoded once.

    In bf16, and of long footage only so much. Raises DataError if the store is gone, of another view, or lacks a clip.
    """
    facts = read_config(folder)
    try:
        where, stretches = str(data or facts["data"]["store"]), facts["split"][part]
    except KeyError as error:
        raise DataError(f"{folder}: config.json does not tell what it was trained on (no {error})") from error
    store = Store.open(where)
    if store.view != model.config.view:
        raise DataError(f"{where}: its view is {store.view}, expected the model's, {model.config.view}")
    numbers = {clip.name: number for number, clip in enumerate(store.clips)}
    missing = [s["name"] for s in stretches if s["name"] not in numbers]
    if missing:
        raise DataError(f"{where}: lacks {missing[0]}, which the model was trained on; name its store with --data")
    chosen = tuple(Stretch(clip=numbers[s["name"]], start=s["start"], length=s["length"]) for s in stretches)
    found = []
    for s in few_stretches(chosen, MOST_FRAMES):
        frames = as_batch([store.window(s.clip, s.start, s.length)])
        with mixed_precision("auto", frames.device):
            parts = [model.encode(frames[:, at : at + FRAMES_AT_ONCE]) for at in range(0, s.length, FRAMES_AT_ONCE)]
        found.append(torch.cat(parts, 1)[0].bfloat16())
    return found


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
    fit_rollouts(model, branches, trained, training, seed)
    branches.keep(needed(model, branches, others, seed))
    fit_prior(model, branches, trained, others, training, seed)
    return branches.eval()


def fit_rollouts(
    model: WorldModel, branches: Branches, trained: Windows, training: BranchesTraining, seed: int
) -> None:
    """Let the rollouts of all codes learn."""
    optimizer = torch.optim.AdamW(branches.parameters(), lr=training.peak, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.peak, total_steps=training.steps, pct_start=0.1)
    kinds = find_kinds(model, trained, branches.config.codes, seed)
    with progress(training.steps, "branch", "step") as bar:
        for step in range(training.steps):
            generator = step_generator(seed, step)
            optimizer.zero_grad()
            with mixed_precision("auto", torch.device("cpu")):
                loss = kind_error(model, branches, trained.draw(training.batch, generator), kinds, generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(branches.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update()


@torch.no_grad()
def find_kinds(model: WorldModel, windows: Windows, count: int, seed: int) -> Tensor:
    """Middles (K, P + P * D) of kinds of what came beyond what was foretold, found among windows in which that was much."""
    generator = torch.Generator().manual_seed(seed)
    with mixed_precision("auto", torch.device("cpu")):
        found = torch.cat([beyond(model, *windows.draw(PORTION, generator)) for _ in range(KINDS_FROM // PORTION)])
    much = found[found.norm(dim=1) >= found.norm(dim=1).median()]
    much = much / much.norm(dim=1, keepdim=True).clamp_min(1e-6)
    middles = much[:1]
    while len(middles) < count:  # each the least like those before it
        middles = torch.cat([middles, much[(much @ middles.T).amax(1).argmin()][None]])
    for _ in range(LLOYD):
        kind = (much @ middles.T).argmax(1)
        sums = torch.stack([much[kind == k].sum(0) for k in range(count)])
        middles = sums / sums.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return middles


def beyond(model: WorldModel, seen: Tensor, came: Tensor) -> Tensor:
    """What came beyond the model's one future, after `seen` (N, T, P, D) when `came` (N, H, P, D): (N, P + P * D).

    Where more changed than foretold, or less, whatever it looks like; and what it looks like. Both are means over the second half
    of the horizon, each of length 0.7 at most, and the shorter the less there was of it.
    """
    later = came.shape[1] // 2
    said, came, last = (
        model.rollout(seen, came.shape[1])[:, later:].float(),
        came[:, later:].float(),
        seen[:, -1:].float(),
    )
    change, foretold = ((x - last).square().mean(-1) for x in (came, said))  # (N, H', P)
    parts = ((change - foretold).mean(1), (came - said).mean(1).flatten(1))
    lengths = [part.norm(dim=1, keepdim=True) for part in parts]
    return torch.cat(
        [part / (length + length.median()).clamp_min(1e-6) for part, length in zip(parts, lengths, strict=True)], 1
    ) / math.sqrt(2)


def needed(model: WorldModel, branches: Branches, windows: Windows, seed: int) -> list[int]:
    """The codes that the world has need of: those without which clips that nothing learned from are explained worse."""
    generator = torch.Generator().manual_seed(seed)
    _, evidence = explained(model, branches, windows, generator, JUDGED)
    kept = list(range(branches.config.codes))
    while len(kept) > 1:
        without = {code: likelihood(evidence[:, [k for k in kept if k != code]]) for code in kept}
        idle = max(without, key=lambda code: without[code])
        if likelihood(evidence[:, kept]) - without[idle] > WORTH:
            break
        kept.remove(idle)
    return kept


def likelihood(evidence: Tensor) -> float:
    """Mean log likelihood of windows under a mixture of codes, at the weights that suit them best, from evidence (N, K)."""
    weights = torch.full((evidence.shape[1],), 1 / evidence.shape[1])
    for _ in range(30):
        weights = (evidence + weights.log()).softmax(-1).mean(0).clamp_min(1e-9)
    return float((evidence + weights.log()).logsumexp(-1).mean())


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


def kind_error(
    model: WorldModel, branches: Branches, window: tuple[Tensor, Tensor], kinds: Tensor, generator: torch.Generator
) -> Tensor:
    """Error of the rollout of one code of each window: that of the kind of what came, drawn where it is of none."""
    seen, came = window
    with torch.no_grad():
        past = past_of(model, seen)
        branches.follow(rollout_errors(branches.rollouts(past, came.shape[1]), seen, came))
        codes = torch.multinomial((PURE * beyond(model, seen, came) @ kinds.T).softmax(-1), 1, generator=generator)[
            :, 0
        ]
    said = branches.rollout(past, codes, came.shape[1])
    return (rollout_errors(said[:, None], seen, came)[:, 0] / branches.spread).mean()


def rollout_errors(said: Tensor, seen: Tensor, came: Tensor) -> Tensor:
    """Squared errors of rollouts (N, K, H, P, D) of what came (N, H, P, D) after `seen`, of each step: (N, K, H).

    Places count by how much they change, as in next_latent: in a fixed view most never do.
    """
    weight = change_weight(torch.cat([seen[:, -1:], came], 1))
    return (weight[:, None] * (said.float() - came[:, None]).square()).mean((-2, -1))


def fit_prior(
    model: WorldModel, branches: Branches, trained: Windows, others: Windows, training: BranchesTraining, seed: int
) -> None:
    """Learn how likely each code is: the mixture's likelihood, with the rollouts as they are.

    There are only as many outcomes as clips, which are soon known by heart: each reader learns alone, and clips that nothing
    learned from say when it knew most.
    """
    generator = torch.Generator().manual_seed(seed)
    known, aside = (explained(model, branches, w, generator, EACH * len(w.clips)) for w in (trained, others))
    for reader in branches.prior.readers:
        fit_reader(reader, known, aside, training.prior_steps, generator)


def fit_reader(
    reader: nn.Module,
    known: tuple[Tensor, Tensor],
    aside: tuple[Tensor, Tensor],
    steps: int,
    generator: torch.Generator,
) -> None:
    """Let one reader learn from the windows `known`, as they are `explained`, and keep what explained those `aside` best."""
    tokens, evidence = known
    optimizer = torch.optim.AdamW(reader.parameters(), lr=READER_PEAK, weight_decay=READER_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, READER_PEAK, total_steps=steps, pct_start=0.1)
    best, kept = math.inf, reader.state_dict()
    for step in range(steps + 1):
        if step % CHECK == 0 or step == steps:
            with torch.no_grad():
                error = float(surprise_of(reader(aside[0]), aside[1]))
            if error < best:
                best, kept = error, {k: v.clone() for k, v in reader.state_dict().items()}
        if step < steps:
            drawn = torch.randint(len(tokens), (READER_BATCH,), generator=generator)
            optimizer.zero_grad()
            surprise_of(reader(tokens[drawn]), evidence[drawn]).backward()
            optimizer.step()
            schedule.step()
    reader.load_state_dict(kept)


def bits_used(chances: Tensor, evidence: Tensor) -> Tensor:
    """How much what came tells of the codes beyond the prior, KL(posterior || prior) in bits: (N,), from (N, K) logarithms."""
    answers = (chances + evidence).log_softmax(-1)
    return (answers.exp() * (answers - chances)).sum(-1) / math.log(2)


def surprise_of(scores: Tensor, evidence: Tensor) -> Tensor:
    """Minus the mixture's log likelihood, but for a constant, of a prior's scores and codes' evidence, (N, K) each."""
    return -(scores.log_softmax(-1) + evidence).logsumexp(-1).mean()


@torch.no_grad()
def explained(
    model: WorldModel, branches: Branches, windows: Windows, generator: torch.Generator, count: int
) -> tuple[Tensor, Tensor]:
    """What the prior reads, (N, P, C) in bf16, and how well each code explains what came, (N, K), of `count` windows.

    Every clip gives one before any gives another.
    """
    clips = len(windows.clips)
    rounds = [torch.randperm(clips, generator=generator) for _ in range(math.ceil(count / clips))]
    order = torch.cat(rounds)[:count].tolist()
    tokens, evidence = [], []
    for at in range(0, count, PORTION):
        of = order[at : at + PORTION]
        with mixed_precision("auto", torch.device("cpu")):
            seen, came = windows.draw(len(of), generator, of)
            past = past_of(model, seen)
            errors = rollout_errors(branches.rollouts(past, came.shape[1]), seen, came)
        tokens.append(past.tokens.bfloat16())
        evidence.append(branches.evidence(errors))
    return torch.cat(tokens), torch.cat(evidence)
