"""Frames of sound files at their own rate, and what of them cannot be heard.

Plain WAV and FLAC are read here by libsndfile: two formats so simple that no file is known that does
more than fail. Everything else, and FLAC from the first fault on, is decoded by FFmpeg in a process
of its own (asr.decoder_process), which may crash, hang or want all memory: that costs the one file
an AudioError, and another process takes the next file.
"""

from __future__ import annotations

import atexit
import json
import math
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.errors import AudioError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Frames = NDArray[np.float32]  # (samples, channels)

_VALUES_PER_READ = 1 << 19  # samples x channels held at once while decoding
_LOWEST_OUTPUT_RATE = 16_000  # of a decoder, so that a later part at a higher rate loses nothing

_GAP_SECONDS = 0.2  # a jump of the time stamps that is larger than any rounding or jitter
_MOST_GAP_SECONDS = 600.0  # of silence in all, more than there is sound: a small file may claim years
_CUT_OFF_SECONDS = 0.3  # less than a header promises by more than delays and padding of codecs

_PATIENCE_SECONDS = 30.0  # without a sign of the process that decodes
_STOP_SECONDS = 2.0  # for it to end an answer that nobody wants any more
_MOST_IDLE = 2  # processes kept for the next files
_MOST_FILES = 500  # of a process, before what libraries leak adds up
_LARGEST_MESSAGE = 1 << 28  # bytes; more is no message

# FFmpeg formats whose time stamps are in the file; elsewhere FFmpeg counts packets of the first rate
_STAMPED = frozenset({"mov", "mp4", "matroska", "webm", "mpegts", "mpeg", "ogg", "asf", "flv", "nut"})
# FFmpeg's sample formats without the p of planar ones
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}

_UNREADABLE = (
    "not a sound or video file, or damaged; convert it to WAV or FLAC, or give --raw if it is bare samples"
)
_REASONS = {
    "unreadable": _UNREADABLE,
    "gone": "no such file; check the path",
    "no sound": "no audio stream found; is this a video without sound?",
    "no samples": "no samples in it; was the recording stopped before it began?",
    "memory": "needs more memory than sound can need: damaged; copy or record it again",
}


@dataclass
class Faults:
    """What of a recording could not be heard, in seconds from its beginning."""

    name: str
    lost: list[tuple[float, float]] = field(default_factory=list)
    cut_off: tuple[float, float | None] | None = None  # where, and the length promised if known
    not_finite: tuple[int, float] | None = None  # the first such sample, and its time
    other: list[tuple[float, str]] = field(default_factory=list)

    def lose(self, start: float, end: float) -> None:
        if self.lost and start <= self.lost[-1][1] + _GAP_SECONDS:
            start, end = self.lost[-1][0], max(end, self.lost.pop()[1])
        self.lost.append((start, end))

    def error(self, begin: float, end: float) -> AudioError | None:
        """All that lies in this part of the recording, in one message."""
        if self.other and self.other[0][0] < end:
            return AudioError(f"{self.name}: {self.other[0][1]}")
        if self.not_finite is not None and self.not_finite[1] < end:
            return AudioError(
                f"{self.name}: sample {self.not_finite[0]} (at {self.not_finite[1]:.2f} s) is not a"
                " finite number or beyond all measure, heard as silence; write the file again without NaN"
                " or infinity"
            )
        cut_off = self.cut_off if self.cut_off is not None and self.cut_off[0] < end else None
        at = math.inf if cut_off is None else cut_off[0]
        lost = [
            part
            for part in self.lost
            if part[0] < end and part[1] >= begin and part[0] < at - _GAP_SECONDS
        ]
        if lost:
            places = ", ".join(f"{start:.2f} s" for start, _ in lost[:5])
            more = f" and {len(lost) - 5} more places" if len(lost) > 5 else ""
            seconds = sum(stop - start for start, stop in lost)
            gone = f" ({seconds:.2f} s lost)" if seconds >= 0.005 else ""
            rest = "the rest was heard" if cut_off is None else f"it ends early, at {at:.2f} s"
            return AudioError(
                f"{self.name}: damaged at {places}{more}{gone}; {rest}; copy or record it again"
            )
        if cut_off is None:
            return None
        promised = cut_off[1]
        of = "" if promised is None else f" its header says {promised:.2f} s;"
        return AudioError(
            f"{self.name}: damaged or cut off at {at:.2f} s;{of} copy or record it again,"
            " or use only the part before"
        )


