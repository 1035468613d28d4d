"""Processes that take questions end with whoever asks: on an error, and when it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foretell.evals.workers import workers

ASKER = """
import sys
from tests_of_workers import stay
from foretell.evals.workers import workers

if __name__ == "__main__":
    with workers(1, int) as pool:
        pool.submit(stay, sys.argv[1]).result()
"""
STAY = """
import os, time

def stay(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(120)
"""


def wait_for(true) -> bool:
    """Whether it comes true within 60 seconds: machines may be busy."""
    for _ in range(600):
        if true():
            return True
        time.sleep(0.1)
    return False


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_whoever_asks_may_be_killed(tmp_path):
    (tmp_path / "tests_of_workers.py").write_text(STAY)
    (tmp_path / "asker.py").write_text(ASKER)
    told = tmp_path / "worker"
    asker = subprocess.Popen([sys.executable, str(tmp_path / "asker.py"), str(told)])
    try:
        assert wait_for(lambda: told.exists() and told.read_text())
        worker = int(told.read_text())
        assert alive(worker)
        asker.send_signal(signal.SIGKILL)
        asker.wait()
        assert wait_for(lambda: not alive(worker))
    finally:
        asker.kill()


def test_an_error_is_not_kept_waiting_by_what_was_asked():
    began, asked = time.monotonic(), []

    def ask_and_fail():
        with workers(1, int) as pool:
            asked.append(pool.submit(os.getpid).result())
            asked.extend(pool.submit(time.sleep, 600) for _ in range(5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_and_fail()
    worker, *asked = asked
    assert wait_for(lambda: not alive(worker))
    assert time.monotonic() - began < 600
    assert all(future.done() for future in asked)


def test_each_begins_as_told_and_answers():
    with workers(2, _begin) as pool:
        assert list(pool.map(_begun, range(4))) == [True] * 4


_told = []


def _begin() -> None:
    _told.append(1)


def _begun(number: int) -> bool:
    return _told == [1]
