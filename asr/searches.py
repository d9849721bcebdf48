"""Searches in processes of their own: Python computes on one core at a time, and they are most of the work.

The processes are forks, so that they share the memory of the language model with the one that has loaded it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from asr.decoding.decoder import DecoderFactory
from asr.transcript import Segment

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_MOST_PROCESSES = 4  # what the network feeds, on one core, does not keep more of them busy
_N_AHEAD = 64  # searches that wait or run: bounds the memory that they take

_new_decoder: DecoderFactory  # of a process that searches


def search(new_decoder: DecoderFactory, log_probs: np.ndarray, offset: float) -> Segment | None:
    """What is said in (frames, labels), which begin `offset` seconds into the recording; None for nothing."""
    decoder = new_decoder()
    decoder.begin(offset)
    decoder.step(log_probs)
    words = decoder.end()
    return replace(Segment.of(words), alternatives=decoder.alternatives) if words else None


class Searches:
    """Searches under way, in their order: in the processes of a pool, else one after the other here."""

    def __init__(self, new_decoder: DecoderFactory, pool: ProcessPoolExecutor | None = None) -> None:
        """pool: as search_pool() makes it, with the same decoders."""
        self._new_decoder, self._pool = new_decoder, pool
        self._found: list[Segment | None] = []
        self._waiting: deque[Future[Segment | None]] = deque()

    def add(self, log_probs: np.ndarray, offset: float) -> None:
        """Begin one; waits when there are many."""
        if self._pool is None:
            self._found.append(search(self._new_decoder, log_probs, offset))
            return
        self._waiting.append(self._pool.submit(_search, log_probs, offset))
        if len(self._waiting) > _N_AHEAD:
            self._found.append(self._waiting.popleft().result())

    def are_done(self) -> bool:
        """Whether finish() would not wait."""
        return all(future.done() for future in self._waiting)

    def finish(self) -> tuple[Segment, ...]:
        """What was found, when all are done."""
        while self._waiting:
            self._found.append(self._waiting.popleft().result())
        return tuple(segment for segment in self._found if segment is not None)


def n_processes(threads: int | None = None) -> int:
    """How many processes to search in: 1, which is this one, where there is a single core or no fork.

    threads: of the CPU that may be used; all cores if left out.
    """
    if sys.platform != "linux":  # elsewhere system libraries do not survive a fork
        return 1
    return min(threads or len(os.sched_getaffinity(0)), _MOST_PROCESSES)


@contextmanager
def search_pool(new_decoder: DecoderFactory, n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that search with these decoders; begin them before threads hold locks."""
    from concurrent.futures import ProcessPoolExecutor  # a fortieth of a second to import
    from multiprocessing import get_context

    gc.freeze()  # else the first collection in a fork copies every page that holds an object
    pool = ProcessPoolExecutor(
        n_processes, get_context("fork"), initializer=_begin, initargs=(new_decoder,)
    )
    try:
        pool.submit(int).result()  # all of them begin with the first thing to do
        gc.unfreeze()
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(new_decoder: DecoderFactory) -> None:
    global _new_decoder
    _new_decoder = new_decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that waits for these


def _search(log_probs: np.ndarray, offset: float) -> Segment | None:
    return search(_new_decoder, log_probs, offset)