class Decoder(Protocol):
    """A source at its own rate.

    sample_rate: of the source, as messages tell it; rate: of the frames that pieces() gives.
    seconds: what the header says or lets guess, None if it does not; n_heard: frames up to the end
    of what was given, the skipped ones before it counted.
    is_float: samples are stored as floats, so that their scale may be another one.
    notes: what the user should know although nothing is lost.
    """

    sample_rate: int
    rate: int
    n_channels: int
    seconds: float | None
    n_heard: int
    is_float: bool
    notes: list[str]

    def pieces(self, start: int) -> Iterator[Frames]:
        """Frames from the one at `start` on, in pieces of bounded size; faults are noted, not raised."""

    def has_last_sample(self) -> bool:
        """Whether `seconds` is proven: the sample at its end can be read."""

    def close(self) -> None: ...


def open_decoder(
    path: Path, name: str, faults: Faults, raw_sample_rate: int | None, track: int | None
) -> Decoder:
    """Raises AudioError for what cannot be read at all."""
    import soundfile

    if raw_sample_rate is not None:
        try:
            return _SoundFileDecoder(path, name, faults, raw_sample_rate, None)
        except soundfile.SoundFileError as error:
            raise AudioError(f"{name}: cannot be read as raw samples; check the file") from error
    promised = _plain_length(path)
    if promised is not None and (track is None or track == 1):
        with suppress(soundfile.SoundFileError):
            return _SoundFileDecoder(path, name, faults, None, promised)
    return _FFmpegDecoder(path, name, faults, track)


def _plain_length(path: Path) -> int | None:
    """Frames that the header of plain WAV or FLAC promises, -1 if it does not; None for other files."""
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"fLaC":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                # Where another header follows, files are joined: libsndfile ends with the first.
                if content.find(b"fLaC\0\0\0\x22", 4) >= 0 or len(content) < 26:
                    return None
                return int.from_bytes(content[21:26], "big") & ((1 << 36) - 1) or -1
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return None
        size = os.fstat(file.fileno()).st_size
        block_size = 0
        while True:
            chunk = file.read(8)
            if len(chunk) < 8:
                return None
            length = struct.unpack("<4xI", chunk)[0]
            if chunk[:4] == b"data":
                break
            if chunk[:4] == b"fmt ":
                form = file.read(min(length, 40))
                if len(form) < 16:
                    return None
                tag, block_size = struct.unpack("<H10xH", form[:14])
                if tag == 0xFFFE and len(form) >= 26:
                    tag = struct.unpack("<H", form[24:26])[0]
                if tag not in (1, 3, 6, 7) or not block_size:  # integers, floats, A-law, mu-law
                    return None
                file.seek(length - len(form), os.SEEK_CUR)
            else:
                file.seek(length, os.SEEK_CUR)
            file.seek(length & 1, os.SEEK_CUR)
        if not block_size or file.tell() >= size:
            return None
        # A recorder that was cut off leaves 0, and libsndfile stops at 4 GiB: FFmpeg reads what follows.
        if length == 0 or size - file.tell() > 0xFFFF_FFFF and head[:4] == b"RIFF":
            return None
        # Who writes into a pipe does not know the length and promises nearly all there can be.
        return -1 if length >= 0x7FFF_0000 else length // block_size


