"""Decodes sound with FFmpeg for another process, so that a file which ends this one ends nothing else.

Run as a program by asr.audio_decoders, which asks on standard input and gets messages on standard
output. It knows PyAV and nothing of asr: it begins in a twentieth of a second, and mixing, gaps and
all other decisions stay with the process that asks.

A request is a line of JSON: path, track (from 1, or null) and start (seconds); the line "stop" ends
the answer early. An answer is a sequence of messages, each of two lengths, JSON and bytes:

opened   about the container and its tracks; the track's sound follows
sound    consecutive frames of one rate, format and number of channels: [time or null, samples] of
         each in JSON, the samples of each plane of each frame as bytes
lost     here is something that could not be decoded
restart  the times of what follows do not continue those before
failed   why nothing can be decoded
end      of the answer; for_good: and of this process, which must not go on
"""

from __future__ import annotations

import io
import json
import mmap
import os
import select
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any

_MEMORY = 1 << 30  # bytes beyond what the process has when it begins; no sound needs a tenth
_BYTES_PER_MESSAGE = 1 << 16
_MOST_FAULTS_IN_A_ROW = 200  # of a demuxer that goes on after a fault
_MOST_LINKS = 10_000
# Tags that stand between the frames of joined MP3 files
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_PREROLL_SECONDS = 0.5  # AAC and Opus need some packets before their output is right after a seek
# An index and trustworthy time stamps; in other formats a seek is a guess by the bit rate.
_SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm"})
# The header tells how long the track is, and not by a guess.
_EXACT_HEADERS = frozenset({"mov", "mp4", "aiff", "au", "caf", "w64", "flac", "tta", "ape", "asf"})
# These open other files, devices or the network, or take any text for a picture.
_REFUSED = frozenset(
    "alsa applehttp avisynth bktr bluray concat dash dshow dvd fbdev ffmetadata gdigrab hls iec61883"
    " image2 image2pipe imf jack kmsgrab lavfi libcdio openal oss pulse rtp rtsp sap sdp sndio tty"
    " v4l2 vapoursynth vfwcap video4linux2 webm_dash_manifest x11grab xcbgrab".split()
)


class _Stopped(Exception):
    """The process that asked wants no more of this file."""


class _Failed(Exception):
    """Nothing of the file can be decoded; says which of the reasons that audio_decoders knows."""


def main() -> None:
    parent = int(sys.argv[1])
    sys.path[:] = json.loads(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that asks
    answers = os.dup(1)
    os.dup2(2, 1)
    _die_with(parent)
    import av  # noqa: F401

    _limit_memory()
    requests = _lines()
    for line in requests:
        if line != b"stop":
            request = json.loads(line)
            _Answer(answers, requests, **request).give()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)


def _limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))


class _lines:
    """Lines of standard input, read without a buffer that would hide the next from select()."""

    def __init__(self) -> None:
        self._rest = b""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            while b"\n" not in self._rest:
                more = os.read(0, 1 << 16)
                if not more:
                    return
                self._rest += more
            line, self._rest = self._rest.split(b"\n", 1)
            yield line

    def has_more(self) -> bool:
        return bool(self._rest) or bool(select.select([0], [], [], 0)[0])


def _send(descriptor: int, message: dict[str, Any], payload: bytes = b"") -> None:
    head = json.dumps(message).encode()
    content = memoryview(struct.pack("<II", len(head), len(payload)) + head + payload)
    while content:
        content = content[os.write(descriptor, content) :]


