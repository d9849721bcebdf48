"""Microphones of a sound library that is made up: choosing one, losses, and errors that say what to do."""

from __future__ import annotations

import builtins
import logging
import sys
import types
from typing import Any

import numpy as np
import pytest

from asr import microphone
from asr.errors import MicrophoneError
from asr.microphone import Microphone

INPUTS = (
    ("Built-in Audio", 2, 48_000),
    ("USB Headset", 1, 44_100),
    ("USB Camera", 2, 16_000),
    ("HDMI", 0, 48_000),
)


class PortAudioError(Exception):
    pass


class FakeStream:
    """Takes what the test records into it."""

    opened: list[FakeStream] = []
    failures: dict[str, PortAudioError] = {}  # "rate RATE" or "channels N" -> what opening raises

    def __init__(self, **options: Any) -> None:
        for key in (f"rate {options['samplerate']}", f"channels {options['channels']}", "any"):
            if key in self.failures:
                raise self.failures[key]
        self.options, self.active = options, True
        self.opened.append(self)

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.active = False

    def record(self, samples: np.ndarray, *, overflow: bool = False) -> None:
        frames = np.repeat(samples[:, None], self.options["channels"], 1).astype(np.float32)
        self.options["callback"](frames, len(frames), None, types.SimpleNamespace(input_overflow=overflow))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module: Any = types.ModuleType("sounddevice")
    module.PortAudioError, module.InputStream = PortAudioError, FakeStream
    inputs = [
        {"index": i, "name": name, "max_input_channels": n, "default_samplerate": float(rate)}
        for i, (name, n, rate) in enumerate(INPUTS)
    ]
    module.query_devices = lambda kind=None: inputs[0] if kind else inputs
    module._terminate = module._initialize = lambda: None
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr(microphone, "_TAIL", 0.0)
    monkeypatch.setattr(FakeStream, "opened", [])
    monkeypatch.setattr(FakeStream, "failures", {})
    return module


def test_only_inputs_are_listed(library: types.ModuleType) -> None:
    assert [device.name for device in microphone.devices()] == ["Built-in Audio", "USB Headset", "USB Camera"]
    assert [device.is_default for device in microphone.devices()] == [True, False, False]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [(None, "Built-in Audio"), ("1", "USB Headset"), ("head", "USB Headset"), ("usb camera", "USB Camera")],
)
def test_an_input_is_chosen_by_number_or_part_of_its_name(
    library: types.ModuleType, wanted: str | None, name: str
) -> None:
    assert microphone.find(wanted).name == name


@pytest.mark.parametrize(
    ("wanted", "message"), [("usb", "1 (USB Headset), 2"), ("3", "no such"), ("x", "no such")]
)
def test_an_unclear_or_unknown_input_is_an_error(
    library: types.ModuleType, wanted: str, message: str
) -> None:
    with pytest.raises(MicrophoneError) as error:
        microphone.find(wanted)
    assert message in str(error.value)


@pytest.mark.parametrize("device", ["0", "1", "2"])
def test_sound_comes_at_16_khz_whatever_the_device_records(library: types.ModuleType, device: str) -> None:
    with Microphone(device) as input:
        (stream,) = FakeStream.opened
        rate = stream.options["samplerate"]
        assert rate == INPUTS[int(device)][2]
        tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        for block in np.array_split(tone, 20):
            stream.record(block)
        input.stop()
        heard = np.concatenate(list(input))
    assert len(heard) == pytest.approx(16_000, abs=2)
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() * 16_000 / len(heard) == pytest.approx(440, abs=2)
    assert not stream.active


def test_a_rate_that_the_device_only_claims_is_replaced(library: types.ModuleType) -> None:
    FakeStream.failures["rate 44100"] = PortAudioError("Invalid sample rate", -9997)
    with Microphone("headset"):
        assert FakeStream.opened[0].options["samplerate"] == 48_000


