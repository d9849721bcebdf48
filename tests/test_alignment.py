"""A given text in a recording: words that are there, words that are not, and what cannot be aligned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCE, SENTENCE_WORDS

from asr.align import optional_spans
from asr.alignment import Alignment, align_text
from asr.audio import read_audio
from asr.cli import main
from asr.errors import AlignmentError
from asr.labels import Labels
from asr.recognizer import Recognizer

CHARACTERS = Labels.of_kind("characters")


def log_probs_of(path: str, probability: float = 0.9) -> np.ndarray:
    """(frames, labels) in which the path is the likeliest; _ is the blank, | the space."""
    matrix = np.full((len(path), len(CHARACTERS)), (1 - probability) / (len(CHARACTERS) - 1))
    ids = [0 if symbol == "_" else CHARACTERS.symbols.index(symbol) for symbol in path]
    matrix[np.arange(len(path)), ids] = probability
    return np.log(matrix)


def placed(path: str, *words: str) -> list[str]:
    """Of each word, given as variants parted by "/", the variant that was found and its first frame."""
    variants = [[CHARACTERS.encode(variant) for variant in word.split("/")] for word in words]
    found = optional_spans(log_probs_of(path), variants, (0, 1))
    return [
        f"{CHARACTERS.decode(span.label for span in spans)}@{spans[0].start}" if spans else "-"
        for spans in found
    ]


def test_words_are_found_one_after_another() -> None:
    assert placed("__gg_o_|_home_", "go", "home") == ["go@2", "home@9"]
    assert placed("gohome", "go", "home") == ["go@0", "home@2"]


def test_the_same_letter_at_the_end_and_the_beginning_is_two() -> None:
    assert placed("__to_o_x", "to", "ox") == ["to@2", "ox@5"]


def test_the_best_pronunciation_is_taken() -> None:
    assert placed("_read|_bo_ok", "red/read", "book") == ["read@1", "book@7"]


def test_words_that_are_not_there_are_left_out() -> None:
    assert placed("_go|__|home__", "go", "straight", "ahead", "home") == ["go@1", "-", "-", "home@7"]
    assert placed("_home__", "going", "home", "again") == ["-", "home@1", "-"]


def test_sound_that_is_no_word_of_the_text_is_passed_over() -> None:
    assert placed("_go|straight|ahead|home_", "go", "home") == ["go@1", "home@19"]


def test_words_stand_together_where_they_could_stand_apart() -> None:
    take = "_go|home|now_"
    assert placed(f"{take}_fight_{take}", "go", "home", "now") == ["go@1", "home@4", "now@9"]
    worse = take.replace("h", "k")  # a take in which one word sounds less like it
    found = placed(f"{worse}_fight_{take}", "go", "home", "now")
    assert found == ["go@21", "home@24", "now@29"]


@pytest.mark.parametrize("seed", range(10))
def test_no_word_is_lost_where_text_or_recording_has_more(seed: int) -> None:
    """Any number of words of the text that nobody says, and of sounds that it does not have."""
    random = np.random.default_rng(seed)
    words, path, true = [], "__", []
    for _ in range(15):
        word, kind = str(random.choice(["bed", "cab", "add", "ace", "dab"])), random.random()
        words.append(word)
        true.append(f"{word}@{len(path)}")
        path += "_".join(word) + "|"
        if kind < 0.3:
            path += f"{random.choice(['jump', 'yoyo', 'quiz'])}|"
        elif kind < 0.6:  # beside such a sound it would be what should have been said there
            words.append(str(random.choice(["wsw", "vtv", "krk"])))
            true.append("-")
    assert placed(path, *words) == true


def test_without_frames_nothing_is_there() -> None:
    assert optional_spans(np.zeros((0, len(CHARACTERS))), [[[1]], [[2]]]) == [[], []]
    assert optional_spans(log_probs_of("_a_"), []) == []


# --- texts and recordings -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recognizer(parrot: Path) -> Recognizer:
    return Recognizer.load(parrot)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read_audio(SENTENCE)


def aligned(recognizer: Recognizer, samples: np.ndarray, text: str, *, letters: bool = False) -> Alignment:
    return align_text(recognizer, [samples.astype(np.float32)], text, with_characters=letters)


def test_words_are_shown_as_they_are_written(recognizer: Recognizer, speech: np.ndarray) -> None:
    written = "“The room was\nEMPTY — when he entered!”"
    alignment = aligned(recognizer, speech, written)
    assert alignment.missing == ()
    assert [word.text for word in alignment.transcript.words] == [
        *("“The", "room", "was", "EMPTY —", "when", "he", "entered!”")
    ]


def test_times_follow_the_sound(recognizer: Recognizer, speech: np.ndarray) -> None:
    once = aligned(recognizer, speech, SENTENCE_WORDS).transcript.words
    assert all(a.start < a.end <= b.start for a, b in zip(once, once[1:], strict=False))
    twice = aligned(
        recognizer, np.concatenate([speech, np.zeros(32_000), speech]), f"{SENTENCE_WORDS} {SENTENCE_WORDS}"
    ).transcript
    assert len(twice.segments) == 2 and twice.text == f"{SENTENCE_WORDS} {SENTENCE_WORDS}"
    later = len(speech) / 16_000 + 2
    for word, first, second in zip(once, *(segment.words for segment in twice.segments), strict=True):
        assert word.start == pytest.approx(first.start, abs=0.1)
        assert word.start + later == pytest.approx(second.start, abs=0.1)


def test_a_sentence_said_three_times_and_written_once_is_found_in_one_take(
    recognizer: Recognizer, speech: np.ndarray
) -> None:
    gap = np.zeros(16_000)
    once = aligned(recognizer, speech, SENTENCE_WORDS).transcript.words
    for takes in ([speech] * 3, [speech, gap, speech, gap, speech], [speech[: len(speech) // 2], speech]):
        alignment = aligned(recognizer, np.concatenate(takes), SENTENCE_WORDS)
        words = alignment.transcript.words
        assert alignment.missing == () and len(words) == len(once)
        assert words[-1].end - words[0].start == pytest.approx(once[-1].end - once[0].start, abs=0.15)


def test_a_take_is_found_on_either_side_of_other_speech() -> None:
    """By the shipped model, which hears both sentences: what was said in between is passed over."""
    english = Recognizer.load()
    room, look = read_audio(SENTENCE), read_audio(SENTENCE.with_name("2803-161169-0006.flac"))
    text = "look a little closer while our guide lets the light of his lamp fall upon the black wall at your"
    for recording, written, seconds in (
        ([room, look, room], SENTENCE_WORDS, 1.6),
        ([look, look, look], text, 7.4),
        ([look, room, look], text, 7.4),
    ):
        words = aligned(english, np.concatenate(recording), written).transcript.words
        assert [word.text for word in words] == written.split()
        assert words[-1].end - words[0].start == pytest.approx(seconds, abs=0.3)


def test_what_the_recording_lacks_is_told_with_its_place(recognizer: Recognizer, speech: np.ndarray) -> None:
    text = SENTENCE_WORDS.replace("empty", "empty and perfectly dark") + " through a window"
    alignment = aligned(recognizer, speech, text)
    assert alignment.transcript.text == SENTENCE_WORDS
    assert [passage.text for passage in alignment.missing] == ["and perfectly dark", "through a window"]
    words = {word.text: word for word in alignment.transcript.words}
    passage = alignment.missing[0]
    assert (passage.start, passage.end) == (words["empty"].end, words["when"].start)


def test_letters_lie_within_their_words(recognizer: Recognizer, speech: np.ndarray) -> None:
    for word in aligned(recognizer, speech, SENTENCE_WORDS, letters=True).transcript.words:
        assert "".join(letter.text for letter in word.characters) == word.text
        times = [time for letter in word.characters for time in (letter.start, letter.end)]
        assert times == sorted(times) and word.start <= times[0] and times[-1] <= word.end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n— 。", "the text has no words"),
        ("Комната была пуста, когда он вошёл", "not English: most of its letters"),
        ("der hund bellt laut vor jedem gartenzaun im dorf", "not that of the recording, or not in English"),
    ],
)
def test_a_text_of_something_else_is_refused(
    recognizer: Recognizer, speech: np.ndarray, text: str, message: str
) -> None:
    with pytest.raises(AlignmentError, match=message):
        aligned(recognizer, speech, text)


def test_a_recording_without_speech_is_refused(recognizer: Recognizer) -> None:
    with pytest.raises(AlignmentError, match="no speech was found"):
        aligned(recognizer, np.zeros(32_000), SENTENCE_WORDS)


# --- the command ----------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["align", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_writes_json_and_names_what_is_missing(
    parrot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text(f"{SENTENCE_WORDS} through a window")
    status, out, err = run(capsys, SENTENCE, tmp_path / "text", "-m", parrot, "--level", "characters")
    fields = json.loads(out)
    assert status == 0 and fields["text"] == SENTENCE_WORDS
    assert [passage["text"] for passage in fields["missing"]] == ["through a window"]
    assert [c["character"] for c in fields["segments"][0]["words"][1]["characters"]] == [*"room"]
    assert err.startswith("asr: warning: not in the recording, at ") and err.count("\n") == 1


def test_the_command_writes_a_file_at_once(
    parrot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text(SENTENCE_WORDS)
    grid = tmp_path / "out" / "x.TextGrid"
    options = ("-m", parrot, "-f", "textgrid", "-o", grid)
    assert run(capsys, SENTENCE, tmp_path / "text", *options) == (0, "", "")
    assert grid.read_text().startswith('File type = "ooTextFile"')
    assert [path.name for path in grid.parent.iterdir()] == ["x.TextGrid"]


def test_bad_input_is_one_line(parrot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text"
    text.write_text("")
    for status, message, arguments in (
        (1, "No such file", (SENTENCE, tmp_path / "none")),
        (1, "the text has no words", (SENTENCE, text)),
        (1, "no such file", (tmp_path / "none.wav", text)),
        (2, "srt has whole words", (SENTENCE, text, "-f", "srt", "--level", "characters")),
        (2, "no such option", (SENTENCE, text, "--grammar", text)),
    ):
        found, out, err = run(capsys, *arguments, "-m", parrot)
        assert (found, out, err.count("\n")) == (status, "", 1) and message.lower() in err.lower(), err
