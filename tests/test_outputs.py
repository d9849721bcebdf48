"""What is written never replaces what is read, whatever the verb and by whatever name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SENTENCE, SENTENCE_WORDS

from asr import cli
from asr.errors import OutputError
from asr.files import write_text


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recording, its text, a table, a manifest and what else verbs read."""
    (tmp_path / "a.flac").write_bytes(SENTENCE.read_bytes())
    (tmp_path / "a.txt").write_text(SENTENCE_WORDS)
    (tmp_path / "t.tsv").write_text(f"audio\ttext\na.flac\t{SENTENCE_WORDS}\n")
    (tmp_path / "t-validation.tsv").write_text("audio\ttext\n")
    row = {"audio": "a.flac", "text": SENTENCE_WORDS, "duration": 2.4}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "hot").write_text("guide\n")
    (tmp_path / "x.lm").write_text("a language model")
    (tmp_path / "lexicon.tsv").write_text("room\tR UW M\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    "align a.flac a.txt -o a.txt",
    "align a.flac a.txt -o a.flac",
    "align a.flac a.txt -o hot --hotwords-file hot",
    "align a.flac a.txt -o x.lm --lm x.lm",
    "data prepare t.tsv -o t.tsv",
    "data prepare t.tsv -o a.flac",
    "data prepare . -o a.flac",
    "data prepare . -o a.txt",
    "lm build a.txt t.tsv -o a.txt",
    "lm build a.txt -o lexicon.tsv --add-words lexicon.tsv",
    "lm train a.txt m.jsonl -o m.jsonl",
    "evaluate m.jsonl --errors m.jsonl",
    "evaluate m.jsonl --errors a.flac",
    "evaluate m.jsonl --errors lexicon.tsv --lexicon lexicon.tsv",
]


def by_its_name(path: Path) -> str:
    return str(path)


def by_a_detour(path: Path) -> str:
    return f"../{path.parent.name}/./{path.name}"


def by_a_symbolic_link(path: Path) -> str:
    (path.parent / "link").symlink_to(path)
    return "link"


def by_a_hard_link(path: Path) -> str:
    os.link(path, path.parent / "link")
    return "link"


@pytest.mark.parametrize("named", [by_its_name, by_a_detour, by_a_symbolic_link, by_a_hard_link])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_over_an_input_is_wrong_usage(
    inputs: Path, capsys: pytest.CaptureFixture[str], command: str, named: Callable[[Path], str]
) -> None:
    arguments = command.split()
    place = next(i for i, option in enumerate(arguments) if option in {"-o", "--errors"}) + 1
    before = {path.name: path.read_bytes() for path in inputs.iterdir()}
    arguments[place] = named(inputs / arguments[place])
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and "is an input of this command; give the output another name" in err
    assert {name: (inputs / name).read_bytes() for name in before} == before


def test_models_that_are_averaged_and_exported_stay(
    inputs: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = inputs / "a.safetensors", inputs / "b.safetensors"
    for path in (model, other):
        path.write_bytes(tiny_checkpoint.read_bytes())
    (inputs / "b.onnx").symlink_to(other)
    average, export = ("average", model, other, "-o", other), ("export", other)
    for arguments in (average, export, (*export, "-o", ".")):
        assert cli.main(list(map(str, arguments))) == 2
        assert "is an input of this command" in capsys.readouterr().err
    assert other.read_bytes() == tiny_checkpoint.read_bytes()


def test_a_run_does_not_replace_the_model_that_it_begins_with(
    inputs: Path, corpus: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from singing import write_config

    (inputs / "run").mkdir()
    model = inputs / "run" / "best.safetensors"
    model.write_bytes(tiny_checkpoint.read_bytes())
    config = str(write_config(inputs, corpus))
    assert cli.main(["train", config, "--device", "cpu", "--init-from", str(model)]) == 2
    assert "best.safetensors: is an input of this command" in capsys.readouterr().err
    assert [path.name for path in model.parent.iterdir()] == ["best.safetensors"]


def test_devices_and_pipes_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    write_text(Path(os.devnull), "gone", overwrite=True)
    assert not Path(os.devnull).is_file()
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path, "a folder", overwrite=True)
    assert list(tmp_path.iterdir()) == []
