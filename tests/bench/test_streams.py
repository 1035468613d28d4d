"""The bench of streams: its shortcut computes what the class does, and a tiny run writes the one form."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from bench import streams
from foretell.doubt.martingale import OnlineRanks, StreamEvidence


def test_the_shortcut_is_the_evidence_of_the_class():
    scores = np.random.default_rng(0).normal(size=300) + np.linspace(0, 2, 300)
    ranks, evidence = OnlineRanks(seed=1), StreamEvidence(seed=1)
    p = np.array([ranks.add(score) for score in scores])
    for score in scores:
        evidence.add(score)
    assert streams.highest_of(p) == pytest.approx(evidence.highest_log_evidence)
    assert streams.highest_of(p) > 1


def test_a_tiny_run_has_every_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(streams, "QUIET", (5,))
    monkeypatch.setattr(streams, "WATCHED", 50)
    out = tmp_path / "streams.json"
    sizes = ["--seeds", "2", "--frames", "4000", "--weeks", "2", "--units", "50", "--changes", "2"]
    monkeypatch.setattr(sys, "argv", [streams.__file__, *sizes, "--out", str(out)])
    streams.main()
    result = json.loads(out.read_text())
    assert set(result["protocol"]["bars"]) <= set(result["metrics"])
    assert result["metrics"]["false_alarms_0.05"]["n"] == 2
    assert result["metrics"]["adaptive_gap_points"]["value"] < result["baselines"]["fixed_gap_points"]["value"]
    assert result["metrics"]["found_after_5_shift_4"]["n"] == 2
