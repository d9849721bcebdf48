"""Live sound as an iterator of blocks: the only place that knows sounddevice and PortAudio.

Recording begins when a Microphone is opened and goes on in PortAudio's own thread, so nothing is lost
while a model loads. A device that disappears is waited for: until it is back the blocks hold silence,
so that times stay those of the clock and a sentence that was cut off ends as in any pause.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from asr.audio import SAMPLE_RATE, Samples, resample, to_mono
from asr.errors import MicrophoneError

logger = logging.getLogger(__name__)

_LATENCY = 0.1  # seconds that the device may collect; PortAudio chooses the size of its blocks
_QUEUE_SECONDS = 30.0  # of sound that may wait to be recognised
_PATIENCE = 3.0  # seconds without a sample after which a device is taken for lost
_TAIL = 0.3  # seconds that sound takes at most from the air to here
_PAUSE = 0.1  # seconds between two looks at a device that is away
_RETRY_SECONDS = 1.0  # between two attempts to open it again
_USUAL_RATES = (48_000, 44_100, 16_000)  # Hz, for a device that does not record at the rate it names


@dataclass(frozen=True)
class Device:
    """An input of the system. sample_rate: Hz, the one it prefers."""

    id: int
    name: str
    n_channels: int
    sample_rate: int
    is_default: bool


def devices() -> list[Device]:
    """All inputs; MicrophoneError when there is none or PortAudio is missing."""
    sounddevice = _sounddevice()
    try:
        default = sounddevice.query_devices(kind="input")["index"]
    except (sounddevice.PortAudioError, ValueError):
        default = -1
    found = [
        Device(
            info["index"],
            info["name"],
            info["max_input_channels"],
            round(info["default_samplerate"]),
            info["index"] == default,
        )
        for info in sounddevice.query_devices()
        if info["max_input_channels"] > 0
    ]
    if not found:
        raise MicrophoneError(_why_no_device())
    return found


def find(wanted: str | int | None) -> Device:
    """The input with this id, or whose name contains this text in any case; None: the system's default."""
    inputs = devices()
    if wanted is None:
        return next((device for device in inputs if device.is_default), inputs[0])
    text = str(wanted).casefold()
    if text.isdecimal():
        matches = [device for device in inputs if device.id == int(text)]
    else:
        matches = [device for device in inputs if device.name.casefold() == text] or [
            device for device in inputs if text in device.name.casefold()
        ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(f"{device.id} ({device.name})" for device in matches)
        raise MicrophoneError(f"microphone {wanted}: could be any of {names}; choose one by its number")
    raise MicrophoneError(f"microphone {wanted}: no such input; asr listen --list-devices shows all")


class Microphone:
    """An open input: 1-D float32 blocks at 16 kHz, from the moment of its making until stop().

    device: as find() takes it. sample_rate: Hz to record at; the device's own if left out.
    channels: "mix", or the number of one, counted from 1.

    Raises MicrophoneError when it cannot be opened; later troubles are logged as warnings.
    """

    def __init__(
        self,
        device: str | int | None = None,
        *,
        sample_rate: int | None = None,
        channels: str | int = "mix",
    ) -> None:
        self._wanted = device
        self._wanted_rate = sample_rate
        self._channel = None if channels == "mix" else int(channels) - 1
        self._end: float | None = None  # on the monotonic clock
        self._stream: Any = None
        # Each counter is written by one thread only.
        self._blocks: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        self._n_recorded = 0  # samples that were put into the queue
        self._n_taken = 0  # samples that were taken out
        self._n_dropped = 0  # samples that found no room in it
        self._n_warned_of = 0  # of those dropped
        self._has_overflowed = False  # PortAudio lost samples before they came here
        with _silent_libraries():
            self._open()

    def __enter__(self) -> Microphone:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def stop(self) -> None:
        """End the recording; the iterator still gives what was said until now. For signal handlers too."""
        self._end = time.monotonic() + _TAIL

    @property
    def _is_over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def __iter__(self) -> Iterator[Samples]:
        yield from resample(self._recorded(), self._rate)
        while not self._is_over:
            logger.warning("%s: lost; waiting for it to return", self.name)
            yield from self._until_back()
            yield from resample(self._recorded(), self._rate)

    def _recorded(self) -> Iterator[Samples]:
        """Mono blocks at the device's rate until it is lost, or what is left after stop()."""
        last = time.monotonic()
        while True:
            is_over = self._is_over or not (self._stream and self._stream.active)
            if is_over:
                self._close()
            try:
                block = self._blocks.get(timeout=0 if is_over else _PAUSE)
            except queue.Empty:
                if is_over or time.monotonic() - last > _PATIENCE:
                    return
                continue
            last = time.monotonic()
            self._n_taken += len(block)
            self._warn_of_losses()
            yield to_mono(block, self._channel)

    def _until_back(self) -> Iterator[Samples]:
        """Silence at the pace of the clock until the device is open again."""
        self._close()
        last = next_attempt = time.monotonic()
        while not self._is_over:
            time.sleep(_PAUSE)
            now = time.monotonic()
            yield np.zeros(round((now - last) * SAMPLE_RATE), np.float32)
            last = now
            if now >= next_attempt:
                try:
                    with _silent_libraries():
                        _look_again()
                        self._open()
                except MicrophoneError:
                    next_attempt = now + _RETRY_SECONDS
                else:
                    logger.warning("%s: is back", self.name)
                    return

    def _warn_of_losses(self) -> None:
        n_lost = self._n_dropped - self._n_warned_of
        if n_lost:
            self._n_warned_of += n_lost
            logger.warning(
                "%s: %.1f s of sound lost, recognition is too slow for it; use a smaller model",
                self.name,
                n_lost / self._rate,
            )
        if self._has_overflowed:
            self._has_overflowed = False
            logger.warning("%s: some sound lost before it was recorded; the computer is busy", self.name)

    def _open(self) -> None:
        sounddevice = _sounddevice()
        device = find(self._wanted)
        self.name = f"microphone {device.name}"
        n_channels = 1 if self._channel is None else self._channel + 1
        if n_channels > device.n_channels:
            raise MicrophoneError(f"{self.name}: has no channel {n_channels}, only {device.n_channels}")
        rates = [self._wanted_rate or device.sample_rate]
        if self._wanted_rate is None:
            rates += [rate for rate in _USUAL_RATES if rate != device.sample_rate]
        # Some devices record only all of their channels at once.
        attempts = [(rate, n) for rate in rates for n in dict.fromkeys((n_channels, device.n_channels))]
        failure: Exception | None = None
        for rate, n in attempts:
            try:
                stream = sounddevice.InputStream(
                    device=device.id,
                    samplerate=rate,
                    channels=n,
                    dtype="float32",
                    latency=_LATENCY,
                    callback=self._record,
                )
                self._rate = rate
                stream.start()
            except sounddevice.PortAudioError as error:
                failure = failure or error
                if _code(error) not in {_INVALID_SAMPLE_RATE, _INVALID_CHANNEL_COUNT}:
                    break
            else:
                self._stream = stream
                return
        assert failure is not None
        raise MicrophoneError(f"{self.name}: {_reason(failure, rates[0])}") from failure

    def _record(self, frames: np.ndarray, n_frames: int, times: Any, status: Any) -> None:
        """Called by PortAudio in a thread of its own."""
        self._has_overflowed = self._has_overflowed or bool(status.input_overflow)
        if self._n_recorded - self._n_taken > _QUEUE_SECONDS * self._rate:
            self._n_dropped += n_frames
            return
        self._n_recorded += n_frames
        self._blocks.put(frames.copy())

    def _close(self) -> None:
        # Once only: PortAudio follows the pointer even after the stream is gone.
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


# PortAudio's error codes (portaudio.h).
_UNANTICIPATED_HOST_ERROR = -9999
_INVALID_CHANNEL_COUNT = -9998
_INVALID_SAMPLE_RATE = -9997
_DEVICE_UNAVAILABLE = -9985


def _code(error: Exception) -> int:
    return error.args[1] if len(error.args) > 1 else 0


def _reason(error: Exception, rate: int) -> str:
    """What PortAudio means and what to do about it."""
    code = _code(error)
    host_error = error.args[2][1] if len(error.args) > 2 else 0
    if code == _INVALID_SAMPLE_RATE:
        return f"does not record at {rate} Hz; leave out --sample-rate"
    if code == _INVALID_CHANNEL_COUNT:
        return "does not record so few or so many channels; try another --channels"
    if code == _DEVICE_UNAVAILABLE or -host_error == errno.EBUSY:
        return "is busy or gone; close the program that uses it, or choose another --input-device"
    if -host_error in {errno.EACCES, errno.EPERM}:
        return "no permission to record; add yourself to the group audio"
    if code == _UNANTICIPATED_HOST_ERROR and -host_error in {errno.EIO, errno.ENODEV, errno.ENOENT}:
        return "gives no sound; is it plugged in, and does the sound server run?"
    text = " ".join(str(error.args[0] if error.args else error).split())
    return f"cannot be opened ({text}); try another --input-device"


def _why_no_device() -> str:
    captures = glob.glob("/dev/snd/pcm*c")
    if captures and not any(os.access(path, os.R_OK | os.W_OK) for path in captures):
        return "microphone: no permission to use the sound devices; add yourself to the group audio"
    return (
        "microphone: no input found; plug one in, start the sound server, or install ALSA's way to it "
        "(Debian: libasound2-plugins for PulseAudio, pipewire-alsa for PipeWire)"
    )


def _sounddevice() -> Any:
    """The module sounddevice; MicrophoneError without it or the library that it needs."""
    try:
        import sounddevice
    except ImportError as error:
        raise MicrophoneError(
            "microphone: the Python package sounddevice is missing; pip install sounddevice"
        ) from error
    except OSError as error:
        raise MicrophoneError(
            "microphone: the library PortAudio is missing; install it (Debian: apt-get install libportaudio2)"
        ) from error
    return sounddevice


def _look_again() -> None:
    """Make PortAudio see what was plugged in after its start; no stream may be open."""
    sounddevice = _sounddevice()
    sounddevice._terminate()
    sounddevice._initialize()


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Keeps PortAudio and ALSA from writing to standard error what the exceptions say as well."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
