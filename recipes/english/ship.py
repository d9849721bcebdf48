"""Put a trained checkpoint into the package, in 8 bits a weight and with its measured results, and beside it
the int8 graph that runs on CPUs.

    asr evaluate dev.jsonl -m RUN/best.safetensors --lexicon LEXICON --json > dev.json
    python recipes/english/ship.py RUN/best.safetensors --name english --results dev.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from asr import checkpoint, export, pretrained
from asr.audio import read_audio

SENTENCE = Path(__file__).parents[2] / "tests" / "data" / "1462-170142-0003.flac"


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
    checkpoint.save(model, path, compact=True)
    shipped = checkpoint.load(path)  # with its weights rounded
    graph = path.with_name(pretrained.GRAPH_FILE)
    export.export(shipped, graph)
    pretrained.write_checksums(path.parent)
    for file in (path, graph):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    print(export.compare(shipped, graph, [read_audio(SENTENCE)]))


if __name__ == "__main__":
    main()
