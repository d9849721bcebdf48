"""Sound from anywhere as blocks of 16 kHz mono samples: the only place that knows file formats.

A file is decoded as asr.audio_decoders has it, read piece by piece, mixed to mono and resampled on
the way: memory does not grow with its length. Everything is heard that a good player would play; what
is not is known at the end, with its time.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.audio_decoders import Decoder, Faults, open_decoder
from asr.errors import AudioError, OutputError, UsageError
from asr.interruption import ended_by_signals, is_ignored

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000

AUDIO_SUFFIXES = frozenset(
    ".3g2 .3gp .aac .ac3 .adts .aif .aifc .aiff .amr .ape .asf .au .avi .awb .bwf .caf .divx .dss .dts"
    " .dv .eac3 .ec3 .f4a .f4v .flac .flv .gsm .latm .m2a .m2t .m2ts .m4a .m4b .m4v .mka .mkv .mov .mp1"
    " .mp2 .mp3 .mp4 .mpa .mpc .mpeg .mpg .mts .mxf .nist .nut .oga .ogg .ogm .ogv .oma .opus .qcp .ra"
    " .rf64 .rm .rmvb .sln .snd .sph .spx .tak .ts .tta .voc .vob .w64 .wav .wave .weba .webm .wma .wmv"
    " .wtv .wv".split()
)

LOWEST_SAMPLE_RATE = 1_000  # below it no vowel is left
HIGHEST_SAMPLE_RATE = 768_000  # of PCM hardware; a header that claims more is damaged

_GRACE_SECONDS = 0.5  # for what a recorder writes after Ctrl-C, which reaches it too
_VALUES_AT_ONCE = 1 << 19  # samples x channels at once
_LARGEST_SAMPLE = 2.0**32  # beyond integers of 32 bits as floats; sums of squares stay finite
_LARGEST_WAV = 0xFFFF_FFF0  # bytes whose number fits into the header of a WAV
_CLEARLY = 4.0  # times the power: how much more is left of a difference of channels than of their sum
_PIECES_TO_SEE_SCALE = 10  # seconds after which floats are known to be in the range of integers
_LEAST_INTEGER_PEAK = 32.0  # 30 dB above full scale, or 60 dB below that of 16 bits

_LOUD_ENOUGH = 0.01  # of the power of the loudest second: a voice, by which channels can be compared

logger = logging.getLogger(__name__)


def is_audio_path(path: str | Path) -> bool:
    """Whether the file's name ends like sound or video; the file itself is not looked at."""
    return Path(path).suffix.lower() in AUDIO_SUFFIXES


def library_versions() -> dict[str, str]:
    """Versions of the libraries that read files; AudioError when one of them cannot be loaded."""
    try:
        import av
        import soundfile
        import soxr
    except (ImportError, OSError) as error:
        raise AudioError(f"a library that reads sound is missing ({error}); install asr again") from None
    return {
        "libsndfile": soundfile.__libsndfile_version__,
        "FFmpeg": av.ffmpeg_version_info,
        "soxr": soxr.__version__,
    }


def find_audio(directory: str | Path, recursive: bool = False) -> list[Path]:
    """Sound and video files in a directory, sorted by path, without hidden ones.

    Raises AudioError when there is none.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise AudioError(f"{directory}: no such directory; check the path")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise AudioError(f"{directory}: no permission to list it; change its mode or owner")
    found: list[Path] = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in files
            if is_audio_path(name) and not name.startswith(".") and not _is_text(Path(folder, name))
        ]
    if not found:
        remedy = "check the path" if recursive else "add --recursive to look into its folders too"
        raise AudioError(f"{directory}: no audio files in this directory; {remedy}")
    return sorted(found)


def _is_text(path: Path) -> bool:
    """Whether a .ts file holds a program or a translation instead of an MPEG transport stream."""
    if path.suffix.lower() != ".ts":
        return False
    try:
        with open(path, "rb") as file:
            return file.read(1) != b"\x47"
    except OSError:
        return False  # opening it will tell the reason


@contextmanager
def spool_standard_input() -> Iterator[Path]:
    """Standard input as a file that can be opened several times and that no other program sees.

    The first Ctrl-C ends the recording that is piped in; what came so far is kept.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise AudioError("standard input: is closed; pipe a recording into it")
    with _spool(sys.stdin.buffer, "standard input") as path:
        yield path


