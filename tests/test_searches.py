"""Searches here and in processes of their own: the same segments in the same order, whatever happens."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from asr.decoding.decoder import DecoderFactory, DecoderOptions
from asr.labels import Labels
from asr.searches import Search, Searcher, n_processes, searcher_in_processes

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


@needs_forks
def test_processes_leave_ctrl_c_to_the_one_that_waits(in_processes: Searcher) -> None:
    assert in_processes._pool is not None
    worker = in_processes._pool.submit(os.getpid).result()
    os.kill(worker, signal.SIGINT)
    assert in_processes._pool.submit(int).result() == 0


@needs_forks
def test_as_many_processes_as_cores_up_to_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert n_processes() == 3
    assert n_processes(threads=1) == 1
    assert n_processes(threads=16) == 4
