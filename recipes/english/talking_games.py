"""Cut the speech of two talking games into a training set.

    apt-get install beneath-a-steel-sky flight-of-the-amazon-queen
    python recipes/english/talking_games.py data/games \\
        beneath-a-steel-sky.jsonl.xz flight-of-the-amazon-queen.jsonl.xz

A table has one JSON object a line with file, text and, where known, speaker. A file is a number in Beneath a
Steel Sky and a name in Flight of the Amazon Queen; the table's own name says which game it belongs to. Each
line of dialogue becomes a FLAC file at 16 kHz; OUTPUT/manifest.jsonl lists them all. What is there already is
not made again.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import re
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from asr.audio import SAMPLE_RATE
from asr.errors import AsrError, AudioError, ManifestError
from asr.manifest import Utterance, write_manifest
from asr.text import normalize

GAMES = Path("/usr/share/scummvm")  # where Debian puts them
SKY_RATE = 11_025  # Hz
SKY_HEADER = 22  # bytes before the packed samples of a file
RNC_HEADER = 18  # bytes
PEAK = 0.99  # of full scale
SILENCE = 0.003  # of full scale: a line that stays below it holds no speech

# What the texts' own fonts put in place of letters, and what nobody says.
_TYPOGRAPHY = re.compile(r"[@^_<>]|\([^)]*\)")


class Line(NamedTuple):
    """A line of dialogue in a game's table."""

    file: str
    text: str
    speaker: str


class _Bits:
    """Bits and bytes of packed data, which share one stream.

    Bits come in 16-bit little-endian words, the lowest first. A word is taken from the stream when the first
    of its bits is needed; bytes are taken from behind the newest word.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.bits = self.n_bits = 0

    def read(self, count: int) -> int:
        while self.n_bits < count:
            self.bits |= self._word() << self.n_bits
            self.position += 2
            self.n_bits += 16
        value = self.bits & ((1 << count) - 1)
        self.bits >>= count
        self.n_bits -= count
        return value

    def take(self, count: int) -> bytes:
        self.position += count
        return self.data[self.position - count : self.position]

    def symbol(self, table: Sequence[tuple[int, int]]) -> int:
        """The next symbol by a table of _code_table()."""
        width = len(table).bit_length() - 1
        ahead = self.bits if self.n_bits >= width else self.bits | self._word() << self.n_bits
        symbol, length = table[ahead & (len(table) - 1)]
        if not length:
            raise ValueError("a code that its table does not have")
        self.read(length)
        return symbol

    def _word(self) -> int:
        return int.from_bytes(self.data[self.position : self.position + 2], "little")


def _code_table(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Symbol and length of the code for each value of the next bits.

    lengths: bits of each symbol's code, 0: has none. Shorter codes have the lower numbers, and a code's
    highest bit comes first.
    """
    width = max(lengths, default=0)
    table = [(0, 0)] * (1 << width)
    code = 0
    for length in range(1, width + 1):
        for symbol, its_length in enumerate(lengths):
            if its_length == length:
                first = int(f"{code:0{length}b}"[::-1], 2)
                table[first :: 1 << length] = [(symbol, length)] * len(table[first :: 1 << length])
                code += 1
        code <<= 1
    return table


