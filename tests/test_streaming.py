"""Streams: the same as the whole recording, words that never change back, and nothing from noise."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr import config
from asr.audio import read_audio
from asr.errors import CheckpointError
from asr.model import AcousticModel
from asr.recognizer import Pending, Recognizer
from asr.segment import EndpointConfig
from asr.streaming import STEP, Stream, StreamConfig
from asr.training.config import RunConfig
from asr.transcript import Final, Partial, Segment, Transcript, Word
from asr.vad import SpeechDetector
from tests.conftest import SENTENCE, SENTENCE_WORDS

SECOND = 16_000
Event = Partial | Final


@pytest.fixture(scope="module")
def recognizer(parrot: Path) -> Recognizer:
    return Recognizer.load(parrot)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read_audio(SENTENCE)


def silence(seconds: float, level: float = 1e-5) -> np.ndarray:
    random = np.random.default_rng(int(seconds * 1000))
    return random.normal(0, level, int(seconds * SECOND)).astype(np.float32)


def events_of(stream: Stream, samples: np.ndarray, sizes: Iterable[int] = ()) -> list[Event]:
    """What the stream says of samples in blocks of the given sizes, the rest in one block."""
    events: list[Event] = []
    start = 0
    for size in sizes:
        events += stream.feed(samples[start : start + size])
        start += size
    return events + stream.feed(samples[start:]) + stream.finish()


def texts(events: Sequence[Event]) -> list[str]:
    return [event.segment.text for event in events if isinstance(event, Final)]


def partials(events: Sequence[Event]) -> list[Partial]:
    return [event for event in events if isinstance(event, Partial)]


# --- the same as the whole ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_streamed_log_probabilities_are_those_of_the_whole(
    recognizer: Recognizer, speech: np.ndarray, seed: int
) -> None:
    (whole,) = recognizer.log_probs([speech])
    random = np.random.default_rng(seed)
    engine = recognizer.stream()
    parts = []
    rest = speech
    while len(rest):
        size = int(random.integers(1, 5_000))
        parts.append(engine.feed(rest[:size], last=size >= len(rest))["characters"])
        rest = rest[size:]
    np.testing.assert_allclose(np.concatenate(parts), whole["characters"], atol=1e-5)


def test_a_stream_gives_the_words_of_the_whole_recording(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    samples = np.concatenate([silence(1), speech, silence(0.5)])
    (final,) = (e for e in events_of(Stream(recognizer), samples) if isinstance(e, Final))
    whole = recognizer.transcribe_blocks([samples])
    assert final.segment.text == whole.text == SENTENCE_WORDS
    for ours, theirs in zip(final.segment.words, whole.words, strict=True):
        assert ours.start == pytest.approx(theirs.start, abs=0.1)
        assert ours.end == pytest.approx(theirs.end, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_events_do_not_depend_on_the_sizes_of_the_blocks(
    recognizer: Recognizer, speech: np.ndarray, seed: int
) -> None:
    samples = np.concatenate([silence(0.7), speech, silence(2), speech, silence(0.31)])
    sizes = np.random.default_rng(seed).choice([0, 1, 160, 999, STEP, 20_000], 40)
    assert events_of(Stream(recognizer), samples, sizes) == events_of(Stream(recognizer), samples)


def test_a_finished_stream_is_as_good_as_new(recognizer: Recognizer, speech: np.ndarray) -> None:
    stream = Stream(recognizer)
    assert events_of(stream, speech) == events_of(stream, speech) != []


def test_two_streams_of_one_recognizer_do_not_mix(recognizer: Recognizer, speech: np.ndarray) -> None:
    one, other = Stream(recognizer), Stream(recognizer)
    heard: tuple[list[Event], list[Event]] = ([], [])
    later = np.concatenate([silence(0.5), speech])
    for start in range(0, len(later), 1_000):
        heard[0].extend(one.feed(speech[start : start + 1_000]))
        heard[1].extend(other.feed(later[start : start + 1_000]))
    assert heard[0] + one.finish() == events_of(Stream(recognizer), speech)
    assert heard[1] + other.finish() == events_of(Stream(recognizer), later)


# --- utterances -----------------------------------------------------------------------------------


def test_a_pause_ends_an_utterance_and_times_count_from_the_beginning_of_the_stream(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    samples = np.concatenate([silence(3), speech, silence(3), speech, silence(3)])
    finals = [e for e in Stream(recognizer).feed(samples) if isinstance(e, Final)]
    assert texts(finals) == [SENTENCE_WORDS] * 2
    first, second = (final.segment for final in finals)
    assert 3 < first.start < first.end < 3 + len(speech) / SECOND + 0.3
    assert second.start - first.start == pytest.approx(3 + len(speech) / SECOND, abs=0.1)


def test_a_short_pause_does_not_end_an_utterance(recognizer: Recognizer, speech: np.ndarray) -> None:
    samples = np.concatenate([speech, silence(0.3), speech])
    patient = StreamConfig(EndpointConfig(rule2_min_trailing_silence=2.0))
    assert len(texts(events_of(Stream(recognizer, patient), samples))) == 1


def test_a_word_that_takes_its_time_does_not_end_an_utterance(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    """What the model hears counts as sound though the search has not yet made a word of it."""
    slow = Stream(recognizer, decoder=Fickle(["one"] * 15 + ["one two"]))
    assert texts(events_of(slow, np.concatenate([speech, silence(3)]))) == ["one two"]


def test_speech_from_the_very_first_sample_loses_no_word(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    voiced = speech[(np.abs(speech) > 0.05).argmax() :]
    assert texts(events_of(Stream(recognizer), voiced)) == [recognizer.transcribe_blocks([voiced]).text]


class SpeakingClock:
    """Hears a numbered word in every 0.3 seconds of the stream."""

    output = "characters"
    may_retract = False

    def begin(self, offset: float) -> None:
        self._start = self._now = offset

    def step(self, log_probs: np.ndarray) -> None:
        self._now += 0.04 * len(log_probs)

    def partial(self) -> tuple[Word, ...]:
        words = (Word(str(i), 0.3 * i, 0.3 * i + 0.25, 1.0) for i in range(1000))
        return tuple(word for word in words if self._start <= word.start and word.end <= self._now)

    def agreement(self, n_words: int) -> list[float]:
        return [1.0] * n_words

    def end(self) -> tuple[Word, ...]:
        return self.partial()


def test_speech_without_a_pause_is_divided_and_no_word_is_lost_or_doubled(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    """Words that are not yet certain when an utterance gets too long are heard again in the next."""
    divided = StreamConfig(EndpointConfig(rule3_min_utterance_length=3.0))
    events = events_of(Stream(recognizer, divided, decoder=SpeakingClock()), np.tile(speech, 6))
    finals = [event.segment for event in events if isinstance(event, Final)]
    assert len(finals) >= 4 and all(final.end - final.start <= 3.2 for final in finals)
    spoken = [int(word.text) for final in finals for word in final.words]
    assert spoken == list(range(spoken[0], spoken[-1] + 1)) and len(spoken) > 40


def test_what_is_kept_does_not_grow(recognizer: Recognizer, speech: np.ndarray) -> None:
    stream = Stream(recognizer)
    half_minute = np.concatenate([speech, silence(2), speech, silence(5, 0.01), silence(15)])
    tracemalloc.start()
    stream.feed(half_minute)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(3):
        stream.feed(half_minute)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 64_000  # bytes; a second of samples


# --- committed words ------------------------------------------------------------------------------


def test_words_appear_while_they_are_spoken(recognizer: Recognizer, speech: np.ndarray) -> None:
    stream = Stream(recognizer)
    shown = [e for start in range(0, len(speech), STEP) for e in stream.feed(speech[start : start + STEP])]
    assert len(partials(shown)) >= 5 and not texts(shown)
    assert SENTENCE_WORDS.startswith(partials(shown)[0].text)


def test_committed_words_never_change(recognizer: Recognizer, speech: np.ndarray) -> None:
    events = events_of(Stream(recognizer), np.concatenate([speech, silence(2), speech]))
    committed: tuple[Word, ...] = ()
    for event in events:
        words = event.committed if isinstance(event, Partial) else event.segment.words
        assert words[: len(committed)] == committed
        committed = () if isinstance(event, Final) else words
    assert any(partial.committed for partial in partials(events))


class Fickle:
    """A decoder that says what a script says, one line a step."""

    output = "characters"
    may_retract = False

    def __init__(self, script: Sequence[str]) -> None:
        self._script = script

    def begin(self, offset: float) -> None:
        self._offset, self._line = offset, -1

    def step(self, log_probs: np.ndarray) -> None:
        self._line += 1

    def partial(self) -> tuple[Word, ...]:
        line = self._script[min(self._line, len(self._script) - 1)]
        times = (self._offset + 0.2 * i for i in range(100))
        return tuple(Word(text, t, t + 0.2, 1.0) for text, t in zip(line.split(), times, strict=False))

    def agreement(self, n_words: int) -> list[float]:
        return [1.0] * n_words

    def end(self) -> tuple[Word, ...]:
        return self.partial()


class Doubtful(Fickle):
    """The same, never sure of a word with a question mark."""

    def agreement(self, n_words: int) -> list[float]:
        words = self.partial()
        return [0.1 if word.text.endswith("?") else 0.9 for word in words[len(words) - n_words :]]


def test_words_that_the_hypotheses_do_not_agree_on_are_not_shown(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    script = ["a", "a cat?", "a cat? sat", "a cat sat", "a cat sat?"]
    events = events_of(Stream(recognizer, decoder=Doubtful(script)), speech)
    shown = list(dict.fromkeys(partial.text for partial in partials(events)))
    assert shown[:2] == ["a", "a cat sat"]
    assert texts(events)[0] == "a cat sat?"  # at the end there is no choice


def test_a_decoder_that_changes_its_mind_cannot_change_committed_words(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    script = ["", "a", "a cat", "a cat sat", "a hat sat", "a hat sat", "the hat sat on", "the mat sat on it"]
    events = events_of(Stream(recognizer, decoder=Fickle(script)), speech)
    assert [partial.committed[0].text for partial in partials(events) if partial.committed][0] == "a"
    assert texts(events) == ["a hat sat on it"]


def test_until_words_are_shown_it_looks_twice_as_often(recognizer: Recognizer, speech: np.ndarray) -> None:
    frames: list[int] = []

    class Counting(Fickle):
        def step(self, log_probs: np.ndarray) -> None:
            super().step(log_probs)
            frames.append(len(log_probs))

    events_of(Stream(recognizer, decoder=Counting(["", "", "", "a"])), speech)
    assert frames[1:8] == [2, 2, 2, 4, 4, 4, 4]


# --- silence and noise ----------------------------------------------------------------------------


class Babbler(Fickle):
    """Hears words in everything."""

    def __init__(self) -> None:
        super().__init__(["this", "this is", "this is not", "this is not speech"])


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.01, 0.3])
def test_silence_and_steady_noise_give_nothing_and_do_not_reach_the_model(
    recognizer: Recognizer, level: float
) -> None:
    babbler = Babbler()
    assert events_of(Stream(recognizer, decoder=babbler), silence(8, level)) == []
    assert not hasattr(babbler, "_line")


def test_noise_that_sets_in_suddenly_gives_no_text(recognizer: Recognizer) -> None:
    samples = np.concatenate([silence(2), silence(8, 0.03)])
    assert events_of(Stream(recognizer, decoder=Babbler()), samples) == []


def test_words_that_come_to_nothing_are_taken_back(recognizer: Recognizer, speech: np.ndarray) -> None:
    decoder = Fickle(["um"] * 4 + [""])
    events = events_of(Stream(recognizer, decoder=decoder), speech)
    assert partials(events)[0].text == "um"
    assert events[-1] == Partial((), ())


class Doubting(Fickle):
    """Thinks of each of its words that it may well be wrong."""

    def partial(self) -> tuple[Word, ...]:
        return tuple(replace(word, probability=0.3) for word in super().partial())


def test_a_word_that_is_probably_wrong_is_no_utterance_but_several_are(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    few, many = (events_of(Stream(recognizer, decoder=Doubting([s])), speech) for s in ("a b c", "a b c d"))
    assert partials(few)[0].text == "a b c" and few[-1] == Partial((), ())
    assert not texts(few) and set(texts(many)) == {"a b c d"}


def test_a_second_pass_may_find_that_nothing_was_said(
    recognizer: Recognizer, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = Transcript((Segment.of((Word("achoo", 0.0, 1.0, 0.4),)),), 1.0)
    second_pass = copy(recognizer)
    monkeypatch.setattr(second_pass, "begin", lambda blocks: Pending([], 1.0))
    monkeypatch.setattr(Pending, "result", lambda self: doubtful)
    events = events_of(Stream(recognizer, decoder=Fickle(["a b c"]), second_pass=second_pass), speech)
    assert events[-1] == Partial((), ()) and not texts(events)


def test_the_detector_rests_while_there_are_words(
    recognizer: Recognizer, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    class Attentive(SpeechDetector):
        def feed(self, samples: np.ndarray) -> bool:
            heard.append(len(samples))
            return super().feed(samples)

    monkeypatch.setattr("asr.streaming.SpeechDetector", Attentive)
    stream = Stream(recognizer, decoder=Fickle(["a"]))
    stream.feed(speech)
    assert sum(heard) < len(speech) / 2
    stream.feed(silence(10))
    assert sum(heard) > 5 * SECOND  # after the last word, it listens again


@pytest.mark.parametrize("n_samples", [0, 1, 159, 160, 511, STEP - 1, STEP, STEP + 1])
def test_a_blink_of_silence_gives_nothing(recognizer: Recognizer, n_samples: int) -> None:
    assert events_of(Stream(recognizer), silence(1)[:n_samples]) == []


# --- second pass ----------------------------------------------------------------------------------


def test_a_second_pass_replaces_the_words_when_the_utterance_has_ended(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    samples = np.concatenate([silence(2), speech, silence(2)])
    patient = StreamConfig(EndpointConfig(rule2_min_trailing_silence=5.0))
    stream = Stream(recognizer, patient, decoder=Fickle(["say what"]), second_pass=recognizer)
    events = events_of(stream, samples)
    assert partials(events)[0].text == "say what"
    (final,) = (event for event in events if isinstance(event, Final))
    assert final.segment.text == SENTENCE_WORDS
    assert final.first_pass is not None and [w.text for w in final.first_pass] == ["say", "what"]
    assert 2 < final.segment.start < final.segment.end < 2 + len(speech) / SECOND + 0.3


def test_a_bidirectional_model_cannot_listen(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="one direction"):
        Stream(Recognizer.load(tiny_checkpoint))


def test_the_recipe_for_listening_makes_a_model_that_can() -> None:
    run = config.load(Path(__file__).parent.parent / "recipes/english/streaming.toml", [], RunConfig)
    AcousticModel(run.model).initial_state()
    assert run.model.lookahead == 8
