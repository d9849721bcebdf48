"""Where a user's own files live, after the XDG Base Directory Specification."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from asr.errors import OutputError


def config_file(name: str) -> Path:
    """A file of the user's configuration, which need not exist: ~/.config/asr/NAME."""
    return _base("XDG_CONFIG_HOME", ".config") / "asr" / name


def log_file(name: str) -> Path:
    """A file for messages of a process without a terminal: ~/.local/state/asr/NAME."""
    return _base("XDG_STATE_HOME", ".local/state") / "asr" / name


def runtime_folder() -> Path:
    """The folder for sockets and locks, made if needed; nobody else can enter it. Raises OutputError."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    # Without a session manager there is none: a name in /tmp that anybody could have taken first.
    folder = Path(base) / "asr" if base else Path(tempfile.gettempdir()) / f"asr-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise OutputError(f"{folder}: is not a folder of yours; remove it, or set XDG_RUNTIME_DIR")
        folder.chmod(0o700)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); set XDG_RUNTIME_DIR") from None
    return folder


def _base(variable: str, fallback: str) -> Path:
    named = os.environ.get(variable, "")
    # The specification: a relative path in the variable is to be ignored.
    return Path(named) if os.path.isabs(named) else Path.home() / fallback
