"""Sound from anywhere as blocks of 16 kHz mono samples: the only place that knows file formats.

A file is opened by libsndfile (WAV, FLAC, MP3, OGG, Opus, AIFF, ...) and, where that does not know
it, by FFmpeg through PyAV (M4A, AAC, MP4, MKV, WebM, ...: the first sound track). Either way it is
read piece by piece, mixed to mono and resampled on the way: memory does not grow with its length.
"""

from __future__ import annotations

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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.errors import AudioError, OutputError, UsageError
from asr.interruption import ended_by_signals, is_ignored

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000

AUDIO_SUFFIXES = frozenset(
    ".3gp .aac .ac3 .aif .aifc .aiff .amr .au .avi .caf .flac .flv .m4a .m4b .m4v .mka .mkv .mov"
    " .mp2 .mp3 .mp4 .mpeg .mpg .mts .oga .ogg .ogv .opus .spx .w64 .wav .weba .webm .wma"
    " .wmv".split()
)

LOWEST_SAMPLE_RATE = 1_000  # below it no vowel is left
HIGHEST_SAMPLE_RATE = 768_000  # of PCM hardware; a header that claims more is damaged

_VALUES_PER_READ = 1 << 19  # samples x channels held at once while decoding
_GRACE_SECONDS = 0.5  # for what a recorder writes after Ctrl-C, which reaches it too
_SALVAGE_FRAMES = 512  # read size when looking for the exact place where a file is damaged
_PREROLL_SECONDS = 0.5  # AAC and Opus need some packets before their output is right after a seek
_GAP_SECONDS = 0.2  # a jump of the time stamps that is larger than any rounding or jitter
# FFmpeg formats with an index and trustworthy time stamps; in others a seek is a guess by bit rate.
_SEEKABLE_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm"})


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
            Path(folder, name) for name in files if is_audio_path(name) and not name.startswith(".")
        ]
    if not found:
        remedy = "check the path" if recursive else "add --recursive to look into its folders too"
        raise AudioError(f"{directory}: no audio files in this directory; {remedy}")
    return sorted(found)


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

    Can be walked through once. A recording that turns out to be damaged gives its good samples
    first and then raises AudioError.

    name: what messages call it. sample_rate, n_channels: those of the source.
    duration: seconds that the source's header promises, after offset and limit; None if unknown.
    """

    def __init__(
        self,
        name: str,
        sample_rate: int,
        n_channels: int,
        duration: float | None,
        blocks: Iterator[Samples],
        close: Callable[[], object],
    ) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.n_channels = n_channels
        self.duration = duration
        self._blocks = blocks
        self._close = close

    def __iter__(self) -> Iterator[Samples]:
        return self._blocks

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
    block_seconds: float = 10.0,
    name: str | None = None,
) -> AudioReader:
    """A recording as blocks of 16 kHz mono samples, in [-1, 1] unless a float file exceeds that.

    source: a path, or "-" for standard input.
    channels: "mix" for their mean, or the number of one, counted from 1.
    offset, duration: seconds; what is skipped is not decoded where the format can seek.
    raw_sample_rate: the source is headerless signed 16-bit little-endian mono at this rate.
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
    with ExitStack() as stack:
        if source == "-":
            name = name or "standard input"
            source = stack.enter_context(spool_standard_input())
        path = Path(source)
        name = name or str(path)
        decoder = _open_decoder(path, name, raw_sample_rate)
        stack.callback(decoder.close)
        rate = decoder.sample_rate
        if not LOWEST_SAMPLE_RATE <= rate <= HIGHEST_SAMPLE_RATE:
            raise AudioError(
                f"{name}: a sample rate of {rate} Hz is not speech; "
                f"{LOWEST_SAMPLE_RATE} to {HIGHEST_SAMPLE_RATE} Hz can be read"
            )
        if channel is not None and not 0 <= channel < decoder.n_channels:
            raise AudioError(
                f"{name}: there is no channel {channel + 1}, it has {decoder.n_channels};"
                " choose one of them or mix"
            )
        start = round(offset * rate)
        count = None
        if duration is not None and duration < math.inf:
            count = max(1, round(duration * rate))
        seconds = None
        if decoder.n_frames is not None:
            n_left = max(0, decoder.n_frames - start)
            seconds = (n_left if count is None else min(n_left, count)) / rate

        pieces = _take(count, decoder.pieces(start, channel))
        pieces = resample(_check_finite(pieces, start, rate, name), rate)
        blocks = _regroup(pieces, max(1, round(block_seconds * SAMPLE_RATE)))
        first = next(blocks, None)
        if first is None:
            raise AudioError(_why_empty(name, offset, decoder))
        close = stack.pop_all().close
    return AudioReader(name, rate, decoder.n_channels, seconds, chain([first], blocks), close)


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
        os.replace(temporary, path)


