"""Which weights are kept, and that a kill on the way changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from foretell.model.actions import Batch
from foretell.train import chooser as module
from foretell.train.chooser import Chooser
from foretell.train.loop import TrainConfig


class Network(torch.nn.Linear):
    """One weight, that tells at which step it was."""

    config = SimpleNamespace(encoder=SimpleNamespace(latent_width=20))
    resting = False
    encoder = property(lambda self: self)

    def at(self, step: int) -> Network:
        self.weight.data.fill_(step)
        return self


LOOKS = {  # step: rank, error over copy; and the step whose weights are to be kept after this look
    1: (10, 0.9, 1),
    2: (20, 0.5, 2),
    3: (15.9, 0.2, 2),  # rank below 16: a low error that a collapsing code brings
    4: (16, 0.4, 4),
    5: (25, 0.7, 4),
    6: (19.9, 0.3, 4),  # now 20 is needed
    7: (24, 0.3, 7),
    8: (24, float("nan"), 7),
}


@pytest.fixture
def chooser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Chooser]:
    """A chooser of the run in tmp_path; what it sees is given by LOOKS."""

    def monitors(model: Network, frames: torch.Tensor, decode: None, actions: None) -> dict[str, float]:
        rank, error, _ = LOOKS[int(model.weight.item())]
        return {"rank": rank, "error_over_copy_1": 1 - error, "error_over_copy_4": error}

    monkeypatch.setattr(module, "monitors", monitors)
    monkeypatch.setattr(module, "alarms", lambda values, width, best: [f"best rank {best}"])
    return lambda: Chooser(tmp_path, Batch(torch.zeros(1)), TrainConfig(steps=9), Network(1, 1))


def write_diary(folder: Path, looks: int, falling: bool = True) -> None:
    """As the loop does it: between two looks a line without one, and a loss that must not matter."""
    lines: list[dict[str, Any]] = []
    for step, (rank, error, _) in list(LOOKS.items())[:looks]:
        seen = {"rank": rank, "error_over_copy_1": 1 - error, "error_over_copy_4": error}
        lines.append({"step": step, "loss": 1 / step if falling else step, **seen})
    text = "".join(json.dumps(line).replace("NaN", "null") + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text('{"step": 0, "loss": -5.0}\n' + text, encoding="utf-8")


def test_lowest_error_is_chosen_among_looks_of_good_rank(chooser: Callable[[], Chooser]) -> None:
    choose, network = chooser(), Network(1, 1)
    for step, (_, _, kept) in LOOKS.items():
        choose.objective.at(10 * step)
        seen = choose(network.at(step), step)
        assert seen["alarms"] == f"best rank {max(rank for at, (rank, _, _) in LOOKS.items() if at <= step)}"
        assert choose.restore(Network(1, 1).at(0))["step"] == kept
        other = Network(1, 1)
        choose.restore(other)
        assert other.weight.item() == kept
        assert choose.objective.weight.item() == 10 * kept
        assert not other.training


@pytest.mark.parametrize("falling", [True, False])
def test_choice_goes_on_after_a_kill_and_never_asks_the_loss(
    chooser: Callable[[], Chooser], tmp_path: Path, falling: bool
) -> None:
    for looks in range(1, len(LOOKS)):
        write_diary(tmp_path, looks, falling)
        for resumed_at in range(1, looks + 2):  # the diary may hold more than the checkpoint does
            choose = chooser()
            choose(Network(1, 1).at(resumed_at), resumed_at)
            assert choose.best()["step"] == LOOKS[resumed_at][2]


def test_choice_starts_afresh_once_the_encoder_rests(chooser: Callable[[], Chooser]) -> None:
    choose, network = chooser(), Network(1, 1)
    for step in (1, 2, 3, 6, 5):  # of the first three another is better than what comes after
        choose.objective.resting = step > 3
        choose(network.at(step), step if step != 5 else 7)
    assert choose.best()["step"] == 6


def test_a_first_look_that_is_no_number_does_not_stay(chooser: Callable[[], Chooser], monkeypatch) -> None:
    monkeypatch.setitem(LOOKS, 1, (10, float("nan"), 1))
    choose, network = chooser(), Network(1, 1)
    for step in (1, 2):
        choose(network.at(step), step)
    assert choose.best()["step"] == 2
