"""Recognizer: audio -> Transcript. It holds no state of a recording and can be shared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np

from asr import align, metadata, pretrained, pronouncer
from asr import engine as engines
from asr.audio import SAMPLE_RATE, from_array, open_audio
from asr.decoding.decoder import DecoderFactory, DecoderOptions, find_language, pronunciations_of
from asr.decoding.language import Language
from asr.engine import Engine, EngineStream
from asr.errors import CheckpointError
from asr.labels import BLANK, SPACE_SYMBOL
from asr.metadata import Metadata
from asr.searches import Search, Searcher, searcher_in_processes
from asr.segment import Piece, cut, may_hold_speech
from asr.transcript import MIN_CONFIDENCE, Segment, Transcript, are_believable

logger = logging.getLogger(__name__)

_STRIDE = 4  # frames of features in one of the output
_PAUSE_FRAMES = 15  # 0.6 seconds without a label end a segment
_PAUSE_FRAMES_IN_GRAMMAR = 30  # as in a stream: who spells a phrase of a grammar may well stop to think
_LONGEST_SEGMENT_FRAMES = 1500  # a minute without a pause is decoded up to its longest gap
# Of a word that speaks for its segment. Streams do without, since a detector of speech guards them; here
# drums give many words that are more likely wrong than right.
_LEAST_LIKELY = 0.5


class Recognizer:
    """A model ready to transcribe, as its decoding options say.

    >>> Recognizer.load("english").transcribe("talk.mp3").text
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        decoding: DecoderOptions | None = None,
        new_decoder: Future[DecoderFactory] | None = None,
    ) -> None:
        """new_decoder: what decoding asks for, on its way; if left out, it is made here."""
        self.name = name
        self.metadata = engine.metadata
        self._engine = engine
        self._decoding = decoding or DecoderOptions()
        self._searcher: Searcher | None = None  # if it has processes, and these have decoders of their own
        if new_decoder is None:
            language = _language(self._decoding, self.metadata)
            self.new_decoder = _decoders(self.metadata, self._decoding, language)
        else:
            self._coming = new_decoder

    @cached_property
    def new_decoder(self) -> DecoderFactory:
        """Makes decoders; waits while their language is still being loaded."""
        return self._coming.result()

    def with_decoding(self, decoding: DecoderOptions) -> Recognizer:
        """The same model and language with other weights and beams."""
        other = copy(self)
        other._decoding, other._searcher = decoding, None
        other.new_decoder = _decoders(self.metadata, decoding, self.new_decoder.language)
        return other

    def beside(
        self,
        model: str | Path,
        *,
        engine: str = "auto",
        device: str = "auto",
        threads: int | None = None,
    ) -> Recognizer:
        """Another model that decodes as this one does; what both need is in memory once if they have the
        same labels. The arguments are those of load()."""
        runner = engines.load(pretrained.find(model), engine=engine, device=device, threads=threads)
        if runner.metadata.labels != self.metadata.labels:
            return Recognizer(runner, str(model), self._decoding)
        other = copy(self)
        other.name, other.metadata, other._engine = str(model), runner.metadata, runner
        other._searcher = None
        shared = self.new_decoder
        other.new_decoder = _decoders(other.metadata, self._decoding, shared.language, like=shared)
        return other

    @classmethod
    def load(
        cls,
        model: str | Path = "english",
        *,
        engine: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        decoding: DecoderOptions | None = None,
    ) -> Recognizer:
        """A shipped model by its name, or any model by its path.

        engine, device, threads: what it runs on, as asr.engine.load() has it.
        The language takes longest: with the default decoding it may still be on its way, and the first to
        need it waits. Any other choice of the user's is checked here.
        """
        path = pretrained.find(model)
        decoding = decoding or DecoderOptions()
        beside = ThreadPoolExecutor(1)  # NumPy unpacks the language without holding the interpreter
        try:
            language = None
            if path.suffix != engines.ONNX_SUFFIX:  # reading a graph for its labels is what takes the time
                language = beside.submit(_language, decoding, metadata.read(path))
            runner = engines.load(path, engine=engine, device=device, threads=threads)
            language = language or beside.submit(_language, decoding, runner.metadata)
            found = language
            new_decoder = beside.submit(lambda: _decoders(runner.metadata, decoding, found.result()))
        finally:
            beside.shutdown(wait=False)
        if decoding != DecoderOptions():
            new_decoder.result()
        return cls(runner, str(model), decoding, new_decoder)

    def transcribe(
        self, audio: str | Path | np.ndarray, *, sample_rate: int = SAMPLE_RATE, batch_size: int = 2
    ) -> Transcript:
        """Transcript of an audio or video file, or of samples in memory.

        A warning is logged if a file is damaged.

        audio: a path, or an array as asr.audio.from_array() has it: (samples,) float32 or int16, one channel.
        sample_rate: of an array, in Hz; a file says its own.
        Raises AudioError for what cannot be read.
        """
        if isinstance(audio, str | Path):
            with open_audio(audio) as reader:
                transcript = self.transcribe_blocks(reader.heard(), batch_size=batch_size)
            if reader.error is not None:
                logger.warning("%s", reader.error)
            return transcript
        return self.transcribe_blocks([from_array(audio, sample_rate)], batch_size=batch_size)

    def transcribe_blocks(
        self,
        blocks: Iterable[np.ndarray],
        *,
        batch_size: int = 2,
        on_progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Transcript of a recording that comes as 1-D float32 blocks at 16 kHz.

        batch_size: pieces computed at once; memory grows with it and not with the recording.
        on_progress: called with the seconds of audio that are done.
        """
        return self.begin(blocks, batch_size=batch_size, on_progress=on_progress).result()

    def begin(
        self,
        blocks: Iterable[np.ndarray],
        *,
        batch_size: int = 2,
        on_progress: Callable[[float], None] | None = None,
        on_begin: Callable[[Pending], None] | None = None,
    ) -> Pending:
        """What transcribe_blocks() gives, on its way: the recording has gone through the network.

        With in_processes(), the search may still be under way while the next recording begins.
        on_begin: gets what will be returned, before there is anything in it.
        """
        heard = _Counted(blocks)
        pending = self.decoding(self.log_probs(heard, batch_size=batch_size), on_progress, on_begin)
        pending.duration = heard.seconds
        return pending

    @contextmanager
    def in_processes(self, n: int) -> Iterator[Recognizer]:
        """The same for many recordings, whose parts are searched together, which takes less time: in n
        processes of their own, which end with the context (only on Linux), or in this one if n is 1."""
        other = copy(self)
        if n == 1:
            other._searcher = Searcher(self.new_decoder)
            yield other
            return
        with searcher_in_processes(self.new_decoder, n) as other._searcher:
            yield other

    def decode(
        self,
        outputs: Iterable[dict[str, np.ndarray]],
        on_progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Transcript of the consecutive stretches that log_probs() gives."""
        return self.decoding(outputs, on_progress).result()

    def decoding(
        self,
        outputs: Iterable[dict[str, np.ndarray]],
        on_progress: Callable[[float], None] | None = None,
        on_begin: Callable[[Pending], None] | None = None,
    ) -> Pending:
        """What decode() gives, on its way; on_begin: see begin()."""
        # A grammar's decoder has judged by itself whether this was what it knows.
        min_confidence = 0.0 if self._decoding.grammar else self._decoding.min_confidence
        found = Pending(min_confidence=min_confidence)
        if on_begin:
            on_begin(found)
        outputs = iter(outputs)
        first = list(islice(outputs, 1))  # the network hears it while the language is on its way
        searcher = self._searcher or Searcher(self.new_decoder)
        pending = np.zeros((0, len(self.metadata.labels[self.new_decoder.output])), np.float32)
        first_frame = 0  # of pending, in the recording
        for stretch in chain(first, outputs):
            pending = np.concatenate([pending, stretch[self.new_decoder.output]])
            if done := self._last_pause(pending):
                found.searches.extend(self._search(searcher, pending[:done], first_frame))
            pending, first_frame = pending[done:], first_frame + done
            found.duration = (first_frame + len(pending)) * align.FRAME_SECONDS
            if on_progress:
                on_progress(found.duration)
        if len(pending):
            found.searches.extend(self._search(searcher, pending, first_frame))
        return found

    def log_probs(
        self, blocks: Iterable[np.ndarray], *, batch_size: int = 2
    ) -> Iterator[dict[str, np.ndarray]]:
        """Log-probabilities of consecutive stretches of a recording: {output: (frames', labels)}."""
        pieces = cut(blocks)
        while batch := list(islice(pieces, batch_size)):
            # The network need not hear what cannot be speech.
            may_speak = [may_hold_speech(piece.proper) for piece in batch]
            spoken = [piece.samples for piece, may in zip(batch, may_speak, strict=True) if may]
            heard = iter(self._engine.log_probs(spoken) if spoken else ())
            for piece, may in zip(batch, may_speak, strict=True):
                if may:
                    outputs = next(heard)
                    yield {name: output[piece.first : piece.last] for name, output in outputs.items()}
                else:
                    yield self._only_blanks(piece)

    def _only_blanks(self, piece: Piece) -> dict[str, np.ndarray]:
        """Log-probabilities of a piece with all probability on the blank."""
        features = self.metadata.features
        n_frames = max(0, (len(piece.samples) - features["n_fft"]) // features["hop_length"] + 1)
        end = -(-n_frames // _STRIDE) if piece.last is None else piece.last
        certain = {}
        for name, labels in self.metadata.labels.items():
            certain[name] = np.full((max(0, end - piece.first), len(labels)), -100.0, np.float32)
            certain[name][:, BLANK] = 0.0
        return certain

    def spellings(self, word: str) -> list[list[int]]:
        """The label sequences of a normalised word among those that its decoders read."""
        labels = self.metadata.labels[self.new_decoder.output]
        if labels.kind == "characters":
            return [labels.encode(word)]
        assert self.new_decoder.language is not None, "phones are decoded with a language only"
        return pronunciations_of(word, self.new_decoder.language, labels, _pronounce)

    def stream(self) -> EngineStream:
        """A fresh pass over one utterance, step by step; CheckpointError if the model cannot do that."""
        if self.metadata.model["bidirectional"]:
            raise CheckpointError(
                f"{self.name}: is bidirectional, so it hears only whole recordings; listening needs a"
                " model of one direction (recipes/english/streaming.toml trains one)"
            )
        return self._engine.stream()

    @property
    def _pause_frames(self) -> int:
        return _PAUSE_FRAMES_IN_GRAMMAR if self._decoding.grammar else _PAUSE_FRAMES

    def _gaps(self, log_probs: np.ndarray) -> list[tuple[int, int]]:
        """Runs [start, end) of frames whose likeliest label is no sound."""
        symbols = self.metadata.labels[self.new_decoder.output].symbols
        silent = [i for i, symbol in enumerate(symbols) if i == BLANK or symbol == SPACE_SYMBOL]
        is_gap = np.isin(log_probs.argmax(-1), silent)
        edges = np.diff(is_gap.astype(np.int8), prepend=0, append=0)
        starts, ends = (np.flatnonzero(edges == edge).tolist() for edge in (1, -1))
        return list(zip(starts, ends, strict=True))

    def _last_pause(self, log_probs: np.ndarray) -> int:
        """How many frames can be decoded for good: up to the middle of the last pause, else 0."""
        gaps = self._gaps(log_probs)
        pauses = [gap for gap in gaps if gap[1] - gap[0] >= self._pause_frames]
        if pauses:
            return sum(pauses[-1]) // 2
        if len(log_probs) > _LONGEST_SEGMENT_FRAMES:
            start, end = max(gaps, key=lambda gap: gap[1] - gap[0], default=(len(log_probs),) * 2)
            return (start + end) // 2
        return 0

    def _search(self, searcher: Searcher, log_probs: np.ndarray, first_frame: int) -> Iterator[Search]:
        """Begin a search of each segment between the pauses of (frames, labels)."""
        gaps = self._gaps(log_probs)
        middles = [sum(gap) // 2 for gap in gaps if gap[1] - gap[0] >= self._pause_frames]
        for start, end in zip([0, *middles], [*middles, len(log_probs)], strict=True):
            yield searcher.add(log_probs[start:end], (first_frame + start) * align.FRAME_SECONDS)


@dataclass
class Pending:
    """A transcript that may still be in the making; duration: seconds of the recording heard so far.

    min_confidence: of segments that are told, as are_believable() has it.
    """

    searches: list[Search] = field(default_factory=list)
    duration: float = 0.0
    min_confidence: float = MIN_CONFIDENCE

    def done(self) -> bool:
        """Whether result() would not wait. Begins a search that has waited for others long enough."""
        for search in self.searches:
            if not search.is_done():
                search.begin_if_late()
                return False
        return True

    def known(
        self, first: int = 0, on_error: Callable[[Exception], None] | None = None
    ) -> tuple[list[Segment], int]:
        """The segments whose searches are done, from search number `first` to the first that is not, and
        that one's number: where to continue the next time. on_error: gets the error of a search that failed.
        """
        last = first
        while last < len(self.searches) and self.searches[last].is_done():
            last += 1
        return self._told(self.searches[first:last], on_error), last

    def result(self) -> Transcript:
        return Transcript(tuple(self._told(self.searches)), self.duration)

    def _told(
        self, searches: Sequence[Search], on_error: Callable[[Exception], None] | None = None
    ) -> list[Segment]:
        """What was found where something is said; waits for it."""
        found = []
        for search in searches:
            try:
                segment = search.result()
            except Exception as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            if segment is not None and are_believable(
                segment.words, self.min_confidence, least=_LEAST_LIKELY
            ):
                found.append(segment)
        return found


def _language(decoding: DecoderOptions, model: Metadata) -> Language | None:
    shipped, shipped_recurrent = pretrained.shipped_language(), pretrained.shipped_recurrent()
    return find_language(decoding, model.labels, shipped, shipped_recurrent)


def _decoders(
    metadata: Metadata,
    decoding: DecoderOptions,
    language: Language | None,
    like: DecoderFactory | None = None,
) -> DecoderFactory:
    """like: of another model with the same labels, decoding and language."""
    return DecoderFactory(
        metadata.labels, metadata.log_priors, decoding, language, _pronounce, metadata.info, like
    )


def _pronounce(words: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """The likeliest pronunciations of each word by the model that ships with the package."""
    return pronouncer.shipped().pronounce_all(words, n_best=3)


class _Counted:
    """Blocks passed on, and how many seconds they held."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = blocks
        self._n_samples = 0

    @property
    def seconds(self) -> float:
        return self._n_samples / SAMPLE_RATE

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self._n_samples += len(block)
            yield block