def _channel_index(channels: str | int) -> int | None:
    if channels == "mix":
        return None
    try:
        return int(channels) - 1
    except ValueError:
        raise UsageError(f"channels {channels!r}: must be mix or the number of a channel") from None


def _why_empty(name: str, offset: float, decoder: _Decoder) -> str:
    if not offset:
        return f"{name}: no samples in it; was the recording stopped before it began?"
    length = "" if not decoder.n_frames else f" ({decoder.n_frames / decoder.sample_rate:.3f} s)"
    return f"{name}: offset {offset:g} s is at or beyond the end{length}; choose a smaller one"


def _open_decoder(path: Path, name: str, raw_sample_rate: int | None) -> _Decoder:
    _check_readable(path, name)
    import soundfile

    if raw_sample_rate is None and path.suffix.lower() in {".raw", ".pcm"}:
        # Guessing a format from bare samples finds one by accident and decodes noise.
        raise AudioError(f"{name}: raw samples have no header; give --raw --sample-rate HZ")
    try:
        decoder = _SoundFileDecoder(path, name, raw_sample_rate)
    except soundfile.SoundFileError as error:
        if raw_sample_rate is not None:
            raise AudioError(f"{name}: cannot be read as raw samples; check the file") from error
        return _ContainerDecoder(path, name)
    # A recorder that was cut off leaves a header that says 0: FFmpeg reads what follows it.
    if decoder.n_frames == 0 and raw_sample_rate is None:
        decoder.close()
        return _ContainerDecoder(path, name)
    return decoder


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


class _Decoder(Protocol):
    """A source at its own rate. n_frames: what its header promises, None if it does not say."""

    sample_rate: int
    n_channels: int
    n_frames: int | None

    def pieces(self, start: int, channel: int | None) -> Iterator[Samples]:
        """Mono samples from frame `start` on, in pieces of bounded size."""

    def close(self) -> None: ...


