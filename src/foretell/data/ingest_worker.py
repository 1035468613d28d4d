"""Decode a share of the sources into one shard: in this process, or in several beside it.

A worker is `python -m foretell.data.ingest_worker`: its job comes as JSON on stdin, its messages go as JSON lines to
stdout. (multiprocessing would run the caller's script again in every worker, unless that script is guarded.)
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from foretell.data.clip import View
from foretell.data.readers import Source, UnreadableSource, read
from foretell.data.shard import Shard
from foretell.data.sources import fingerprint
from foretell.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a worker has to tell."""

    kind: Literal["frames", "skipped", "failed"]
    """frames: `count` more are written; skipped: `name` cannot be read, `text` says why; failed: `text` says why."""
    count: int = 0
    name: str = ""
    text: str = ""


Report = Callable[[Message], None]


def ingest_sources(out: Path, number: int, view: View, sources: Sequence[Source], report: Report) -> None:
    """Decode sources, one after the other, into shard `number`. A clip counts when all of it could be read."""
    try:
        with Shard(out, number, view) as shard:
            for source in sources:
                try:
                    _ingest_one(shard, source, view, report)
                except UnreadableSource as error:
                    shard.rollback()
                    report(Message(kind="skipped", name=source.name, text=error.reason))
    except DataError as error:  # the shard cannot be written
        report(Message(kind="failed", text=str(error)))


def _ingest_one(shard: Shard, source: Source, view: View, report: Report) -> None:
    try:
        before = fingerprint(source)  # taken first: a file that changes meanwhile is not the one known
    except OSError as error:
        raise UnreadableSource(source.path, f"cannot be opened ({error.strerror})") from error
    source_frames = 0
    for chunk in read(source, view):
        shard.append(chunk.frames)
        source_frames += len(chunk.seconds)
        report(Message(kind="frames", count=len(chunk.frames)))
    shard.commit(source.name, before, source_frames)


def run_processes(
    out: Path, view: View, shares: Sequence[tuple[int, Sequence[Source]]], report: Report, lock: int
) -> None:
    """One process a share, until all are done; `report` is called here. If it raises, all are stopped.

    `lock` is a file descriptor the workers keep open. Raises DataError if a worker dies.
    """
    inbox: queue.Queue[tuple[int, Message | None]] = queue.Queue()
    workers: list[subprocess.Popen[str]] = []
    try:
        for number, share in shares:
            worker = _start(lock)
            workers.append(worker)
            threading.Thread(target=_listen, args=(len(workers) - 1, worker, inbox), daemon=True).start()
            _give_job(worker, out, number, view, share)
        listening = len(workers)
        while listening:
            index, message = inbox.get()
            if message is not None:
                report(message)
                continue
            listening -= 1
            code = workers[index].wait()
            if code:
                raise DataError(
                    f"{out}: an ingest process died (exit code {code}; -9 is mostly the machine short of memory);"
                    " run the same command again, it continues"
                )
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def _start(lock: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-m", "foretell.data.ingest_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        pass_fds=(lock,),
        text=True,
        encoding="ascii",
    )


def _give_job(worker: subprocess.Popen[str], out: Path, number: int, view: View, share: Sequence[Source]) -> None:
    job = {
        "out": os.fspath(out),
        "number": number,
        "view": asdict(view),
        "sources": [{**asdict(source), "path": os.fspath(source.path)} for source in share],
    }
    assert worker.stdin is not None
    try:
        json.dump(job, worker.stdin)
        worker.stdin.close()
    except BrokenPipeError:
        pass  # it died at once; its exit code is read where the messages end


def _listen(index: int, worker: subprocess.Popen[str], inbox: queue.Queue[tuple[int, Message | None]]) -> None:
    assert worker.stdout is not None
    for line in worker.stdout:
        inbox.put((index, Message(**json.loads(line))))
    inbox.put((index, None))


def _tell(message: Message) -> None:
    sys.stdout.write(json.dumps(asdict(message)) + "\n")
    sys.stdout.flush()


def main() -> None:
    """A worker: one job from stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    job = json.load(sys.stdin)
    sources = [Source(path=Path(given["path"]), name=given["name"], kind=given["kind"]) for given in job["sources"]]
    try:
        ingest_sources(Path(job["out"]), job["number"], View(**job["view"]), sources, _tell)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone, and with it the reader of what we write


if __name__ == "__main__":
    main()