@contextmanager
def spool_pipe(path: str | Path) -> Iterator[Path]:
    """A named pipe, or one that a shell made for <(...), as spool_standard_input() has it."""
    try:
        stream = open(path, "rb", buffering=0)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    with stream, _spool(stream, str(path)) as spooled:
        yield spooled


@contextmanager
def _spool(stream: Any, name: str) -> Iterator[Path]:
    with ExitStack() as stack:
        # Without a name, it cannot stay behind, however this process ends.
        spool: Any = stack.enter_context(tempfile.TemporaryFile(prefix="asr-"))
        path = Path(f"/proc/{os.getpid()}/fd/{spool.fileno()}")
        if not (path.exists() and os.path.samestat(path.stat(), os.fstat(spool.fileno()))):
            # This is no Linux, or its /proc belongs to another container.
            spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="asr-", suffix=".audio"))
            path = Path(spool.name)
        try:
            _copy_until_ended(stream, spool)
            spool.flush()
        except OSError as error:
            raise AudioError(
                f"{name}: cannot be kept in {tempfile.gettempdir()} ({error.strerror});"
                " make room there or point TMPDIR elsewhere"
            ) from error
        yield path


def _copy_until_ended(stream: Any, spool: Any) -> None:
    """Copy up to the end or the first Ctrl-C, after which the program that records has a moment to finish."""
    try:
        descriptor = stream.fileno()
        select.select([descriptor], [], [], 0)
    except (OSError, ValueError):  # not a pipe, or of a system that cannot wait for one
        shutil.copyfileobj(stream, spool, 1 << 20)
        return
    deadline = math.inf

    def stop() -> None:
        nonlocal deadline
        deadline = time.monotonic() + _GRACE_SECONDS

    # In the background of a script Ctrl-C is ignored: it is meant for what is in front.
    with ended_by_signals(stop, [] if is_ignored(signal.SIGINT) else [signal.SIGINT]):
        # select() wakes up to look at the deadline: a read goes on after a signal that raises nothing.
        while time.monotonic() < deadline:
            if select.select([descriptor], [], [], 0.1)[0]:
                data = os.read(descriptor, 1 << 20)
                if not data:
                    break
                spool.write(data)
    if deadline < math.inf and not spool.tell():
        raise KeyboardInterrupt  # nothing was recorded


class AudioReader:
    """Blocks of a recording: 1-D contiguous float32, 16 kHz mono, all but the last of one size.

    Can be walked through once, also past a damaged place, as a player does. If something could not be
    heard, AudioError is raised after the last block; heard() leaves it in `error` instead.

    name: what messages call it. sample_rate, n_channels: those of the source.
    duration: seconds that the source's header promises or lets guess, after offset and limit; None if
    unknown.
    """

    def __init__(
        self,
        name: str,
        sample_rate: int,
        n_channels: int,
        duration: float | None,
        blocks: Iterator[Samples],
        find_error: Callable[[], AudioError | None],
        close: Callable[[], object],
    ) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.n_channels = n_channels
        self.duration = duration
        self.error: AudioError | None = None
        self._blocks = blocks
        self._find_error = find_error
        self._close = close

    def __iter__(self) -> Iterator[Samples]:
        yield from self.heard()
        if self.error is not None:
            raise self.error

    def heard(self) -> Iterator[Samples]:
        """The blocks without an error at their end: that is in `error`, where work on them can go on."""
        yield from self._blocks
        self.error = self._find_error()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._close()