class _SoundFileDecoder:
    def __init__(self, path: Path, name: str, raw_sample_rate: int | None) -> None:
        self._path = os.fsencode(path)
        self._name = name
        self._raw: dict[str, Any] = {}
        if raw_sample_rate is not None:
            self._raw = {
                "samplerate": raw_sample_rate,
                "channels": 1,
                "format": "RAW",
                "subtype": "PCM_16",
                "endian": "LITTLE",
            }
        self._open()
        self.sample_rate: int = self._file.samplerate
        self.n_channels: int = self._file.channels
        # Streamed FLAC does not know its length; libsndfile then gives its largest number.
        self.n_frames = self._file.frames if self._file.frames < 1 << 62 else None
        self._n_per_read = max(_SALVAGE_FRAMES, _VALUES_PER_READ // self.n_channels)

    def _open(self) -> None:
        import soundfile

        self._file = soundfile.SoundFile(self._path, **self._raw)
        # After every read of a seekable file soundfile seeks to where it already is. In MP3 with a
        # variable bit rate libsndfile then lands elsewhere, and the blocks do not join.
        self._file.seekable = lambda: False

    def _go_to(self, position: int) -> None:
        """Continue at this frame of a file that was just opened."""
        if self._file.format != "MP3":
            self._file.seek(position)
            return
        while position > 0:
            skipped = len(self._read(min(position, self._n_per_read)))
            if not skipped:
                return
            position -= skipped

    def _read(self, n_frames: int) -> Samples:
        frames: Samples = self._file.read(n_frames, dtype="float32", always_2d=True)
        return frames

    def pieces(self, start: int, channel: int | None) -> Iterator[Samples]:
        import soundfile

        if self.n_frames is not None and start >= self.n_frames:
            return
        position = start
        step = self._n_per_read
        # libsndfile leaves out Opus's pre-skip, where FFmpeg has written it, only after a seek.
        must_seek = start > 0 or self._file.subtype == "OPUS"
        while True:
            try:
                if must_seek:
                    self._go_to(position)
                    must_seek = False
                frames = self._read(step)
            except soundfile.SoundFileError as error:
                if step == _SALVAGE_FRAMES:
                    raise self._damaged(position) from error
                # What was decoded before the damage is lost with the failed read: get it again.
                step = _SALVAGE_FRAMES
                self._file.close()
                self._open()
                must_seek = True
                continue
            if not len(frames):
                break
            position += len(frames)
            yield to_mono(frames, channel)
        # Only FLAC always states its length exactly: cut between two of its frames, it just ends.
        if self._file.format == "FLAC" and self.n_frames is not None and position < self.n_frames:
            raise self._damaged(position)

    def _damaged(self, position: int) -> AudioError:
        return _damaged(self._name, position / self.sample_rate)

    def close(self) -> None:
        self._file.close()


class _ContainerDecoder:
    """The first sound track of anything that FFmpeg can read, placed by its time stamps."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._open()

    def _open(self) -> None:
        import av

        try:
            # The prefix and the list keep names and play lists from reaching for the network.
            self._container = av.open(
                "file:" + str(self._path),
                options={"protocol_whitelist": "file"},
                metadata_errors="ignore",
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise AudioError(self._unreadable()) from error
        try:
            if not self._container.streams.audio:
                raise AudioError(
                    f"{self._name}: no audio stream found; is this a video without sound?"
                )
            self._stream = self._container.streams.audio[0]
            self._frames = iter(self._container.decode(self._stream))
            try:
                self._first = next(self._frames, None)
            except (av.error.FFmpegError, ValueError) as error:
                raise AudioError(self._unreadable()) from error
            if self._first is None:
                raise AudioError(
                    f"{self._name}: no samples in it; was the recording stopped before it began?"
                )
        except BaseException:
            self._container.close()
            raise
        # Not the stream's own rate: the header of an HE-AAC stream gives half of what comes out.
        self.sample_rate = int(self._first.sample_rate)
        self.n_channels = int(self._first.layout.nb_channels)
        self.n_frames: int | None = None
        if self._container.duration is not None:
            self.n_frames = round(self._container.duration * self.sample_rate / av.time_base)
        origin = self._container.start_time
        if origin is not None:
            self._origin_seconds = origin / av.time_base
        elif self._first.time is not None:
            self._origin_seconds = self._first.time
        else:
            self._origin_seconds = 0.0

    def _unreadable(self) -> str:
        remedy = "convert it to WAV or FLAC, or give --raw if it is bare samples"
        return f"{self._name}: not a sound or video file, or damaged; {remedy}"

    def pieces(self, start: int, channel: int | None) -> Iterator[Samples]:
        frames, position = self._frames_before(start)
        pieces = self._gapless(frames, position, channel)
        yield from _regroup(_drop(start - position, pieces), self.sample_rate)

    def _frames_before(self, start: int) -> tuple[Iterator[Any], int]:
        """Decoded frames that begin at or before sample `start`, and where the first one begins."""
        import av

        target = start / self.sample_rate - _PREROLL_SECONDS
        names = set(self._container.format.name.split(","))
        if target > _PREROLL_SECONDS and names & _SEEKABLE_CONTAINERS:
            try:
                seconds = target + self._origin_seconds
                self._container.seek(round(seconds * av.time_base), backward=True)
                frames = iter(self._container.decode(self._stream))
                first = next(frames, None)
            except av.error.FFmpegError:
                first = None
            position = None if first is None else self._position(first)
            if position is not None and position <= start:
                return chain([first], frames), position
            self._container.close()  # a file without a usable index: decode from the beginning
            self._open()
        return chain([self._first], self._frames), 0

    def _position(self, frame: Any) -> int | None:
        if frame.time is None:
            return None
        return round((frame.time - self._origin_seconds) * self.sample_rate)

    def _gapless(
        self, frames: Iterator[Any], position: int, channel: int | None
    ) -> Iterator[Samples]:
        """Mono samples of the frames, with silence where the sound track has none.

        Sound that begins after the picture, or pauses, must not shift the times of later words.
        """
        import av

        rate = self.sample_rate
        while True:
            try:
                frame = next(frames, None)
            except (av.error.FFmpegError, ValueError) as error:
                raise _damaged(self._name, position / rate) from error
            if frame is None:
                return
            if frame.sample_rate != rate:
                raise AudioError(
                    f"{self._name}: the sample rate changes from {rate} to {frame.sample_rate} Hz"
                    f" at {position / rate:.2f} s; convert it to WAV or FLAC"
                )
            due = self._position(frame)
            # A time stamp beyond the promised end is damage, not a pause.
            if (
                due is not None
                and due - position > _GAP_SECONDS * rate
                and self.n_frames is not None
                and due <= self.n_frames
            ):
                while position < due:
                    silence = np.zeros(min(rate, due - position), dtype=np.float32)
                    position += len(silence)
                    yield silence
            samples = _frame_samples(frame)
            if channel is not None and channel >= samples.shape[1]:
                raise AudioError(
                    f"{self._name}: there is no channel {channel + 1} any more at"
                    f" {position / rate:.2f} s; use another one or mix"
                )
            position += len(samples)
            yield to_mono(samples, channel)

    def close(self) -> None:
        self._container.close()


def _frame_samples(frame: Any) -> NDArray[Any]:
    """(samples, channels) float32 in [-1, 1] of an FFmpeg frame of any sample format."""
    values = frame.to_ndarray()
    if frame.format.is_packed:
        values = values.reshape(-1, frame.layout.nb_channels)
    else:
        values = values.T
    if values.dtype.kind == "u":
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return values.astype(np.float32) / np.float32(2.0 ** (8 * values.dtype.itemsize - 1))
    return values.astype(np.float32, copy=False)


def to_mono(frames: NDArray[Any], channel: int | None) -> Samples:
    if frames.shape[1] == 1:
        return frames[:, 0]
    if channel is not None:
        return np.ascontiguousarray(frames[:, channel])
    return frames.mean(axis=1, dtype=np.float32)


def _damaged(name: str, seconds: float) -> AudioError:
    return AudioError(
        f"{name}: damaged or cut off at {seconds:.2f} s; copy or record it again,"
        " or use only the part before"
    )


def _drop(count: int, pieces: Iterator[Samples]) -> Iterator[Samples]:
    for piece in pieces:
        if count < len(piece):
            yield piece[count:]
        count = max(0, count - len(piece))


def _take(count: int | None, pieces: Iterator[Samples]) -> Iterator[Samples]:
    for piece in pieces:
        if count is None:
            yield piece
            continue
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def _check_finite(
    pieces: Iterator[Samples], position: int, rate: int, name: str
) -> Iterator[Samples]:
    for piece in pieces:
        bad = ~np.isfinite(piece)
        if bad.any():
            first = int(bad.argmax())
            yield piece[:first]
            raise AudioError(
                f"{name}: sample {position + first} (at {(position + first) / rate:.2f} s)"
                " is not a finite number; write the file again without NaN or infinity"
            )
        yield piece
        position += len(piece)


def resample(pieces: Iterator[Samples], rate: int) -> Iterator[Samples]:
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    rest = np.zeros(0, dtype=np.float32)
    try:
        for piece in pieces:
            yield stream.resample_chunk(np.ascontiguousarray(piece))
    except AudioError:
        yield stream.resample_chunk(rest, last=True)
        raise
    yield stream.resample_chunk(rest, last=True)


def _regroup(pieces: Iterator[Samples], size: int) -> Iterator[Samples]:
    """The same samples in new arrays of `size`, the last one shorter, also before an error."""
    held: list[Samples] = []
    n_held = 0
    failure: AudioError | None = None
    while True:
        try:
            piece = next(pieces, None)
        except AudioError as error:
            failure = error
            break
        if piece is None:
            break
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
    if failure is not None:
        raise failure
