"""The recipe step that cuts the speech of two talking games, with games made here."""

from __future__ import annotations

import json
import lzma
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import load_recipe

from asr.audio import read_audio
from asr.manifest import read_manifest

step = load_recipe("english/talking_games.py")


class Packer:
    """Writes the stream that unpack_rnc() reads: bits in words of 16 bits, and bytes between them."""

    def __init__(self) -> None:
        self.stream = bytearray()
        self.word, self.place, self.n_bits = 0, 0, 16  # 16: the next bit begins a word

    def bits(self, value: int, count: int) -> None:
        for i in range(count):
            if self.n_bits == 16:
                self.place, self.n_bits, self.word = len(self.stream), 0, 0
                self.stream += b"\0\0"
            self.word |= (value >> i & 1) << self.n_bits
            self.stream[self.place : self.place + 2] = self.word.to_bytes(2, "little")
            self.n_bits += 1

    def code(self, code: str) -> None:
        for bit in code:
            self.bits(int(bit), 1)


def rnc(unpacked: bytes, body: bytes) -> bytes:
    checksum = step._crc16(unpacked)
    return b"RNC\x01" + struct.pack(">IIHHBB", len(unpacked), len(body), checksum, 0, 0, 1) + body


def pack(data: bytes, repeats: int = 1) -> bytes:
    """Data and so many repetitions of it, by one chunk whose tables have the symbols that this needs."""
    packer = Packer()
    packer.bits(0, 2)
    literal, distance, length = (
        n if n < 2 else n.bit_length() for n in (len(data), len(data) - 1, len(data) * (repeats - 1) - 2)
    )
    for symbol in (literal, distance, length):
        # Two codes of one bit, "0" for symbol 0 and "1" for the symbol, or the symbol's alone.
        lengths = [1] + [0] * (symbol - 1) + [1] if symbol else [1]
        packer.bits(len(lengths), 5)
        for bits in lengths:
            packer.bits(bits, 4)

    def number(symbol: int, value: int) -> None:
        packer.code("1" if symbol else "0")
        if symbol >= 2:
            packer.bits(value - (1 << (symbol - 1)), symbol - 1)

    packer.bits(2 if repeats > 1 else 1, 16)
    number(literal, len(data))
    packer.stream += data
    if repeats > 1:
        number(distance, len(data) - 1)
        number(length, len(data) * (repeats - 1) - 2)
        packer.code("0")  # no bytes behind the last repetition
    return rnc(data * repeats, bytes(packer.stream))


def test_packed_bytes_come_back() -> None:
    data = bytes(np.random.default_rng(1).integers(0, 256, 300, np.uint8))
    assert step.unpack_rnc(pack(data)) == data


@pytest.mark.parametrize("size", [2, 3, 40, 1000])
def test_a_stretch_that_overlaps_itself_repeats(size: int) -> None:
    data = bytes(np.random.default_rng(size).integers(0, 256, size, np.uint8))
    assert step.unpack_rnc(pack(data, 5)) == data * 5


def test_shorter_codes_have_lower_numbers_and_their_highest_bit_comes_first() -> None:
    table = step._code_table([2, 1, 3, 3])  # 10, 0, 110, 111
    for first_bits, symbol, length in [("10", 0, 2), ("0", 1, 1), ("110", 2, 3), ("111", 3, 3)]:
        value = int(first_bits[::-1], 2)
        assert table[value] == (symbol, length)


def test_damage_is_found_and_not_passed_on() -> None:
    packed = bytearray(pack(bytes(range(100))))
    packed[60] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        step.unpack_rnc(bytes(packed))
    with pytest.raises(ValueError):
        step.unpack_rnc(bytes(packed[:50]))
    with pytest.raises(ValueError, match="not packed by RNC method 1"):
        step.unpack_rnc(b"RNC\x02" + bytes(packed[4:]))


def test_texts_lose_pauses_typography_and_stress_but_no_abbreviation() -> None:
    texts = [
        "...and WHAT is that?",
        "I know what `LINC' is...",
        "What... THIS? (sigh) this^_",
        "@@ She's beautiful! @@",
        "(cough)",
        "...",
    ]
    assert step.plain_texts(texts) == [
        "And what is that?",
        "I know what 'LINC' is",
        "What... this? this",
        "She's beautiful!",
        "",
        "",
    ]


