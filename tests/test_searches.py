"""Searches here and in processes of their own: the same segments in the same order, whatever happens."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from asr.decoding.decoder import DecoderFactory, DecoderOptions
from asr.labels import Labels
from asr.searches import Searches, n_processes, search_pool

LABELS = Labels.of_kind("characters")
needs_forks = pytest.mark.skipif(sys.platform != "linux", reason="needs forks")


@pytest.fixture(scope="module")
def greedy() -> DecoderFactory:
    return DecoderFactory({"characters": LABELS}, {}, DecoderOptions(beam_size=1), None)


@pytest.fixture(scope="module")
def pool(greedy: DecoderFactory) -> Iterator[ProcessPoolExecutor]:
    with search_pool(greedy, 2) as processes:
        yield processes


def spelled(text: str) -> np.ndarray:
    """Log-probabilities (frames, labels) of a text without double letters; of no text, a blank."""
    log_probs = np.full((max(1, len(text)), len(LABELS)), -20.0, np.float32)
    log_probs[np.arange(len(log_probs)), LABELS.encode(text) or [0]] = -0.01
    return log_probs


def test_segments_come_in_the_order_of_their_searches(greedy: DecoderFactory) -> None:
    searches = Searches(greedy)
    for i, text in enumerate(("one", "", "two")):
        searches.add(spelled(text), float(i))
    first, second = searches.finish()
    assert (first.text, second.text) == ("one", "two")
    assert second.start == pytest.approx(2.0)


@needs_forks
def test_processes_find_what_is_found_here(greedy: DecoderFactory, pool: ProcessPoolExecutor) -> None:
    here, there = Searches(greedy), Searches(greedy, pool)
    for i in range(100):  # more than may wait at once
        for searches in (here, there):
            searches.add(spelled(["one", "", "two", "six"][i % 4]), float(i))
    assert there.finish() == here.finish()
    assert len(there.finish()) == 75


@needs_forks
def test_an_error_in_a_process_is_raised_here(greedy: DecoderFactory, pool: ProcessPoolExecutor) -> None:
    searches = Searches(greedy, pool)
    searches.add(np.zeros((3, 0), np.float32), 0.0)
    with pytest.raises(ValueError):
        searches.finish()


@needs_forks
def test_processes_leave_ctrl_c_to_the_one_that_waits(pool: ProcessPoolExecutor) -> None:
    worker = pool.submit(os.getpid).result()
    os.kill(worker, signal.SIGINT)
    assert pool.submit(int).result() == 0


@needs_forks
def test_as_many_processes_as_cores_up_to_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert n_processes() == 3
    assert n_processes(threads=1) == 1
    assert n_processes(threads=16) == 4
