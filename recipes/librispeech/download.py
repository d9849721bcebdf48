"""Download and unpack parts of LibriSpeech, Mini LibriSpeech and the LibriSpeech language models.

    python recipes/librispeech/download.py train-clean-5 dev-clean-2 --folder data/librispeech

A download that was interrupted goes on where it stopped; what is there already is not fetched again.
An archive is unpacked only after its MD5 checksum was found to be right, and only into FOLDER.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AsrError

MIRRORS = {
    "main": "https://www.openslr.org/resources",
    "us": "https://us.openslr.org/resources",
    "eu": "https://openslr.elda.org/resources",
    "cn": "https://openslr.magicdatatech.com/resources",
}
ATTEMPTS = 5  # in a row that bring nothing new
BLOCK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Part:
    """A file of an OpenSLR resource and its published checksum."""

    resource: int
    file: str
    md5: str


PARTS = {
    # https://www.openslr.org/12: LibriSpeech
    "dev-clean": Part(12, "dev-clean.tar.gz", "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": Part(12, "dev-other.tar.gz", "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": Part(12, "test-clean.tar.gz", "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": Part(12, "test-other.tar.gz", "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-100": Part(12, "train-clean-100.tar.gz", "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": Part(12, "train-clean-360.tar.gz", "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": Part(12, "train-other-500.tar.gz", "d1a0fd59409feb2c614ce4d30c387708"),
    # https://www.openslr.org/31: Mini LibriSpeech
    "dev-clean-2": Part(31, "dev-clean-2.tar.gz", "6d7ab67ac6a1d2c993d050e16d61080d"),
    "train-clean-5": Part(31, "train-clean-5.tar.gz", "5df7d4e78065366204ca6845bb08f490"),
    # https://www.openslr.org/11: language models and the text that they were trained on
    "3-gram.pruned.3e-7": Part(11, "3-gram.pruned.3e-7.arpa.gz", "8f67ec741827742eee05799ab7605b50"),
    "3-gram.pruned.1e-7": Part(11, "3-gram.pruned.1e-7.arpa.gz", "9a0f1325bcaf3a0f7b7be4be10823c2a"),
    "3-gram": Part(11, "3-gram.arpa.gz", "74cbb837e582378c26c602e1c8cbcb9c"),
    "4-gram": Part(11, "4-gram.arpa.gz", "6abdcd5b055bd482e4f9defe91d40408"),
    "lm-text": Part(11, "librispeech-lm-norm.txt.gz", "c83c64c726a1aedfe65f80aa311de402"),
    "vocabulary": Part(11, "librispeech-vocab.txt", "bf3cc7a50112831ed8b0afa40cae96a5"),
}


class DownloadError(AsrError):
    """A file could not be fetched, is not what was published, or does not unpack safely."""


def fetch(url: str, path: Path, md5: str) -> None:
    """Download to path, by way of path.part, which a later call goes on with."""
    part = path.with_name(f"{path.name}.part")
    failures = 0
    while True:
        size_before = part.stat().st_size if part.exists() else 0
        try:
            if _fetch_rest(url, part):
                break
            reason = "the connection was closed"
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{url}: {error.code} {error.reason}; try another --mirror") from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        size = part.stat().st_size if part.exists() else 0
        failures = 1 if size > size_before else failures + 1
        if failures >= ATTEMPTS:
            raise DownloadError(f"{url}: {reason}; run this again to go on, or try another --mirror")
    digest = _md5(part)
    if digest != md5:
        part.unlink()
        raise DownloadError(f"{url}: MD5 {digest} instead of {md5}, deleted; try another --mirror")
    part.replace(path)


def _fetch_rest(url: str, part: Path) -> bool:
    """Append what part lacks; whether it is complete now."""
    size = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"} if size else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and size:  # there is nothing after what we have
            return True
        raise
    with response:
        if response.status != 206:  # the server does not know ranges and sends all
            size = 0
        length = response.headers.get("Content-Length")
        with open(part, "ab" if size else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                _show_progress(part.name, file.tell(), size + int(length) if length else None)
    return length is None or part.stat().st_size >= size + int(length)


def _show_progress(name: str, done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        share = f" of {total / 1e6:.0f}" if total else ""
        end = "\n" if done == total else "\r"
        print(f"{name}: {done / 1e6:.0f}{share} MB", end=end, file=sys.stderr, flush=True)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def unpack(archive: Path, folder: Path, name: str) -> Path:
    """Unpack LibriSpeech/NAME of an archive into folder; it appears there only when it is complete."""
    target = folder / "LibriSpeech" / name
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as temporary:
        try:
            with tarfile.open(archive) as tar:
                # Refuses members that would leave the folder, links out of it, and devices.
                tar.extractall(temporary, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DownloadError(f"{archive}: not unpacked: {error}") from None
        corpus = Path(temporary, "LibriSpeech")
        if not (corpus / name).is_dir():
            raise DownloadError(f"{archive}: holds no LibriSpeech/{name}")
        target.parent.mkdir(exist_ok=True)
        (corpus / name).replace(target)
        for notes in corpus.glob("*.TXT"):  # README, SPEAKERS: the same in every archive
            shutil.move(notes, target.parent / notes.name)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=sorted(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--folder", type=Path, default=Path("data/librispeech"))
    parser.add_argument("--mirror", default="main", help=f"{', '.join(MIRRORS)} or a URL (default: main)")
    parser.add_argument("--remove-archives", action="store_true", help="delete each one once it is unpacked")
    args = parser.parse_args(arguments)
    base = MIRRORS.get(args.mirror, args.mirror)
    status = 0
    for name in args.parts:
        part = PARTS[name]
        is_archive = part.file.endswith(".tar.gz")
        file = args.folder / part.file
        result = args.folder / "LibriSpeech" / name if is_archive else file
        try:
            args.folder.mkdir(parents=True, exist_ok=True)
            if not result.exists() and not file.exists():
                fetch(f"{base}/{part.resource}/{part.file}", file, part.md5)
            if is_archive:
                if not result.exists():
                    unpack(file, args.folder, name)
                if args.remove_archives:
                    file.unlink(missing_ok=True)
            print(result)
        except (AsrError, OSError) as error:
            print(f"download: error: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