def test_a_device_that_records_all_channels_or_none_gives_the_one_asked_for(
    library: types.ModuleType,
) -> None:
    FakeStream.failures["channels 1"] = PortAudioError("Invalid number of channels", -9998)
    with Microphone("camera", channels=1) as input:
        assert FakeStream.opened[0].options["channels"] == 2
        FakeStream.opened[0].record(np.ones(100))
        input.stop()
        assert list(map(len, input)) == [100]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (PortAudioError("Device unavailable", -9985), "busy"),
        (PortAudioError("Host error", -9999, (0, -16, "Device or resource busy")), "busy"),
        (PortAudioError("Host error", -9999, (0, -13, "Permission denied")), "group audio"),
        (PortAudioError("Host error", -9999, (0, -5, "Input/output error")), "plugged in"),
        (PortAudioError("Invalid sample rate", -9997), "does not record at 8000 Hz"),
        (PortAudioError("Internal error", -9986), "Internal error"),
    ],
)
def test_what_portaudio_reports_becomes_one_line_with_a_remedy(
    library: types.ModuleType, failure: PortAudioError, message: str
) -> None:
    FakeStream.failures["any"] = failure
    with pytest.raises(MicrophoneError) as error:
        Microphone(sample_rate=8_000)
    assert message in str(error.value) and str(error.value).startswith("microphone Built-in Audio: ")
    assert ";" in str(error.value) and "\n" not in str(error.value)


def test_a_channel_that_is_not_there_is_an_error(library: types.ModuleType) -> None:
    with pytest.raises(MicrophoneError, match="no channel 3"):
        Microphone(channels=3)


def test_without_any_input_the_error_says_so(
    library: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def query_devices(kind: str | None = None) -> list[Any]:
        if kind:
            raise PortAudioError("Error querying device -1")
        return []

    monkeypatch.setattr(library, "query_devices", query_devices)
    monkeypatch.setattr("glob.glob", lambda pattern: [])
    with pytest.raises(MicrophoneError, match="no input found"):
        Microphone()


@pytest.mark.parametrize(
    ("failure", "message"),
    [(OSError("PortAudio library not found"), "libportaudio2"), (ImportError("sounddevice"), "pip install")],
)
def test_a_missing_library_is_named(
    failure: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without_sounddevice(name: str, *rest: Any) -> Any:
        if name == "sounddevice":
            raise failure
        return real_import(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_sounddevice)
    with pytest.raises(MicrophoneError, match=message):
        microphone.devices()


def test_sound_that_nobody_takes_is_dropped_and_counted(
    library: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with Microphone("camera") as input:
        for _ in range(40):
            FakeStream.opened[0].record(np.zeros(16_000))
        input.stop()
        with caplog.at_level(logging.WARNING, logger="asr"):
            seconds = sum(map(len, input)) / 16_000
    assert seconds == 31
    (message,) = caplog.messages
    assert "9.0 s of sound lost" in message


def test_sound_that_was_lost_before_it_came_here_is_reported(
    library: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with Microphone("camera") as input:
        FakeStream.opened[0].record(np.zeros(100), overflow=True)
        input.stop()
        list(input)
    assert "the computer is busy" in caplog.text


def test_a_lost_device_gives_silence_until_it_is_back(
    library: types.ModuleType, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "_RETRY_SECONDS", 0.2)
    with Microphone("camera") as input:
        blocks = iter(input)
        FakeStream.opened[0].record(np.full(1_000, 0.5))
        assert next(blocks).max() == 0.5
        FakeStream.failures["any"] = PortAudioError("Device unavailable", -9985)
        FakeStream.opened[0].active = False
        away = [next(blocks) for _ in range(5)]
        assert not any(block.any() for block in away)
        assert sum(map(len, away)) / 16_000 == pytest.approx(0.5, abs=0.3)
        FakeStream.failures.clear()
        while len(FakeStream.opened) == 1:
            next(blocks)
        FakeStream.opened[1].record(np.full(1_000, 0.25))
        assert any(next(blocks).max(initial=0) == 0.25 for _ in range(3))
    assert "lost" in caplog.messages[0] and "is back" in caplog.messages[1]
