"""Make the virtual environment that bin/asr and bin/check run in, or bring it up to date.

environment.py NAME ROOT VENV EXTRAS, started by bin/environment.sh when its quick look was not
satisfied. Standard library only, for any Python from 3.11. Says what it does in one line on stderr,
as NAME. Can be killed at any time and started any number of times at once:

- a lock, inherited by the installers, so that one whose parent was killed still holds it;
- a stamp, written last: a folder without it is emptied and filled anew;
- what works is changed in a copy, which takes its place only when it is finished;
- the lock file also marks the folder as ours: no other folder is ever emptied or written into.
"""

from __future__ import annotations

import ctypes
import errno
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
from tempfile import TemporaryDirectory

LOCK = "asr-install.lock"
LOG = "asr-install.log"
STAMP = "asr-installed"
COPY = "asr-copy"  # the folder in which an environment that works is changed
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
            _remove(self.venv / COPY)  # of an installation that was killed
            # Neither bin/asr nor bin/check takes from the other what it has installed.
            if present:
                is_addition = not _names(extras) <= _names(present.extras)
                extras = ",".join(dict.fromkeys(filter(None, f"{present.extras},{extras}".split(","))))
            wanted = Stamp(str(self.root), extras, checksum.hexdigest())
            if present is None:
                self._begin(wanted, lock)
            elif present != wanted:
                try:
                    self._change(present, wanted, lock)
                except SetupError as error:
                    if is_addition or present.root != wanted.root:
                        raise
                    self.say(f"{error}, and is used as it is")  # offline after a `git pull`, say
                    return
            wanted.write(self.venv, time_ns)

    def _claim(self) -> None:
        try:
            is_foreign = any(self.venv.iterdir()) and not (self.venv / LOCK).exists()
        except FileNotFoundError:
            is_foreign = False
            self.venv.mkdir(parents=True, exist_ok=True)
        if not os.access(self.venv, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.venv))
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

    def _begin(self, wanted: Stamp, lock: int) -> None:
        """Make the environment where there is none that works."""
        has_leftovers = any(entry.name != LOCK for entry in self.venv.iterdir())
        what = "first use: installing into"
        if has_leftovers:
            what = "unfinished or unusable installation: redoing"
        self.say(f"{what} {self.venv} ({_effort(wanted.extras)}) ...")
        (self.venv / STAMP).unlink(missing_ok=True)
        for entry in self.venv.iterdir():
            if entry.name != LOCK:
                _remove(entry)
        # By its full name (python3.11, not python3): when an upgrade makes the system's python3
        # another version, the link breaks, which is noticed, and does not lead to one that has
        # no packages here.
        python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        self._run([python, "-I", "-m", "venv", str(self.venv)], lock)
        self._install(self.venv, wanted.extras, lock)

    def _change(self, present: Stamp, wanted: Stamp, lock: int) -> None:
        """Bring a working environment up to date, which goes on working if that fails or is killed."""
        if present.root != wanted.root:
            self.say(f"the clone has moved: updating {self.venv} ...")
        elif present.checksum != wanted.checksum:
            self.say(f"one of {', '.join(DEFINITION)} has changed: updating {self.venv} ...")
        else:
            effort = _effort(wanted.extras)
            self.say(f"first use: adding {wanted.extras} to {self.venv} ({effort}) ...")
        copy = self.venv / COPY
        try:
            self._copy_to(copy)
            self._install(copy, wanted.extras, lock)
            self._take(copy)
        except SetupError as error:
            raise SetupError(f"{error}; what was installed before is unharmed") from None
        finally:
            _remove(copy)

    def _copy_to(self, copy: Path) -> None:
        """A copy of the environment, by links: installers replace files, and never write into them."""
        copy.mkdir()
        for entry in self.venv.iterdir():
            if entry.name in (COPY, LOCK, LOG, STAMP):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.copytree(entry, copy / entry.name, symlinks=True, copy_function=_link)
            else:
                shutil.copy2(entry, copy / entry.name, follow_symlinks=False)

    def _take(self, copy: Path) -> None:
        """Let what was installed into the copy take the environment's place."""
        for script in (copy / "bin").iterdir():
            _rename_interpreter(script, copy, self.venv)
        # The packages first: whatever is between two of these steps works, under the old stamp.
        for entry in sorted(copy.iterdir(), key=lambda entry: entry.name != "lib"):
            _exchange(entry, self.venv / entry.name)

    def _install(self, venv: Path, extras: str, lock: int) -> None:
        clone = f".[{extras}]" if extras else "."
        # Modules are compiled when they are first imported: of most packages few ever are.
        pip = [str(venv / "bin/python"), "-I", "-m", "pip"]
        command = [*pip, "install", "--no-compile", "--editable", clone]
        if os.access(self.root, os.W_OK):
            self._run(command, lock)
            return
        # setuptools writes beside what it builds. In another user's clone it builds from a copy, without the
        # compiled search, and the packages' list of folders then names the clone itself.
        with TemporaryDirectory(prefix="asr-source-") as source:
            for name in (*DEFINITION, "README.md", "LICENSE"):
                if (self.root / name).exists():
                    (Path(source) / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self.root / name, Path(source) / name)
            shutil.copyfile(self.root / "asr/__init__.py", Path(source) / "asr/__init__.py")
            self._run(command, lock, Path(source))
            for folders in venv.glob("lib/*/site-packages/*.pth"):
                text = folders.read_text()
                if source in text:
                    folders.unlink()  # it may be a link to the working one
                    folders.write_text(text.replace(source, str(self.root)))

    def _run(self, command: list[str], lock: int, folder: Path | None = None) -> None:
        """Run in the clone, or in another folder: to a person's terminal as it is, otherwise into the log.

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
                cwd=folder or self.root,
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


def _names(extras: str) -> set[str]:
    return set(filter(None, extras.split(",")))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(source, target, follow_symlinks=False)


def _rename_interpreter(script: Path, old: Path, new: Path) -> None:
    """Let a script start the interpreter of another folder where it names the old one's."""
    if script.is_symlink() or not script.is_file():
        return
    text = script.read_bytes()
    if text.startswith(b"#!") and bytes(old) in text:
        temporary = script.with_name(f"{script.name}.new")  # the script may be a link to the working one
        temporary.write_bytes(text.replace(bytes(old), bytes(new)))
        shutil.copymode(script, temporary)
        temporary.replace(script)


def _exchange(source: Path, target: Path) -> None:
    """Rename source to target, and target, if there is one, to source; in one step where that is possible."""
    if not os.path.lexists(target):
        source.rename(target)
        return
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of renameat2(2)
    try:
        status = ctypes.CDLL(None).renameat2(here, bytes(source), here, bytes(target), exchange)
    except AttributeError:  # not glibc's
        status = -1
    if status != 0:
        aside = source.with_name(f"{source.name}.old")
        target.rename(aside)
        source.rename(target)


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
    except PermissionError as error:
        environment.say(
            f"{error.filename}: {error.strerror}; name a folder of your own in ASR_VENV, "
            f'for example ASR_VENV="$HOME/.local/share/asr-venv" {root}/bin/{name}'
        )
        return 1
    except (SetupError, OSError) as error:
        environment.say(str(error))
        return 1
    except KeyboardInterrupt:
        environment.say("installation interrupted; the next use that needs it begins it again")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
