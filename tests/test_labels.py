"""Text to label ids and back, and the pronunciation lexicon."""

from __future__ import annotations

import importlib.util
import lzma
from pathlib import Path

import pytest

from asr.errors import ManifestError, UsageError
from asr.labels import BLANK, CHARACTERS, PHONES, Labels, Lexicon, targets

ROOT = Path(__file__).parent.parent
LEXICON = Lexicon({"a": [("AH",), ("EY",)], "cat": [("K", "AE", "T")]})


def test_characters_are_blank_space_apostrophe_and_the_alphabet() -> None:
    assert CHARACTERS[:4] == ("<blank>", "|", "'", "a") and len(set(CHARACTERS)) == 29


def test_phones_are_the_blank_and_the_39_of_cmudict() -> None:
    assert PHONES[BLANK] == "<blank>" and len(set(PHONES)) == 40


def test_what_is_encoded_decodes_to_the_same_text() -> None:
    characters, phones = Labels.of_kind("characters"), Labels.of_kind("phones")
    assert characters.decode(characters.encode("it's a cat")) == "it's a cat"
    assert phones.decode(phones.encode(["K", "AE", "T"])) == "K AE T"


def test_decoding_skips_blanks_and_superfluous_spaces() -> None:
    labels = Labels.of_kind("characters")
    space, a = labels.encode(" a")
    assert labels.decode([space, BLANK, a, space, space, a, space]) == "a a"


def test_an_unknown_kind_of_labels_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="letters.*characters, phones"):
        Labels.of_kind("letters")


def test_character_targets_come_from_normalised_text() -> None:
    labels = Labels.of_kind("characters")
    assert targets(labels, "A CAT!", None) == labels.encode("a cat")
    assert targets(labels, "...", None) == []


def test_phone_targets_take_the_first_pronunciation_of_each_word() -> None:
    labels = Labels.of_kind("phones")
    assert targets(labels, "A cat.", LEXICON) == labels.encode(["AH", "K", "AE", "T"])


def test_a_word_outside_the_lexicon_leaves_the_utterance_without_phones() -> None:
    assert targets(Labels.of_kind("phones"), "a dog", LEXICON) is None


def test_phones_without_a_lexicon_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"data\.lexicon"):
        targets(Labels.of_kind("phones"), "a", None)


@pytest.mark.parametrize("name", ["lexicon.tsv", "lexicon.tsv.xz"])
def test_a_lexicon_is_read_plain_or_compressed_with_variants_in_order(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    text = b"a\tAH\ncat\tK AE T\na\tEY\n"
    path.write_bytes(lzma.compress(text) if name.endswith(".xz") else text)
    lexicon = Lexicon.load(path)
    assert lexicon.pronunciations == LEXICON.pronunciations
    assert "cat" in lexicon and "dog" not in lexicon and len(lexicon) == 2


@pytest.mark.parametrize("line", ["cat", "cat\t", "cat K AE T", "cat\tK AE1 T", "cat\t<blank>"])
def test_a_bad_line_of_a_lexicon_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text(f"a\tAH\n{line}\n")
    with pytest.raises(ManifestError, match=r"lexicon\.tsv:2: "):
        Lexicon.load(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.tsv", b""),
        ("truncated.tsv.xz", lzma.compress(b"a\tAH\n" * 1000)[:-40]),
        ("latin.tsv", b"caf\xe9\tK\n"),
    ],
)
def test_an_unreadable_or_empty_lexicon_is_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=f"^.*{name}: .+$"):
        Lexicon.load(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    (tmp_path / "lexicon.tsv").write_text("room\tR UW M\n", encoding="utf-8-sig")
    assert "room" in Lexicon.load(tmp_path / "lexicon.tsv")


def test_a_missing_lexicon_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"not found; recipes/english/lexicon\.py"):
        Lexicon.load(tmp_path / "lexicon.tsv")


def test_the_shipped_lexicon_can_be_read() -> None:
    lexicon = Lexicon.load(ROOT / "asr" / "pretrained" / "english" / "lexicon.tsv.xz")
    assert lexicon.phones("hello world") == "HH AH L OW W ER L D".split()


def test_the_lexicon_recipe_reads_cmudict_without_stress_and_comments(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("recipe", ROOT / "recipes/english/lexicon.py")
    assert spec and spec.loader
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    path = tmp_path / "cmudict.dict"
    path.write_text(";;; a comment\n\nA AH0\na(2) EY1 # letter\na(3) AH1\n!bang B AE1 NG\n")
    assert recipe.read_cmudict(path) == {"a": ["AH", "EY"]}
