"""Without extras: the base packages of setup.cfg are enough to recognise, and what lacks torch says so."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Callable
from configparser import ConfigParser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import SENTENCE, SENTENCE_WORDS

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "asr/pretrained/english/model.safetensors"
Asr = Callable[..., subprocess.CompletedProcess[str]]


def base_packages() -> dict[str, Distribution]:
    """What pip installs of setup.cfg without an extra: its requirements, theirs, and so on."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    waiting = config["options"]["install_requires"].split("\n")
    found: dict[str, Distribution] = {}
    for text in filter(None, waiting):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in found and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
            found[name] = distribution(name)
            waiting += found[name].requires or ()
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment that holds the base packages, as links, and no others."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/*/site-packages")
    entries = {
        file.parts[0]: package.locate_file(file.parts[0])
        for package in base_packages().values()
        for file in package.files or ()
        if file.parts[0] != ".."  # a program in bin/
    }
    for name, target in entries.items():
        (packages / name).symlink_to(target)
    return folder / "bin/python"


@pytest.fixture
def asr(python: Path, tmp_path: Path) -> Asr:
    """Runs a command line in that environment, with standard input and environment variables if given."""

    def run(*arguments: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ASR_", "PYTHON"))}
        return subprocess.run(
            [python, "-m", "asr", *arguments],
            cwd=ROOT,
            env=inherited | {"XDG_CONFIG_HOME": str(tmp_path)} | variables,
            input=stdin,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps({"audio": str(SENTENCE), "text": SENTENCE_WORDS, "duration": 2.2}) + "\n")
    return path


def test_the_base_brings_neither_torch_nor_what_training_and_testing_need() -> None:
    heavy = {"torch", "torchaudio", "librosa", "numba", "scipy", "matplotlib", "tensorboard", "onnx"}
    assert not base_packages().keys() & heavy


def test_the_environment_of_these_tests_has_no_torch(python: Path) -> None:
    done = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in done.stderr


def test_recordings_are_transcribed(asr: Asr) -> None:
    done = asr("transcribe", SENTENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(done.stdout.split()) & set(SENTENCE_WORDS.split())) >= 4


def test_a_model_is_measured(asr: Asr, manifest: Path) -> None:
    done = asr("evaluate", manifest, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["corpora"][0]["words"] == len(SENTENCE_WORDS.split())


def test_the_words_of_a_text_are_found(asr: Asr, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(SENTENCE_WORDS)
    done = asr("align", SENTENCE, tmp_path / "text.txt", "-f", "ctm")
    assert done.returncode == 0, done.stderr
    assert [line.split()[4] for line in done.stdout.splitlines()] == SENTENCE_WORDS.split()


def test_a_model_is_described(asr: Asr) -> None:
    facts = json.loads(asr("info", "--json").stdout)
    assert facts["file"] == str(SHIPPED) and facts["weights"] > 1e6


def test_the_installation_is_found_well_and_torch_said_to_be_missing(asr: Asr) -> None:
    done = asr("doctor", "--no-level-test", "--json")
    assert done.returncode == 0, done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)}
    torch = found["PyTorch"]
    assert torch["status"] == "ok" and "pip install 'asr-offline[train]'" in torch["detail"]
    assert found["model english"]["status"] == "ok" and "CUDA" not in found


@pytest.mark.parametrize("arguments", [["--version"], ["lm", "info"], ["train", "--help"]])
def test_what_needs_no_torch_answers(asr: Asr, arguments: list[str]) -> None:
    done = asr(*arguments)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout


def test_manifests_are_checked(asr: Asr, manifest: Path) -> None:
    assert asr("data", "validate", manifest).returncode == 0


def test_the_detector_of_speech_is_there(python: Path) -> None:
    code = "import numpy, asr.vad; asr.vad.SpeechDetector().feed(numpy.zeros(512, numpy.float32))"
    assert subprocess.run([python, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["train", "recipes/english/offline.toml"], "asr train"),
        (["export", "english", "-o", "x.onnx"], "asr export"),
        (["average", "english", "english", "-o", "x.safetensors"], "asr average"),
        (["transcribe", str(SENTENCE), "--engine", "torch"], "--engine torch"),
        (["transcribe", str(SENTENCE), "--device", "cuda"], "--device cuda"),
        (["listen", "-m", "english", "--engine", "torch"], "--engine torch"),
    ],
)
def test_what_needs_torch_says_so_in_a_line_and_how_to_get_it(
    asr: Asr, arguments: list[str], what: str
) -> None:
    done = asr(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"asr: error: {what} needs torch, which is not installed; pip install 'asr-offline[train]' adds it\n"
    )


def test_a_checkpoint_without_a_graph_needs_torch(asr: Asr, tiny_checkpoint: Path) -> None:
    done = asr("transcribe", SENTENCE, "-m", tiny_checkpoint)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{tiny_checkpoint}: a checkpoint without tiny.onnx beside it needs torch" in done.stderr


@pytest.mark.parametrize("content", [b"", b"noise" * 1000, SENTENCE.read_bytes()])
def test_a_file_that_is_no_model_is_refused_before_torch_is_installed_for_it(
    asr: Asr, tmp_path: Path, launcher: Path, content: bytes
) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    done = asr("transcribe", SENTENCE, "-m", tmp_path / "x.safetensors", ASR_LAUNCHER=str(launcher))
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1
    assert "x.safetensors: not a readable model file" in done.stderr


def test_a_graph_of_another_checkpoint_is_an_error_where_torch_cannot_replace_it(
    asr: Asr, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").symlink_to(tiny_checkpoint)
    (tmp_path / "model.onnx").symlink_to(SHIPPED.with_suffix(".onnx"))
    done = asr("transcribe", SENTENCE, "-m", tmp_path / "model.safetensors")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "not made from this model.safetensors; asr export" in done.stderr


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """Stands for bin/asr: shows what it was started with."""
    path = tmp_path / "launcher"
    path.write_text('#!/bin/sh\necho "$ASR_EXTRA: $* < $(cat)"\nexit 3\n')
    path.chmod(0o755)
    return path


def test_bin_asr_is_started_anew_with_the_extra_and_all_of_standard_input(asr: Asr, launcher: Path) -> None:
    done = asr("transcribe", "-", "--engine", "torch", stdin="sound", ASR_LAUNCHER=str(launcher))
    assert (done.returncode, done.stdout) == (3, "train: transcribe - --engine torch < sound\n")
    assert done.stderr == ""


def test_bin_asr_is_not_started_anew_twice(asr: Asr, launcher: Path) -> None:
    done = asr("train", "x.toml", ASR_LAUNCHER=str(launcher), ASR_EXTRA="train")
    assert (done.returncode, done.stdout) == (2, "") and "needs torch" in done.stderr
