"""The recipe step that labels recordings by a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scripts import ROOT, load_recipe

from asr.manifest import Utterance, read_manifest, write_manifest
from asr.recognizer import Recognizer

step = load_recipe("english/pseudo_labels.py")

PROMPTS = step.Prompts(
    [
        "the telephone did not work without electricity",
        "strong passwords are not hard to remember",
        "my watch is broken",
        "my heart is broken",
    ]
)
NONE = step.Prompts([])


def heard(text: str, probability: float = 0.5) -> step.Heard:
    return step.Heard(text, (probability,) * len(text.split()))


def test_a_hypothesis_close_to_one_prompt_gets_its_text_however_unsure() -> None:
    found = step.label(heard("that telephone did not walk without electricity"), PROMPTS, NONE, 0.9)
    assert found == step.Label("the telephone did not work without electricity", "prompt")


def test_a_hypothesis_between_two_prompts_gets_neither() -> None:
    assert PROMPTS.nearest("my hat is broken", 1)[0][0] <= step.NEAR
    assert step.label(heard("my hat is broken"), PROMPTS, NONE, 0.9) == "unsure"


def test_a_hypothesis_far_from_all_prompts_is_kept_only_if_the_model_is_sure() -> None:
    text = "the ship came home at noon"
    assert step.label(heard(text, 0.95), PROMPTS, NONE, 0.9) == step.Label(text, "sure")
    assert step.label(heard(text, 0.89), PROMPTS, NONE, 0.9) == "unsure"
    assert step.label(heard("at noon", 0.99), PROMPTS, NONE, 0.9) == "too short"
    assert step.label(heard(""), PROMPTS, NONE, 0.9) == "nothing heard"


@pytest.mark.parametrize("change", ["x", "not "])  # the first leaves the text as it is
def test_what_is_or_may_be_an_excluded_text_labels_nothing(change: str) -> None:
    excluded_text = "strong passwords are not hard to remember"
    text = excluded_text.replace(change, "")
    excluded = step.Prompts([excluded_text])
    assert step.label(heard(text, 0.99), PROMPTS, excluded, 0.9) == "near an excluded text"


def test_the_nearest_text_is_found_among_many() -> None:
    words = [f"{a}{b}" for a in "bcdfghklmn" for b in ("at", "on", "ill", "uck")]
    triples = zip(words, words[7:], words[13:], strict=False)
    many = step.Prompts(f"{first} the {second} of a {third}" for first, second, third in triples)
    assert len(many.texts) > step.CANDIDATES
    for text in many.texts:
        assert many.nearest(text, 1) == [(0.0, text)]
        assert many.nearest(text.replace("the", "these"), 1) == [(2 / len(text), text)]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    speech = Utterance("room", ROOT / "tests/data/1462-170142-0003.flac", "", 2.37, "1462", "x")
    write_manifest(tmp_path / "clips.jsonl", [speech, replace(speech, id="again")])
    return tmp_path / "clips.jsonl"


def run(manifest: Path, *options: str, prompts: str = "prompts.txt") -> int:
    manifest.with_name("prompts.txt").write_text("Mind the gap.\n")
    given = [str(manifest), str(manifest.with_name(prompts))]
    output = str(manifest.with_name("labelled.jsonl"))
    return int(step.main([*given, "--output", output, "--threads", "1", *options]))


def test_labels_are_written_as_a_manifest_with_their_sources(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(manifest, "--confidence", "0.1") == 0
    output = manifest.with_name("labelled.jsonl")
    labelled = read_manifest(output)
    row = json.loads(output.read_text().split("\n")[0])
    assert [utterance.id for utterance in labelled] == ["room", "again"]
    assert len(labelled[0].text.split()) >= step.FEWEST_WORDS and labelled[0].audio.exists()
    assert row["source"] == "sure" and 0.1 <= row["confidence"] <= 1
    assert "labelled.jsonl: 2 labels" in capsys.readouterr().out

    # Its text as a prompt; nothing is heard again for that.
    manifest.with_name("more.txt").write_text(f"{labelled[0].text} x\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recognizer, "begin", None)
        assert run(manifest, "--confidence", "1", prompts="more.txt") == 0
        row = json.loads(output.read_text().split("\n")[0])
        assert row["source"] == "prompt" and row["text"] == f"{labelled[0].text} x"
        assert row["heard"] == labelled[0].text
        assert run(manifest, "--confidence", "0.1", "--exclude", str(manifest.with_name("more.txt"))) == 0
        assert output.read_text() == ""


def test_a_run_that_was_stopped_hears_only_the_rest(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(manifest) == 0
    kept = manifest.with_name("labelled.jsonl.heard")
    whole = kept.read_text()
    kept.write_text(whole[:-20])  # as if it had been stopped while it wrote the last line
    begun: list[object] = []
    begin = Recognizer.begin
    monkeypatch.setattr(
        Recognizer, "begin", lambda self, blocks: (begun.append(blocks), begin(self, blocks))[1]
    )
    assert run(manifest) == 0
    assert len(begun) == 1 and kept.read_text() == whole


def test_another_model_hears_everything_anew(manifest: Path) -> None:
    assert run(manifest) == 0
    kept = manifest.with_name("labelled.jsonl.heard")
    before = kept.read_text().split("\n")
    assert run(manifest, "-m", "english-streaming") == 0
    after = kept.read_text().split("\n")
    assert before[0] != after[0] and len(after) == len(before) == 4


def test_bad_input_is_named(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(manifest, prompts="gone.txt") == 1
    assert "gone.txt: No such file or directory" in capsys.readouterr().err
