"""What ships with the package: models, one folder each with model.safetensors and MODEL_CARD.md, and the
language model that they share."""

from __future__ import annotations

from pathlib import Path

from asr.errors import CheckpointError

FOLDER = Path(__file__).parent
MODEL_FILE = "model.safetensors"
LANGUAGE_FILE = FOLDER / "english" / "language.safetensors"
PRONOUNCER_FILE = FOLDER / "english" / "pronouncer.safetensors"
LEXICON_FILE = FOLDER / "english" / "lexicon.tsv.xz"


def shipped_language() -> Path | None:
    """The language model that transcripts are made with unless another is asked for."""
    return LANGUAGE_FILE if LANGUAGE_FILE.is_file() else None


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
