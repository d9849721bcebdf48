"""One background process of a kind for each user: its lock, and a socket that takes requests for it.

The lock file is held with flock, which the kernel releases however the process ends: a socket that a dead
process has left is recognised because nobody holds the lock, and replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path

from asr.errors import AsrError, OutputError

logger = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds for a process that is just starting to answer
_LONGEST_REQUEST = 200  # bytes


class AlreadyRunning(AsrError):
    """Another process of this user holds the lock."""


class Control:
    """The lock of this process, and the requests of others, each a line that gets a line as its answer."""

    def __init__(self, folder: Path, name: str, answer: Callable[[str], str]) -> None:
        """Take the lock and listen on folder/NAME.sock. Raises AlreadyRunning.

        answer: called in a thread of its own for each request, as soon as it comes.
        """
        self._lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise AlreadyRunning(f"{name}: is already running; asr {name} end stops it") from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        self._path = folder / f"{name}.sock"
        self._path.unlink(missing_ok=True)  # nobody listens there: its process would hold the lock
        mask = os.umask(0o177)  # sockets take their permissions from it: 0600
        try:
            self._server = _Server(str(self._path), _Handler)
        except OSError as error:
            os.close(self._lock)
            reason = error.strerror or error
            raise OutputError(f"{self._path}: no socket can be made there ({reason})") from None
        finally:
            os.umask(mask)
        self._server.answer = answer
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of socket and lock, once the requests that have come are answered."""
        self._path.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        os.ftruncate(self._lock, 0)
        os.close(self._lock)


class _Handler(socketserver.StreamRequestHandler):
    timeout = 5.0  # seconds for a client that connects and says nothing

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        with contextlib.suppress(OSError):  # the client has gone
            request = self.rfile.readline(_LONGEST_REQUEST).decode("utf-8", "replace").strip()
            self.wfile.write(f"{server.answer(request)}\n".encode())


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    answer: Callable[[str], str]


def request(folder: Path, name: str, line: str) -> str | None:
    """What the running process answers; None if there is none. Raises OutputError if it does not answer."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(folder / f"{name}.sock"))
                connection.sendall(f"{line}\n".encode())
                return connection.makefile(encoding="utf-8").readline().strip()
        except OSError as error:
            process = _holder(folder / f"{name}.lock")
            if process is None:
                return None
            if time.monotonic() > deadline:
                raise OutputError(
                    f"{name}: process {process} does not answer ({error.strerror or error}); end it with kill"
                ) from None
        time.sleep(0.02)


def _holder(lock: Path) -> int | None:
    """The process that has written its number into the lock file, if it still runs."""
    try:
        process = int(lock.read_text())
        os.kill(process, 0)
    except (OSError, ValueError):
        return None
    return process
