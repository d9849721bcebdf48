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
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from asr.decoding.decoder import DecoderFactory
from asr.errors import SearchError
from asr.transcript import Segment

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_MOST_PROCESSES = 4  # what the network feeds, on one core, does not keep more of them busy
# Segments searched at once: fewer take longer each, more wait longer for one another.
_FEWEST, _MOST = 16, 32
_MOST_WAITING = 128  # bounds the memory that they take
# Seconds that a segment waits for others, as results are to come soon; longer where nothing else can be
# done while it is searched.
_LONGEST_WAIT, _LONGEST_WAIT_HERE = 1.0, 4.0
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
_MOST_DEATHS = 3  # of processes that do one thing, before it is given up

_Heard = Sequence[tuple[np.ndarray, float]]  # (frames, labels) and where they begin, in seconds
_Segments = list[Segment | Exception | None]
_new_decoder: DecoderFactory  # of a process that searches


class Search:
    """The search of one segment: waiting for others to be searched with it, under way, or done."""

    def __init__(self, searcher: Searcher, log_probs: np.ndarray, offset: float) -> None:
        self.heard = (log_probs, offset)
        self._searcher = searcher
        self._group: _Group | None = None
        self._place = 0

    def begin(self, group: _Group, place: int) -> None:
        """Take a place in a group under way."""
        self._group, self._place = group, place
        del self.heard

    def is_done(self) -> bool:
        """Whether result() would not wait."""
        return self._group is not None and self._group.is_done()

    def begin_if_late(self) -> None:
        """Begin if it has waited for company long enough, and a process is free."""
        if self._group is None:
            self._searcher.begin_if_late()

    def result(self) -> Segment | None:
        """The segment, None if nothing is said in it. Raises what the search raised."""
        if self._group is None:
            self._searcher.flush()
        assert self._group is not None
        found = self._group.result()[self._place]
        if isinstance(found, Exception):
            raise found
        return found


class _Group:
    """Segments that are searched together; their log-probabilities are kept until the result is here."""

    def __init__(self, heard: _Heard, future: Future[_Segments], pool: _Pool | None) -> None:
        self._heard, self._future, self._pool = heard, future, pool
        self._found: _Segments | None = None

    def is_done(self) -> bool:
        return self._future.done()

    def wait(self) -> None:
        self._future.exception()

    def result(self) -> _Segments:
        """Raises nothing: the error of a segment stands in its place."""
        if self._found is None:
            from concurrent.futures.process import BrokenProcessPool

            try:
                self._found = self._future.result()
            except BrokenProcessPool:
                assert self._pool is not None
                self._found = self._pool.search_again(self._heard)
            self._heard = ()
        return self._found


class _Pool:
    """Processes that search, replaced when one of them dies."""

    def __init__(self, new_decoder: DecoderFactory, n_processes: int) -> None:
        self._new_decoder, self._n_processes = new_decoder, n_processes
        self.executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        from concurrent.futures import ProcessPoolExecutor  # a fortieth of a second to import
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        for _ in range(_MOST_DEATHS):
            gc.freeze()  # else the first collection in a fork copies every page that holds an object
            executor = ProcessPoolExecutor(
                self._n_processes,
                get_context("fork"),
                initializer=_begin,
                initargs=(self._new_decoder, os.getpid()),
            )
            try:
                executor.submit(int).result()  # all of them begin with the first thing to do
                return executor
            except BrokenProcessPool:
                executor.shutdown(wait=False)
            finally:
                gc.unfreeze()
        raise SearchError("the processes that search are killed at once; is there too little memory?")

    def submit(self, heard: _Heard) -> Future[_Segments]:
        from concurrent.futures.process import BrokenProcessPool

        try:
            return self.executor.submit(_search, heard)
        except BrokenProcessPool:
            self._replace()
            return self.executor.submit(_search, heard)

    def search_again(self, heard: _Heard) -> _Segments:
        """Search what was lost with a process: all of it, then segment by segment.

        The one that kills every process, say for want of memory, gets a SearchError in its place.
        """
        from concurrent.futures.process import BrokenProcessPool

        for _ in range(1 if len(heard) > 1 else _MOST_DEATHS):
            try:
                return self.submit(heard).result()
            except BrokenProcessPool:
                self._replace()
        if len(heard) == 1:
            reason = "the process that searched was killed each time; is there too little memory?"
            return [SearchError(f"at {heard[0][1]:.1f} s: {reason}")]
        return [found for each in heard for found in self.search_again([each])]

    def _replace(self) -> None:
        self.executor.shutdown(wait=False)
        self.executor = self._start()

    def close(self) -> None:
        """End the processes at once, whatever they are doing."""
        for process in list((self.executor._processes or {}).values()):
            process.kill()
        self.executor.shutdown(cancel_futures=True)


