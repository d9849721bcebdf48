"""Put a trained checkpoint into the package, at half precision and with its measured results.

    asr evaluate dev.jsonl -m RUN/best.safetensors --lexicon LEXICON --json > dev.json
    python recipes/english/ship.py RUN/best.safetensors --name english --results dev.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from asr import checkpoint, pretrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--name", required=True, help="the model's folder in asr/pretrained")
    parser.add_argument("--results", type=Path, required=True, help="what asr evaluate --json printed")
    args = parser.parse_args()
    model = checkpoint.load(args.checkpoint)
    measured = json.loads(args.results.read_text(encoding="utf-8"))
    model.info["results"] = {
        row["corpus"]: {key: row[key] for key in ("utterances", "wer", "cer", "per")}
        for row in measured["corpora"]
    }
    path = pretrained.FOLDER / args.name / pretrained.MODEL_FILE
    checkpoint.save(model, path, half=True)
    pretrained.write_checksums(path.parent)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
