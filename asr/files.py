"""Text that may be compressed; files that are either complete or not there."""

from __future__ import annotations

import glob
import lzma
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from safetensors import SafetensorError

from asr.errors import AsrError, OutputError


def open_text(path: str | Path) -> TextIO:
    """A UTF-8 text to read, plain or .xz; for its errors see `readable`."""
    if Path(path).suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8-sig")
    return open(path, encoding="utf-8-sig")


@contextmanager
def readable(path: Path, kind: str, error: type[AsrError]) -> Iterator[None]:
    """Raise the error with one line for whatever goes wrong in reading a text, compressed or not."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path}: not a readable {kind} ({reason})") from None


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
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save: RuntimeError on a full disk
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(f"{path}: cannot be written ({reason[:200]})") from None


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, complete or not at all; OutputError if that cannot be done."""

    def write(temporary: str) -> None:
        Path(temporary).write_text(text, encoding="utf-8")

    write_atomically(path, write)


def remove_leftovers(path: str | Path) -> None:
    """Delete the temporary files of earlier writes of this path that were killed halfway."""
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)
