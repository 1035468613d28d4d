"""The decision log: whatever is changed in it is found, and the audit counts what was decided."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foretell.errors import DataError
from foretell.plan.decisions import FORMAT, Decision, DecisionLog, Reason, _canonical, _hash, audit


def decision(step: int, **changes) -> Decision:
    fields = {
        "step": step,
        "environment": 0,
        "time": 0.1 * step,
        "action": np.full((2, 1), 0.1 * step, np.float32),
        "status": "plan",
        "doubts": (),
        "vetoes": (),
        "seen": (1.0, 2.5),
        "broken": (),
        "foreseen": ((1.0, 2.0), (3.0, np.nan)),
        "room": 0.25,
        "retreat": False,
        "seconds": 0.01,
    }
    return Decision(**(fields | changes))


def written(folder: Path, steps: int = 4) -> tuple[Path, str]:
    path = folder / "decisions.jsonl"
    with DecisionLog(path, {"guardrails_sum": "abc", "model_sum": "def"}) as log:
        for step in range(steps):
            log.write(decision(step))
    return path, log.hash


def test_an_untouched_log_is_whole_and_counted(tmp_path):
    doubtful = {"status": "fallback", "doubts": (Reason("stale frame", "1 s"), Reason("stale frame", "again"))}
    vetoed = {"status": "fallback", "vetoes": (Reason("constraint", "x"), Reason("late plan", "2 s"))}
    path = tmp_path / "run" / "decisions.jsonl"
    log = DecisionLog(path, {"model_sum": "def"})
    for made in (
        decision(0),
        decision(1, **doubtful),
        decision(2, **vetoed, broken=("x at most 3",)),
        decision(3, retreat=True),
    ):
        log.write(made)
    closing = log.close()
    assert closing == log.close() == json.loads(path.read_text().splitlines()[-1])["hash"]
    found = audit(path)
    assert found.valid
    assert (found.decisions, found.fallbacks, found.broken) == (4, 2, 1)
    assert found.doubts == {"stale frame": 1}
    assert found.vetoes == {"constraint": 1, "late plan": 1}
    assert found.hash == closing
    assert closing in str(found)
    assert "--expect" in str(found)
    assert "as expected" in str(audit(path, expect=f"{closing.upper()}\n"))
    assert "4 decisions, 2 of them the fallback, 1 a retreat; 1 with a constraint broken" in str(found)


def test_what_was_done_is_in_the_log_to_the_bit(tmp_path):
    path, _ = written(tmp_path)
    line = json.loads(path.read_text().splitlines()[2])
    np.testing.assert_array_equal(np.array(line["action"], np.float32), decision(1).action)
    assert line["foreseen"] == [[1.0, 2.0], [3.0, None]]
    assert json.loads(path.read_text().splitlines()[0])["format"] == FORMAT


def test_any_altered_byte_is_found(tmp_path):
    path, _ = written(tmp_path, steps=1)
    data = path.read_bytes()
    changed = tmp_path / "changed.jsonl"
    random = np.random.default_rng(0)
    for at in range(len(data)):
        for other in {data[at] ^ 1, int(random.integers(256))} - {data[at]}:
            changed.write_bytes(data[:at] + bytes([other]) + data[at + 1 :])
            found = audit(changed)
            assert not found.valid, (at, data[at], other)
    line = data[: len(data) // 2].count(b"\n") + 1
    changed.write_bytes(data[: len(data) // 2] + b"#" + data[len(data) // 2 + 1 :])
    assert audit(changed).fault.startswith(f"line {line} ")
    assert "NOT TO BE TRUSTED" in str(audit(changed))


def test_any_byte_lost_or_added_is_found(tmp_path):
    path, _ = written(tmp_path, steps=1)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + data[at + 1 :])
        assert not audit(path).valid, at
        new = (b" ", b"\n", b"0", b"}")[at % 4]
        path.write_bytes(data[:at] + new + data[at:])
        assert not audit(path).valid, (at, new)


@pytest.mark.parametrize("end", [b"\n", b" ", b"{}\n", b"\x00"])
def test_nothing_may_follow_the_end(tmp_path, end):
    path, _ = written(tmp_path)
    path.write_bytes(path.read_bytes() + end)
    assert not audit(path).valid


def test_every_cut_is_found(tmp_path):
    path, _ = written(tmp_path, steps=1)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert not audit(path).valid, length
    path.write_bytes(data[: data.rindex(b"\n", 0, -1) + 1])
    assert "no closing line" in audit(path).fault
    assert audit(path).decisions == 1
    path.write_bytes(data[:-5])
    assert "half a line" in audit(path).fault


def test_lines_dropped_doubled_swapped_or_moved_in_from_elsewhere_are_found(tmp_path):
    path, _ = written(tmp_path, steps=5)
    lines = path.read_bytes().splitlines(keepends=True)
    other, _ = written(tmp_path / "other", steps=7)
    foreign = other.read_bytes().splitlines(keepends=True)
    count = len(lines)
    ways = [lines[:i] + lines[i + 1 :] for i in range(count)]
    ways += [lines[: i + 1] + lines[i:] for i in range(count)]
    ways += [[*lines[:j], lines[i], *lines[j:]] for i in range(count) for j in range(count + 1)]
    for i in range(count):
        for j in range(i):
            swapped = list(lines)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            ways.append(swapped)
    ways += [[*lines[:i], foreign[7], *lines[i:]] for i in range(count + 1)]
    ways += [lines[:-1] + foreign[-1:], lines[:-2] + lines[-1:]]
    for way in ways:
        path.write_bytes(b"".join(way))
        assert not audit(path).valid
    path.write_bytes(b"".join(lines))
    assert audit(path).valid


def test_what_a_chain_without_a_key_cannot_show_needs_the_noted_hash(tmp_path):
    path, noted = written(tmp_path)
    bodies, chain, forged = [json.loads(line) for line in path.read_text().splitlines()], "", b""
    bodies[2]["status"] = "fallback"
    for body in bodies:
        body.pop("hash")
        chain = _hash(chain, body)
        forged += _canonical({**body, "hash": chain}) + b"\n"
    path.write_bytes(forged)
    assert audit(path).valid, "a whole chain made anew cannot be told without the noted hash"
    assert "written anew" in audit(path, expect=noted).fault


def test_a_closing_line_must_count_right(tmp_path):
    path, _ = written(tmp_path, steps=1)
    lines = path.read_bytes().splitlines(keepends=True)
    chain = json.loads(lines[1])["hash"]
    body = {"kind": "end", "decisions": 3}
    path.write_bytes(b"".join(lines[:2]) + _canonical({**body, "hash": _hash(chain, body)}) + b"\n")
    assert "closes 3 decisions, there are 1" in audit(path).fault


def test_a_sound_chain_of_something_else_is_no_log(tmp_path):
    for strange in ({"kind": "decision", "status": "plan"}, {"kind": "verdict"}, {"status": "plan"}):
        lines, chain = b"", ""
        for body in ({"kind": "begin", "format": FORMAT}, strange, {"kind": "end", "decisions": 1}):
            chain = _hash(chain, body)
            lines += _canonical({**body, "hash": chain}) + b"\n"
        (tmp_path / "decisions.jsonl").write_bytes(lines)
        assert audit(tmp_path / "decisions.jsonl").fault == "line 2 is not a decision: something else wrote it"


@pytest.mark.parametrize("text", ["", "\n", "[]\n", "nonsense\n", '{"kind":"begin"}\n', "\x00\n", "[" * 100_000 + "\n"])
def test_files_that_are_no_log(tmp_path, text):
    path = tmp_path / "decisions.jsonl"
    path.write_text(text)
    assert not audit(path).valid
    assert audit(path).decisions == 0


def test_a_log_is_never_written_over_and_a_missing_one_is_named(tmp_path):
    path, _ = written(tmp_path)
    with pytest.raises(DataError, match="never written over"):
        DecisionLog(path, {})
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read.*give the decisions"):
        audit(tmp_path / "none.jsonl")


def test_a_run_that_an_error_ended_has_no_closing_line(tmp_path):
    def run() -> None:
        with DecisionLog(tmp_path / "decisions.jsonl", {}) as log:
            log.write(decision(0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    found = audit(tmp_path / "decisions.jsonl")
    assert (found.valid, found.decisions) == (False, 1)
    assert "did not come to its end" in found.fault


def test_every_line_is_in_the_file_before_the_next_step(tmp_path):
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path, {})
    for step in range(3):
        log.write(decision(step))
        assert path.read_bytes().count(b"\n") == step + 2
    assert "no closing line" in audit(path).fault
    assert audit(path).decisions == 3
