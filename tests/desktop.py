"""A desktop for tests: an X server without a screen, and a window whose text can be read back.

What it needs is in packages.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SECONDS = 120  # until something that must happen has happened, on a busy machine


@dataclass(frozen=True)
class Desktop:
    """environment: for programs that are to run on it; text: what the focused window holds now."""

    environment: dict[str, str]
    text: Callable[[], str]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Returns once the condition holds; fails the test if that takes too long."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS} s for {what}"
        time.sleep(0.02)


@contextmanager
def desktop_with_window(folder: Path) -> Iterator[Desktop]:
    """A desktop whose focused window is a text field. Skips the test where a program for it is missing."""
    missing = [program for program in ("Xvfb", "xdotool") if not shutil.which(program)]
    python = next((python for python in (sys.executable, "/usr/bin/python3") if _has_tkinter(python)), None)
    if missing or python is None:
        pytest.skip("needs the Debian packages xvfb, xdotool and python3-tk")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as numbers:
        display = f":{numbers.readline().strip()}"
    environment = {**os.environ, "DISPLAY": display}
    environment.pop("WAYLAND_DISPLAY", None)
    content = folder / "content.txt"
    program = Path(__file__).parent / "text_window.py"
    window = subprocess.Popen([python, str(program), str(content)], env=environment)
    try:
        wait_for(content.exists, "the window")
        yield Desktop(environment, lambda: content.read_text(encoding="utf-8"))
    finally:
        for process in (window, server):
            process.terminate()
            process.wait()


@contextmanager
def another_window(desktop: Desktop, folder: Path, text: str) -> Iterator[Callable[[], str]]:
    """A second window that takes the focus and holds a text already; gives what it holds now."""
    content = folder / "other.txt"
    program = Path(__file__).parent / "text_window.py"
    python = next(python for python in (sys.executable, "/usr/bin/python3") if _has_tkinter(python))
    window = subprocess.Popen([python, str(program), str(content), text], env=desktop.environment)
    try:
        wait_for(lambda: content.exists() and content.read_text(encoding="utf-8") == text, "the window")
        yield lambda: content.read_text(encoding="utf-8")
    finally:
        window.terminate()
        window.wait()


def _has_tkinter(python: str) -> bool:
    try:
        return subprocess.run([python, "-c", "import tkinter"], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False