class _Part(io.RawIOBase):
    """A part of an open file, as a file."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        super().__init__()
        self._descriptor, self._start, self._end, self._at = descriptor, start, end, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = os.pread(self._descriptor, min(len(buffer), max(0, self._end - self._at)), self._at)
        self._at += len(content)
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = max(self._start, base + offset)
        return self.tell()

    def tell(self) -> int:
        return self._at - self._start


def _links(descriptor: int) -> list[tuple[int, int]]:
    """Where each of the FLAC or Ogg streams lies that are joined in a file; else the file as a whole.

    Each has headers of its own, perhaps for another sample rate, and FFmpeg takes the first for all.
    """
    size = os.fstat(descriptor).st_size
    starts = [0]
    if os.pread(descriptor, 4, 0) in (b"fLaC", b"OggS"):
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
            is_ogg = content[:4] == b"OggS"
            mark = b"OggS\0\x02" if is_ogg else b"fLaC\0\0\0\x22"
            at = content.find(mark, 1)
            while at >= 0 and len(starts) < _MOST_LINKS:
                # The streams that an Ogg file holds side by side begin one after the other, too.
                before = content.rfind(b"OggS\0", 0, at) if is_ogg else 0
                if not is_ogg or not content[before + 5] & 2:
                    starts.append(at)
                at = content.find(mark, at + 1)
    return list(zip(starts, [*starts[1:], size], strict=True))


class _Answer:
    """The sound of one track of one file."""

    def __init__(
        self, descriptor: int, requests: _lines, path: str, track: int | None, start: float
    ) -> None:
        self._descriptor, self._requests = descriptor, requests
        self._path, self._track, self._start = path, track, start
        self._kind: list[Any] = []  # of the frames that wait to be sent together
        self._frames: list[tuple[float | None, int]] = []
        self._planes: list[bytes] = []
        self._n_bytes = 0
        self._kept: list[Any] = []
        self._file: int | None = None
        self._container: Any = None

    def give(self) -> None:
        try:
            self._file = os.open(os.fsencode(self._path), os.O_RDONLY | os.O_CLOEXEC)
            self._links = _links(self._file)
            self._open(0)
            frames = self._frames_from_start()
            first = next(frames)
            message = self._description()
            _send(self._descriptor, {"kind": "opened", **message})
            self._take(first)
            for item in frames:
                self._take(item)
            self._flush()
        except _Stopped:
            pass
        except StopIteration:
            self._fail("no samples")
        except _Failed as error:
            self._fail(str(error))
        except MemoryError:
            self._fail("memory")
        except FileNotFoundError:
            self._fail("gone")
        except Exception:  # PyAV meets things in damaged files that it does not expect
            self._fail("unreadable")
        _send(self._descriptor, {"kind": "end", "for_good": bool(self._kept)})
        if self._kept:
            os._exit(0)  # closing the container would free them once more
        self._container = None
        if self._file is not None:
            os.close(self._file)

    def _fail(self, reason: str) -> None:
        _send(self._descriptor, {"kind": "failed", "reason": reason})

    def _open(self, link: int) -> None:
        import av

        names = {name for names in av.formats_available for name in names.split(",")}
        # An open file and no protocol at all: nothing in the file can make FFmpeg open another one.
        options = {
            "protocol_whitelist": "none",
            "format_whitelist": ",".join(
                sorted(name for name in names - _REFUSED if not name.endswith("_pipe"))
            ),
        }
        try:
            assert self._file is not None
            part = _Part(self._file, *self._links[link])
            self._container = av.open(part, options=options, metadata_errors="ignore")
        except MemoryError:
            raise
        except Exception as error:
            raise _Failed("memory" if getattr(error, "errno", 0) == 12 else "unreadable") from error
        tracks = self._container.streams.audio
        if not tracks:
            raise _Failed("no sound")
        if self._track is None:
            defaults = [n for n, track in enumerate(tracks) if _is_default(track)]
            self._number = defaults[0] if defaults else 0
        elif self._track <= len(tracks) or link:
            self._number = min(self._track, len(tracks)) - 1
        else:
            raise _Failed(f"tracks {len(tracks)}")
        self._stream = tracks[self._number]
        for other in self._container.streams:
            if other is not self._stream:
                other.discard = type(other.discard).all
        context = self._stream.codec_context
        context.thread_count = 1
        if context.name == "flac":  # else a damaged frame becomes noise
            context.options = {"err_detect": "crccheck+explode"}
        start = self._container.start_time
        self._origin = None if start is None else start / av.time_base

    def _description(self) -> dict[str, Any]:
        import av

        container, stream = self._container, self._stream
        names = set(container.format.name.split(","))
        duration = None if container.duration is None else container.duration / av.time_base
        promised = None
        if stream.duration is not None and names & _EXACT_HEADERS:
            promised = float(stream.duration * stream.time_base)
        elif "matroska" in names:
            promised = _clock(stream.metadata.get("DURATION", ""))
            if promised is None and len(container.streams) == 1:
                promised = duration
        elif "mp3" in names and stream.duration is not None:
            promised = float(stream.duration * stream.time_base)
        return {
            "format": container.format.name,
            "codec": stream.codec_context.name,
            "duration": promised if promised is not None else duration,
            "promised": promised,
            "sought": self._sought,
            "is_joined": len(self._links) > 1,
            "track": self._number + 1,
            "tracks": [
                " ".join(filter(None, (track.language, track.metadata.get("title"))))
                for track in container.streams.audio
            ],
        }

    def _frames_from_start(self) -> Iterator[Any]:
        """Frames, or the time of what is lost, from a little before the start on if a seek is exact."""
        import av

        self._sought = False
        target = self._start - _PREROLL_SECONDS
        names = set(self._container.format.name.split(","))
        if target > _PREROLL_SECONDS and names & _SEEKABLE:
            origin = self._origin or 0.0
            try:
                self._container.seek(round((target + origin) * av.time_base), backward=True)
                frames = self._decoded()
                for item in frames:
                    if not isinstance(item, dict):
                        if item.time is None or item.time - origin > self._start:
                            break
                        self._sought = True
                        yield item
                        yield from frames
                        return
            except av.error.FFmpegError:
                pass
            self._open(0)  # a file without a usable index: decode from the beginning
        lost: list[dict[str, str]] = []
        n_sounds = 0
        for link in range(len(self._links)):
            if link:
                try:
                    self._open(link)
                except _Failed:
                    yield {"kind": "lost"}
                    continue
                yield {"kind": "restart"}
            for item in self._decoded():
                if n_sounds or not isinstance(item, dict):
                    n_sounds += 1
                    yield item
                else:
                    lost.append(item)  # before the first sound, which tells what the file is
                if n_sounds == 1:
                    yield from lost
        if lost and not n_sounds:
            raise _Failed("unreadable")

    def _decoded(self) -> Iterator[Any]:
        """Frames, and a message for each packet that is none: a player goes on after it, too."""
        import av

        n_faults = 0
        while n_faults < _MOST_FAULTS_IN_A_ROW:
            try:
                for packet in self._container.demux(self._stream):
                    try:
                        frames = packet.decode()
                        n_faults = 0
                    except av.error.EOFError:
                        return
                    except MemoryError:
                        raise
                    except Exception:
                        is_tag = bytes(packet).startswith(_TAGS)
                        yield {"kind": "restart" if is_tag else "lost"}
                        continue
                    yield from frames
                return
            except av.error.EOFError:
                return
            except MemoryError:
                raise
            except IndexError:
                continue  # a packet of a track that begins in mid-file, which PyAV does not know
            except Exception:
                n_faults += 1
                yield {"kind": "lost"}

    def _take(self, item: Any) -> None:
        if isinstance(item, dict):
            self._flush()
            _send(self._descriptor, item)
            return
        layout = item.layout
        n_channels = layout.nb_channels
        # PyAV frees a layout of a custom order twice, once with the frame and once with its own copy.
        if "channels (" in layout.name:
            self._kept.append(layout)
        name = item.format.name
        is_planar = name.endswith("p")
        size = item.samples * item.format.bytes * (1 if is_planar else n_channels)
        try:
            # For eight planes and more PyAV counts on into memory that is none of the frame's.
            planes = [bytes(plane)[:size] for plane in item.planes[: n_channels if is_planar else 1]]
        except IndexError:
            planes = []
        if len(planes) != (n_channels if is_planar else 1) or any(len(p) != size for p in planes):
            self._take({"kind": "lost"})
            return
        kind = [item.sample_rate, n_channels, name]
        if kind != self._kind or self._n_bytes >= _BYTES_PER_MESSAGE:
            self._flush()
            self._kind = kind
        if self._origin is None:
            self._origin = item.time
        time = None if item.time is None else item.time - (self._origin or 0.0)
        self._frames.append((time, item.samples))
        self._planes += planes
        self._n_bytes += size * len(planes)

    def _flush(self) -> None:
        if self._requests.has_more():
            raise _Stopped
        if self._frames:
            rate, n_channels, name = self._kind
            message = {"rate": rate, "channels": n_channels, "format": name, "frames": self._frames}
            _send(self._descriptor, {"kind": "sound", **message}, b"".join(self._planes))
        self._frames, self._planes, self._n_bytes = [], [], 0


def _is_default(track: Any) -> bool:
    return bool(track.disposition.value & 1)


def _clock(text: str) -> float | None:
    """Seconds of 00:01:02.5."""
    try:
        hours, minutes, seconds = text.strip("\0 ").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None


if __name__ == "__main__":
    main()
