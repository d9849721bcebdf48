"""A dictation from its begin to its end: sound in, edits of a text out, requests in between.

    a thread reads blocks from the source  ->  queue  ->  run(): listener, hook, writer  ->  apply(edit)

Reading starts before the model is loaded, and goes on a little after the end: no first and no last word is
lost. No torch here: what turns sound into words is handed in.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from asr.errors import ConfigError
from asr.segment import SAMPLE_RATE
from asr.spoken import Edit, Writer
from asr.transcript import Final, Partial

logger = logging.getLogger(__name__)

_TAIL = 0.3  # seconds that are still heard after a request to end: the last sounds are on their way
_STALL = 3.0  # seconds without a block, after which a source is taken to have stopped

Source = Callable[[], AbstractContextManager[Iterable[np.ndarray]]]  # opens it: 1-D float32 at 16 kHz


def load_hook(path: Path) -> Callable[[str], str] | None:
    """The function process(text) of a user's Python file, None without such a file. Raises ConfigError.

    nerd_dictation_process(text) does as well: such files can be used as they are.
    """
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("asr_hook", path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{path}: cannot be used as a hook ({reason})") from None
    process = getattr(module, "process", None) or getattr(module, "nerd_dictation_process", None)
    if not callable(process):
        raise ConfigError(f"{path}: has no function process(text)")
    hook: Callable[[str], str] = process
    return hook


class Listener(Protocol):
    """What turns sound into words: asr.streaming.Stream."""

    def feed(self, samples: np.ndarray) -> list[Partial | Final]: ...

    def finish(self) -> list[Partial | Final]: ...


@dataclass(frozen=True)
class DictationConfig:
    continuous: bool = False  # each pause ends a sentence; else only the end of the dictation does
    live: bool = False  # write words as they are committed; else what was said once the pause has come
    defer_output: bool = False  # write everything at the end
    timeout: float = 0.0  # seconds without a word after which it ends by itself; 0: never


class Dictation:
    """One dictation. run() belongs to one thread; request() and stop() may be called from any other."""

    def __init__(
        self,
        config: DictationConfig,
        writer: Writer,
        apply: Callable[[Edit], None],
        process: Callable[[str], str] | None = None,
    ) -> None:
        """apply: brings an edit to where the text goes. process: changes the words of an utterance."""
        self._config = config
        self._writer = writer
        self._apply = apply
        self._process = process
        self._inbox: queue.SimpleQueue[np.ndarray | str | BaseException | None] = queue.SimpleQueue()
        self._reader: _Reader | None = None
        self._ended = threading.Event()
        self._cancelled = threading.Event()
        self._n_silent = 0  # samples since the last word
        self._n_pauses = 0  # readers that were told to stop for a pause and have not stopped yet
        self.state = "loading"  # then listening, suspended, listening, ... and ended

    def request(self, line: str) -> str:
        """Do what another process asks for; the answer is given once it is done, or not done."""
        if line == "status":
            return self.state
        if line not in {"end", "cancel", "suspend", "resume"}:
            return f"error: {line}: no such request"
        if line == "cancel":
            self._cancelled.set()
        self._inbox.put(line)
        if line in {"end", "cancel"}:
            self._ended.wait()
        return "ok"

    def stop(self) -> None:
        """As the request to end, without waiting for it; signal handlers may call this."""
        self._inbox.put("end")

    def run(
        self,
        source: Source,
        load: Callable[[], Listener],
        on_listening: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Listen until a request, the timeout or the source's end; AsrErrors of all parts pass through.

        on_listening: called when sound is being recorded; on_ready: when the model is loaded too.
        """
        try:
            self._reader = _Reader(source, self._inbox)
            self._reader.wait_until_open()
            on_listening()
            listener = load()
            on_ready()
            self.state = "listening"
            self._loop(source, listener)
        finally:
            self.state = "ended"
            if self._reader is not None:
                self._reader.stop(after=0.0)
            self._ended.set()

    def _loop(self, source: Source, listener: Listener) -> None:
        assert self._reader is not None
        is_ending = False
        while True:
            try:
                item = self._inbox.get(timeout=_STALL if is_ending else None)
            except queue.Empty:
                item = None
            if self._cancelled.is_set():
                self._write(self._writer.drop())
                return
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, np.ndarray):
                self._hear(listener.feed(item))
                self._n_silent += len(item)
                if 0 < self._config.timeout * SAMPLE_RATE <= self._n_silent:
                    self._n_silent = 0
                    self._inbox.put("end")
            elif item is None and self._n_pauses:
                self._n_pauses -= 1
                self._hear(listener.finish())
                self._close_utterance()
            elif item is None:  # the source is over, or the reader was told to stop for good
                self._finish(listener.finish())
                return
            elif item == "end":
                is_ending = True
                self._reader.stop(after=_TAIL)
            elif item == "suspend" and self.state == "listening":
                self.state = "suspended"
                self._n_pauses += 1
                self._reader.stop(after=_TAIL)
            elif item == "resume" and self.state == "suspended":
                self.state = "listening"
                self._n_silent = 0
                self._reader.join(_STALL)
                self._reader = _Reader(source, self._inbox)
            if is_ending and self.state == "suspended" and not self._n_pauses:
                self._finish([])
                return

    def _hear(self, events: Iterable[Partial | Final]) -> None:
        for event in events:
            if isinstance(event, Final):
                self._n_silent = 0
                self._write(self._writer.hear(self._processed(event.segment.text)))
                self._close_utterance()
            else:
                if event.words:
                    self._n_silent = 0
                # A hook sees whole utterances only: it might do something each time that it is called.
                if self._config.live and self._process is None:
                    self._write(self._writer.hear(" ".join(word.text for word in event.committed)))

    def _processed(self, text: str) -> str:
        if self._process is None:
            return text
        try:
            processed = self._process(text)
            if isinstance(processed, str):
                return processed
            logger.error(
                "hook: process() gave %s, not a text; the words are written as they are",
                type(processed).__name__,
            )
            return text
        except (Exception, SystemExit) as error:
            # Its message may quote what was said, which no log may hold.
            lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
            place = f" in line {lines[1]}" if len(lines) > 1 else ""  # of the hook; line 0 is here
            logger.error("hook: %s%s; the words are written as they are", type(error).__name__, place)
            return text

    def _close_utterance(self) -> None:
        self._write(self._writer.close(ends_sentence=self._config.continuous))

    def _finish(self, events: Iterable[Partial | Final]) -> None:
        self._hear(events)
        self._write(self._writer.close())
        if self._config.defer_output and self._writer.text:
            self._apply(Edit(0, self._writer.text))

    def _write(self, edit: Edit) -> None:
        if not self._config.defer_output and edit != Edit(0, ""):
            self._apply(edit)


class _Reader:
    """A thread that puts the blocks of a source into a queue, and None when it is over."""

    def __init__(
        self,
        source: Source,
        inbox: queue.SimpleQueue[np.ndarray | str | BaseException | None],
    ) -> None:
        self._source = source
        self._inbox = inbox
        self._is_open = threading.Event()
        self._is_stopping = threading.Event()
        self._n_more = 0  # samples to be read once it is stopping
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_until_open(self) -> None:
        """Returns when the source is open; raises what it raised if it could not be opened."""
        self._is_open.wait()
        if self._error is not None:
            raise self._error

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def stop(self, after: float) -> None:
        """Stop after so many more seconds of sound."""
        self._n_more = round(after * SAMPLE_RATE)
        self._is_stopping.set()

    def _read(self) -> None:
        try:
            with self._source() as blocks:
                self._is_open.set()
                for block in blocks:
                    if self._is_stopping.is_set():
                        if self._n_more <= 0:
                            break
                        block = block[: self._n_more]
                        self._n_more -= len(block)
                    self._inbox.put(block)
            self._inbox.put(None)
        except BaseException as error:  # handed to the thread that reads the queue
            self._error = error
            self._inbox.put(error)
        finally:
            self._is_open.set()
