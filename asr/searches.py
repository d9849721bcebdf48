"""Searches of many segments: together, and in processes of their own.

Together they take less time than one after the other, and Python computes on one core at a time, while they
are most of the work. The processes are forks, so that they share the memory of the language model with the
one that has loaded it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from asr.decoding.decoder import DecoderFactory
from asr.transcript import Segment

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_MOST_PROCESSES = 4  # what the network feeds, on one core, does not keep more of them busy
# Segments searched at once: fewer take longer each, more wait longer for one another.
_FEWEST, _MOST = 16, 32
_MOST_WAITING = 128  # bounds the memory that they take

_Segments = list[Segment | Exception | None]
_new_decoder: DecoderFactory  # of a process that searches


class Search:
    """One segment's: under way, or waiting for others to go along with."""

    def __init__(self, searcher: Searcher, log_probs: np.ndarray, offset: float) -> None:
        self.heard = (log_probs, offset)
        self._searcher = searcher
        self._group: Future[_Segments] | None = None
        self._place = 0

    def begin(self, group: Future[_Segments], place: int) -> None:
        """Its place in a group under way."""
        self._group, self._place = group, place
        del self.heard

    def is_done(self) -> bool:
        """Whether result() would not wait."""
        return self._group is not None and self._group.done()

    def result(self) -> Segment | None:
        if self._group is None:
            self._searcher.flush()
        assert self._group is not None
        found = self._group.result()[self._place]
        if isinstance(found, Exception):
            raise found
        return found


class Searcher:
    """Searches segments, of one recording or several: in the processes of a pool, else here."""

    def __init__(
        self, new_decoder: DecoderFactory, pool: ProcessPoolExecutor | None = None, n_processes: int = 1
    ) -> None:
        self._new_decoder, self._pool, self._n_processes = new_decoder, pool, n_processes
        self._waiting: list[Search] = []
        self._running: list[Future[_Segments]] = []

    def add(self, log_probs: np.ndarray, offset: float) -> Search:
        """(frames, labels), which begin `offset` seconds into the recording."""
        search = Search(self, log_probs, offset)
        self._waiting.append(search)
        if len(self._waiting) >= _MOST_WAITING and self._running:
            self._running[0].exception()  # waits for it
        self._running = [group for group in self._running if not group.done()]
        at_least = _MOST if self._pool is None else _FEWEST
        if len(self._waiting) >= at_least and len(self._running) < self._n_processes:
            self._begin(_MOST)
        return search

    def flush(self) -> None:
        """Begin all searches that wait."""
        share = -(-len(self._waiting) // self._n_processes)
        while self._waiting:
            self._begin(share)

    def _begin(self, n: int) -> None:
        """A group of the first n that wait."""
        group, self._waiting = self._waiting[:n], self._waiting[n:]
        heard = [search.heard for search in group]
        if self._pool is not None:
            future = self._pool.submit(_search, heard)
            self._running.append(future)
            _trim()
        else:
            future = Future()
            future.set_result(search(self._new_decoder, heard))
        for place, each in enumerate(group):
            each.begin(future, place)


def search(new_decoder: DecoderFactory, heard: Sequence[tuple[np.ndarray, float]]) -> _Segments:
    """What is said in each; None for nothing. An error of one is given in its place."""
    try:
        return list(new_decoder.decode_all(heard))
    except Exception as error:
        if len(heard) == 1:
            return [error]
        return [found for each in heard for found in search(new_decoder, [each])]


def n_processes(threads: int | None = None) -> int:
    """How many processes to search in: 1, which is this one, where there is a single core or no fork.

    threads: of the CPU that may be used; all cores if left out.
    """
    if sys.platform != "linux":  # elsewhere system libraries do not survive a fork
        return 1
    return min(threads or len(os.sched_getaffinity(0)), _MOST_PROCESSES)


@contextmanager
def searcher_in_processes(new_decoder: DecoderFactory, n_processes: int) -> Iterator[Searcher]:
    """Searches with these decoders in processes of its own; begin them before threads hold locks."""
    from concurrent.futures import ProcessPoolExecutor  # a fortieth of a second to import
    from multiprocessing import get_context

    gc.freeze()  # else the first collection in a fork copies every page that holds an object
    pool = ProcessPoolExecutor(
        n_processes, get_context("fork"), initializer=_begin, initargs=(new_decoder,)
    )
    try:
        pool.submit(int).result()  # all of them begin with the first thing to do
        gc.unfreeze()
        yield Searcher(new_decoder, pool, n_processes)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(new_decoder: DecoderFactory) -> None:
    global _new_decoder
    _new_decoder = new_decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that waits for these


def _search(heard: Sequence[tuple[np.ndarray, float]]) -> _Segments:
    found = search(_new_decoder, heard)
    _trim()
    return found


def _trim() -> None:
    """Give the system the memory back that the C library keeps for later, some ten megabytes."""
    with suppress(OSError, AttributeError):  # other C libraries than glibc do without
        ctypes.CDLL(None).malloc_trim(0)
