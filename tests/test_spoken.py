"""Spoken punctuation and commands: what is written when, and what it takes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr import spoken
from asr.errors import ConfigError
from asr.spoken import Edit, Writer, default_commands, load_commands, rewrite
from asr.transcript import Segment, Transcript, Word


def written(*utterances: str, full_sentence: bool = False, numbers: bool = False, commands=None) -> str:
    """The text after these utterances."""
    table = default_commands() if commands is None else commands
    writer = Writer(table, full_sentence=full_sentence, numbers_as_digits=numbers)
    for utterance in utterances:
        writer.hear(utterance)
        writer.close()
    return writer.text


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("hello comma world", "hello, world"),
        ("stop period go on", "stop. Go on"),
        ("really question mark yes exclamation mark good", "really? Yes! Good"),
        ("one new line two new paragraph three", "one\ntwo\n\nthree"),
        ("he said open quote yes close quote and left", 'he said "yes" and left'),
        ("this open paren or that close paren colon fine", "this (or that): fine"),
        ("well hyphen known me at sign home", "well-known me@home"),
        ("full stop full stop", ".."),
        ("that full thing", "that full thing"),
    ],
)
def test_marks_know_their_spaces_and_what_follows_a_sentence(said: str, expected: str) -> None:
    assert written(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("cap london calling", "London calling"),
        ("all caps nasa launch", "NASA launch"),
        ("caps on new york city caps off limits", "New York City limits"),
        ("data no space base", "database"),
        ("cap open quote hello", '"Hello'),
        ("i think i'm here", "I think I'm here"),
    ],
)
def test_commands_change_the_words_after_them(said: str, expected: str) -> None:
    assert written(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("the word literal comma here", "the word comma here"),
        ("literal question mark", "question mark"),
        ("literal literal", "literal"),
        ("literal scratch that", "scratch that"),
        ("literal table", "table"),
        ("literal", ""),
    ],
)
def test_literal_makes_words_of_a_command(said: str, expected: str) -> None:
    assert written(said) == expected


def test_literal_keeps_a_number_in_words() -> None:
    assert written("five and literal five", numbers=True) == "5 and five"


def test_scratch_that_removes_this_utterance_so_far_then_the_one_before() -> None:
    assert written("one", "two three scratch that four") == "one four"
    assert written("one", "two", "scratch that") == "one"
    assert written("one", "two", "scratch that", "scratch that") == ""
    assert written("one", "two", "scratch that scratch that three") == "three"
    assert written("scratch that", "one") == "one"


def test_scratch_that_deletes_what_was_written_and_no_more() -> None:
    writer = Writer(default_commands())
    writer.hear("dear anna comma")
    writer.close()
    assert writer.hear("new line thanks") == Edit(0, "\nthanks")
    writer.close()
    assert writer.hear("scratch that") == Edit(7, "")
    assert writer.text == "dear anna,"


def test_words_that_become_a_command_are_taken_back() -> None:
    writer = Writer(default_commands())
    assert writer.hear("hello question") == Edit(0, "hello question")
    assert writer.hear("hello question mark") == Edit(9, "?")


def test_words_that_become_a_number_are_taken_back() -> None:
    writer = Writer(default_commands(), numbers_as_digits=True)
    assert writer.hear("twenty") == Edit(0, "20")
    assert writer.hear("twenty five") == Edit(1, "5")


def test_a_dropped_utterance_leaves_the_text_before_it() -> None:
    writer = Writer(default_commands())
    writer.hear("one")
    writer.close()
    writer.hear("two")
    assert writer.drop() == Edit(4, "")


@pytest.mark.parametrize(
    ("utterances", "expected"),
    [
        (["hello world", "how are you"], "Hello world. How are you."),
        (["is it question mark", "yes"], "Is it? Yes."),
        (["hello", "comma world"], "Hello, world."),
        (["hello", "new line", "fine"], "Hello.\nFine."),
        (["he said open quote yes", "close quote"], 'He said "yes".'),
        (["good", "scratch that", "bad"], "Bad."),
        (["five percent", "good"], "5%. Good."),
        (["comma"], ","),
    ],
)
def test_full_sentences_begin_with_a_capital_and_end_with_a_stop(
    utterances: list[str], expected: str
) -> None:
    assert written(*utterances, full_sentence=True, numbers=True) == expected


def test_a_pause_does_not_end_a_sentence_unless_told() -> None:
    writer = Writer(default_commands(), full_sentence=True)
    for utterance in ("hello", "my friend"):
        writer.hear(utterance)
        writer.close(ends_sentence=False)
    assert writer.text == "Hello my friend"
    assert writer.close() == Edit(0, ".")


def test_lines_of_a_hook_stay_lines() -> None:
    assert written("one \n two") == "one\ntwo"


def test_the_text_is_the_same_however_the_words_arrive() -> None:
    said = "dear cap anna comma new line it is twenty five past literal period scratch that bye period so"
    typed = ""
    writer = Writer(default_commands(), full_sentence=True, numbers_as_digits=True)
    words = said.split()
    for n_words in range(1, len(words) + 1):
        edit = writer.hear(" ".join(words[:n_words]))
        typed = typed[: len(typed) - edit.n_deleted] + edit.text
    edit = writer.close()
    typed = typed[: len(typed) - edit.n_deleted] + edit.text
    assert typed == writer.text == written(said, full_sentence=True, numbers=True) == "Bye. So."


def test_a_user_can_add_change_and_remove_phrases(tmp_path: Path) -> None:
    path = tmp_path / "commands.toml"
    path.write_text(
        "[commands]\n"
        '"my name" = "Ada Lovelace"\n'
        '"Arrow" = {write = "->", space_before = false, space_after = false}\n'
        '"erase that" = {do = "scratch that"}\n'
        '"period" = ""\n'
        '"stop" = {write = ".", space_before = false, ends_sentence = true}\n'
    )
    commands = load_commands(path)
    assert written("i am my name", commands=commands) == "I am Ada Lovelace"
    assert written("a arrow b", commands=commands) == "a->b"
    assert written("one", "two", "erase that", commands=commands) == "one"
    assert written("the victorian period stop yes", commands=commands) == "the victorian period. Yes"


def test_without_a_file_the_default_phrases_hold(tmp_path: Path) -> None:
    assert load_commands(tmp_path / "none.toml") == default_commands()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[commands", "commands.toml: not TOML"),
        ('"a" = "b"', "commands.toml: a: everything belongs in a table"),
        ("[commands]\na = 1", 'commands: "a": expected a text or a table'),
        ('[commands]\na = {wirte = "b"}', 'commands: "a": wirte: unknown key; did you mean write'),
        ('[commands]\na = {do = "jump"}', "commands: \"a\": no action 'jump'; there are scratch that"),
        ('[commands]\na = {do = "cap", write = "x"}', 'commands: "a": needs either write or do'),
        ('[commands]\n" " = "b"', "a phrase needs a word"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "commands.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_commands(path)


def test_every_default_phrase_does_something_the_module_knows() -> None:
    for phrase, command in default_commands().items():
        assert phrase == tuple(" ".join(phrase).lower().split())
        assert bool(command.write) != bool(command.do)
        assert not command.do or command.do in spoken.ACTIONS


def transcript(*segments: str, channels: tuple[int | None, ...] = ()) -> Transcript:
    """A second for each word, ten for each segment."""
    made = []
    for index, text in enumerate(segments):
        words = tuple(
            Word(word, 10.0 * index + i, 10.0 * index + i + 0.5, 0.9 - 0.1 * i)
            for i, word in enumerate(text.split())
        )
        channel = channels[index] if channels else None
        made.append(Segment(words[0].start, words[-1].end, words, channel))
    return Transcript(tuple(made), 10.0 * len(segments))


def test_marks_join_the_word_before_them_and_leave_its_times() -> None:
    (segment,) = rewrite(transcript("hello comma world"), default_commands()).segments
    assert segment.text == "hello, world"
    assert segment.words[0] == Word("hello,", 0.0, 0.5, pytest.approx(0.8))
    assert segment.words[1] == Word("world", 2.0, 2.5, pytest.approx(0.7))


def test_a_number_spans_the_words_that_it_was_made_from() -> None:
    (segment,) = rewrite(transcript("it is twenty five"), {}, numbers_as_digits=True).segments
    assert segment.words[2] == Word("25", 2.0, 3.5, pytest.approx(0.6))


def test_words_without_a_space_between_are_one() -> None:
    (segment,) = rewrite(transcript("data no space base"), default_commands()).segments
    assert segment.words == (Word("database", 0.0, 3.5, pytest.approx(0.6)),)


def test_a_new_line_begins_a_segment_and_scratched_ones_are_gone() -> None:
    heard = transcript("one new line two", "three", "scratch that")
    assert [segment.text for segment in rewrite(heard, default_commands()).segments] == ["one", "two"]


def test_segments_of_full_sentences_keep_their_pauses() -> None:
    heard = transcript("how are you", "comma anna", "fine")
    segments = rewrite(heard, default_commands(), full_sentence=True).segments
    assert [segment.text for segment in segments] == ["How are you,", "anna.", "Fine."]
    assert [segment.start for segment in segments] == [0.0, 11.0, 20.0]


def test_channels_do_not_hear_each_other() -> None:
    heard = transcript("one", "two", "scratch that", channels=(1, 2, 1))
    (segment,) = rewrite(heard, default_commands()).segments
    assert segment.text == "two" and segment.channel == 2


def test_a_transcript_without_commands_stays_as_it_is() -> None:
    heard = transcript("one two", "three")
    assert rewrite(heard, default_commands()) == heard
    assert rewrite(Transcript((), 3.0), default_commands(), full_sentence=True) == Transcript((), 3.0)