def open_audio(
    source: str | Path,
    *,
    channels: str | int = "mix",
    offset: float = 0.0,
    duration: float | None = None,
    raw_sample_rate: int | None = None,
    track: int | None = None,
    block_seconds: float = 10.0,
    name: str | None = None,
) -> AudioReader:
    """A recording as blocks of 16 kHz mono samples, in [-1, 1] unless a float file exceeds that.

    source: a path, or "-" for standard input.
    channels: "mix" for their mean, or the number of one, counted from 1.
    offset, duration: seconds; what is skipped is not decoded where the format can seek.
    raw_sample_rate: the source is headerless signed 16-bit little-endian mono at this rate.
    track: the number of a sound track, from 1; the default one if left out.
    name: what messages call the source, when its path would say nothing to the user.

    The first block is decoded here, so that most bad files are reported before any other work.
    Raises AudioError for a source that cannot be read, UsageError for impossible options.
    """
    channel = _channel_index(channels)
    if not 0 <= offset < math.inf:
        raise UsageError(f"offset {offset:g}: must be a time in seconds, 0 or more")
    if duration is not None and not 0 < duration:
        raise UsageError(f"duration {duration:g}: must be a time in seconds, more than 0")
    if raw_sample_rate is not None and raw_sample_rate <= 0:
        raise UsageError(f"sample rate {raw_sample_rate}: must be more than 0")
    if track is not None and track < 1:
        raise UsageError(f"track {track}: tracks are counted from 1")
    with ExitStack() as stack:
        if source == "-":
            name = name or "standard input"
            source = stack.enter_context(spool_standard_input())
        path = Path(source)
        name = name or str(path)
        _check_readable(path, name)
        if raw_sample_rate is None and path.suffix.lower() in {".raw", ".pcm"}:
            # Guessing a format from bare samples finds one by accident and decodes noise.
            raise AudioError(f"{name}: raw samples have no header; give --raw --sample-rate HZ")
        faults = Faults(name)
        decoder = open_decoder(path, name, faults, raw_sample_rate, track)
        stack.callback(decoder.close)
        if not LOWEST_SAMPLE_RATE <= decoder.sample_rate <= HIGHEST_SAMPLE_RATE:
            raise AudioError(
                f"{name}: a sample rate of {decoder.sample_rate} Hz is not speech; "
                f"{LOWEST_SAMPLE_RATE} to {HIGHEST_SAMPLE_RATE} Hz can be read"
            )
        if channel is not None and not 0 <= channel < decoder.n_channels:
            raise AudioError(
                f"{name}: there is no channel {channel + 1}, it has {decoder.n_channels};"
                " choose one of them or mix"
            )
        rate = decoder.rate
        start = round(offset * rate)
        count = None
        if duration is not None and duration < math.inf:
            count = max(1, round(duration * rate))
        end = math.inf if count is None else (start + count) / rate
        seconds = None
        if decoder.seconds is not None:
            n_left = max(0, round(decoder.seconds * rate) - start)
            seconds = (n_left if count is None else min(n_left, count)) / rate

        frames = _framed(decoder.pieces(start), min(rate, _VALUES_AT_ONCE // decoder.n_channels + 1))
        pieces = _mono(_finite(frames, start, rate, faults), channel, start, rate, faults)
        if decoder.is_float:
            pieces = _scaled(pieces, lambda note: _tell(f"{name}: {note}"))
        pieces = resample(_take(count, pieces), rate)
        blocks = _regroup(pieces, max(1, round(block_seconds * SAMPLE_RATE)))
        first = next(blocks, None)
        if first is None:
            raise faults.error(offset, end) or AudioError(_why_empty(name, offset, decoder))
        close = stack.pop_all().close

    def find_error() -> AudioError | None:
        for note in decoder.notes:
            _tell(note)
        return faults.error(offset, end)

    for note in decoder.notes:
        _tell(note)
    return AudioReader(
        name,
        decoder.sample_rate,
        decoder.n_channels,
        seconds,
        chain([first], blocks),
        find_error,
        close,
    )


def _tell(note: str) -> None:
    """Warn of what the user should know although all is heard: once, however often a file is opened."""
    if note not in _told:
        _told.add(note)
        logger.warning("%s", note)


_told: set[str] = set()


def read_duration(path: str | Path) -> float:
    """Seconds of sound that can be heard: a header's word is taken where the last sample is there.

    Raises AudioError for a source that cannot be read whole.
    """
    path = Path(path)
    _check_readable(path, str(path))
    decoder = open_decoder(path, str(path), Faults(str(path)), None, None)
    try:
        if decoder.seconds and decoder.has_last_sample():
            return decoder.seconds
    finally:
        decoder.close()
    with open_audio(path) as reader:
        return sum(map(len, reader)) / SAMPLE_RATE


def read_audio(
    source: str | Path,
    *,
    channels: str | int = "mix",
    offset: float = 0.0,
    duration: float | None = None,
    raw_sample_rate: int | None = None,
) -> Samples:
    """A whole recording, 1-D float32 at 16 kHz; the options are those of open_audio()."""
    with open_audio(
        source,
        channels=channels,
        offset=offset,
        duration=duration,
        raw_sample_rate=raw_sample_rate,
    ) as reader:
        return np.concatenate(list(reader))


def from_array(array: NDArray[Any], sample_rate: int = SAMPLE_RATE) -> Samples:
    """Samples that are in memory as 1-D float32 at 16 kHz.

    array: (samples,) or (samples, 1), floats in [-1, 1] or signed integers of 16 or 32 bits.
    Raises AudioError for anything else, and for samples that are no finite numbers.
    """
    name = "the array"
    values = np.asarray(array)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise AudioError(
            f"{name} has the shape {values.shape}, not (samples,); mix its channels, or give one of them"
        )
    if not len(values):
        raise AudioError(f"{name} is empty")
    if values.dtype in (np.int16, np.int32):
        samples = (values / 2.0 ** (8 * values.dtype.itemsize - 1)).astype(np.float32)
    elif values.dtype.kind == "f":
        samples = np.ascontiguousarray(values, dtype=np.float32)
    else:
        raise AudioError(f"{name} holds {values.dtype}; give float32, in [-1, 1], or int16")
    if not LOWEST_SAMPLE_RATE <= sample_rate <= HIGHEST_SAMPLE_RATE:
        raise AudioError(
            f"a sample rate of {sample_rate} Hz is not speech; "
            f"{LOWEST_SAMPLE_RATE} to {HIGHEST_SAMPLE_RATE} Hz can be read"
        )
    is_finite = np.isfinite(samples)
    if not is_finite.all():
        first = int(is_finite.argmin())
        raise AudioError(f"{name}: sample {first} (at {first / sample_rate:.2f} s) is not a finite number")
    return np.concatenate(list(resample(iter([samples]), sample_rate)))


@contextmanager
def write_audio(path: str | Path) -> Iterator[Callable[[Samples], None]]:
    """A function that appends 16 kHz mono samples to a 16-bit WAV or FLAC file, as its name says.

    The file gets its name when the context ends, also by an error: what was recorded is not lost.
    Raises UsageError for another kind of file, OutputError when it cannot be written.
    """
    import soundfile

    path = Path(path)
    if path.suffix.lower() not in {".wav", ".flac"}:
        raise UsageError(f"{path}: recordings are saved as .wav or .flac; choose such a name")
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}{path.suffix}")

    def failed(error: Exception) -> OutputError:
        reason = " ".join(str(error).split())
        return OutputError(f"{path}: cannot be written ({reason}); check the folder and the disk")

    def append(samples: Samples) -> None:
        try:
            file.write(samples)
        except (soundfile.SoundFileError, OSError) as error:
            raise failed(error) from error

    try:
        file = soundfile.SoundFile(temporary, "w", SAMPLE_RATE, channels=1, subtype="PCM_16")
    except (soundfile.SoundFileError, OSError) as error:
        raise failed(error) from error
    try:
        with file:
            yield append
    finally:
        if path.suffix.lower() == ".wav" and temporary.stat().st_size > _LARGEST_WAV:
            _leave_length_open(temporary)
        os.replace(temporary, path)


def _leave_length_open(path: Path) -> None:
    """Say in the header of a WAV, as programs do that write into a pipe, that it goes on to its end.

    libsndfile writes what is left of a length that does not fit, and readers would believe it.
    """
    with open(path, "r+b") as file:
        at = file.read(4096).index(b"data") + 4
        for place in (4, at):
            file.seek(place)
            file.write(b"\xff" * 4)


def _channel_index(channels: str | int) -> int | None:
    if channels == "mix":
        return None
    try:
        return int(channels) - 1
    except ValueError:
        raise UsageError(f"channels {channels!r}: must be mix or the number of a channel") from None


def _why_empty(name: str, offset: float, decoder: Decoder) -> str:
    if not offset:
        return f"{name}: no samples in it; was the recording stopped before it began?"
    length = f" ({decoder.n_heard / decoder.rate:.3f} s)" if decoder.n_heard else ""
    return f"{name}: offset {offset:g} s is at or beyond the end{length}; choose a smaller one"


def _check_readable(path: Path, name: str) -> None:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a directory; name a file in it")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{name}: is not a regular file; use - and pipe it to standard input")
        with open(path, "rb") as file:
            if not file.read(1):
                raise AudioError(f"{name}: is empty (0 bytes); was it copied completely?")
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise AudioError(f"{name}: no permission to read it; change its mode or owner") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name}: cannot be read ({reason}); check the path") from error


