"""Stream: samples as they arrive -> partial and final transcripts. It owns all state of a recording.

Sound is looked at in steps of 160 ms, and of half that until a word can be shown, which is what one waits
for. While there is no speech in it, only the last second is kept: silence and noise cost next to nothing and
give nothing. When speech begins, an utterance begins with that second, so that no first word is lost; it
runs through the model and the decoder step by step until an endpoint rule ends it. Nothing that is kept
grows with the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.decoding.decoder import Decoder
from asr.engine import EngineStream
from asr.labels import BLANK
from asr.recognizer import Recognizer
from asr.segment import GRID, SAMPLE_RATE, EndpointConfig
from asr.transcript import MIN_CONFIDENCE, Final, Partial, Segment, Word, are_believable
from asr.vad import SpeechDetector

STEP = 4 * GRID  # samples: 160 ms
_FIRST_STEP = STEP // 2  # until words of an utterance are shown
_AGREEMENT_SHOWN = 0.6  # of the hypotheses' probability on a word before it is shown
_UNCHANGED = 2 * STEP  # samples during which a word stays the same before it is committed
# Fewer hypotheses, and those within less of the best, find nearly the same words, which will be replaced.
_BEAM_BEFORE_SECOND_PASS, _THRESHOLD_BEFORE_SECOND_PASS = 300, 10.0


@dataclass(frozen=True)
class StreamConfig:
    endpoint: EndpointConfig = EndpointConfig()
    pre_roll: float = 1.0  # seconds before speech is noticed that an utterance begins with
    min_confidence: float = MIN_CONFIDENCE  # that any word of an utterance is right; what has less is none


class Stream:
    """One recording or microphone. Not to be shared between threads; the recognizer may be.

    recognizer: with a model of one direction, or CheckpointError.
    decoder: one of the recognizer's if left out.
    second_pass: hears each utterance as a whole when it has ended; its words are then the final ones, and
    those before are found with a smaller beam.

    >>> stream = Stream(Recognizer.load("english-streaming"))
    >>> for event in stream.feed(samples): ...
    """

    def __init__(
        self,
        recognizer: Recognizer,
        config: StreamConfig = StreamConfig(),
        *,
        decoder: Decoder | None = None,
        second_pass: Recognizer | None = None,
    ) -> None:
        recognizer.stream()  # an unsuitable model is found here, not at the first word
        self._recognizer = recognizer
        self.config = config
        new_decoder = recognizer.new_decoder
        if second_pass is not None:
            new_decoder = new_decoder.narrowed(_BEAM_BEFORE_SECOND_PASS, _THRESHOLD_BEFORE_SECOND_PASS)
        self._decoder = decoder or new_decoder()
        self._second_pass = second_pass
        self._detector = SpeechDetector()
        # Steps end where the window of an output frame ends, so that none waits for the next step.
        features = recognizer.metadata.features
        self._lead = (features["n_fft"] - features["hop_length"]) % GRID
        self._reset()

    def _reset(self) -> None:
        self._detector.reset()
        self._pending = np.zeros(0, np.float32)  # less than one step
        self._before = np.zeros(0, np.float32)  # what a coming utterance begins with
        self._n_heard = 0  # samples of the stream, without the pending ones
        self._last_speech = 0  # sample after the last step that had speech or words in it
        self._utterance: _Utterance | None = None

    def feed(self, samples: np.ndarray) -> list[Partial | Final]:
        """What became known with these samples: 1-D float32 at 16 kHz, any number of them.

        The events are the same however the samples are cut into blocks.
        """
        events: list[Partial | Final] = []
        samples = np.concatenate([self._pending, samples], dtype=np.float32)
        start = 0
        while (end := start + self._next_step()) <= len(samples):
            events += self._hear(samples[start:end].copy())  # a view would keep the whole block alive
            start = end
        self._pending = samples[start:].copy()
        return events

    def _next_step(self) -> int:
        if self._n_heard == 0:
            return self._lead + _FIRST_STEP
        return STEP if self._utterance is not None and self._utterance.is_shown else _FIRST_STEP

    def finish(self) -> list[Partial | Final]:
        """What remains to be said when no more samples come; the stream is then as good as new."""
        events = self._hear(self._pending)
        if self._utterance is not None:
            self._utterance.flush()
            events += self._end(self._utterance.settle())
        self._reset()
        return events

    def _hear(self, samples: np.ndarray) -> list[Partial | Final]:
        self._n_heard += len(samples)
        has_speech = self._has_speech(samples)
        if has_speech:
            self._last_speech = self._n_heard
        if self._utterance is not None:
            self._utterance.feed(samples)
            return self._report(self._utterance)
        self._before = np.concatenate([self._before, samples])
        if has_speech:
            return self._report(self._begin(self._before))
        n_kept = round(self.config.pre_roll * SAMPLE_RATE) // GRID * GRID + self._lead
        self._before = self._before[max(0, len(self._before) - n_kept) :].copy()
        return []

    def _has_speech(self, samples: np.ndarray) -> bool:
        if self._utterance is not None and self._utterance.words:
            self._detector.reset()  # as long as there are words, they tell when the speech ends
            return True
        return self._detector.feed(samples)

    def _begin(self, samples: np.ndarray) -> _Utterance:
        """An utterance that begins with the last samples of the stream."""
        self._last_speech = self._n_heard
        start = self._n_heard - len(samples)
        self._utterance = _Utterance(self._recognizer.stream(), self._decoder, start)
        self._utterance.feed(samples)
        return self._utterance

    def _report(self, utterance: _Utterance) -> list[Partial | Final]:
        # Without words it is the detector that tells when the sound ended.
        end = utterance.last_sound_end or self._last_speech / SAMPLE_RATE
        silence = (utterance.start + utterance.n_decoded) / SAMPLE_RATE - end
        if self.config.endpoint.has_paused(silence, after_words=bool(utterance.words)):
            return self._end(utterance.settle())
        if self.config.endpoint.is_too_long(utterance.n_decoded / SAMPLE_RATE):
            # In the midst of speech: what is not certain yet is heard again in the next utterance.
            return self._end(utterance.drop_tentative())
        return utterance.changes()

    def _end(self, n_samples: int) -> list[Partial | Final]:
        """End the utterance after so many samples; if there is more to hear in the rest, begin another."""
        utterance = self._utterance
        assert utterance is not None
        samples = utterance.samples
        self._utterance, self._before = None, samples[n_samples:]
        self._detector.reset()
        if self._detector.feed(self._before) or n_samples < utterance.n_decoded:
            self._begin(self._before)
        words = self._believable(utterance.words)
        first_pass = None
        if words and self._second_pass is not None:
            first_pass = words
            whole = self._second_pass.begin([samples[:n_samples]])
            # The utterance is judged as a whole, not each of its segments.
            words = self._believable(replace(whole, min_confidence=0.0).result().words)
            words = tuple(word.shifted(utterance.start / SAMPLE_RATE) for word in words)
        if words:
            return [Final(Segment.of(words), first_pass)]
        return [Partial((), ())] if utterance.is_shown else []

    def _believable(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """The words, or none if they are not to be believed."""
        if self._decoder.may_retract:  # it has judged by itself whether this was what it knows
            return words
        return words if are_believable(words, self.config.min_confidence) else ()


class _Utterance:
    """The samples of one utterance so far and what was made of them; start: its place in the stream."""

    def __init__(self, engine: EngineStream, decoder: Decoder, start: int) -> None:
        self.start = start
        self.n_decoded = 0  # samples that the decoder has heard, fewer than there are
        self.is_shown = False  # whether any of its words have been reported
        self._engine = engine
        self._decoder = decoder
        self._blocks: list[np.ndarray] = []
        self._n_samples = 0
        self._sound_end = 0  # sample after the last frame that is likely to have a label
        self._committed: tuple[Word, ...] = ()
        self._tentative: tuple[Word, ...] = ()
        self._since: list[int] = []  # of each tentative word: n_decoded when it came
        self._n_shown = 0  # tentative words that may be shown
        self._reported = Partial((), ())
        decoder.begin(start / SAMPLE_RATE)

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate(self._blocks)

    @property
    def words(self) -> tuple[Word, ...]:
        return self._committed + self._tentative

    @property
    def last_sound_end(self) -> float | None:
        """Of the last word or of a word that has only begun, in seconds from the stream's beginning; None
        without a word."""
        if not self.words:
            return None
        return max(self.words[-1].end, (self.start + self._sound_end) / SAMPLE_RATE)

    def feed(self, samples: np.ndarray) -> None:
        self._blocks.append(samples)
        self._n_samples += len(samples)
        self._decode(samples, last=False)
        words = self._after_committed(self._decoder.partial())
        self._agree(words, self._decoder.agreement(len(words)))

    def flush(self) -> None:
        """No more samples will come: decode what waits for its future context."""
        self._decode(np.zeros(0, np.float32), last=True)
        self.n_decoded = self._n_samples

    def settle(self) -> int:
        """Let the decoder choose the last words; how many samples they cover."""
        self._tentative = self._after_committed(self._decoder.end())
        return self.n_decoded

    def _decode(self, samples: np.ndarray, *, last: bool) -> None:
        log_probs = self._engine.feed(samples, last=last)[self._decoder.output]
        self._decoder.step(log_probs)
        n_frames = len(log_probs)
        if len(with_label := np.flatnonzero(log_probs.argmax(-1) != BLANK)):
            self._sound_end = self.n_decoded + (int(with_label[-1]) + 1) * GRID
        self.n_decoded = min(self.n_decoded + n_frames * GRID, self._n_samples)

    def _after_committed(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        if not self._committed:
            return words
        end = self._committed[-1].end
        return tuple(word for word in words if (word.start + word.end) / 2 > end)

    def _agree(self, words: tuple[Word, ...], agreement: Sequence[float]) -> None:
        """Show the words that the hypotheses agree on, and commit those that have stayed the same, but never
        the last: it may grow."""
        before = [word.text for word in self._tentative]
        since: list[int] = []
        for i, word in enumerate(words):
            agrees = i < len(before) and before[i] == word.text
            since.append(self._since[i] if agrees else self.n_decoded)
        is_doubtful = [share < _AGREEMENT_SHOWN for share in agreement]
        n_shown = is_doubtful.index(True) if True in is_doubtful else len(words)
        n_certain = 0
        most = 0 if self._decoder.may_retract else min(n_shown, len(words) - 1)
        while n_certain < most and self.n_decoded - since[n_certain] >= _UNCHANGED:
            n_certain += 1
        self._committed += words[:n_certain]
        self._tentative, self._since = words[n_certain:], since[n_certain:]
        self._n_shown = n_shown - n_certain

    def drop_tentative(self) -> int:
        """Keep the committed words only, if there are any; how many samples they cover."""
        if not self._committed:
            return self.settle()
        self._tentative = ()
        return round(self._committed[-1].end * SAMPLE_RATE) - self.start

    def changes(self) -> list[Partial | Final]:
        """The words so far as one event, if they are others than those reported before."""
        partial = Partial(self._committed, self._tentative[: self._n_shown])
        if _texts(partial) == _texts(self._reported):
            return []
        self._reported, self.is_shown = partial, True
        return [partial]


def _texts(partial: Partial) -> tuple[list[str], list[str]]:
    return [word.text for word in partial.committed], [word.text for word in partial.tentative]
