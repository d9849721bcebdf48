"""Signals that end a program: Ctrl-C as the usual end of a recording, requests to terminate as exceptions."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from asr.errors import ExitStatus

_STATUSES = {"SIGTERM": ExitStatus.TERMINATED, "SIGHUP": ExitStatus.HUNG_UP}  # Windows has no SIGHUP


class Terminated(KeyboardInterrupt):
    """A request to terminate, handled wherever Ctrl-C is. status: what the program ends with."""

    def __init__(self, status: ExitStatus) -> None:
        super().__init__(status.name)
        self.status = status


def status_of(interruption: KeyboardInterrupt) -> ExitStatus:
    """What a program that was interrupted ends with."""
    return interruption.status if isinstance(interruption, Terminated) else ExitStatus.INTERRUPTED


@contextmanager
def termination_raised() -> Iterator[None]:
    """Requests to terminate raise Terminated in the main thread, so that everything is cleaned up.

    Those that are ignored, say by nohup, stay so.
    """

    def handle(number: int, frame: object) -> None:
        raise Terminated(_STATUSES[signal.Signals(number).name])

    signals = [signal.Signals[name] for name in _STATUSES if hasattr(signal, name)]
    with _handled(handle, [number for number in signals if not is_ignored(number)]):
        yield


def is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


@contextmanager
def ended_by_signals(
    stop: Callable[[], None], signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Ctrl-C and a request to terminate call stop(); the second one ends the program.

    stop: is called by a signal handler, that is, between any two steps of the main thread.
    """

    def handle(number: int, frame: object) -> None:
        stop()
        signal.signal(number, signal.default_int_handler)

    with _handled(handle, signals):
        yield


@contextmanager
def _handled(handle: Callable[[int, object], None], signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Other threads than the main one handle no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
