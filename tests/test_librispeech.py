"""The LibriSpeech recipe, from a download over HTTP to a word error rate, on a corpus of two utterances."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shlex
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from scripts import ROOT, load_recipe

from asr import cli
from asr.manifest import read_manifest

download = load_recipe("librispeech/download.py")
prepare = load_recipe("librispeech/prepare.py")

TEXTS = {
    "2803-161169-0006": "LOOK A LITTLE CLOSER WHILE OUR GUIDE LETS THE LIGHT OF HIS LAMP FALL UPON "
    "THE BLACK WALL AT YOUR SIDE",
    "1462-170142-0003": "THE ROOM WAS EMPTY WHEN HE ENTERED",
}
PART = "train-clean-5"


def archive(members: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


def corpus(part: str = PART) -> dict[str, bytes]:
    """The members of a tiny part: SPEAKER/CHAPTER/*.flac and *.trans.txt, as in LibriSpeech."""
    members = {"LibriSpeech/SPEAKERS.TXT": b";ID  |SEX|\n1462 | F |\n"}
    for id, text in TEXTS.items():
        speaker, chapter, _ = id.split("-")
        folder = f"LibriSpeech/{part}/{speaker}/{chapter}"
        members[f"{folder}/{id}.flac"] = (ROOT / f"tests/data/{id}.flac").read_bytes()
        members[f"{folder}/{speaker}-{chapter}.trans.txt"] = f"{id} {text}\n".encode()
    return members


class Server:
    """OpenSLR on the loopback interface: sends files, knows ranges, and can break off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []  # of the requests so far
        self.breaks: list[int] = []  # bytes after which the next answers end
        self.knows_ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        content = self.files.get(request.path)
        if content is None:
            request.send_error(404)
            return
        asked = request.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.knows_ranges else 0
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        stop = self.breaks.pop(0) if self.breaks else len(content)
        request.wfile.write(content[start : start + stop])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a part's archive on the server, with its own checksum or another."""

    def publish(content: bytes, part: str = PART, md5: str = "") -> None:
        entry = download.PARTS[part]
        server.files[f"/{entry.resource}/{entry.file}"] = content
        md5 = md5 or hashlib.md5(content).hexdigest()
        monkeypatch.setitem(download.PARTS, part, dataclasses.replace(entry, md5=md5))

    return publish


def run_download(server: Server, folder: Path, *arguments: str) -> int:
    status: int = download.main([*arguments, "--folder", str(folder), "--mirror", server.url])
    return status


def test_the_whole_way_from_nothing_to_a_word_error_rate(
    server: Server,
    publish: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The five commands of the README, on a model that is small and two updates short."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for part in (PART, "dev-clean-2"):
        publish(archive(corpus(part)), part)
    guide = (ROOT / "recipes/librispeech/README.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in guide.split("```\n")[1].splitlines()]
    assert {line.pop(0) for line in commands} == {"bin/asr"}
    assert [line[:2] for line in commands[:3]] == [
        ["recipe", "librispeech/download"],
        ["recipe", "librispeech/prepare"],
        ["recipe", "librispeech/prepare"],
    ]
    assert [line[0] for line in commands[3:]] == ["train", "evaluate"]
    assert download.main([*commands[0][2:], "--mirror", server.url]) == 0
    for line in commands[1:3]:
        assert prepare.main(line[2:]) == 0
    small = ["model.n_layers=1", "model.n_hidden=8", "model.n_model=16", "model.n_channels=2"]
    lexicon = f"data.lexicon={ROOT}/asr/pretrained/english/lexicon.tsv.xz"
    assert cli.main([*commands[3], *small, lexicon, "training.max_updates=2", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"data/librispeech/LibriSpeech/{PART}",
        "data/librispeech/LibriSpeech/dev-clean-2",
        f"data/librispeech/{PART}.jsonl: 2 utterances, 0.00 h",
        "data/librispeech/dev-clean-2.jsonl: 2 utterances, 0.00 h",
        "runs/librispeech-mini/best.safetensors",
    ]
    assert cli.main([*commands[4], "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["corpora"]
    assert row["corpus"] == "librispeech/dev-clean-2" and row["utterances"] == 2 and row["words"] == 28


# --- the download ---------------------------------------------------------------------------------


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    server: Server, publish: Callable[..., None], tmp_path: Path
) -> None:
    publish(archive(corpus()))
    server.breaks = [10_000, 20_000]
    assert run_download(server, tmp_path, PART) == 0
    assert server.ranges == [None, "bytes=10000-", "bytes=30000-"]
    assert (tmp_path / "LibriSpeech" / PART).is_dir() and (tmp_path / "LibriSpeech/SPEAKERS.TXT").is_file()
    assert not list(tmp_path.glob("*.part"))


def test_a_download_that_was_killed_goes_on_in_the_next_call(
    server: Server, publish: Callable[..., None], tmp_path: Path
) -> None:
    content = archive(corpus())
    publish(content)
    (tmp_path / f"{PART}.tar.gz.part").write_bytes(content[:5000])
    assert run_download(server, tmp_path, PART) == 0
    assert server.ranges == ["bytes=5000-"]
    assert (tmp_path / f"{PART}.tar.gz").read_bytes() == content


def test_a_download_killed_after_its_last_byte_is_complete(
    server: Server, publish: Callable[..., None], tmp_path: Path
) -> None:
    content = archive(corpus())
    publish(content)
    (tmp_path / f"{PART}.tar.gz.part").write_bytes(content)
    assert run_download(server, tmp_path, PART) == 0
    assert (tmp_path / f"{PART}.tar.gz").read_bytes() == content


def test_a_server_without_ranges_sends_it_all_again(
    server: Server, publish: Callable[..., None], tmp_path: Path
) -> None:
    publish(archive(corpus()))
    server.knows_ranges = False
    server.breaks = [10_000]
    assert run_download(server, tmp_path, PART) == 0
    assert (tmp_path / "LibriSpeech" / PART).is_dir()


def test_a_server_that_sends_nothing_is_given_up(
    server: Server, publish: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(archive(corpus()))
    server.breaks = [10_000] + [0] * 100
    assert run_download(server, tmp_path, PART) == 1
    err = capsys.readouterr().err
    assert "the connection was closed; run this again to go on" in err and err.count("\n") == 1
    assert (tmp_path / f"{PART}.tar.gz.part").stat().st_size == 10_000
    assert len(server.ranges) == download.ATTEMPTS  # the first of them brought something


def test_what_is_there_is_not_fetched_again(
    server: Server, publish: Callable[..., None], tmp_path: Path
) -> None:
    publish(archive(corpus()))
    assert run_download(server, tmp_path, PART, "--remove-archives") == 0
    assert not (tmp_path / f"{PART}.tar.gz").exists()
    assert run_download(server, tmp_path, PART) == 0
    assert len(server.ranges) == 1


def test_a_wrong_checksum_deletes_the_file_and_unpacks_nothing(
    server: Server, publish: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(archive(corpus()), md5="0" * 32)
    assert run_download(server, tmp_path, PART) == 1
    err = capsys.readouterr().err
    assert f"instead of {'0' * 32}, deleted; try another --mirror" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def malicious(name: str, **attributes: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


@pytest.mark.parametrize(
    "member",
    [
        malicious("../outside"),
        malicious("LibriSpeech/../../outside"),
        malicious("LibriSpeech/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        malicious("LibriSpeech/link", type=tarfile.SYMTYPE, linkname="../../.."),
        malicious("LibriSpeech/device", type=tarfile.CHRTYPE),
    ],
)
def test_an_archive_that_would_leave_its_folder_is_not_unpacked(
    server: Server,
    publish: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    member: tarfile.TarInfo,
) -> None:
    publish(archive(corpus(), member))
    folder = tmp_path / "in"
    assert run_download(server, folder, PART) == 1
    assert f"{PART}.tar.gz: not unpacked: " in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [f"{PART}.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_one_part_that_fails_does_not_stop_the_others(
    server: Server, publish: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(archive(corpus()))
    publish(b"WORDS\n", "vocabulary")
    publish(archive({"LibriSpeech/README.TXT": b""}), "dev-clean")
    assert run_download(server, tmp_path, "dev-other", "dev-clean", PART, "vocabulary") == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{tmp_path}/LibriSpeech/{PART}", f"{tmp_path}/librispeech-vocab.txt"]
    assert "dev-other.tar.gz: 404 Not Found" in err and "holds no LibriSpeech/dev-clean" in err


# --- the manifests --------------------------------------------------------------------------------


def write_corpus(folder: Path, part: str = PART) -> Path:
    for name, content in corpus(part).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "LibriSpeech" / part


def test_several_parts_make_one_manifest_that_says_who_speaks(tmp_path: Path) -> None:
    for part in (PART, "dev-clean"):
        write_corpus(tmp_path, part)
    output = tmp_path / "all.jsonl"
    assert prepare.main([PART, "dev-clean", "--folder", str(tmp_path), "-o", str(output)]) == 0
    found = read_manifest(output)
    assert [(u.id, u.speaker, u.corpus) for u in found] == [
        (id, id.split("-")[0], f"librispeech/{part}") for part in (PART, "dev-clean") for id in sorted(TEXTS)
    ]
    assert found[0].text == "the room was empty when he entered" and round(found[0].duration, 2) == 2.37
    assert json.loads(output.read_text().split("\n")[0])["audio"].startswith(f"LibriSpeech/{PART}/1462/")


def test_a_missing_recording_is_named_and_the_others_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_corpus(tmp_path)
    (folder / "1462/170142/1462-170142-0003.flac").unlink()
    output = tmp_path / "m.jsonl"
    assert prepare.main([PART, "--folder", str(tmp_path), "-o", str(output)]) == 1
    assert capsys.readouterr().err.startswith("prepare: error: ") and len(read_manifest(output)) == 1


def test_a_folder_that_is_no_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["dev-clean", "--folder", str(tmp_path), "-o", str(tmp_path / "m.jsonl")]) == 1
    assert "is it a part of LibriSpeech?" in capsys.readouterr().err
    assert not (tmp_path / "m.jsonl").exists()
