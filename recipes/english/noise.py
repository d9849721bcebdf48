"""Make a manifest of sounds without speech from a list of noises.

    python recipes/english/noise.py noise.jsonl data/noise.jsonl

The list has one JSON object a line with audio, kind (noise, music or rir) and duration; room responses
are left out, the others get an empty text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("manifest", type=Path)
    args = parser.parse_args()
    entries = map(json.loads, args.list.read_text(encoding="utf-8").splitlines())
    with open(args.manifest, "w", encoding="utf-8") as file:
        for entry in entries:
            if entry["kind"] != "rir":
                audio = (args.list.parent / entry["audio"]).resolve()
                row = {"id": audio.stem, "audio": str(audio), "text": "", "corpus": entry["kind"]}
                file.write(json.dumps({**row, "duration": entry["duration"]}) + "\n")


if __name__ == "__main__":
    main()
