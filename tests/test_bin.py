"""bin/asr and bin/check make their own environment: once, whole, and without a word on stdout.

Each test copies bin/ into a clone whose package only prints its arguments. The clone is its own
build backend, so that pip needs no network, and the backend can be held in the middle.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parent.parent / "bin"

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

# The wheel of an editable install is a .pth file with the clone's path.
BACKEND = """
import pathlib, time, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    clone = pathlib.Path.cwd()
    with open("installs.log", "a") as log:
        log.write("install\\n")
    while (clone / "hold").exists():
        time.sleep(0.02)
    info = "asr-1.dist-info/"
    name = "asr-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        wheel.writestr("asr.pth", str(clone))
        wheel.writestr(
            info + "METADATA",
            "Metadata-Version: 2.1\\nName: asr\\nVersion: 1\\n"
            "Provides-Extra: train\\nProvides-Extra: dev\\n",
        )
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
                       "Tag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\ntool = asr:run\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""

# Stands for ruff, mypy and pytest: says its name and arguments, fails when it is told to.
CHECKER = """
import os, sys
print(__spec__.name, *sys.argv[1:])
sys.exit(__spec__.name in os.environ.get("FAILING", ""))
"""


class Clone:
    """A copy of bin/ around a package that prints its arguments and its standard input."""

    def __init__(self, root: Path, copied_from: Clone | None = None) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.hold = root / "hold"
        if copied_from:
            shutil.copytree(copied_from.root, root, symlinks=True)
            (root / "installs.log").unlink()
            return
        shutil.copytree(BIN, root / "bin")
        (root / "setup.cfg").write_text("[metadata]\nname = asr\n")
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "backend.py").write_text(BACKEND)
        (root / "asr/decoding").mkdir(parents=True)
        (root / "asr/decoding/kernel.c").touch()
        (root / "setup.py").touch()
        (root / "tests").mkdir()
        (root / "tests/packages.txt").write_text("# none\n")
        (root / "asr/__init__.py").touch()
        (root / "asr/__main__.py").write_text(
            "import sys\nprint('asr', *sys.argv[1:], sys.stdin.read())\n"
        )
        for checker in ("ruff", "mypy", "pytest"):
            (root / f"{checker}.py").write_text(CHECKER)

    def start(self, *command: str | Path, **variables: str) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("ASR_VENV", "PYTHONPATH")}
        return subprocess.Popen(
            command,
            env=inherited | {"PIP_NO_INDEX": "1"} | variables,
            cwd=self.root.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def asr(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr of bin/asr with 'audio' on its standard input."""
        return finish(self.start(self.root / "bin/asr", *arguments, **variables))

    def check(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        return finish(self.start(self.root / "bin/check", *arguments, **variables))

    def n_installs(self) -> int:
        log = self.root / "installs.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate("audio", timeout=120)
    return process.returncode, stdout, stderr


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "a clone")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str, str]:
    """A clone after its first use, and what that wrote on stdout and stderr."""
    clone = Clone(tmp_path_factory.mktemp("installed") / "a clone")
    status, stdout, stderr = clone.asr("transcribe", "-")
    assert status == 0, stderr
    return clone, stdout, stderr


@pytest.fixture
def moved(installed: tuple[Clone, str, str], tmp_path: Path) -> Clone:
    """A copy of an installed clone: its next use installs, but need not make an environment."""
    return Clone(tmp_path / "moved", copied_from=installed[0])


def test_the_first_use_says_so_on_stderr_and_only_the_result_is_on_stdout(installed):
    _, stdout, stderr = installed
    assert stdout == "asr transcribe - audio\n"
    assert stderr.count("\n") == 1
    assert stderr.startswith("asr: first use: installing into ")


def test_a_later_use_is_silent_and_starts_no_program_but_asr(installed):
    clone, _, _ = installed
    # With nothing in PATH, the shell cannot so much as look for a Python.
    status, stdout, stderr = clone.asr("--a b", PATH="/nonexistent")
    assert (status, stdout, stderr) == (0, "asr --a b audio\n", "")


def test_it_runs_through_a_link_and_from_a_folder_with_modules_of_the_same_names(
    installed, tmp_path: Path
):
    clone, _, _ = installed
    (tmp_path / "asr.py").write_text("raise SystemExit('the wrong asr')")
    (tmp_path / "first").symlink_to(clone.root / "bin/asr")
    (tmp_path / "second").symlink_to("first")
    result = subprocess.run(
        ["sh", "second", "x"], cwd=tmp_path, input="", capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("asr x \n", "")


def test_a_changed_setup_cfg_is_installed_and_a_touched_one_is_not(installed):
    clone, _, _ = installed
    before = clone.n_installs()
    os.utime(clone.root / "setup.cfg")
    assert clone.asr()[2] == ""
    assert clone.n_installs() == before
    later = time.time() + 5
    (clone.root / "setup.cfg").write_text("[metadata]\nname = asr\nversion = 2\n")
    os.utime(clone.root / "setup.cfg", (later, later))
    assert "one of setup.cfg, pyproject.toml, setup.py, asr/decoding/kernel.c has changed" in clone.asr()[2]
    assert clone.n_installs() == before + 1
    assert clone.asr()[2] == ""


def test_a_moved_clone_runs_its_own_files(moved: Clone):
    (moved.root / "asr/__main__.py").write_text("print('the moved one')")
    status, stdout, stderr = moved.asr()
    assert (status, stdout) == (0, "the moved one\n")
    assert "the clone has moved" in stderr


def test_an_environment_whose_python_is_gone_is_made_again(installed, tmp_path: Path):
    clone, _, _ = installed
    venv = tmp_path / "venv"
    shutil.copytree(clone.venv, venv, symlinks=True)
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to(tmp_path / "removed")
    status, stdout, stderr = clone.asr(ASR_VENV=str(venv))
    assert (status, stdout) == (0, "asr audio\n")
    assert "unusable" in stderr


def test_a_killed_installation_is_redone_when_its_orphans_have_ended(moved: Clone):
    moved.hold.touch()
    killed = moved.start(moved.root / "bin/asr")
    wait_until(moved.n_installs)
    # First the shell and environment.py; pip, their orphan, goes on.
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    for process in [killed.pid, *map(int, children)]:
        os.kill(process, signal.SIGKILL)
    killed.wait()
    second = moved.start(moved.root / "bin/asr", "x")
    assert second.stderr is not None
    assert "waiting for another installation" in second.stderr.readline()
    os.killpg(killed.pid, signal.SIGKILL)
    moved.hold.unlink()
    status, stdout, stderr = finish(second)
    assert (status, stdout) == (0, "asr x audio\n")
    assert "the clone has moved" in stderr
    assert moved.n_installs() == 2
    assert moved.asr()[2] == ""


def test_of_two_at_once_one_installs_and_the_other_waits(moved: Clone):
    moved.hold.touch()
    first = moved.start(moved.root / "bin/asr", "first")
    wait_until(moved.n_installs)
    second = moved.start(moved.root / "bin/asr", "second")
    assert second.stderr is not None
    assert "waiting for another installation" in second.stderr.readline()
    moved.hold.unlink()
    assert finish(first)[:2] == (0, "asr first audio\n")
    assert finish(second) == (0, "asr second audio\n", "")
    assert moved.n_installs() == 1


def test_a_failed_installation_shows_why_and_nothing_runs(moved: Clone):
    (moved.root / "backend.py").write_text("raise RuntimeError('the backend is broken')")
    status, stdout, stderr = moved.asr()
    assert (status, stdout) == (1, "")
    assert "the backend is broken" in stderr
    assert "asr: the installation failed" in stderr.splitlines()[-1]


def test_a_folder_of_the_users_is_left_alone(clone: Clone, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    status, stdout, stderr = clone.asr(ASR_VENV="mine")
    assert (status, stdout) == (1, "")
    assert "left alone" in stderr
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def fake_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_without_a_suitable_python_it_says_which_are(clone: Clone, tmp_path: Path):
    fake_program(tmp_path / "path", "python3", "exit 2")
    status, stdout, stderr = clone.asr(PATH=str(tmp_path / "path"))
    assert (status, stdout) == (1, "")
    assert "found no Python 3.11, 3.12 or 3.13" in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("user", [0, 1000])
def test_debians_missing_venv_package_is_installed_by_root_and_named_to_others(
    clone: Clone, tmp_path: Path, user: int
):
    path = tmp_path / "path"
    have = tmp_path / "have venv"
    # The probe is the third argument; before apt-get has run, it finds no ensurepip.
    fake_program(
        path,
        "python3",
        f'case $3 in *ensurepip*) [ -e "{have}" ] || exit 3;; esac; exec "{sys.executable}" "$@"',
    )
    fake_program(path, "apt-get", f'echo "$@"; case "$*" in *-venv) : >"{have}";; esac')
    fake_program(path, "id", f"echo {user}")
    package = f"python3.{sys.version_info.minor}-venv"
    status, stdout, stderr = clone.asr(PATH=str(path))
    if user == 0:
        assert (status, stdout) == (0, "asr audio\n")
        assert f"installing Debian's {package}" in stderr
    else:
        assert (status, stdout) == (1, "")
        assert f"run 'sudo apt-get install {package}'" in stderr
        assert stderr.count("\n") == 1


def test_check_runs_all_three_and_fails_if_one_has(installed):
    clone, _, _ = installed
    status, stdout, _ = clone.check("-k", "bin")
    assert (status, stdout) == (0, "ruff check .\nmypy\npytest -k bin\n")
    status, stdout, stderr = clone.check(FAILING="ruff")
    assert (status, stdout) == (1, "ruff check .\nmypy\npytest\n")
    assert stderr == "check: failed: ruff\n"


def forget_extras(clone: Clone) -> None:
    """As if bin/check had never run in this clone, nor in the one that it was copied from."""
    stamp = clone.venv / "asr-installed"
    stamp.write_text(stamp.read_text().replace("dev", ""))


def test_asr_keeps_what_check_has_installed(moved: Clone):
    moved.asr()
    forget_extras(moved)
    assert "first use: adding dev" in moved.check()[2]
    installs = moved.n_installs()
    assert moved.asr()[2] == ""
    assert moved.check()[2] == ""
    assert moved.n_installs() == installs


def test_an_extra_is_added_when_asr_asks_for_it_and_stays(moved: Clone) -> None:
    moved.asr()
    forget_extras(moved)
    # As asr/cli.py starts bin/asr again when something is missing.
    (moved.root / "asr/__main__.py").write_text(
        "import os, sys\n"
        "if sys.argv[1] == 'train' and 'ASR_EXTRA' not in os.environ:\n"
        "    launcher = os.environ['ASR_LAUNCHER']\n"
        "    os.execve(launcher, [launcher, *sys.argv[1:]], os.environ | {'ASR_EXTRA': 'train'})\n"
        "print('asr', *sys.argv[1:], sys.stdin.read())\n"
    )
    installs = moved.n_installs()
    assert moved.asr("info") == (0, "asr info audio\n", "")
    status, stdout, stderr = moved.asr("train", "a b.toml")
    assert (status, stdout) == (0, "asr train a b.toml audio\n")
    assert stderr.startswith("asr: first use: adding train to ") and stderr.count("\n") == 1
    assert moved.asr("train")[2] == moved.asr("info")[2] == ""
    assert moved.n_installs() == installs + 1


def add_train(clone: Clone) -> tuple[int, str, str]:
    return clone.asr("train", ASR_EXTRA="train")


@pytest.fixture
def light(moved: Clone) -> Clone:
    """An installed clone without extras."""
    assert moved.asr()[0] == 0
    forget_extras(moved)
    return moved


def test_an_addition_that_fails_leaves_what_worked(light: Clone) -> None:
    backend = (light.root / "backend.py").read_text()
    (light.root / "backend.py").write_text("raise RuntimeError('no network')")
    status, stdout, stderr = add_train(light)
    assert (status, stdout) == (1, "") and "no network" in stderr
    assert stderr.splitlines()[-1].endswith("what was installed before is unharmed")
    assert light.asr("info") == (0, "asr info audio\n", "")
    assert not (light.venv / "asr-copy").exists()
    (light.root / "backend.py").write_text(backend)
    assert add_train(light)[:2] == (0, "asr train audio\n")
    assert add_train(light)[2] == ""


def test_an_addition_that_is_killed_leaves_what_worked(light: Clone) -> None:
    light.hold.touch()
    n_installs = light.n_installs()
    killed = light.start(light.root / "bin/asr", "train", ASR_EXTRA="train")
    wait_until(lambda: light.n_installs() > n_installs)
    assert light.asr("info") == (0, "asr info audio\n", "")  # also while it goes on
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    light.hold.unlink()
    assert light.asr("info") == (0, "asr info audio\n", "")
    assert add_train(light)[0] == 0
    assert not (light.venv / "asr-copy").exists()


def test_programs_that_an_addition_brings_start_the_environments_python(light: Clone) -> None:
    assert add_train(light)[0] == 0
    script = (light.venv / "bin/tool").read_text()
    assert "asr-copy" not in script and str(light.venv / "bin/python") in script


def test_without_network_a_changed_setup_cfg_does_not_end_what_worked(light: Clone) -> None:
    later = time.time() + 5
    (light.root / "setup.cfg").write_text("[metadata]\nname = asr\nversion = 3\n")
    os.utime(light.root / "setup.cfg", (later, later))
    (light.root / "backend.py").write_text("raise RuntimeError('no network')")
    status, stdout, stderr = light.asr("info")
    assert (status, stdout) == (0, "asr info audio\n")
    assert stderr.splitlines()[-1].endswith("is unharmed, and is used as it is")


def environment_as_another_user(
    clone: Clone, venv: Path, monkeypatch: pytest.MonkeyPatch, *read_only: Path
) -> int:
    """What bin/environment.py ends with when these folders are another user's."""
    specification = importlib.util.spec_from_file_location("environment", BIN / "environment.py")
    assert specification and specification.loader
    environment = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "environment", environment)
    specification.loader.exec_module(environment)
    monkeypatch.setattr(environment, "DEFINITION", (*environment.DEFINITION, "backend.py"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in read_only)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "argv", ["environment.py", "asr", str(clone.root), str(venv), ""])
    status: int = environment.main()
    return status


def test_in_another_users_clone_a_folder_of_ones_own_is_asked_for(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert environment_as_another_user(clone, clone.venv, monkeypatch, clone.root, clone.venv) == 1
    stderr = capsys.readouterr().err
    assert "name a folder of your own in ASR_VENV" in stderr and stderr.count("\n") == 1


def test_another_users_clone_runs_from_there_and_nothing_is_written_into_it(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "mine"
    before = sorted(clone.root.rglob("*"))
    assert environment_as_another_user(clone, venv, monkeypatch, clone.root) == 0
    assert sorted(clone.root.rglob("*")) == before
    assert clone.asr("info", ASR_VENV=str(venv)) == (0, "asr info audio\n", "")


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A folder of programs that stand for Debian's; user: 0 for root."""
    programs = {
        "dpkg-query": '[ "$4" = present ] && echo installed',
        "apt-get": 'echo apt-get "$@" >>"$LOG"; [ -z "$BROKEN" ] || { echo no network; exit 100; }',
        "id": 'echo "$USER_ID"',
    }
    folder = tmp_path / "debian"
    folder.mkdir()
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("user", "broken", "message", "calls_apt"),
    [
        ("0", "", "installing Debian's absent", True),
        ("0", "yes", "could not install them", True),
        ("1000", "", "sudo apt-get install absent", False),
    ],
)
def test_check_installs_what_the_tests_need_or_says_that_it_cannot(
    moved: Clone, debian: Path, tmp_path: Path, user: str, broken: str, message: str, calls_apt: bool
) -> None:
    (moved.root / "tests/packages.txt").write_text("present absent  # for a test\n")
    log = tmp_path / "log"
    status, stdout, stderr = moved.check(
        PATH=f"{debian}:{os.environ['PATH']}", LOG=str(log), USER_ID=user, BROKEN=broken
    )
    assert status == 0 and "pytest" in stdout
    assert message in stderr
    assert log.exists() == calls_apt
    assert not calls_apt or log.read_text().splitlines()[-1].endswith("absent")