def _framed(pieces: Iterator[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """The same (samples, channels), each `size` long but where the number of channels changes."""
    held: list[NDArray[Any]] = []
    n_held = 0
    for piece in pieces:
        if held and piece.shape[1] != held[0].shape[1]:
            yield np.concatenate(held)
            held, n_held = [], 0
        while n_held + len(piece) >= size:
            n_taken = size - n_held
            yield np.concatenate([*held, piece[:n_taken]]) if held else piece[:n_taken]
            piece = piece[n_taken:]
            held, n_held = [], 0
        if len(piece):
            held.append(piece)
            n_held += len(piece)
    if held:
        yield np.concatenate(held)


def _finite(
    pieces: Iterator[NDArray[Any]], position: int, rate: int, faults: Faults
) -> Iterator[NDArray[Any]]:
    """The same with silence where samples are no numbers that sound can have."""
    for piece in pieces:
        is_finite = np.abs(piece) <= _LARGEST_SAMPLE  # False for NaN
        if not is_finite.all():
            if faults.not_finite is None:
                first = position + int((~is_finite).any(axis=1).argmax())
                faults.not_finite = (first, first / rate)
            piece = np.where(is_finite, piece, np.float32(0))
        yield piece
        position += len(piece)


def _mono(
    pieces: Iterator[NDArray[Any]], channel: int | None, position: int, rate: int, faults: Faults
) -> Iterator[Samples]:
    """One channel, or the mean of all; those that are upside down are turned first.

    Two channels of opposite sign (a plug soldered wrongly) would leave nothing of the voice. Each
    second with a voice is judged by itself, without the low tones, where hum may be opposite by right.
    """
    polarity = _Polarity(rate)
    for piece in pieces:
        n_channels = piece.shape[1]
        if channel is not None and channel >= n_channels:
            at = position / rate
            reason = f"there is no channel {channel + 1} any more at {at:.2f} s; mix them"
            faults.other = faults.other or [(at, reason)]
            yield np.zeros(len(piece), np.float32)
        elif channel is not None or n_channels == 1:
            yield to_mono(piece, channel)
        else:
            signs = polarity.of(piece)
            yield to_mono(piece if (signs == 1).all() else piece * signs, None)
        position += len(piece)


class _Polarity:
    """Which channels of a recording are upside down."""

    def __init__(self, rate: int) -> None:
        self._step = max(1, rate // 8000)  # a part of the samples tells enough
        self._signs = np.ones(0, np.float32)
        self._loudest = 0.0

    def of(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """1 or -1 for each channel, so that they add up; as before where that is not clear."""
        if len(self._signs) != frames.shape[1]:
            self._signs, self._loudest = np.ones(frames.shape[1], np.float32), 0.0
        coarse = np.ascontiguousarray(frames[:: self._step].T)
        voices = coarse[:, 2:] - 2 * coarse[:, 1:-1] + coarse[:, :-2]  # nearly 60 dB less of hum
        power = float(np.vdot(voices, voices))
        self._loudest = max(self._loudest, power)
        if power > _LOUD_ENOUGH * self._loudest:
            total = voices[0]
            for i in range(1, frames.shape[1]):
                other = voices[i]
                in_sum, in_difference = (float(x @ x) for x in (total + other, total - other))
                if in_difference > _CLEARLY * in_sum:
                    self._signs[i] = -1
                elif in_sum > _CLEARLY * in_difference:
                    self._signs[i] = 1
                total = total + self._signs[i] * other
        return self._signs


def _scaled(pieces: Iterator[Samples], tell: Callable[[str], None]) -> Iterator[Samples]:
    """Floats in the range of integers brought to full scale 1.

    Waits for ten seconds of sound before the first sample is given, for what is quiet comes first.
    """
    held: list[Samples] = []
    n_held = 0
    divisor: float | None = None
    for piece in pieces:
        if divisor is None:
            if not held and not piece.any():
                yield piece
                continue
            held.append(piece)
            n_held += 1
            if n_held < _PIECES_TO_SEE_SCALE:
                continue
            piece, held = np.concatenate(held), []
            divisor = _integer_scale(piece)
        elif divisor == 1:
            divisor = _integer_scale(piece)
        else:
            yield piece / np.float32(divisor)
            continue
        if divisor > 1:
            tell(f"its samples are floats in the range of integers; divided by {divisor:.0f}")
        yield piece if divisor == 1 else piece / np.float32(divisor)
    if held:
        piece = np.concatenate(held)
        divisor = _integer_scale(piece)
        if divisor > 1:
            tell(f"its samples are floats in the range of integers; divided by {divisor:.0f}")
        yield piece if divisor == 1 else piece / np.float32(divisor)


def _integer_scale(samples: Samples) -> float:
    """Full scale of samples that are integers stored as floats; 1 for proper floats."""
    sizes = np.abs(samples)
    peak = float(sizes.max(initial=0))
    if peak < _LEAST_INTEGER_PEAK or float((sizes > 1).mean()) < 0.01:
        return 1.0
    return next((scale for scale in (2.0**15, 2.0**23, 2.0**31) if peak <= scale), 1.0)


def to_mono(frames: NDArray[Any], channel: int | None) -> Samples:
    """One channel of (samples, channels), or the mean of all."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    if channel is not None:
        return np.ascontiguousarray(frames[:, channel])
    return frames.mean(axis=1, dtype=np.float32)


def _take(count: int | None, pieces: Iterator[Samples]) -> Iterator[Samples]:
    for piece in pieces:
        if count is None:
            yield piece
            continue
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def resample(pieces: Iterator[Samples], rate: int) -> Iterator[Samples]:
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(np.ascontiguousarray(piece))
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _regroup(pieces: Iterator[Samples], size: int) -> Iterator[Samples]:
    """The same samples in new arrays of `size`, the last one shorter."""
    held: list[Samples] = []
    n_held = 0
    for piece in pieces:
        while n_held + len(piece) >= size:
            n_taken = size - n_held
            yield np.concatenate([*held, piece[:n_taken]])
            piece = piece[n_taken:]
            held, n_held = [], 0
        if len(piece):
            held.append(piece)
            n_held += len(piece)
    if n_held:
        yield np.concatenate(held)