class Searcher:
    """Searches segments, of one recording or several: in the processes of a pool, else here."""

    def __init__(
        self, new_decoder: DecoderFactory, pool: _Pool | None = None, n_processes: int = 1
    ) -> None:
        self._new_decoder, self._pool, self._n_processes = new_decoder, pool, n_processes
        self._waiting: list[Search] = []
        self._since = 0.0  # when the first of them was added
        self._running: list[_Group] = []

    def add(self, log_probs: np.ndarray, offset: float) -> Search:
        """(frames, labels), which begin `offset` seconds into the recording."""
        search = Search(self, log_probs, offset)
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(search)
        if len(self._waiting) >= _MOST_WAITING and self._running:
            self._running[0].wait()
        at_least = _MOST if self._pool is None else _FEWEST
        if len(self._waiting) >= at_least and self._has_room():
            self._begin(_MOST)
        self.begin_if_late()
        return search

    def begin_if_late(self) -> None:
        """Begin what has waited for company long enough, if a process is free."""
        longest = _LONGEST_WAIT_HERE if self._pool is None else _LONGEST_WAIT
        if self._waiting and time.monotonic() - self._since > longest and self._has_room():
            self._begin(_MOST)

    def flush(self) -> None:
        """Begin all searches that wait."""
        share = -(-len(self._waiting) // self._n_processes)
        while self._waiting:
            self._begin(share)

    def _has_room(self) -> bool:
        for group in self._running:
            if group.is_done():
                group.result()  # frees the log-probabilities
        self._running = [group for group in self._running if not group.is_done()]
        return len(self._running) < self._n_processes

    def _begin(self, n: int) -> None:
        """A group of the first n that wait."""
        together, self._waiting = self._waiting[:n], self._waiting[n:]
        self._since = time.monotonic()
        heard = [search.heard for search in together]
        if self._pool is not None:
            group = _Group(heard, self._pool.submit(heard), self._pool)
            self._running.append(group)
            _trim()
        else:
            future: Future[_Segments] = Future()
            future.set_result(search(self._new_decoder, heard))
            group = _Group((), future, None)
        for place, each in enumerate(together):
            each.begin(group, place)


def search(new_decoder: DecoderFactory, heard: _Heard) -> _Segments:
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
    """Searches with these decoders in processes of its own; begin them before threads hold locks.

    They end with the context at once, so ask for all results before; and with this process, even if it is
    killed.
    """
    pool = _Pool(new_decoder, n_processes)
    try:
        yield Searcher(new_decoder, pool, n_processes)
    finally:
        pool.close()


def _begin(new_decoder: DecoderFactory, parent: int) -> None:
    global _new_decoder
    _new_decoder = new_decoder
    # What ends the process that waits for these is its business; they end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked to tell
        os.kill(os.getpid(), signal.SIGKILL)


def _search(heard: _Heard) -> _Segments:
    found = search(_new_decoder, heard)
    _trim()
    return found


def _trim() -> None:
    """Give the system the memory back that the C library keeps for later, some ten megabytes."""
    with suppress(OSError, AttributeError):  # other C libraries than glibc do without
        ctypes.CDLL(None).malloc_trim(0)
