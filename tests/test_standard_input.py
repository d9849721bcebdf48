"""Standard input as a file: ended by Ctrl-C without losing anything, and never left behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from asr import audio

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and pipes")

SPEECH = Path(__file__).parent / "data" / "1462-170142-0003.flac"


def set_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def recorder(monkeypatch: pytest.MonkeyPatch, content: bytes) -> int:
    """Standard input from a program that has written this and goes on recording: its end of the pipe."""
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading, "r"))
    os.write(writing, content)
    return writing


def send_soon(number: signal.Signals, *, times: int = 1) -> None:
    def send() -> None:
        for _ in range(times):
            time.sleep(0.15)
            os.kill(os.getpid(), number)

    threading.Thread(target=send).start()


def test_the_first_interruption_ends_a_recording_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    content = SPEECH.read_bytes()
    writing = recorder(monkeypatch, content[:-1000])

    def finish_later() -> None:  # as arecord does when Ctrl-C reaches it
        time.sleep(0.3)
        os.write(writing, content[-1000:])
        os.close(writing)

    threading.Thread(target=finish_later).start()
    send_soon(signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    with audio.spool_standard_input() as path:
        assert path.read_bytes() == content
    assert signal.getsignal(signal.SIGINT) == before


def test_a_recorder_that_goes_on_after_an_interruption_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing = recorder(monkeypatch, b"sound")
    send_soon(signal.SIGINT)
    begin = time.monotonic()
    with audio.spool_standard_input() as path:
        assert path.read_bytes() == b"sound"
    assert time.monotonic() - begin < 2
    os.close(writing)


@pytest.mark.parametrize(("content", "times"), [(b"", 1), (b"sound", 2)])
def test_interrupting_twice_or_before_any_sound_ends_the_program(
    monkeypatch: pytest.MonkeyPatch, content: bytes, times: int
) -> None:
    writing = recorder(monkeypatch, content)
    send_soon(signal.SIGINT, times=times)
    with pytest.raises(KeyboardInterrupt), audio.spool_standard_input():
        pass
    os.close(writing)


@pytest.mark.skipif(sys.platform != "linux", reason="needs files without a name")
def test_standard_input_leaves_nothing_behind_however_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    set_standard_input(monkeypatch, SPEECH.read_bytes())
    with audio.spool_standard_input() as path:
        assert list(tmp_path.iterdir()) == []
        assert path.read_bytes() == SPEECH.read_bytes()
        command = [sys.executable, "-c", "import sys; print(len(open(sys.argv[1], 'rb').read()))", str(path)]
        assert int(subprocess.check_output(command)) == len(SPEECH.read_bytes())  # a process that decodes it


def test_standard_input_is_kept_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 0)
    set_standard_input(monkeypatch, SPEECH.read_bytes())
    with audio.spool_standard_input() as path:
        assert path.read_bytes() == SPEECH.read_bytes()
    assert not path.exists()
