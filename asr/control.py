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

_LOOK = 0.2  # seconds that another process may hold the lock only to see whether anybody does
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
        path = folder / f"{name}.lock"
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); remove it") from None
        if not _take(self._lock, _LOOK):
            os.close(self._lock)
            raise AlreadyRunning(f"{name}: is already running; asr {name} end stops it")
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
            if not _is_running(folder, name):
                return None
            if time.monotonic() > deadline:
                reason = error.strerror or error
                process = (folder / f"{name}.lock").read_text().strip()
                raise OutputError(
                    f"{name}: process {process} does not answer ({reason}); end it with kill"
                ) from None
        time.sleep(0.02)


def _is_running(folder: Path, name: str) -> bool:
    """Whether a process holds the lock, whatever number the file names; a dead one's socket is removed."""
    try:
        lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not _take(lock, 0.0):
            return True
        (folder / f"{name}.sock").unlink(missing_ok=True)
        return False
    finally:
        os.close(lock)


def _take(lock: int, seconds: float) -> bool:
    """Whether the lock could be taken within this time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True
