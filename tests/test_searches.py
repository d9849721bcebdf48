"""Searches here and in processes of their own: the same segments in the same order, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from asr.decoding.decoder import DecoderFactory, DecoderOptions
from asr.errors import SearchError
from asr.labels import Labels
from asr.recognizer import Pending
from asr.searches import Search, Searcher, n_processes, searcher_in_processes
from asr.transcript import Segment

LABELS = Labels.of_kind("characters")
needs_forks = pytest.mark.skipif(sys.platform != "linux", reason="needs forks")


@pytest.fixture(scope="module")
def greedy() -> DecoderFactory:
    return DecoderFactory({"characters": LABELS}, {}, DecoderOptions(beam_size=1), None)


@pytest.fixture(scope="module")
def in_processes(greedy: DecoderFactory) -> Iterator[Searcher]:
    with searcher_in_processes(greedy, 2) as searcher:
        yield searcher


def spelled(text: str) -> np.ndarray:
    """Log-probabilities (frames, labels) of a text without double letters; of no text, a blank."""
    log_probs = np.full((max(1, len(text)), len(LABELS)), -20.0, np.float32)
    log_probs[np.arange(len(log_probs)), LABELS.encode(text) or [0]] = -0.01
    return log_probs


def texts(searches: list[Search]) -> list[str]:
    found = [search.result() for search in searches]
    assert all(search.is_done() for search in searches)
    return [segment.text if segment else "" for segment in found]


def test_every_search_gets_its_own_segment(greedy: DecoderFactory) -> None:
    searcher = Searcher(greedy)
    searches = [searcher.add(spelled(text), float(i)) for i, text in enumerate(("one", "", "two"))]
    assert not searches[2].is_done()  # it waits for others to go along with
    assert texts(searches) == ["one", "", "two"]
    segment = searches[2].result()
    assert segment is not None and segment.start == pytest.approx(2.0)


@needs_forks
def test_processes_find_what_is_found_here(greedy: DecoderFactory, in_processes: Searcher) -> None:
    words = [["one", "", "two", "six"][i % 4] for i in range(700)]  # more than may wait at once
    here, there = (
        [searcher.add(spelled(word), float(i)) for i, word in enumerate(words)]
        for searcher in (Searcher(greedy), in_processes)
    )
    assert texts(there) == texts(here) == words


@needs_forks
def test_an_error_is_raised_where_its_segment_is_asked_for(
    greedy: DecoderFactory, in_processes: Searcher
) -> None:
    all_heard = spelled("one"), np.zeros((3, 0), np.float32), spelled("two")
    for searcher in (Searcher(greedy), in_processes):
        good, bad, late = (searcher.add(heard, 0.0) for heard in all_heard)
        with pytest.raises(ValueError):
            bad.result()
        assert texts([good, late]) == ["one", "two"]


def workers(searcher: Searcher) -> list[int]:
    assert searcher._pool is not None
    return list(searcher._pool.executor._processes)


@needs_forks
def test_processes_leave_ctrl_c_to_the_one_that_waits(in_processes: Searcher) -> None:
    before = workers(in_processes)
    for worker in before:
        os.kill(worker, signal.SIGINT)
    assert texts([in_processes.add(spelled("one"), 0.0)]) == ["one"]
    assert workers(in_processes) == before


@needs_forks
def test_a_killed_process_is_replaced_and_its_segments_are_searched_again(in_processes: Searcher) -> None:
    words = ["one", "", "two", "six"] * 50
    searches = []
    for i, word in enumerate(words):
        searches.append(in_processes.add(spelled(word), float(i)))
        if i % 60 == 30:  # while others are under way, and after them
            os.kill(workers(in_processes)[0], signal.SIGKILL)
    assert texts(searches) == words
    os.kill(workers(in_processes)[-1], signal.SIGKILL)
    assert texts([in_processes.add(spelled("two"), 0.0)]) == ["two"]


class Deadly:
    """Decodes as another factory does, but a segment that is offset by 13 seconds kills its process."""

    def __init__(self, new_decoder: DecoderFactory) -> None:
        self.new_decoder = new_decoder

    def decode_all(self, heard: list[tuple[np.ndarray, float]]) -> list[Segment | None]:
        if any(offset == 13.0 for _, offset in heard):
            os.kill(os.getpid(), signal.SIGKILL)
        return list(self.new_decoder.decode_all(heard))


@needs_forks
def test_a_segment_that_kills_every_process_is_the_only_one_lost(greedy: DecoderFactory) -> None:
    with searcher_in_processes(Deadly(greedy), 2) as searcher:  # type: ignore[arg-type]
        searches = [searcher.add(spelled("one"), float(i)) for i in range(11, 16)]
        with pytest.raises(SearchError, match=r"at 13\.0 s: .* killed"):
            searches[2].result()
        assert texts([search for search in searches if search is not searches[2]]) == ["one"] * 4


@needs_forks
def test_a_segment_waits_for_others_for_a_short_time_only(
    in_processes: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.searches._LONGEST_WAIT", 0.05)
    search = in_processes.add(spelled("one"), 0.0)
    pending = Pending([search])
    end = time.monotonic() + 10
    while not pending.done() and time.monotonic() < end:
        time.sleep(0.01)
    assert pending.known() == ([search.result()], 1)


@needs_forks
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_their_parent(number: signal.Signals) -> None:
    program = """
import time
from asr.decoding.decoder import DecoderFactory, DecoderOptions
from asr.labels import Labels
from asr.searches import searcher_in_processes
labels = {"characters": Labels.of_kind("characters")}
with searcher_in_processes(DecoderFactory(labels, {}, DecoderOptions(beam_size=1), None), 2) as searcher:
    print(*searcher._pool.executor._processes, flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    processes = [int(text) for text in parent.stdout.readline().split()]
    assert len(processes) == 2 and all(map(is_alive, processes))
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 5
    while any(map(is_alive, processes)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(is_alive, processes))


def is_alive(process: int) -> bool:
    """False also for one that has died and that nobody has asked about yet."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@needs_forks
def test_as_many_processes_as_cores_up_to_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert n_processes() == 3
    assert n_processes(threads=1) == 1
    assert n_processes(threads=16) == 4
