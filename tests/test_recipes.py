"""The commands of the recipes' guides start what there is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

from asr import cli
from asr.commands import recipe

GUIDES = sorted((ROOT / "recipes").glob("*/README.md"))


def commands(guide: Path) -> list[list[str]]:
    """The words of each line in the code blocks of a guide, continued lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```", guide.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


RECIPES = sorted({words[2] for guide in GUIDES for words in commands(guide) if words[1] == "recipe"})


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.parent.name)
def test_every_line_of_a_guide_starts_something_that_is_there(guide: Path) -> None:
    found = commands(guide)
    assert found
    for program, *arguments in found:
        assert program in ("bin/asr", ".venv/bin/torchrun", "apt-get") or (ROOT / program).is_file()
        if program == "bin/asr":
            assert arguments[0] in (*cli.VERBS, "recipe")
        for argument in arguments:
            if argument.startswith("recipes/"):
                assert (ROOT / argument).exists()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_answers_from_any_folder(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asr", "recipe", name, "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_the_recipes_are_listed_and_a_wrong_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipe", "--help"]) == 0
    shown = capsys.readouterr().out.split()
    assert set(RECIPES) < set(shown)
    assert cli.main(["recipe", "english/none"]) == 2
    assert "english/none: no such recipe; asr recipe --help lists them" in capsys.readouterr().err


def test_without_the_repository_a_recipe_is_looked_for_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "FOLDER", tmp_path)
    assert cli.main(["recipe", "english/lexicon"]) == 2
    assert "the recipes are in the repository" in capsys.readouterr().err
