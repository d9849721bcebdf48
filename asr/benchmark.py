"""How fast recordings become text on this machine, and how much memory that takes.

What a user waits for is measured in fresh processes: from their start to their end, imports and loading
included. Where the time goes is measured in one process, stage after stage.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from asr.errors import BenchmarkError

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

T = TypeVar("T")

STAGES = ("audio", "network", "search")


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of all cores together; megabytes at the peak of the largest process."""

    seconds: float
    cpu_seconds: float
    peak_megabytes: float | None = None

    def values(self) -> dict[str, float]:
        """The figures by name, without those that are unknown."""
        return {name: round(value, 4) for name, value in vars(self).items() if value is not None}


def machine() -> dict[str, str | int]:
    """What the figures depend on: processor, cores that may be used, system and Python."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def run_process(command: Sequence[str]) -> Cost:
    """What a program takes from its start to its end; BenchmarkError with its last words if it fails.

    The system counts the peak memory of a program from that of the process that starts it: it is right as
    long as this one is smaller.
    """
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        reason = said.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise BenchmarkError(reason[0].removeprefix("asr: error: "))
    per_megabyte = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes there, elsewhere kilobytes
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / per_megabyte)


def median_process(command: Sequence[str], n_runs: int) -> Cost:
    """The median of each figure over several runs, after one that fills the system's cache of files."""
    run_process(command)
    costs = [run_process(command) for _ in range(n_runs)]
    return Cost(*(median(figures) for figures in zip(*(vars(c).values() for c in costs), strict=True)))


def start_up(load: str, transcribe: Sequence[str], n_runs: int) -> dict[str, Cost]:
    """Medians of processes that go further and further, from Python alone to the text of a recording.

    load: Python that makes a recogniser. transcribe: the command that transcribes the recording.
    """
    modules = "asr.cli, asr.commands.transcribe, asr.audio, soundfile, asr.onnx_engine, asr.recognizer"
    programs = {"Python": "pass", "imports": f"import {modules}", "models": f"import {modules}; {load}"}
    steps = {name: [sys.executable, "-c", program] for name, program in programs.items()}
    return {
        name: median_process(command, n_runs) for name, command in (steps | {"text": [*transcribe]}).items()
    }


class Stopwatch:
    """What the stages of some work take. One that runs inside another does not count for the outer one."""

    def __init__(self) -> None:
        self._costs: dict[str, tuple[float, float]] = {}
        self._running: list[str] = []
        self._since = (0.0, 0.0)

    def cost(self, stage: str) -> Cost:
        return Cost(*self._costs.get(stage, (0.0, 0.0)))

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count what happens in this context for the stage."""
        self._charge()
        self._running.append(stage)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def passing(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The same items, whose making counts for the stage."""
        iterator = iter(items)
        while True:
            with self.time(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _charge(self) -> None:
        now = time.perf_counter(), time.process_time()
        if self._running:
            seconds, cpu = self._costs.get(self._running[-1], (0.0, 0.0))
            self._costs[self._running[-1]] = (
                seconds + now[0] - self._since[0],
                cpu + now[1] - self._since[1],
            )
        self._since = now


def time_stages(
    recognizer: Recognizer, paths: Iterable[str | Path], batch_size: int = 2
) -> tuple[dict[str, Cost], float]:
    """What each of STAGES takes, one after the other, and the seconds of all recordings.

    audio: reading, decoding and resampling. network: features and the network, whose graph holds both.
    search: cutting at pauses, the beam search, and the times and probabilities of its words.
    """
    from asr.audio import SAMPLE_RATE, open_audio

    watch = Stopwatch()
    n_samples = 0

    def counted(blocks: Iterable[Any]) -> Iterator[Any]:
        nonlocal n_samples
        for block in blocks:
            n_samples += len(block)
            yield block

    with recognizer.in_processes(1) as together, watch.time("search"):
        pending = []
        for path in paths:
            with watch.time("audio"):
                reader = open_audio(path)
            with reader:
                blocks = counted(watch.passing("audio", reader))
                outputs = together.log_probs(blocks, batch_size=batch_size)
                pending.append(together.decoding(watch.passing("network", outputs)))
        for transcript in pending:
            transcript.result()
    return {stage: watch.cost(stage) for stage in STAGES}, n_samples / SAMPLE_RATE


def time_stream(
    recognizer: Recognizer, paths: Iterable[str | Path], second_pass: Recognizer | None = None
) -> dict[str, float | None]:
    """What a stream takes for 160 ms of sound, and how long after words they are shown.

    second_pass: as Stream has it; it is at work only when an utterance ends.
    network_ms, all_ms: CPU milliseconds of the network alone and of all that a stream does, medians and 95th
    percentiles over the steps. The other figures, in seconds, are those of simulation.Report; the clock is
    that of the machine while it computes and stands still while it would wait for sound.
    CheckpointError for a bidirectional model.
    """
    import numpy as np

    from asr.audio import open_audio, read_audio
    from asr.simulation import Report, simulate
    from asr.streaming import STEP, Stream

    network: list[float] = []
    everything: list[float] = []
    report = Report()
    for path in paths:
        samples = read_audio(path)
        blocks = [samples[i : i + STEP] for i in range(0, len(samples), STEP)]
        network += _each(recognizer.stream().feed, blocks)
        everything += _each(Stream(recognizer, second_pass=second_pass).feed, blocks)
        with open_audio(path) as reader:
            stream = Stream(recognizer, second_pass=second_pass)
            simulate(stream, reader, report, lambda events: None, silence=2.0, in_real_time=False)
    figures: dict[str, float | None] = {}
    for name, seconds in (("network_ms", network), ("all_ms", everything)):
        figures[f"{name}_median"] = 1000 * float(np.median(seconds))
        figures[f"{name}_95"] = 1000 * float(np.percentile(seconds, 95))
    figures |= report.values()
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def _each(work: Callable[[T], object], items: Iterable[T]) -> list[float]:
    """CPU seconds of the work on each item."""
    taken = []
    for item in items:
        begin = time.process_time()
        work(item)
        taken.append(time.process_time() - begin)
    return taken
