"""What ships with the package: models, one folder each with model.safetensors, model.onnx and
MODEL_CARD.md, and the language models and pronouncer that they share.

SHA256SUMS in a folder holds the checksums of what is computed with there, in the form of sha256sum: a
download or a checkout that went wrong is found by `asr doctor`, or by `sha256sum -c SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from asr.errors import CheckpointError

FOLDER = Path(__file__).parent
MODEL_FILE = "model.safetensors"
GRAPH_FILE = "model.onnx"  # the same for ONNX Runtime
CHECKSUMS = "SHA256SUMS"
STREAMING = "english-streaming"  # what listens to a microphone unless another model is named
LANGUAGE_FILE = FOLDER / "english" / "language.safetensors"
RECURRENT_FILE = FOLDER / "english" / "recurrent.safetensors"
PRONOUNCER_FILE = FOLDER / "english" / "pronouncer.safetensors"
LEXICON_FILE = FOLDER / "english" / "lexicon.tsv.xz"


def shipped_language() -> Path | None:
    """The language model that transcripts are made with unless another is asked for."""
    return LANGUAGE_FILE if LANGUAGE_FILE.is_file() else None


def shipped_recurrent() -> Path | None:
    """The recurrent language model that goes with it."""
    return RECURRENT_FILE if RECURRENT_FILE.is_file() else None


def names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{MODEL_FILE}"))


def find(model: str | Path) -> Path:
    """The file of a shipped model's name or of a path; CheckpointError when there is neither."""
    shipped = FOLDER / str(model) / MODEL_FILE
    if str(model) in names():
        return shipped
    path = Path(model)
    if path.is_dir() and (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{model}: neither a model file nor a shipped model ({', '.join(names()) or 'none'})"
        )
    return path


def write_checksums(folder: Path) -> None:
    """Write the checksums of a model's files, its documents left out, for changed_files() to compare."""
    lines = [f"{_checksum(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if _is_data(path)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def changed_files(folder: Path) -> list[str]:
    """Names of files that are not those the model was shipped with; CheckpointError without checksums."""
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
        shipped = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    except (OSError, UnicodeDecodeError):
        raise CheckpointError(f"{folder / CHECKSUMS}: cannot be read; install asr again") from None
    present = {path.name: _checksum(path) for path in folder.iterdir() if _is_data(path)}
    return sorted(name for name in shipped | present if shipped.get(name) != present.get(name))


def _is_data(path: Path) -> bool:
    return path.is_file() and path.name != CHECKSUMS and path.suffix != ".md"


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
