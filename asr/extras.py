"""What only some installations have: the packages of the extra [train], foremost torch."""

from __future__ import annotations

import os
from importlib.util import find_spec

from asr.errors import MissingExtraError

TRAIN = "train"  # as setup.cfg calls it
# The distribution has another name than its command: "asr" is somebody else's on PyPI. Where it is installed,
# from a clone or from a wheel, pip adds an extra of it without looking anywhere for a newer one.
REMEDY = f"pip install 'asr-offline[{TRAIN}]' adds it"


def remedy() -> str:
    """How what is missing comes into this installation: bin/asr adds it by itself."""
    return "bin/asr adds it when it is needed" if os.environ.get("ASR_LAUNCHER") else REMEDY


def is_installed(package: str) -> bool:
    """Whether a package of the extra is there, without the seconds that importing it may take."""
    return find_spec(package) is not None


def require(package: str, what: str) -> None:
    """Return if a package of the extra is there; else MissingExtraError tells what needs it."""
    if not is_installed(package):
        raise MissingExtraError(
            f"{what} needs {package}, which is not installed; {REMEDY}", TRAIN
        )
