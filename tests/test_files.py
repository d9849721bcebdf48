"""Files that are whole or not there, and never in the place of another one."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asr.errors import DiskFullError, OutputError
from asr.files import file_ids, refuse_input, write_text


@pytest.fixture(params=["hard links", "none"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems with hard links and without."""

    def link(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if request.param == "none":
        monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("links")
def test_a_text_is_replaced_only_when_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one\n", overwrite=False)
    with pytest.raises(FileExistsError):
        write_text(path, "two\n", overwrite=False)
    assert path.read_bytes() == b"one\n"
    write_text(path, "two\n", overwrite=True)
    assert path.read_bytes() == b"two\n"
    assert [each.name for each in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.usefixtures("links")
def test_the_same_text_may_be_there_already(tmp_path: Path) -> None:
    for _ in range(2):
        write_text(tmp_path / "a.txt", "zoë\n", overwrite=False)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "zoë\n"


def test_of_many_that_write_at_once_one_wins(tmp_path: Path) -> None:
    def write(number: int) -> int | None:
        try:
            write_text(tmp_path / "a.txt", f"{number}\n" * 1000, overwrite=False)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as threads:
        written = [number for number in threads.map(write, range(40)) if number is not None]
    assert len(written) == 1
    assert (tmp_path / "a.txt").read_text() == f"{written[0]}\n" * 1000
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, OutputError)],
)
def test_a_failure_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[OutputError]
) -> None:
    def replace(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError) as failure:
        write_text(tmp_path / "a.txt", "one\n", overwrite=True)
    assert str(tmp_path / "a.txt") in str(failure.value) and type(failure.value) is kind
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_known_under_any_name(tmp_path: Path) -> None:
    talk = tmp_path / "talk.flac"
    talk.touch()
    (tmp_path / "link").symlink_to(talk)
    os.link(talk, tmp_path / "twin")
    inputs = file_ids([talk, tmp_path / "missing"])
    for name in ("link", "twin", "talk.flac", "./talk.flac"):
        with pytest.raises(OutputError, match="is also what is read"):
            refuse_input(tmp_path / name, inputs)
    refuse_input(tmp_path / "missing", inputs)