def unpack_rnc(data: bytes) -> bytes:
    """Data packed by Rob Northen's ProPack, method 1: Huffman codes over repeated stretches.

    ValueError: it is packed in another way, or damaged.
    """
    if len(data) < RNC_HEADER or data[:4] != b"RNC\x01":
        raise ValueError("not packed by RNC method 1")
    size, packed_size, checksum = struct.unpack(">IIH", data[4:14])
    bits = _Bits(data[: RNC_HEADER + packed_size], RNC_HEADER)
    bits.read(2)  # whether it is locked and has a key; no file of the games is
    unpacked = bytearray()

    def number(table: Sequence[tuple[int, int]]) -> int:
        # Symbol 0 and 1 are themselves; symbol n is a number of n bits, whose highest bit is left out.
        symbol = bits.symbol(table)
        return symbol if symbol < 2 else 1 << (symbol - 1) | bits.read(symbol - 1)

    while len(unpacked) < size and bits.position < len(bits.data):
        literals, distances, lengths = (
            _code_table([bits.read(4) for _ in range(bits.read(5))]) for _ in range(3)
        )
        for remaining in reversed(range(bits.read(16))):
            unpacked += bits.take(number(literals))
            if remaining:
                distance, length = number(distances) + 1, number(lengths) + 2
                start = len(unpacked) - distance
                if start < 0:
                    raise ValueError("a repeated stretch begins before the data")
                stretch = unpacked[start : start + length]
                unpacked += (stretch * (length // len(stretch) + 1))[:length]
    if len(unpacked) != size or _crc16(unpacked) != checksum:
        raise ValueError("damaged: size or checksum of the unpacked data differ")
    return bytes(unpacked)


def _crc_steps() -> list[int]:
    steps = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        steps.append(value)
    return steps


_CRC_STEPS = _crc_steps()


def _crc16(data: Iterable[int]) -> int:
    value = 0
    for byte in data:
        value = value >> 8 ^ _CRC_STEPS[(value ^ byte) & 0xFF]
    return value


def sky_entries(directory: bytes) -> dict[str, tuple[int, int]]:
    """Offset and size in sky.dsk of each file, by its number; directory: the contents of sky.dnr."""
    entries = {}
    for i in range(struct.unpack_from("<I", directory)[0]):
        entry = directory[4 + 8 * i : 12 + 8 * i]
        offset = int.from_bytes(entry[2:5], "little")
        if offset & 0x800000:  # large offsets count in 16 bytes
            offset = (offset & 0x7FFFFF) << 4
        size = int.from_bytes(entry[5:8], "little") & 0x3FFFFF  # the two highest bits are flags
        entries[str(int.from_bytes(entry[:2], "little"))] = offset, size
    return entries


def queen_entries(archive: bytes) -> dict[str, tuple[int, int]]:
    """Offset and size in queen.1c of each file, by its name; archive: its beginning, with the table."""
    if archive[:4] != b"QTBL":
        raise ValueError("does not begin with QTBL")
    entries = {}
    for i in range(struct.unpack_from(">H", archive, 13)[0]):
        name, _, offset, size = struct.unpack_from(">12sBII", archive, 15 + 21 * i)
        entries[name.split(b"\0")[0].decode("ascii").strip()] = offset, size
    return entries


def sky_samples(packed: bytes) -> np.ndarray:
    """Samples at 16 kHz of a speech file of Beneath a Steel Sky, 1-D in -1 to 1."""
    samples = np.frombuffer(unpack_rnc(packed[SKY_HEADER:]), np.uint8).astype(np.float64)
    return soxr.resample((samples - 128) / 128, SKY_RATE, SAMPLE_RATE)


def queen_samples(packed: bytes) -> np.ndarray:
    """Samples at 16 kHz of a speech file of Flight of the Amazon Queen, which is an MP3 file, 1-D."""
    frames, rate = soundfile.read(io.BytesIO(packed), always_2d=True)
    return soxr.resample(frames.mean(axis=1), rate, SAMPLE_RATE)


def read_table(path: Path) -> list[Line]:
    """The lines of a game's table, with their texts as they are spoken."""
    try:
        rows = [json.loads(line) for line in lzma.open(path, "rt", encoding="utf-8")]
        lines = [Line(str(row["file"]), str(row["text"]), str(row.get("speaker", ""))) for row in rows]
    except (OSError, EOFError, lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: not a table of file and text ({error})") from None
    texts = plain_texts([line.text for line in lines])
    return [line._replace(text=text) for line, text in zip(lines, texts, strict=True)]


def plain_texts(texts: Sequence[str]) -> list[str]:
    """Texts without pauses, typography and stress.

    A word in capitals is stressed if the texts have it in small letters too, and else an abbreviation or a
    name, which stays.
    """
    words = re.compile(r"[A-Za-z']+")
    small = {word for text in texts for word in words.findall(text) if word.islower()}

    def unstressed(match: re.Match[str]) -> str:
        word = match[0]
        return word.lower() if len(word) > 1 and word.isupper() and word.lower() in small else word

    plain = []
    for text in texts:
        text = _TYPOGRAPHY.sub(" ", text.replace("`", "'"))
        text = " ".join(text.replace("...", " ... ").split())
        text = words.sub(unstressed, text.removeprefix("... ").removesuffix(" ...")).replace(" ...", "...")
        plain.append(text[:1].upper() + text[1:] if text != "..." else "")
    return plain


class Game(NamedTuple):
    """Where a game's speech is and how it is stored."""

    directory: str  # file with the table of the others
    archive: str  # file that holds them
    entries: Callable[[bytes], Mapping[str, tuple[int, int]]]
    samples: Callable[[bytes], np.ndarray]


GAME_OF = {
    "beneath-a-steel-sky": Game("sky.dnr", "sky.dsk", sky_entries, sky_samples),
    "flight-of-the-amazon-queen": Game("queen.1c", "queen.1c", queen_entries, queen_samples),
}


def cut(table: Path, games: Path, output: Path) -> tuple[list[Utterance], list[str]]:
    """The utterances of a game, and what is wrong with each line that gave none."""
    name = table.name.split(".")[0]
    if name not in GAME_OF:
        raise ManifestError(f"{table}: its name is of no game known here ({', '.join(GAME_OF)})")
    game, corpus = GAME_OF[name], name.replace("-", "_")
    folder = games / name
    try:
        entries = game.entries((folder / game.directory).read_bytes())
        archive: Any = np.memmap(folder / game.archive, np.uint8, "r")
    except (OSError, ValueError, struct.error) as error:
        why = f"not the game {name} ({error}); install the Debian package {name}"
        raise AudioError(f"{folder}: {why}") from None
    (output / corpus).mkdir(parents=True, exist_ok=True)
    utterances, problems = [], []
    for line in read_table(table):
        if not normalize(line.text):
            problems.append(f"{name} {line.file}: no words in its text")
            continue
        audio = output / corpus / f"{line.file.split('.')[0]}.flac"
        try:
            if not audio.exists():
                offset, size = entries[line.file]
                samples = game.samples(archive[offset : offset + size].tobytes())
                _write(audio, samples)
            duration = soundfile.info(audio).duration
        except KeyError:
            problems.append(f"{name} {line.file}: not in {game.archive}")
            continue
        except (ValueError, RuntimeError) as error:
            problems.append(f"{name} {line.file}: {error}")
            continue
        speaker = f"{corpus}-{line.speaker}" if line.speaker else ""
        utterances.append(Utterance(f"{corpus}-{audio.stem}", audio, line.text, duration, speaker, corpus))
    return utterances, problems


def _write(audio: Path, samples: np.ndarray) -> None:
    peak = np.abs(samples).max(initial=0.0)
    if peak < SILENCE:
        raise ValueError("holds no sound")
    samples = samples * min(1.0, PEAK / peak)  # resampling can exceed full scale
    temporary = audio.with_suffix(".part")
    soundfile.write(temporary, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    os.replace(temporary, audio)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, help="folder for the recordings and their manifest.jsonl")
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE", help="GAME.jsonl.xz")
    parser.add_argument(
        "--games", type=Path, default=GAMES, help=f"folder with the games' folders (default: {GAMES})"
    )
    args = parser.parse_args(arguments)
    utterances: list[Utterance] = []
    status = 0
    try:
        for table in args.tables:
            found, problems = cut(table, args.games, args.output)
            for problem in problems:
                print(f"talking_games: left out: {problem}", file=sys.stderr)
            if not found:
                print(f"talking_games: error: {table}: gave no utterance", file=sys.stderr)
                status = 1
            hours = sum(utterance.duration for utterance in found) / 3600
            print(f"{table.name.split('.')[0]}: {len(found)} utterances, {hours:.2f} hours")
            utterances += found
        write_manifest(args.output / "manifest.jsonl", utterances)
    except (AsrError, OSError) as error:
        print(f"talking_games: error: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
