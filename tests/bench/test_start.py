"""The bench of the start: it counts the work of the process that it started, and writes the one form."""

from __future__ import annotations

import json
import sys

import pytest

from bench import start


def test_work_is_counted_and_a_failing_command_is_no_result():
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    assert start.cpu_seconds([sys.executable, "-c", busy]) >= 0.3
    with pytest.raises(start.subprocess.CalledProcessError):
        start.cpu_seconds([sys.executable, "-c", "raise SystemExit(2)"])


def test_result_names_command_bars_and_baselines(tmp_path, monkeypatch, capsys):
    out = tmp_path / "start.json"
    monkeypatch.setattr(sys, "argv", [start.__file__, "--runs", "2", "--out", str(out)])
    monkeypatch.setattr(start, "commands", {name: [sys.executable, "-c", "pass"] for name in start.commands})
    monkeypatch.chdir(start.Path(start.__file__).parents[1])
    start.main()
    result = json.loads(out.read_text())
    assert result["command"].startswith("python bench/start.py --runs 2")
    assert result["metrics"]["import_cpu_seconds"]["n"] == 2
    assert set(result["metrics"]) == set(result["protocol"]["bars"])
    assert "python_cpu_seconds" in result["baselines"]
    assert json.loads(capsys.readouterr().out) == result
