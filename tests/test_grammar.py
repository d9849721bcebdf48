"""Closed grammars: how they are written, what they stand for, and that nothing else is heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.decoding import grammar
from asr.decoding.decoder import DecoderFactory, DecoderOptions
from asr.decoding.grammar import Grammar, GrammarModel
from asr.decoding.hotwords import HotWord
from asr.decoding.language import Language
from asr.decoding.ngram import END, NGramModel, Order
from asr.decoding.prefix_tree import Pronunciations
from asr.errors import GrammarError, UsageError
from asr.labels import Labels
from asr.recognizer import Recognizer
from asr.streaming import Stream
from asr.transcript import Final

PHONES = Labels.of_kind("phones")
LIGHTS = """\
#JSGF V1.0 UTF-8 en;
grammar home.lights;
/* one rule is for
   other rules only */
<what> = light | (ceiling | desk) lamp; // two of them
public <command> = [please] turn the <what> (on | off);
"""


def phrases(tmp_path: Path, text: str) -> set[str]:
    path = tmp_path / "grammar"
    path.write_text(text, encoding="utf-8")
    return {" ".join(phrase) for phrase in grammar.read(path).phrases(10**6) or ()}


def test_a_list_has_a_phrase_a_line(tmp_path: Path) -> None:
    text = "# moves\nGo  North\n\ngo south  # or down\ntwenty-one\ngo north\n"
    assert phrases(tmp_path, text) == {"go north", "go south", "twenty one"}


def test_jsgf_rules_stand_for_all_their_phrases(tmp_path: Path) -> None:
    things = ("light", "ceiling lamp", "desk lamp")
    assert phrases(tmp_path, LIGHTS) == {
        f"{please}turn the {thing} {way}"
        for please in ("", "please ")
        for thing in things
        for way in ("on", "off")
    }


def accepts(tmp_path: Path, text: str, *said: str) -> list[bool]:
    """Whether a grammar allows each of some phrases."""
    path = tmp_path / "grammar"
    path.write_text(text, encoding="utf-8")
    model = GrammarModel(grammar.read(path))
    return [bool(np.isfinite(sum(model_scores(model, phrase.split())))) for phrase in said]


def test_repetition_is_without_end(tmp_path: Path) -> None:
    text = "#jsgf v1.0;\n<digit> = one | two | three;\npublic <code> = code <digit>+ [stop]* ;\n"
    long = "code " + "one two three " * 50
    assert accepts(tmp_path, text, "code one", long, f"{long} stop stop") == [True] * 3
    assert accepts(tmp_path, text, "code", "one two", "code one stop two") == [False] * 3
    assert accepts(tmp_path, "#JSGF;\npublic <a> = go (on)*;", "go", "go on on") == [True, True]


def test_more_phrases_than_can_be_listed_are_allowed(tmp_path: Path) -> None:
    text = (
        "#JSGF V1.0;\n<d> = one | two | three | four | five;\npublic <n> = <d> <d> <d> <d> <d> <d> <d> <d>;\n"
    )
    assert accepts(tmp_path, text, "one two three four five one two three", "one two") == [True, False]


def test_tags_weights_and_quotes_are_read(tmp_path: Path) -> None:
    text = """#JSGF V1.0;
    public <a> = /0.7/ turn "on" {act = "x;".on} | /3/ (switch "the lights" {lights})+ {twice}
        | <NULL> hush;
    """
    assert accepts(tmp_path, text, "turn on", "switch the lights switch the lights", "hush") == [True] * 3
    assert accepts(tmp_path, text, "turn", "switch the", "on") == [False] * 3


def test_deep_parentheses_and_long_comments_are_read(tmp_path: Path) -> None:
    text = "#JSGF V1.0;\n/*" + "* /*" * 100_000 + "*/ public <a> = " + "(" * 250 + "go" + ")" * 250 + ";"
    assert accepts(tmp_path, text, "go") == [True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "grammar: a grammar without phrases"),
        ("yes\nroute 66\n", "grammar:2: '66': a word is made of the letters a to z and '; write numbers"),
        ("#JSGF V1.0;\ngrammar g;\n", "grammar:2: no public rule"),
        ("#JSGF V1.0;\npublic <a> = yes |;\n", "grammar:2: nothing before ';'"),
        ("#JSGF V1.0;\npublic <a> = (yes;\n", r"grammar:2: expected '\)', got ';'"),
        ("#JSGF V1.0;\npublic <a> = yes\n", "grammar:2: expected ';', got 'the end of the file'"),
        ("#JSGF V1.0;\n\npublic <a> = <b>;\n", "grammar:3: there is no rule <b>"),
        ("#JSGF V1.0;\npublic <a> = go <b>;\n<b> = [on] <a>;\n", "grammar:3: <a> refers to itself"),
        ("#JSGF V1.0;\npublic <a> = yes;\n<a> = no;\n", "grammar:3: the rule <a> is there twice"),
        ("#JSGF V1.0;\npublic <a> = * go;\n", r"grammar:2: '\*' is not expected here"),
        ("#JSGF V1.0;\npublic <a> = go {tag;\n", r"grammar:2: '{' is not expected here"),
        ("#JSGF V1.0;\n\n/* public <a> = go;\n", "grammar:3: the comment that begins here has no end"),
        ("#JSGF V1.0;\n\npublic <a> = " + "(" * 900 + "go" + ")" * 900 + ";", "grammar:3: parentheses more"),
        ("yes\n" + "a" * 20_000, "grammar:2: .*: a word has 60 letters at most"),
        ("yes\n" + "no " * 20_000, "grammar:2: a phrase has 1000 words at most"),
        ("#JSGF V1.0;\nimport <b.c>;\n", "grammar:2: import is not supported"),
        ("#JSGF V1.0;\nyes;\n", "grammar:2: expected a rule like 'public <name> = ...;', got 'yes'"),
        (
            "#JSGF V1.0;\n<d0> = yes;\n"
            + "".join(f"<d{i}> = <d{i - 1}> <d{i - 1}>;\n" for i in range(1, 61))
            + "public <a> = <d60>;\n",
            "<d18> stands for more than 500000 words",
        ),
        (
            "#JSGF V1.0;\npublic <a> = <r0>;\n"
            + "".join(f"<r{i}> = <r{i + 1}>;\n" for i in range(2000))
            + "<r2000> = yes;\n",
            "rules inside rules, more than 600 deep",
        ),
        (
            "#JSGF V1.0;\n<x> = yes | no;\npublic <a> = (yes | no)* yes" + " <x>" * 30 + ";\n",
            "grammar:3: the rules allow too much at once",
        ),
    ],
)
def test_what_is_no_grammar_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        phrases(tmp_path, text)


def test_the_command_line_names_a_bad_grammar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = str(Path(__file__).parent / "data" / "1462-170142-0003.flac")
    assert main(["transcribe", recording, "--grammar", str(tmp_path / "none")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err
        == f"asr: error: {tmp_path / 'none'}: not a readable grammar (No such file or directory)\n"
    )


def test_only_complete_phrases_may_end() -> None:
    model = GrammarModel(Grammar.of([("go", "home"), ("go",), ("stay", "at", "home")]))

    def may_end(*words: str) -> bool:
        return np.isfinite(sum(model_scores(model, words)))

    assert may_end() and may_end("go") and may_end("go", "home") and may_end("stay", "at", "home")
    assert not may_end("stay", "at") and not may_end("home") and not may_end("go", "go")


def model_scores(model: GrammarModel, words: Sequence[str]) -> list[float]:
    state, scores = np.array([model.start]), []
    for word in [*(model.ids[word] for word in words), END]:
        score, state = model.score(state, np.array([word]))
        scores.append(float(score[0]))
    return scores


# --- decoding -------------------------------------------------------------------------------------


def spoken(labels: Labels, units: Sequence[str]) -> np.ndarray:
    path = [index for unit in units for index in (labels.symbols.index(unit), 0)]
    matrix = np.full((len(path), len(labels)), 0.1 / (len(labels) - 1))
    matrix[np.arange(len(path)), path] = 0.9
    return np.log(matrix).astype(np.float32)


def language() -> Language:
    words = ["<unk>", "<s>", "</s>", "go", "home", "tomorrow"]
    unigrams = Order(np.zeros(6, "i4"), np.arange(6, dtype="i4"), *np.full((2, 6), -1.0, "f4"))
    phones = {"go": "G OW", "home": "HH OW M", "tomorrow": "T AH M AA R OW"}
    return Language(
        NGramModel(words, [unigrams]),
        Pronunciations.of((PHONES.encode(phones[w].split()), words.index(w)) for w in phones),
    )


def heard(log_probs: np.ndarray, *allowed: str, labels: Labels = PHONES) -> str:
    options = DecoderOptions(grammar=tuple(tuple(phrase.split()) for phrase in allowed))
    known = language() if labels.kind == "phones" else None
    factory = DecoderFactory(
        {labels.kind: labels}, {}, options, known, lambda words: [["N AO R TH".split()] for _ in words]
    )
    decoder = factory()
    decoder.step(log_probs)
    return " ".join(word.text for word in decoder.end())


def test_an_allowed_phrase_is_heard_also_with_words_that_no_lexicon_has() -> None:
    assert heard(spoken(PHONES, "G OW HH OW M".split()), "go home", "go north") == "go home"
    assert heard(spoken(PHONES, "G OW N AO R TH".split()), "go home", "go north") == "go north"


def test_other_speech_is_not_forced_into_a_phrase() -> None:
    sound = spoken(PHONES, "T AH M AA R OW".split())
    assert heard(sound, "tomorrow", "go home") == "tomorrow"
    assert heard(sound, "go home", "go north", "go") == ""


def test_half_a_phrase_is_none_and_two_are_none() -> None:
    assert heard(spoken(PHONES, "G OW".split()), "go home") == ""
    assert heard(spoken(PHONES, "G OW HH OW M G OW HH OW M".split()), "go home") == ""


def test_silence_is_no_phrase() -> None:
    silence = np.log(np.full((20, len(PHONES)), 0.001, np.float32))
    silence[:, 0] = np.log(0.96)
    assert heard(silence, "go") == "" == heard(silence[:0], "go")


def test_a_model_of_characters_spells_the_phrases() -> None:
    characters = Labels.of_kind("characters")
    sound = spoken(characters, [*"go", "|", *"home"])
    assert heard(sound, "go home", "stay", labels=characters) == "go home"
    assert heard(sound, "go", "stay", labels=characters) == ""


def test_a_grammar_needs_a_search_and_goes_without_hot_words() -> None:
    for options in (
        DecoderOptions(grammar=(("go",),), beam_size=1),
        DecoderOptions(grammar=(("go",),), hot_words=(HotWord("go", 1.0),)),
    ):
        with pytest.raises(UsageError, match="a grammar needs a beam search"):
            DecoderFactory({"phones": PHONES}, {}, options, language())


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    from asr.audio import read_audio

    samples = read_audio(Path(__file__).parent / "data" / "1462-170142-0003.flac")
    return np.concatenate([np.zeros(8000), samples, np.zeros(48_000)]).astype(np.float32)


@pytest.mark.parametrize(
    ("allowed", "said"),
    [("the room was empty when he entered", 1), ("the room was empty", 0), ("open the window", 0)],
)
def test_a_stream_shows_no_final_that_the_grammar_rejects(
    parrot: Path, speech: np.ndarray, allowed: str, said: int
) -> None:
    decoding = DecoderOptions(grammar=(tuple(allowed.split()),), lm="none")
    stream = Stream(Recognizer.load(parrot, decoding=decoding))
    events = [*stream.feed(speech), *stream.finish()]
    assert [event.segment.text for event in events if isinstance(event, Final)] == [allowed] * said
