"""How a Stream does as if a recording came from a microphone: latencies, stability, load.

What a stream says at a moment is judged by the words that it held to in the end, at the times where these
words sit in the recording. What a second pass makes of them is told apart from that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median

import numpy as np

from asr.audio import SAMPLE_RATE
from asr.evaluation import Counts, count_words
from asr.segment import EndpointConfig
from asr.streaming import Stream
from asr.transcript import Final, Partial, Word

BLOCK_SECONDS = 0.025  # as PortAudio gives them with the latency that asr.microphone asks for


@dataclass
class Report:
    """What was measured over any number of recordings; times in seconds.

    first_partial: of each utterance, from the end of its first word to the first partial.
    shown, committed: of each word, from its end until it stood in a partial for good, and until it was
    committed or final.
    final: of each utterance, from the end of its last word to the final transcript.
    endpoint: of each utterance, from the sound that decided that it had ended to the final transcript.
    retracted: words that were shown and then became other words or none; a word that grew longer was not.
    replaced: edits in which the second pass's words differ from the first's, in relation to the latter.
    """

    audio_seconds: float = 0.0
    compute_seconds: float = 0.0  # spent in the stream, by the clock
    cpu_seconds: float = 0.0  # spent in the stream, by all threads
    n_utterances: int = 0
    n_shown: int = 0  # different words at a place
    n_retracted: int = 0
    replaced: Counts = field(default_factory=Counts)
    first_partial: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    committed: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    endpoint: list[float] = field(default_factory=list)

    def values(self) -> dict[str, float | None]:
        """The figures by name: medians and 95th percentiles of times, None where there was no word."""
        audio = max(self.audio_seconds, 1e-9)
        figures: dict[str, float | None] = {
            "audio_seconds": self.audio_seconds,
            "utterances": self.n_utterances,
            "real_time_factor": self.compute_seconds / audio,
            "cpu_share": self.cpu_seconds / audio,
            "retracted_words": self.n_retracted / self.n_shown if self.n_shown else None,
            "replaced_words": self.replaced.rate if self.replaced.length else None,
        }
        for name in ("first_partial", "shown", "committed", "final", "endpoint"):
            times = getattr(self, name)
            figures[f"{name}_median"] = median(times) if times else None
            figures[f"{name}_95"] = float(np.percentile(times, 95)) if times else None
        return figures


class _Watched:
    """The partials of the utterance under way and when they came."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._partials: list[tuple[float, Partial]] = []

    def add(self, event: Partial | Final, now: float, heard: float) -> None:
        """heard: when the last of the sound that led to the event had been spoken."""
        if isinstance(event, Partial):
            self._partials.append((now, event))
        if isinstance(event, Final):
            self._close(event, now)
            self._report.endpoint.append(now - heard)
        elif not event.words:
            self._retract(())

    def _retract(self, words: Sequence[Word]) -> None:
        shown = {(i, word.text) for _, partial in self._partials for i, word in enumerate(partial.words)}
        kept = {(i, text) for i, text in shown if i < len(words) and words[i].text.startswith(text)}
        self._report.n_shown += len(shown)
        self._report.n_retracted += len(shown - kept)
        self._partials = []

    def _close(self, event: Final, now: float) -> None:
        report, words = self._report, event.first_pass or event.segment.words
        report.n_utterances += 1
        if event.first_pass is not None:
            first_pass = " ".join(word.text for word in event.first_pass)
            report.replaced.add(count_words(first_pass, event.segment.text))
        first = next((at for at, partial in self._partials if partial.words), now)
        report.first_partial.append(first - words[0].end)
        for i, word in enumerate(words):
            shown = committed = now
            for at, partial in reversed(self._partials):
                if [w.text for w in partial.words[: i + 1]][i:] != [word.text]:
                    break
                shown = at
                committed = at if i < len(partial.committed) else committed
            report.shown.append(shown - word.end)
            report.committed.append(committed - word.end)
        report.final.append(now - event.segment.end)
        self._retract(words)


def closing_silence(endpoint: EndpointConfig) -> float:
    """Seconds of silence after a recording in which a rule ends its last utterance, however late the model
    hears the last word."""
    return endpoint.rule2_min_trailing_silence + 1


def simulate(
    stream: Stream,
    blocks: Iterable[np.ndarray],
    report: Report,
    on_events: Callable[[list[Partial | Final]], None],
    *,
    silence: float = 0.0,
    in_real_time: bool = True,
) -> None:
    """Feed a recording to a stream as a microphone would, and add what was measured to the report.

    silence: seconds of it that follow the recording, so that a rule and not the end of the file ends
    the last utterance. They count as audio.
    in_real_time: wait until each block would have been spoken. Otherwise the blocks follow at once, and
    the clock that the latencies are read from is moved by the time that the computation took.
    """
    watched = _Watched(report)
    begin = time.perf_counter()
    clock = heard = 0.0  # seconds; the clock begins with the recording

    def take(work: Callable[[], list[Partial | Final]]) -> None:
        nonlocal clock
        if in_real_time:
            time.sleep(max(0.0, heard - (time.perf_counter() - begin)))
        start, cpu = time.perf_counter(), time.process_time()
        events = work()
        seconds = time.perf_counter() - start
        report.compute_seconds += seconds
        report.cpu_seconds += time.process_time() - cpu
        clock = time.perf_counter() - begin if in_real_time else max(clock, heard) + seconds
        for event in events:
            watched.add(event, clock, heard)
        on_events(events)

    size = round(BLOCK_SECONDS * SAMPLE_RATE)
    for block in chain(blocks, [np.zeros(round(silence * SAMPLE_RATE), np.float32)]):
        for i in range(0, len(block), size):
            samples = block[i : i + size]
            heard += len(samples) / SAMPLE_RATE
            take(lambda samples=samples: stream.feed(samples))  # type: ignore[misc]
    take(stream.finish)
    report.audio_seconds += heard
