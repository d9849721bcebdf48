"""Make the virtual environment that bin/asr and bin/check run in, or bring it up to date.

environment.py NAME ROOT VENV EXTRAS, started by bin/environment.sh when its quick look was not
satisfied. Standard library only, for any Python from 3.11. Says what it does in one line on stderr,
as NAME. Can be killed at any time and started any number of times at once:

- a lock, inherited by the installers, so that one whose parent was killed still holds it;
- a stamp, written last and removed first: a folder without it is emptied and filled anew;
- the lock file also marks the folder as ours: no other folder is ever emptied or written into.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOCK = "asr-install.lock"
LOG = "asr-install.log"
STAMP = "asr-installed"
# What an installation is made from, as in environment.sh.
DEFINITION = ("setup.cfg", "pyproject.toml", "setup.py", "asr/decoding/kernel.c")
LOG_LINES_SHOWN = 15


class SetupError(Exception):
    """The environment could not be made; the text is for the user."""


@dataclass(frozen=True)
class Stamp:
    """What an environment holds. bin/environment.sh reads the first two lines of its file."""

    root: str
    extras: str
    checksum: str

    @classmethod
    def read(cls, venv: Path) -> Stamp | None:
        """The stamp of a finished environment, None for an unfinished one."""
        try:
            root, extras, checksum = (venv / STAMP).read_text().splitlines()
        except (FileNotFoundError, ValueError):
            return None
        return cls(root, extras, checksum)

    def write(self, venv: Path, time_ns: int) -> None:
        """time_ns: of the newest file that the stamp depends on, taken before the installation.

        A file that is edited meanwhile is then newer than the stamp.
        """
        temporary = venv / f"{STAMP}.new"
        temporary.write_text(f"{self.root}\n{self.extras}\n{self.checksum}\n")
        os.utime(temporary, ns=(time_ns, time_ns))
        temporary.replace(venv / STAMP)


class Environment:
    """One virtual environment of one clone."""

    def __init__(self, name: str, root: Path, venv: Path) -> None:
        self.name = name
        self.root = root
        self.venv = venv

    def say(self, text: str) -> None:
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)

    def bring_up_to_date(self, extras: str) -> None:
        """Return when the environment holds this clone with at least these extras."""
        self._claim()
        with self._locked() as lock:
            definition = [self.root / name for name in DEFINITION]
            time_ns = max(path.stat().st_mtime_ns for path in definition)
            checksum = hashlib.sha256(b"\0".join(path.read_bytes() for path in definition))
            present = Stamp.read(self.venv) if self._python_works() else None
            # Neither bin/asr nor bin/check takes from the other what it has installed.
            if present:
                extras = ",".join(dict.fromkeys(filter(None, f"{present.extras},{extras}".split(","))))
            wanted = Stamp(str(self.root), extras, checksum.hexdigest())
            if present != wanted:
                self._install(present, wanted, lock)
            wanted.write(self.venv, time_ns)

    def _claim(self) -> None:
        try:
            is_foreign = any(self.venv.iterdir()) and not (self.venv / LOCK).exists()
        except FileNotFoundError:
            is_foreign = False
            self.venv.mkdir(parents=True, exist_ok=True)
        if is_foreign:
            raise SetupError(
                f"{self.venv}: not empty and not made by bin/asr, so left alone; "
                "move it away, or name another folder in ASR_VENV"
            )

    @contextmanager
    def _locked(self) -> Iterator[int]:
        lock = os.open(self.venv / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"waiting for another installation into {self.venv} to finish ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _python_works(self) -> bool:
        # It is a link to the system's, which may have been upgraded or removed.
        try:
            command = [str(self.venv / "bin/python"), "-I", "-c", "import pip"]
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False

    def _install(self, present: Stamp | None, wanted: Stamp, lock: int) -> None:
        has_leftovers = any(entry.name != LOCK for entry in self.venv.iterdir())
        effort = _effort(wanted.extras)
        if present is None and has_leftovers:
            self.say(f"unfinished or unusable installation: redoing {self.venv} ({effort}) ...")
        elif present is None:
            self.say(f"first use: installing into {self.venv} ({effort}) ...")
        elif present.root != wanted.root:
            self.say(f"the clone has moved: updating {self.venv} ...")
        elif present.checksum != wanted.checksum:
            self.say(f"one of {', '.join(DEFINITION)} has changed: updating {self.venv} ...")
        else:
            self.say(f"first use: adding {wanted.extras} to {self.venv} ({effort}) ...")

        (self.venv / STAMP).unlink(missing_ok=True)
        if present is None:
            self._empty()
            # By its full name (python3.11, not python3): when an upgrade makes the system's python3
            # another version, the link breaks, which is noticed, and does not lead to one that has
            # no packages here.
            python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
            self._run([python, "-I", "-m", "venv", str(self.venv)], lock)
        python = str(self.venv / "bin/python")
        clone = f".[{wanted.extras}]" if wanted.extras else "."
        # Modules are compiled when they are first imported: of most packages few ever are.
        self._run([python, "-I", "-m", "pip", "install", "--no-compile", "--editable", clone], lock)

    def _empty(self) -> None:
        for entry in self.venv.iterdir():
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _run(self, command: list[str], lock: int) -> None:
        """Run in the clone: to a person's terminal as it is, otherwise into the log.

        Never to stdout, which is the result of what runs afterwards.
        """
        variables = os.environ | {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_USER": "0",  # a configured 'user = true' cannot work in a virtual environment
        }
        log_path = self.venv / LOG
        with log_path.open("ab") as log:
            is_seen = sys.stderr.isatty()
            output = sys.stderr if is_seen else log
            status = subprocess.run(
                command,
                cwd=self.root,
                env=variables,
                stdout=output,
                stderr=output,
                pass_fds=[lock],
            ).returncode
        if status == 0:
            return
        if not is_seen:
            lines = log_path.read_text(errors="replace").splitlines()
            print(*lines[-LOG_LINES_SHOWN:], sep="\n", file=sys.stderr)
        log_note = "see above" if is_seen else f"all of it is in {log_path}"
        raise SetupError(f"the installation failed ({log_note}); run this again to try again")


def _effort(extras: str) -> str:
    """What a user has to reckon with. An extra brings torch, directly or through another extra."""
    if extras:
        return "several minutes, about 5 GB of disk with the CUDA libraries that torch brings"
    return "about a minute, 300 MB of disk"


def main() -> int:
    name, root, venv, extras = sys.argv[1:]
    environment = Environment(name, Path(root), Path(venv))
    try:
        environment.bring_up_to_date(extras)
    except (SetupError, OSError) as error:
        environment.say(str(error))
        return 1
    except KeyboardInterrupt:
        environment.say("installation interrupted; the next use begins it again")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