def tone(rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


def write_table(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def is_the_tone(path: Path) -> bool:
    heard = read_audio(path)
    return bool(np.corrcoef(heard, tone(16_000)[: len(heard)])[0, 1] > 0.99)


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    """Two files: a packed tone beyond the offsets that count in bytes, and silence."""
    folder = tmp_path / "games/beneath-a-steel-sky"
    folder.mkdir(parents=True)
    samples = np.round(tone(11_025) * 128 + 128).astype(np.uint8)
    speech = bytes(22) + pack(samples.tobytes())
    silence = bytes(22) + pack(bytes([128]) * 400)
    (folder / "sky.dsk").write_bytes(bytes(32) + speech + silence)
    entries = [(50_001, 2 | 0x800000, len(speech)), (50_002, 32 + len(speech), len(silence) | 0xC00000)]
    directory = struct.pack("<I", len(entries))
    for number, offset, size in entries:
        directory += struct.pack("<H", number) + offset.to_bytes(3, "little") + size.to_bytes(3, "little")
    (folder / "sky.dnr").write_bytes(directory)
    return tmp_path / "games"


def test_a_steel_sky_is_cut_into_a_manifest(
    sky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"file": 50_001, "text": "Hey!"}, {"file": 50_002, "text": "Ho"}, {"file": 7, "text": "Gone"}]
    table = write_table(tmp_path / "beneath-a-steel-sky.jsonl.xz", rows)
    assert step.main([str(tmp_path / "out"), str(table), "--games", str(sky)]) == 0
    said = capsys.readouterr()
    assert said.out == "beneath-a-steel-sky: 1 utterances, 0.00 hours\n"
    assert "50002: holds no sound" in said.err and "7: not in sky.dsk" in said.err
    (utterance,) = read_manifest(tmp_path / "out/manifest.jsonl")
    assert (utterance.id, utterance.text) == ("beneath_a_steel_sky-50001", "Hey!")
    assert utterance.corpus == "beneath_a_steel_sky" and utterance.duration == pytest.approx(0.5, abs=0.001)
    assert is_the_tone(utterance.audio)


def test_the_amazon_queen_is_cut_into_a_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "games/flight-of-the-amazon-queen"
    folder.mkdir(parents=True)
    soundfile.write(tmp_path / "speech.mp3", tone(11_025), 11_025, format="MP3")
    speech = (tmp_path / "speech.mp3").read_bytes()
    head = b"QTBL".ljust(13, b"\0") + struct.pack(">H", 1)
    entry = struct.pack(">12sBII", b"020006J1.SB", 1, len(head) + 21, len(speech))
    (folder / "queen.1c").write_bytes(head + entry + speech)
    rows = [{"file": "020006J1.SB", "text": "At least MY plane", "speaker": "joe"}]
    table = write_table(tmp_path / "flight-of-the-amazon-queen.jsonl.xz", rows)
    assert step.main([str(tmp_path / "out"), str(table), "--games", str(tmp_path / "games")]) == 0
    (utterance,) = read_manifest(tmp_path / "out/manifest.jsonl")
    assert utterance.speaker == "flight_of_the_amazon_queen-joe"
    heard = read_audio(utterance.audio)
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.fft.rfftfreq(len(heard), 1 / 16_000)[spectrum.argmax()] == pytest.approx(440, abs=5)


def test_a_game_that_is_not_installed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "beneath-a-steel-sky.jsonl.xz", [{"file": 1, "text": "Hey!"}])
    assert step.main([str(tmp_path / "out"), str(table), "--games", str(tmp_path)]) == 1
    assert "install the Debian package beneath-a-steel-sky" in capsys.readouterr().err
    other = write_table(tmp_path / "chess.jsonl.xz", [])
    assert step.main([str(tmp_path / "out"), str(other)]) == 1
    assert "of no game known here" in capsys.readouterr().err
