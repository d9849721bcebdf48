"""Make a manifest of sounds without speech from a list of noises.

    python recipes/english/noise.py noise.jsonl data/noise.jsonl

The list has one JSON object a line with audio, kind (noise, music or rir) and duration. Room responses are
left out, and every fourth of the others, which robust_set.py measures with. What remains gets an empty text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from asr.training.surroundings import held_out, read_noises


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("manifest", type=Path)
    args = parser.parse_args()
    entries = map(json.loads, args.list.read_text(encoding="utf-8").splitlines())
    kept_for_measuring = set(held_out(read_noises(args.list, ["noise", "music"])))
    with open(args.manifest, "w", encoding="utf-8") as file:
        for entry in entries:
            if entry["kind"] != "rir" and args.list.parent / entry["audio"] not in kept_for_measuring:
                audio = (args.list.parent / entry["audio"]).resolve()
                row = {"id": audio.stem, "audio": str(audio), "text": "", "corpus": entry["kind"]}
                file.write(json.dumps({**row, "duration": entry["duration"]}) + "\n")


if __name__ == "__main__":
    main()
