"""What only some installations have: the packages of the extra [train], foremost torch."""

from __future__ import annotations

from importlib.util import find_spec

from asr.errors import MissingExtraError

TRAIN = "train"  # as setup.cfg calls it


def is_installed(package: str) -> bool:
    """Whether a package of the extra is there, without the seconds that importing it may take."""
    return find_spec(package) is not None


def require(package: str, what: str) -> None:
    """Return if a package of the extra is there; else MissingExtraError tells what needs it."""
    if not is_installed(package):
        raise MissingExtraError(
            f"{what} needs {package}, which is not installed; pip install 'asr[{TRAIN}]' adds it", TRAIN
        )
