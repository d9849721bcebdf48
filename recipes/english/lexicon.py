"""Build the pronunciation lexicon: CMUdict first, a grapheme-to-phoneme tool for all other words.

    python recipes/english/lexicon.py --cmudict cmudict.dict.xz --words vocab.tsv.xz \
        --manifest train.jsonl --output lexicon.tsv.xz

The tool is `t2p` of flite (Debian package `flite`). Words outside CMUdict are those of the vocabulary
and of the training manifest; give no evaluation text.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr.files import open_text
from asr.labels import PHONES, read_cmudict
from asr.text import normalize

# flite distinguishes reduced vowels that CMUdict writes as full ones.
FLITE_PHONES = {"AX": "AH", "IX": "IH", "AXR": "ER"}


def lines(path: Path) -> Iterator[str]:
    with open_text(path) as file:
        yield from file


def pronounce(word: str) -> str:
    """The phones that flite's letter-to-sound rules give a word; empty when they give none."""
    result = subprocess.run(["t2p", word], capture_output=True, text=True, check=True)
    phones = [re.sub(r"\d", "", phone).upper() for phone in result.stdout.split() if phone != "pau"]
    phones = [FLITE_PHONES.get(phone, phone) for phone in phones]
    unknown = set(phones) - set(PHONES[1:])
    if unknown:
        raise ValueError(f"{word}: t2p gave unknown phones {', '.join(sorted(unknown))}")
    return " ".join(phones)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cmudict", type=Path, required=True)
    parser.add_argument("--words", type=Path, action="append", default=[], help="a word a line")
    parser.add_argument("--manifest", type=Path, action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    if shutil.which("t2p") is None:
        sys.exit("t2p not found: apt-get install flite")
    pronunciations = read_cmudict(args.cmudict)
    wanted = {line.split("\t")[0].strip() for path in args.words for line in lines(path)}
    for path in args.manifest:
        for line in lines(path):
            wanted.update(normalize(json.loads(line)["text"]).split())
    missing = sorted(wanted - set(pronunciations) - {""})
    with ThreadPoolExecutor(4) as pool:
        for word, phones in zip(missing, pool.map(pronounce, missing), strict=True):
            if phones:
                pronunciations[word] = [phones]
    kept = sorted(word for word in pronunciations if word in wanted)
    with lzma.open(args.output, "wt", encoding="utf-8", preset=9) as file:
        for word in kept:
            for phones in pronunciations[word]:
                file.write(f"{word}\t{phones}\n")
    print(f"{len(kept)} words, {len(missing)} of them pronounced by rule -> {args.output}")


if __name__ == "__main__":
    main()