class _SoundFileDecoder:
    def __init__(
        self, path: Path, name: str, faults: Faults, raw_sample_rate: int | None, promised: int | None
    ) -> None:
        import soundfile

        self._path, self._name, self._faults = path, name, faults
        raw: dict[str, Any] = {}
        if raw_sample_rate is not None:
            raw = {
                "samplerate": raw_sample_rate,
                "channels": 1,
                "format": "RAW",
                "subtype": "PCM_16",
                "endian": "LITTLE",
            }
        self._file = soundfile.SoundFile(os.fsencode(path), **raw)
        self.sample_rate: int = self._file.samplerate
        self.rate = self.sample_rate
        self.n_channels: int = self._file.channels
        self.is_float = self._file.subtype in {"FLOAT", "DOUBLE"}
        self.notes: list[str] = []
        self.n_heard = 0
        self._promised = promised if promised is not None and promised > 0 else None
        # Streamed FLAC does not know its length; libsndfile then gives its largest number.
        n_frames = self._file.frames if self._file.frames < 1 << 62 else None
        self.seconds = None if n_frames is None else n_frames / self.rate
        self._n_frames = n_frames
        self._rest: _FFmpegDecoder | None = None

    def pieces(self, start: int) -> Iterator[Frames]:
        import soundfile

        position = self.n_heard = start
        size = max(512, _VALUES_PER_READ // self.n_channels)
        is_whole = True
        if self._n_frames is not None and start >= self._n_frames:
            self.n_heard = self._n_frames
            return
        try:
            if start:
                self._file.seek(start)
            # After every read of a seekable file soundfile seeks to where it already is.
            self._file.seekable = lambda: False
            while len(frames := self._file.read(size, dtype="float32", always_2d=True)):
                position += len(frames)
                self.n_heard = position
                yield frames
        except soundfile.SoundFileError:
            is_whole = False
        missing = 0 if self._promised is None else self._promised - position
        if self._file.format == "FLAC" and (not is_whole or missing > 0):
            yield from self._other_frames(position)
        elif not is_whole or missing > _CUT_OFF_SECONDS * self.rate:
            promised = None if self._promised is None else self._promised / self.rate
            self._faults.cut_off = (position / self.rate, promised)

    def _other_frames(self, position: int) -> Iterator[Frames]:
        """What FFmpeg hears from here on: it goes on after a damaged place."""
        end = None if self._promised is None else self._promised / self.rate
        try:
            self._rest = _FFmpegDecoder(self._path, self._name, self._faults, None, self.rate)
        except AudioError:
            self._faults.cut_off = (position / self.rate, end)
            return
        for frames in self._rest.pieces(position):
            self.n_heard = self._rest.n_heard
            yield frames
        self.n_heard = max(position, self._rest.n_heard)

    def has_last_sample(self) -> bool:
        import soundfile

        if self._n_frames is None or not self._n_frames:
            return False
        try:
            self._file.seek(self._n_frames - 1)
            return len(self._file.read(1)) == 1
        except soundfile.SoundFileError:
            return False

    def close(self) -> None:
        self._file.close()
        if self._rest is not None:
            self._rest.close()


class _FFmpegDecoder:
    """A sound track of anything that FFmpeg can read, placed by its time stamps."""

    def __init__(
        self, path: Path, name: str, faults: Faults, track: int | None, rate: int | None = None
    ) -> None:
        """rate: of the frames; the source's own if left out, or 16 kHz if that is lower."""
        self._path, self._name, self._faults, self._track = path, name, faults, track
        self.n_heard = 0
        self.notes: list[str] = []
        self._begin(0.0)
        self.sample_rate: int = self._first["rate"]
        if self.sample_rate < 1:
            self.close()
            raise AudioError(f"{name}: {_UNREADABLE}")
        self.rate = rate or max(self.sample_rate, _LOWEST_OUTPUT_RATE)
        self.n_channels: int = self._first["channels"]
        self.is_float = self._about["codec"].startswith(("pcm_f32", "pcm_f64"))
        self._promised: float | None = self._about["promised"]
        self.seconds: float | None = self._about["duration"]
        if self._about["format"] == "mp3":  # where FFmpeg guesses by the bit rate
            self._promised = _promised_of_mp3(path, self.sample_rate)
        if self._about["is_joined"]:
            self._promised = None
        tracks: list[str] = self._about["tracks"]
        if track is None and len(tracks) > 1:
            chosen = self._about["track"]
            described = f" ({tracks[chosen - 1]})" if tracks[chosen - 1] else ""
            self.notes.append(
                f"{name}: has {len(tracks)} sound tracks; number {chosen}{described} is heard;"
                " transcribe --track N takes another"
            )

    def _begin(self, start: float) -> None:
        """Ask for the file from a time on and wait for its first sound."""
        self._process = _borrow()
        try:
            path = os.fsdecode(os.path.abspath(self._path))
            self._process.ask({"path": path, "track": self._track, "start": start})
            self._early: list[tuple[dict[str, Any], bytes]] = []
            while True:
                message, payload = self._process.receive()
                kind = message["kind"]
                if kind == "opened":
                    self._about = message
                elif kind == "sound":
                    self._first, self._first_payload = message, payload
                    return
                elif kind == "failed":
                    raise AudioError(f"{self._name}: {self._reason(message['reason'])}")
                elif kind == "end":
                    raise AudioError(f"{self._name}: {_REASONS['no samples']}")
        except _DeadError as error:
            self.close()
            raise AudioError(f"{self._name}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _reason(self, reason: str) -> str:
        if reason.startswith("tracks "):
            n_tracks = int(reason.split()[1])
            return f"there is no sound track {self._track}, it has {n_tracks}; choose one of them"
        return _REASONS.get(reason, reason)

    def pieces(self, start: int) -> Iterator[Frames]:
        seconds = start / self.rate
        if seconds > 1.0:
            self.close()
            self._begin(seconds)
        position = 0
        for frames in _one_rate(self._gapless(seconds), self.rate):
            position = self._base + self._n_given
            self._n_given += len(frames)
            self.n_heard = self._base + self._n_given
            skipped = max(0, start - position)
            if skipped < len(frames):
                yield frames[skipped:]

    def _messages(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        yield self._first, self._first_payload
        while True:
            try:
                message, payload = self._process.receive()
            except _DeadError as error:
                at = self._seconds
                self._faults.other.append((at, f"{error} at {at:.2f} s; what came before was heard"))
                return
            if message["kind"] == "failed":
                self._faults.cut_off = (self._seconds, self._promised)
                return
            if message["kind"] == "end":
                if self._faults.lost and self._faults.lost[-1][0] >= self._seconds:
                    self._faults.cut_off = (self._seconds, self._promised)
                elif self._promised is not None and self._promised - self._seconds > _CUT_OFF_SECONDS:
                    self._faults.cut_off = (self._seconds, self._promised)
                elif self._about["format"] == "ogg" and _is_last_page_cut(self._path):
                    self._faults.cut_off = (self._seconds, None)
                return
            yield message, payload

    def _gapless(self, start: float) -> Iterator[tuple[int, Frames]]:
        """(rate, frames), with silence where the track has none.

        Sound that begins after the picture, or pauses, must not shift the times of later words.
        """
        self._seconds = self._first["frames"][0][0] if self._about["sought"] else 0.0
        self._base, self._n_given = round(self._seconds * self.rate), 0
        origin = 0.0  # of the time stamps
        has_own_stamps = bool(_STAMPED & set(self._about["format"].split(",")))
        silence = 0.0
        # Raw FLAC numbers its frames: every gap is a fault. Elsewhere stamps jitter.
        shortest = 0.001 if self._about["format"] == "flac" else _GAP_SECONDS
        is_after_fault = is_restart = False
        for message, payload in self._messages():
            if message["kind"] == "lost":
                self._faults.lose(self._seconds, self._seconds)
                is_after_fault = True
                continue
            if message["kind"] == "restart":
                is_restart = True
                continue
            rate, n_channels = message["rate"], message["channels"]
            sound = _as_frames(message, payload)
            begin = done = 0  # frames that follow each other without a gap are given together
            if rate != self.sample_rate and not has_own_stamps:
                message["frames"] = [(None, n_samples) for _, n_samples in message["frames"]]
            for time_stamp, n_samples in message["frames"]:
                if time_stamp is not None:
                    if is_restart:
                        origin = time_stamp - self._seconds
                    gap = time_stamp - origin - self._seconds
                    if gap < -_GAP_SECONDS or 2 * silence + gap > _MOST_GAP_SECONDS + self._seconds:
                        # A chained stream begins at 0 again; a jump of hours is damage or a trap.
                        origin = time_stamp - self._seconds
                        if gap > 0:
                            self._promised = None
                            self.notes.append(
                                f"{self._name}: its time stamps jump by {gap:.0f} s at"
                                f" {self._seconds:.2f} s; heard without a pause there"
                            )
                    elif gap > (0.001 if is_after_fault else shortest):
                        n_missing = round(gap * rate)
                        gap = n_missing / rate
                        silence += gap
                        if is_after_fault or shortest < _GAP_SECONDS:
                            self._faults.lose(self._seconds, self._seconds + gap)
                        self._seconds += gap
                        if done > begin:
                            yield rate, sound[begin:done]
                            begin = done
                        yield from _silence(n_missing, rate, n_channels)
                is_after_fault = is_restart = False
                done += n_samples
                self._seconds += n_samples / rate
            if done > begin:
                yield rate, sound[begin:done]

    def has_last_sample(self) -> bool:
        return False

    def close(self) -> None:
        _give_back(self._process)


def _as_frames(message: dict[str, Any], payload: bytes) -> Frames:
    """(samples, channels) float32, of full scale 1, of a message in any of FFmpeg's sample formats."""
    name = message["format"]
    n_channels = message["channels"]
    values = np.frombuffer(payload, _DTYPES[name.rstrip("p")])
    if name.endswith("p"):
        parts, start = [], 0
        for _, n_samples in message["frames"]:
            end = start + n_samples * n_channels
            parts.append(values[start:end].reshape(n_channels, n_samples).T)
            start = end
        values = np.concatenate(parts)
    else:
        values = values.reshape(-1, n_channels)
    if values.dtype.kind == "u":
        return (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    if values.dtype.kind == "i":
        return values.astype(np.float32) / np.float32(2.0 ** (8 * values.dtype.itemsize - 1))
    return np.ascontiguousarray(values, np.float32)


def _silence(n: int, rate: int, n_channels: int) -> Iterator[tuple[int, Frames]]:
    while n > 0:
        yield rate, np.zeros((min(rate, n), n_channels), np.float32)
        n -= rate


def _one_rate(pieces: Iterator[tuple[int, Frames]], rate: int) -> Iterator[Frames]:
    """All at the same rate, in pieces of about a second."""
    import soxr

    stream: Any = None
    kind = (0, 0)
    held: list[Frames] = []
    n_held = 0
    for own_rate, frames in chain(pieces, [(0, np.zeros((0, 0), np.float32))]):
        if (own_rate, frames.shape[1]) != kind or n_held >= own_rate:
            if held:
                joined = held[0] if len(held) == 1 else np.concatenate(held)
                is_last = (own_rate, frames.shape[1]) != kind
                yield joined if stream is None else stream.resample_chunk(joined, last=is_last)
            held, n_held = [], 0
            if (own_rate, frames.shape[1]) != kind:
                kind = (own_rate, frames.shape[1])
                stream = None
                if own_rate not in (0, rate):
                    stream = soxr.ResampleStream(
                        own_rate, rate, kind[1], dtype="float32", quality="HQ"
                    )
        held.append(frames)
        n_held += len(frames)


def _promised_of_mp3(path: Path, rate: int) -> float | None:
    """Seconds by the number of frames that the first frame of an MP3 file tells, if it does."""
    with open(path, "rb") as file:
        head = file.read(10)
        while head[:3] == b"ID3" and len(head) == 10:
            size = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            file.seek(size, os.SEEK_CUR)
            head = file.read(10)
        first = head + file.read(100)
    if len(first) < 110 or first[0] != 0xFF:
        return None
    samples = 1152 if first[1] >> 3 & 3 == 3 else 576
    for name, place in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        at = first.find(name)
        if at >= 0 and (name == b"VBRI" or first[at + 7] & 1):
            return int.from_bytes(first[at + place : at + place + 4], "big") * samples / rate
    return None


def _is_last_page_cut(path: Path) -> bool:
    """Whether an Ogg file ends amid a page."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - (1 << 17)))
        content = file.read()
    at = content.rfind(b"OggS\0")
    if at < 0:
        return False
    page = content[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


class _DeadError(Exception):
    """The process that decodes ended, or had to be ended; says why."""


class _Process:
    """One that runs asr.decoder_process."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("decoder_process.py")
        places = json.dumps([place for place in sys.path if place])
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(program), str(os.getpid()), places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._popen.stdout is not None
        self._output = self._popen.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._owner = os.getpid()
        self.n_files = 0
        self.is_busy = False

    def ask(self, request: dict[str, Any]) -> None:
        self.n_files += 1
        self.is_busy = True
        self._write(json.dumps(request).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line)
        except OSError as error:
            raise _DeadError(self._why_dead()) from error

    def receive(self, patience: float | None = None) -> tuple[dict[str, Any], bytes]:
        """The next message. Raises _DeadError when there is none in time."""
        until = time.monotonic() + (_PATIENCE_SECONDS if patience is None else patience)
        n_head, n_payload = struct.unpack("<II", self._read(8, until))
        if n_head + n_payload > _LARGEST_MESSAGE:
            self.kill()
            raise _DeadError("its decoder crashed: damaged, or of an odd kind; convert it to WAV or FLAC")
        message = json.loads(self._read(n_head, until))
        payload = self._read(n_payload, until)
        if message["kind"] == "end":
            self.is_busy = False
            if message["for_good"]:
                self.n_files = _MOST_FILES
        return message, payload

    def _read(self, n: int, until: float) -> bytes:
        content = bytearray()
        while len(content) < n:
            if not self._poll.poll(max(0.0, 1000 * (until - time.monotonic()))):
                self.kill()
                raise _DeadError(f"gave no sound for {_PATIENCE_SECONDS:g} s")
            more = os.read(self._output, n - len(content))
            if not more:
                raise _DeadError(self._why_dead())
            content += more
        return bytes(content)

    def _why_dead(self) -> str:
        """Of a process that has ended."""
        self.kill()
        status = self._popen.returncode
        if status is not None and status < 0:
            with suppress(ValueError):
                how = signal.Signals(-status).name
                return f"its decoder crashed ({how}): damaged, or of an odd kind; convert it to WAV or FLAC"
        return "its decoder ended; convert it to WAV or FLAC"

    def stop(self) -> bool:
        """Be ready for another file; whether it is."""
        if self.n_files >= _MOST_FILES:
            return False
        try:
            if self.is_busy:
                self._write(b"stop\n")
            until = time.monotonic() + _STOP_SECONDS
            while self.is_busy:
                self.receive(max(0.0, until - time.monotonic()))
        except _DeadError:
            return False
        return self._popen.poll() is None

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        if self._owner != os.getpid():
            return
        self._popen.kill()
        self._popen.wait()

    def forget(self) -> None:
        """Close the pipes: after a fork they are the other process's."""
        for end in (self._popen.stdin, self._popen.stdout):
            if end is not None:
                end.close()
        self._popen.returncode = 0  # else its end is waited for


_lock = threading.Lock()
_idle: list[_Process] = []
_spawner: ThreadPoolExecutor | None = None
_all: set[_Process] = set()


def _borrow() -> _Process:
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.is_alive():
                return process
            _all.discard(process)
        process = _new_process()
        _all.add(process)
        return process


def _new_process() -> _Process:
    """Begun by a thread that lives as long as this process: the system ends the new one with it."""
    global _spawner
    if threading.current_thread() is threading.main_thread():
        return _Process()
    from concurrent.futures import ThreadPoolExecutor

    _spawner = _spawner or ThreadPoolExecutor(1)
    return _spawner.submit(_Process).result()


def _give_back(process: _Process) -> None:
    with _lock:
        if process not in _all or process in _idle:
            return
    is_ready = process.stop()
    with _lock:
        if is_ready and len(_idle) < _MOST_IDLE:
            _idle.append(process)
            return
        _all.discard(process)
    process.kill()


def _after_fork() -> None:
    global _lock, _spawner
    _lock, _spawner = threading.Lock(), None
    for process in _all:
        process.forget()
    _all.clear()
    _idle.clear()


@atexit.register
def _end_all() -> None:
    for process in list(_all):
        process.kill()


os.register_at_fork(after_in_child=_after_fork)
