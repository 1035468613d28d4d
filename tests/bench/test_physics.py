"""The bench of the physics world: it counts frames, and writes the one form."""

from __future__ import annotations

import json
import sys

from bench import physics
from foretell.worlds.physics import SCENARIOS, Physics


def test_frames_are_counted():
    world = Physics(size=16, frames=23)
    assert physics.make(world, 3)(5) == 69
    assert physics.record_to_files(world, 2)(5) == 46


def test_result_has_every_scenario_and_the_bar(tmp_path, monkeypatch, capsys):
    out = tmp_path / "physics.json"
    monkeypatch.setattr(sys, "argv", [physics.__file__, "--runs", "2", "--episodes", "1", "--out", str(out)])
    monkeypatch.chdir(physics.Path(physics.__file__).parents[1])
    physics.main()
    result = json.loads(out.read_text())
    assert result["command"].startswith("python bench/physics.py --runs 2")
    assert {*SCENARIOS, "mixed", "mixed_recorded"} <= set(result["metrics"])
    assert result["metrics"]["mixed"]["n"] == 2
    assert set(result["protocol"]["bars"]) <= set(result["metrics"])
