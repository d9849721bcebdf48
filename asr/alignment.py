"""A given text and a recording of it -> where each of its words is said, and which are not.

The recording is recognised first. Where several words in a row are those of the text, the two surely belong
together; cut there, the recording falls into pieces of some ten seconds, and in each piece the phones of
the text are aligned to the sound. So time and memory grow with the recording's length only linearly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, pairwise

import numpy as np

from asr import align, matching
from asr.align import FRAME_SECONDS, Span
from asr.errors import AlignmentError
from asr.labels import SPACE_SYMBOL
from asr.recognizer import Recognizer
from asr.text import normalize
from asr.transcript import Segment, Transcript, Word

_SURE_WORDS = 3  # in a row, alike in text and transcript
_PIECE_FRAMES = 250  # 10 seconds at least
_LARGEST_PIECE = 5e8  # frames times labels; of that much without a sure word, nothing can be said
_PAUSE = 0.6  # seconds between words that end a segment
_LEAST_SHARE = 0.5  # of the words of a text without any sure words that must be found


@dataclass(frozen=True)
class Alignment:
    """transcript: the words as the text writes them; missing: those that the recording does not have.

    A missing passage lasts from the word before it to the word after it.
    """

    transcript: Transcript
    missing: tuple[Segment, ...]


@dataclass(frozen=True)
class _Unit:
    """One spoken word of the text: "215" is three; token: the written word that it belongs to."""

    spoken: str
    token: int


def align_text(
    recognizer: Recognizer,
    blocks: Iterable[np.ndarray],
    text: str,
    *,
    with_characters: bool = False,
    batch_size: int = 8,
    on_progress: Callable[[float], None] | None = None,
) -> Alignment:
    """Where the words of a text are in a recording, given as 1-D float32 blocks at 16 kHz.

    with_characters: each word also with the times of its letters; the model must have characters.
    AlignmentError when there is no text, no speech, or the one is not that of the other.
    """
    tokens, units = _read(text)
    if with_characters and "characters" not in recognizer.metadata.labels:
        raise AlignmentError("the model has no characters among its outputs; align words only")
    stretches: list[dict[str, np.ndarray]] = []

    def kept() -> Iterator[dict[str, np.ndarray]]:
        for stretch in recognizer.log_probs(blocks, batch_size=batch_size):
            stretches.append(stretch)
            yield stretch

    # The text says what was spoken, however doubtful it sounds.
    heard = replace(recognizer.decoding(kept(), on_progress), min_confidence=0.0).result()
    if not heard.words:
        raise AlignmentError("no speech was found in the recording")
    names = {recognizer.new_decoder.output, *(["characters"] if with_characters else [])}
    outputs = {name: np.concatenate([stretch[name] for stretch in stretches]) for name in names}
    cuts = _cuts(units, heard.words)
    spans = _place(recognizer, outputs[recognizer.new_decoder.output], units, cuts)
    if not cuts and sum(map(bool, spans)) < _LEAST_SHARE * len(units):
        raise AlignmentError("the text is not that of the recording, or not in English")
    words = _words(recognizer, tokens, units, spans)
    if with_characters:
        words = _with_characters(recognizer, outputs["characters"], units, spans, words)
    return _alignment(tokens, words, heard.duration)


def _read(text: str) -> tuple[list[str], list[_Unit]]:
    """The written words of a text, signs that nobody says with the word before them, and the spoken ones."""
    letters = [character for character in text if character.isalpha()]
    foreign = [letter for letter in letters if not normalize(letter)]
    if len(foreign) > len(letters) / 2:
        raise AlignmentError("the text is not English: most of its letters are none of a to z")
    tokens: list[str] = []
    units: list[_Unit] = []
    for written in text.split():
        spoken = normalize(written).split()
        if not spoken and tokens:
            tokens[-1] += f" {written}"
            continue
        if spoken:
            units += [_Unit(word, len(tokens)) for word in spoken]
            tokens.append(written)
    if not units:
        raise AlignmentError("the text has no words")
    return tokens, units


def _cuts(units: Sequence[_Unit], heard: Sequence[Word]) -> list[tuple[int, int]]:
    """(unit, frame): places between two words that text and transcript surely share."""
    spoken = [(part, word) for word in heard for part in normalize(word.text).split()]
    pauses = [False, *(b.start - a.end >= _PAUSE for (_, a), (_, b) in pairwise(spoken)), False]
    runs = matching.matches([unit.spoken for unit in units], [part for part, _ in spoken], pauses[:-1])
    runs = [run for run in runs if run[2] >= _SURE_WORDS]
    cuts: list[tuple[int, int]] = []

    def cut(unit: int, place: int, least: int = 1) -> None:
        """Between the words heard there and before, unless that is no later than the last cut."""
        if 0 < place < len(spoken):
            frame = round((spoken[place - 1][1].end + spoken[place][1].start) / 2 / FRAME_SECONDS)
            if frame >= (cuts[-1][1] if cuts else 0) + least:
                cuts.append((unit, frame))

    end, end_heard = 0, 0  # of the run before
    for first, first_heard, n in [*runs, (len(units), len(spoken), 0)]:
        # Between runs something else was said, perhaps the same words once more, and those would fit as well.
        if runs and first_heard - end_heard - (first - end) >= _SURE_WORDS:
            for unit, place in ((end, end_heard), (first, first_heard)):
                if first == end or pauses[place]:
                    cut(unit, place)
        for i in range(1, n):
            is_edge = i in (1, n - 1)
            cut(first + i, first_heard + i, 1 if is_edge else _PIECE_FRAMES)
        end, end_heard = first + n, first_heard + n
    return cuts


def _place(
    recognizer: Recognizer,
    log_probs: np.ndarray,
    units: Sequence[_Unit],
    cuts: Sequence[tuple[int, int]],
) -> list[list[Span]]:
    """The spans of each unit in frames of the recording; empty for those that are not there."""
    labels = recognizer.metadata.labels[recognizer.new_decoder.output]
    pauses = [i for i, symbol in enumerate(labels.symbols) if not i or symbol == SPACE_SYMBOL]
    spellings = cache(recognizer.spellings)
    placed: list[list[Span]] = []
    for (first, start), (last, end) in pairwise([(0, 0), *cuts, (len(units), len(log_probs))]):
        words = [spellings(unit.spoken) for unit in units[first:last]]
        n_labels = sum(len(variant) for variants in words for variant in variants)
        if n_labels * (end - start) > _LARGEST_PIECE:
            placed += [[] for _ in words]
            continue
        free_edges = first == 0, last == len(units)
        for spans in align.optional_spans(log_probs[start:end], words, pauses, free_edges):
            placed.append(
                [replace(span, start=span.start + start, end=span.end + start) for span in spans]
            )
    return placed


def _words(
    recognizer: Recognizer, tokens: Sequence[str], units: Sequence[_Unit], spans: Sequence[list[Span]]
) -> list[Word | None]:
    """The word of each token; None for those of which nothing was said."""
    joined: list[list[Span]] = [[] for _ in tokens]
    for unit, found in zip(units, spans, strict=True):
        joined[unit.token] += found
    said = [token for token, found in enumerate(joined) if found]
    words = align.words(
        ((tokens[token], joined[token]) for token in said),
        probability=recognizer.new_decoder.probability,
    )
    placed: list[Word | None] = [None] * len(tokens)
    for token, word in zip(said, words, strict=True):
        placed[token] = word
    return placed


def _with_characters(
    recognizer: Recognizer,
    log_probs: np.ndarray,
    units: Sequence[_Unit],
    spans: Sequence[list[Span]],
    words: Sequence[Word | None],
) -> list[Word | None]:
    """The words with their letters: those of the spoken words, aligned between the words around them."""
    labels = recognizer.metadata.labels["characters"]
    spoken = {token: list(group) for token, group in groupby(range(len(units)), lambda i: units[i].token)}
    found: list[Word | None] = []
    for token, word in enumerate(words):
        if word is None:
            found.append(None)
            continue
        text = "".join(units[i].spoken for i in spoken[token] if spans[i])
        start, end = round(word.start / FRAME_SECONDS), round(word.end / FRAME_SECONDS)
        try:
            letters = align.forced_spans(log_probs[start:end], labels.encode(text))
        except ValueError:  # said too fast: the letters share the time evenly
            edges = np.linspace(word.start, word.end, len(text) + 1).tolist()
            characters = [
                Word(c, a, b, word.probability) for c, (a, b) in zip(text, pairwise(edges), strict=True)
            ]
        else:
            pairs = ((c, [span]) for c, span in zip(text, letters, strict=True))
            characters = [_within(c, word) for c in align.words(pairs, start * FRAME_SECONDS)]
        found.append(replace(word, characters=tuple(characters)))
    return found


def _within(character: Word, word: Word) -> Word:
    start, end = (min(max(time, word.start), word.end) for time in (character.start, character.end))
    return replace(character, start=start, end=end)


def _alignment(tokens: Sequence[str], words: Sequence[Word | None], duration: float) -> Alignment:
    """Segments between pauses, and the passages in which no word was found."""
    segments: list[Segment] = []
    missing: list[Segment] = []
    current: list[Word] = []
    for is_said, group in groupby(range(len(tokens)), lambda i: words[i] is not None):
        members = list(group)
        if not is_said:
            before = words[members[0] - 1] if members[0] else None
            after = words[members[-1] + 1] if members[-1] + 1 < len(words) else None
            start, end = before.end if before else 0.0, after.start if after else duration
            lost = tuple(Word(tokens[i], start, max(start, end), 0.0) for i in members)
            missing.append(Segment.of(lost))
            continue
        for word in (words[i] for i in members):
            assert word is not None
            if current and word.start - current[-1].end >= _PAUSE:
                segments.append(Segment.of(tuple(current)))
                current = []
            current.append(word)
    if current:
        segments.append(Segment.of(tuple(current)))
    return Alignment(Transcript(tuple(segments), duration), tuple(missing))
