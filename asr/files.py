"""Text that may be compressed; files that are either complete or not there."""

from __future__ import annotations

import bz2
import errno
import glob
import gzip
import lzma
import os
import secrets
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from asr.errors import AsrError, DiskFullError, OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FULL = frozenset({errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})
_YOUNG_SECONDS = 1.0  # a temporary file this new may be about to be locked

_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


def open_text(path: str | Path) -> TextIO:
    """A UTF-8 text to read, plain, gzip, bzip2 or xz, which its first bytes tell; a byte-order mark is
    skipped. For its errors see `readable`."""
    opener: Any = open
    if Path(path).is_file():  # a pipe cannot be read twice
        with open(path, "rb") as file:
            start = file.read(6)
        opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), open)
    text: TextIO = opener(path, "rt", encoding="utf-8-sig")
    return text


@contextmanager
def readable(path: Path, kind: str, error: type[AsrError]) -> Iterator[None]:
    """Raise the error with one line for whatever goes wrong in reading a text, compressed or not."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path}: not a readable {kind} ({reason})") from None


def file_ids(paths: Iterable[str | Path | int]) -> frozenset[tuple[int, int]]:
    """What tells files apart whatever they are called; of those that exist. An int is a descriptor."""
    found = set()
    for path in paths:
        with suppress(OSError, ValueError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def refuse_input(output: Path, inputs: frozenset[tuple[int, int]]) -> None:
    """Raise OutputError if the output is one of the inputs, which file_ids() has told."""
    if file_ids([output]) & inputs:
        raise OutputError(f"{output}: is also what is read; write to another place")


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a UTF-8 file that is there completely or not at all, and make its folder if needed.

    Raises FileExistsError if there is such a file with another text, unless it may be overwritten;
    DiskFullError; OutputError.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe is written to, not replaced
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # A random name cannot meet that of a process on another machine; O_EXCL follows no link.
        temporary = path.with_name(f".asr-{secrets.token_hex(8)}.partial")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                _lock(file)  # until it is closed, or its process is dead
                file.write(text)
                file.flush()
                _give_name(temporary, path, overwrite=overwrite)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        if not path.is_file() or path.read_bytes() != text.encode():
            raise
    except OSError as error:
        kind = DiskFullError if error.errno in _FULL else OutputError
        raise kind(f"{path}: cannot be written ({error.strerror})") from error


def _give_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(temporary, path)  # unlike a look before it, leaves no moment for another process
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    os.replace(temporary, path)


def _lock(file: TextIO) -> bool:
    """Whether nobody else holds it; the lock goes with the process. True where there are no locks."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
    return True


def remove_partial_texts(folder: Path) -> None:
    """Delete what write_text() left in a folder when its process was killed."""
    for leftover in folder.glob(".asr-*.partial"):
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
        with suppress(OSError), open(os.open(leftover, flags)) as file:
            is_old = time.time() - os.fstat(file.fileno()).st_mtime > _YOUNG_SECONDS
            if is_old and _lock(file):
                leftover.unlink(missing_ok=True)


def write_atomically(path: str | Path, write: Callable[[str], None]) -> None:
    """Let write(temporary name) make a file, then give it its final name in one step."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a device or a pipe, which must not be replaced by a file
            write(str(path))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        try:
            write(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except Exception as error:
        from safetensors import SafetensorError  # slow to import, and needed only here

        if not isinstance(error, OSError | SafetensorError | RuntimeError):  # torch.save on a full disk
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(f"{path}: cannot be written ({reason[:200]})") from None


def remove_leftovers(path: str | Path) -> None:
    """Delete the temporary files of earlier writes of this path that were killed halfway."""
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)
