"""Signals that end a program: handled once, ignored where they were, and met by whole runs of a command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import read_audio
from asr.errors import ExitStatus
from asr.interruption import Terminated, ended_by_signals, status_of, termination_raised

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

SPEECH = Path(__file__).parent / "data" / "1462-170142-0003.flac"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_request_to_terminate_is_an_interruption_with_a_status_of_its_own(
    number: signal.Signals, status: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as interruption, termination_raised():
        signal.raise_signal(number)
    assert status_of(interruption.value) == status
    assert isinstance(interruption.value, Terminated)
    assert signal.getsignal(number) == before
    assert status_of(KeyboardInterrupt()) == ExitStatus.INTERRUPTED


def test_a_request_to_terminate_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with termination_raised():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_than_the_main_one_handle_no_signals() -> None:
    entered = []

    def enter() -> None:
        with termination_raised(), ended_by_signals(lambda: None):
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered


def test_the_first_signal_stops_and_the_second_interrupts() -> None:
    stopped = []
    with pytest.raises(KeyboardInterrupt), ended_by_signals(lambda: stopped.append(True)):
        signal.raise_signal(signal.SIGINT)
        assert stopped == [True]
        signal.raise_signal(signal.SIGINT)


def transcribing(*arguments: str | Path, **options) -> subprocess.Popen[str]:
    # The letters as they are heard: no language has to be loaded.
    command = [sys.executable, "-m", "asr", "transcribe", "--beam-size", "1", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="needs forks")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_whole_results_and_no_processes(
    tmp_path: Path, number: signal.Signals
) -> None:
    speech = read_audio(SPEECH)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.flac").write_bytes(SPEECH.read_bytes())
    soundfile.write(tmp_path / "in" / "b.wav", np.tile(np.pad(speech, (0, 16_000)), 400), 16_000)
    out = tmp_path / "out"
    run = transcribing(tmp_path / "in", "-o", out, "-f", "txt,json")
    end = time.monotonic() + 60
    while not (out / "a.json").exists() and time.monotonic() < end:
        time.sleep(0.02)
    workers = children(run.pid)
    run.send_signal(number)
    _, messages = run.communicate(timeout=30)

    assert workers and run.returncode == {2: 130, 15: 143, 9: -9}[number]
    assert (out / "a.txt").read_text().strip() == json.loads((out / "a.json").read_text())["text"]
    names = {path.name for path in out.iterdir() if not path.name.endswith((".incomplete", ".partial"))}
    assert names == {"a.txt", "a.json"}
    if number != signal.SIGKILL:
        assert "asr: 1 done, 0 skipped, 0 failed, 1 not done" in messages
        assert messages.endswith("asr: interrupted\n")
    end = time.monotonic() + 5
    while any(map(is_running, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(is_running, workers))


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_ends_a_recording_that_is_piped_in_and_gives_its_text() -> None:
    reading, writing = os.pipe()
    run = transcribing("-", stdin=reading)
    os.write(writing, SPEECH.read_bytes())
    end = time.monotonic() + 60
    while not has_spool(run.pid) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    text, messages = run.communicate(timeout=60)
    assert (run.returncode, messages) == (0, "")
    assert "the room was" in text
    os.close(writing)


def has_spool(process: int) -> bool:
    """Whether the process has opened a file without a name."""
    try:
        opened = [os.readlink(path) for path in Path(f"/proc/{process}/fd").iterdir()]
    except FileNotFoundError:  # one was closed meanwhile
        return False
    return any(name.endswith("(deleted)") for name in opened)
