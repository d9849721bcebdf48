"""asr recipe NAME [ARGUMENT ...]: run a script of recipes/ with the Python of this installation.

The arguments are the script's own, so this verb takes no part in the command line's parsing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from asr import extras
from asr.errors import ExitStatus, UsageError

FOLDER = Path(__file__).parent.parent.parent / "recipes"


def run(arguments: Sequence[str]) -> ExitStatus:
    """Become the script; returns only for help."""
    names = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.py"))
    if not names:
        raise UsageError("asr recipe: the recipes are in the repository; run its bin/asr")
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: asr recipe NAME [ARGUMENT ...]\n\nrecipes:", *names, sep="\n  ")
        return ExitStatus.OK if arguments else ExitStatus.USAGE
    name = arguments[0].removesuffix(".py")
    if name not in names:
        raise UsageError(f"{arguments[0]}: no such recipe; asr recipe --help lists them")
    if name != "librispeech/download":  # which uses only what is always there
        extras.require("torch", f"asr recipe {name}")
    os.execv(sys.executable, [sys.executable, str(FOLDER / f"{name}.py"), *arguments[1:]])
