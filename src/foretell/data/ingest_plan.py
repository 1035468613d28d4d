"""Who decodes what, and how much there is to do: from file sizes and headers, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence

from foretell.data.clip import View
from foretell.data.readers import UnreadableSource, probe, spread
from foretell.data.sources import Fingerprint, Source, fingerprint

SMALL_BYTES = 4 * 2**20  # starting a process costs as much as decoding this
PROBED_FOR_ESTIMATE = 32


def share_out(sources: Sequence[Source], pending: Sequence[Source], workers: int) -> list[tuple[int, list[Source]]]:
    """(shard number, its sources), the largest file first to the shard with the fewest bytes.

    Made from all sources and not from those pending, so that a run that continues gives each the shard it had.
    """
    sizes = {found.name: size_of(found) for found in sources}
    if sum(sizes.values()) < SMALL_BYTES:
        workers = 1
    load = [0] * min(workers, len(sources))
    shard = {}
    for found in sorted(sources, key=lambda found: -sizes[found.name]):
        number = load.index(min(load))
        load[number] += sizes[found.name] + 1
        shard[found.name] = number
    shares = [(number, [found for found in pending if shard[found.name] == number]) for number in range(len(load))]
    return [(number, share) for number, share in shares if share]


def estimate_frames(pending: Sequence[Source], view: View) -> int:
    """Steps to come, from the headers of a few sources and the sizes of all: only the progress bar needs it."""
    sample = spread(pending, PROBED_FOR_ESTIMATE)
    seconds = 0.0
    for found in sample:
        try:
            asked = probe(found)
            seconds += asked.frames_estimate / view.fps if found.kind == "images" else asked.seconds
        except UnreadableSource:
            continue
    share = sum(map(size_of, sample)) / max(1, sum(map(size_of, pending)))
    return round(seconds * view.fps / share) if share else 0


def known_fingerprint(found: Source) -> Fingerprint:
    """The fingerprint, or zeros for a source that is gone."""
    try:
        return fingerprint(found)
    except OSError:
        return Fingerprint(bytes=0, mtime_ns=0)  # `read` says what is wrong with it


def size_of(found: Source) -> int:
    """Bytes on disk, 0 for a source that is gone."""
    return known_fingerprint(found).bytes
