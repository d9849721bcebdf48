"""Damaged, joined, odd and hostile files: all that a player would play is heard, the rest is named."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from damage import SEEDS, mutated, write_seeds, write_sound

from asr import audio_decoders
from asr.audio import SAMPLE_RATE, find_audio, open_audio, read_audio, read_duration
from asr.errors import AsrError, AudioError, UsageError

SPEECH = Path(__file__).parent / "data" / "2803-161169-0006.flac"
OTHER_SPEECH = Path(__file__).parent / "data" / "1462-170142-0003.flac"

CODECS = {".flac": "flac", ".m4a": "aac", ".aac": "aac", ".ac3": "ac3", ".mp3": "libmp3lame", ".ts": "mp2"}


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(SPEECH, dtype="float32")[0]


@pytest.fixture(scope="module")
def other_speech() -> np.ndarray:
    return soundfile.read(OTHER_SPEECH, dtype="float32")[0]


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    return write_sound(path, samples, CODECS[path.suffix], rate)


def heard(path: Path, **options: object) -> tuple[np.ndarray, str | None]:
    """All samples, and the message about what is missing."""
    with open_audio(path, **options) as reader:  # type: ignore[arg-type]
        samples = np.concatenate(list(reader.heard()))
    return samples, None if reader.error is None else str(reader.error)


def likeness(found: np.ndarray, expected: np.ndarray, at: int) -> float:
    """Correlation with the best place within 0.15 seconds around `at`."""
    margin = SAMPLE_RATE * 15 // 100
    window = found[max(0, at - margin) : at + len(expected) + margin]
    scores = np.correlate(window, expected, "valid")
    place = int(np.abs(scores).argmax())
    part = window[place : place + len(expected)]
    return float(scores[place] / np.sqrt((part @ part) * (expected @ expected)))


def part(samples: np.ndarray, start: float, end: float) -> np.ndarray:
    return samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]


def damage(path: Path, at: float, n_bytes: int = 300) -> Path:
    """Zeros at this share of the file."""
    content = bytearray(path.read_bytes())
    place = int(at * len(content))
    content[place : place + n_bytes] = bytes(n_bytes)
    path.write_bytes(content)
    return path


# --- one damaged place


@pytest.mark.parametrize("suffix", [".flac", ".m4a", ".aac", ".ac3", ".mp3"])
def test_a_damaged_place_is_skipped_and_named_and_the_rest_is_heard_at_its_time(
    tmp_path: Path, speech: np.ndarray, suffix: str
) -> None:
    rate = 48_000 if suffix == ".ac3" else SAMPLE_RATE
    samples = np.repeat(speech, 3) if suffix == ".ac3" else speech
    path = damage(write(tmp_path / f"a{suffix}", samples, rate), 0.5)
    found, message = heard(path)
    assert message is not None and f"{path}: damaged at " in message and "the rest was heard" in message
    assert 3.5 < float(message.split("damaged at ")[1].split()[0]) < 4.6
    assert likeness(found, part(speech, 1, 3), SAMPLE_RATE) > 0.9
    assert likeness(found, part(speech, 6, 8), 6 * SAMPLE_RATE) > 0.9


def test_only_what_is_asked_for_can_be_damaged(tmp_path: Path, speech: np.ndarray) -> None:
    path = damage(write(tmp_path / "a.m4a", speech), 0.5)
    _, message = heard(path)
    assert message is not None
    at = float(message.split("damaged at ")[1].split()[0])
    assert heard(path, duration=at - 0.05)[1] is None
    assert heard(path, offset=at + 0.3)[1] is None
    with pytest.raises(AudioError, match="damaged at"):
        read_audio(path)


def test_several_damaged_places_are_named_in_one_line(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "a.flac", speech)
    for at in (0.2, 0.5, 0.8):
        damage(path, at)
    found, message = heard(path)
    assert message is not None and message.count(" s,") == 2 and "\n" not in message
    assert len(found) == len(speech)


@pytest.mark.parametrize("suffix", [".flac", ".m4a", ".mp3", ".wav"])
def test_a_cut_off_file_is_heard_as_far_as_it_goes_and_says_what_is_missing(
    tmp_path: Path, speech: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".m4a":
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            track = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(speech[None], "fltp", "mono")
            frame.sample_rate = SAMPLE_RATE
            for packet in [*track.encode(frame), *track.encode(None)]:
                container.mux(packet)
    elif suffix == ".wav":
        soundfile.write(path, speech, SAMPLE_RATE)
    else:
        write(path, speech)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    found, message = heard(path)
    assert 4 * SAMPLE_RATE < len(found) < 6 * SAMPLE_RATE
    assert message is not None and "; its header says 8." in message
    assert f"cut off at {len(found) / SAMPLE_RATE:.2f} s" in message
    assert likeness(found, part(speech, 1, 3), SAMPLE_RATE) > 0.9


def test_a_number_that_is_none_costs_one_sample(tmp_path: Path, speech: np.ndarray) -> None:
    samples = speech.copy()
    samples[[1000, 2000]] = np.nan, 1e38
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    found, message = heard(tmp_path / "a.wav")
    assert message is not None and "sample 1000 (at 0.06 s) is not a finite number" in message
    samples[[1000, 2000]] = 0
    np.testing.assert_array_equal(found, samples)


# --- ends that are none


def test_an_mp3_of_variable_bit_rate_without_a_frame_count_is_heard_to_its_end(
    tmp_path: Path, speech: np.ndarray
) -> None:
    path = tmp_path / "a.mp3"
    with av.open(str(path), "w", options={"write_xing": "0"}) as container:
        track = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono")
        track.codec_context.options = {"q": "9"}
        # Loud noise first: the bit rate of the beginning is far above that of the rest.
        noise = np.random.default_rng(1).normal(0, 0.2, SAMPLE_RATE).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.concatenate([noise, speech])[None], "fltp", "mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*track.encode(frame), *track.encode(None)]:
            container.mux(packet)
    assert b"Xing" not in path.read_bytes()
    found, message = heard(path)
    assert message is None
    assert likeness(found, part(speech, 6, 8), 7 * SAMPLE_RATE) > 0.9
    assert read_duration(path) == pytest.approx(len(found) / SAMPLE_RATE)


@pytest.mark.parametrize(
    ("suffix", "second_rate"),
    [
        *((".mp3", 16_000), (".mp3", 44_100), (".ogg", 16_000), (".ogg", 44_100)),
        *((".flac", 44_100), (".aac", 44_100)),
    ],
)
def test_joined_files_are_heard_one_after_the_other(
    tmp_path: Path, speech: np.ndarray, other_speech: np.ndarray, suffix: str, second_rate: int
) -> None:
    import soxr

    codec = {".ogg": "vorbis", **CODECS}[suffix]
    first = write_sound(tmp_path / f"1{suffix}", other_speech, codec, SAMPLE_RATE)
    resampled = soxr.resample(speech, SAMPLE_RATE, second_rate)
    second = write_sound(tmp_path / f"2{suffix}", resampled, codec, second_rate)
    both = tmp_path / f"both{suffix}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    found, message = heard(both)
    assert message is None
    assert likeness(found, part(other_speech, 0.5, 2), SAMPLE_RATE // 2) > 0.9
    assert likeness(found, part(speech, 6, 8), len(other_speech) + 6 * SAMPLE_RATE) > 0.9
    assert read_duration(both) == pytest.approx(len(found) / SAMPLE_RATE)


# --- durations


def test_a_duration_is_what_can_be_heard(tmp_path: Path, speech: np.ndarray) -> None:
    assert read_duration(SPEECH) == pytest.approx(8.47)
    soundfile.write(tmp_path / "a.wav", speech, SAMPLE_RATE)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    assert read_duration(tmp_path / "a.wav") == pytest.approx(8.47 / 2, abs=0.01)
    damaged = write(tmp_path / "a.flac", speech)
    damaged.write_bytes(damaged.read_bytes()[:-20_000])
    with pytest.raises(AudioError, match="cut off"):
        read_duration(damaged)


# --- tracks, channels, scale


def two_tracks(path: Path, default: int) -> Path:
    """A tone of 300 Hz, and one of 900."""
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono") for _ in range(2)]
        for number, track in enumerate(tracks):
            track.disposition = av.stream.Disposition.default if number == default else 0
        for number, track in enumerate(tracks):
            tone = 0.5 * np.sin(2 * np.pi * 300 * (1 + 2 * number) * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
            frame = av.AudioFrame.from_ndarray((tone * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate = SAMPLE_RATE
            for packet in [*track.encode(frame), *track.encode(None)]:
                container.mux(packet)
    return path


def pitch(samples: np.ndarray) -> int:
    return round(int(np.abs(np.fft.rfft(samples)).argmax()) * SAMPLE_RATE / len(samples))


@pytest.mark.parametrize(("default", "expected"), [(0, 300), (1, 900)])
def test_the_default_track_is_heard_and_the_others_are_told(
    tmp_path: Path, default: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = two_tracks(tmp_path / "a.mkv", default)
    assert pitch(read_audio(path)) == expected
    with open_audio(path):  # told once, however often it is opened
        pass
    (note,) = (record.message for record in caplog.records)
    assert note.startswith(f"{path}: has 2 sound tracks; number {default + 1} is heard; ")
    for number in (1, 2):
        with open_audio(path, track=number) as reader:
            assert pitch(np.concatenate(list(reader))) == (300, 900)[number - 1]
    with pytest.raises(AudioError, match="no sound track 3, it has 2"):
        open_audio(path, track=3)
    with pytest.raises(UsageError):
        open_audio(path, track=0)


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "aac"])
@pytest.mark.parametrize("layout", ["6.1", "7.1"])
def test_eight_channels_are_read(tmp_path: Path, speech: np.ndarray, layout: str, codec: str) -> None:
    path = write_sound(tmp_path / "a.mov", part(speech, 0, 3), codec, SAMPLE_RATE, layout)
    found, message = heard(path)
    assert message is None
    assert likeness(found, part(speech, 1, 2.5), SAMPLE_RATE) > 0.9
    with open_audio(path) as reader:
        assert reader.n_channels == (7 if layout == "6.1" else 8)


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_a_channel_that_is_upside_down_does_not_cancel_the_other(
    tmp_path: Path, speech: np.ndarray, noise: float
) -> None:
    random_numbers = np.random.default_rng(1)
    left, right = (speech + noise * random_numbers.normal(size=len(speech)) for _ in range(2))
    soundfile.write(tmp_path / "a.wav", np.stack([left, -right], 1), SAMPLE_RATE, subtype="FLOAT")
    assert likeness(read_audio(tmp_path / "a.wav"), part(speech, 1, 8), SAMPLE_RATE) > 0.95


def test_channels_that_only_differ_are_mixed_as_ever(tmp_path: Path, speech: np.ndarray) -> None:
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(len(speech)) / SAMPLE_RATE)  # opposite by right
    delayed = np.roll(speech, 7) * 0.5
    sound = np.stack([speech + hum, delayed - hum], 1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), sound.mean(1), atol=1e-6)


@pytest.mark.parametrize("scale", [2**15, 2**23, 2**31])
@pytest.mark.parametrize("suffix", [".wav", ".mov"])
def test_floats_in_the_range_of_integers_are_scaled_with_a_warning(
    tmp_path: Path, speech: np.ndarray, scale: int, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    quiet_first = np.concatenate([np.zeros(SAMPLE_RATE, np.float32), speech / np.abs(speech).max() * 0.9])
    path = tmp_path / f"a{suffix}"
    if suffix == ".wav":
        soundfile.write(path, quiet_first * scale, SAMPLE_RATE, subtype="FLOAT")
    else:
        write_sound(path, quiet_first * scale, "pcm_f32le", SAMPLE_RATE)
    np.testing.assert_allclose(read_audio(path), quiet_first, atol=1e-4)
    assert [record.message for record in caplog.records] == [
        f"{path}: its samples are floats in the range of integers; divided by {scale}"
    ]


# --- time stamps


def with_gap(path: Path, gap: float) -> Path:
    """A second of noise, a jump of the time stamps, and another second."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        noise = np.random.default_rng(1).normal(0, 3000, 2 * SAMPLE_RATE).astype(np.int16)
        for place in range(0, len(noise), 1600):
            frame = av.AudioFrame.from_ndarray(noise[None, place : place + 1600], "s16", "mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = place + (round(gap * SAMPLE_RATE) if place >= SAMPLE_RATE else 0)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def test_a_pause_in_a_track_keeps_its_length(tmp_path: Path) -> None:
    found, message = heard(with_gap(tmp_path / "a.mkv", 5.0))
    assert message is None and len(found) == pytest.approx(7 * SAMPLE_RATE, abs=40)


@pytest.mark.parametrize("hours", [10, 10_000])
def test_time_stamps_cannot_ask_for_hours_of_silence(
    tmp_path: Path, hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    found, message = heard(with_gap(tmp_path / "a.mkv", 3600 * hours))
    assert message is None and len(found) == 2 * SAMPLE_RATE
    assert f"its time stamps jump by {3600 * hours} s at 1.00 s" in caplog.text


# --- files that name other files


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile a.wav\n",
        "ffconcat version 1.0\nfile fifo\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.wav\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_play_lists_open_nothing(tmp_path: Path, text: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), SAMPLE_RATE)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "a.m4a").write_text(text)
    begin = time.monotonic()
    with pytest.raises(AudioError, match="not a sound or video file"):
        read_audio(tmp_path / "a.m4a")
    assert time.monotonic() - begin < 5


# --- the process that decodes


def decoder_processes() -> list[int]:
    return [process._popen.pid for process in audio_decoders._all]


def test_many_files_are_decoded_by_one_process(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "a.m4a", part(speech, 0, 1))
    read_audio(path)
    before = decoder_processes()
    for _ in range(5):
        read_audio(path)
        with open_audio(path):  # left before its end
            pass
        read_audio(path, duration=0.1)
    assert decoder_processes() == before


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_costs_one_file(tmp_path: Path, speech: np.ndarray, how: signal.Signals) -> None:
    long = write(tmp_path / "long.m4a", np.tile(speech, 4))
    good: list[np.ndarray] = []
    with open_audio(long, block_seconds=1.0) as reader:
        for block in reader.heard():
            if not good:
                for pid in decoder_processes():
                    os.kill(pid, how)
            good.append(block)
    assert good
    assert reader.error is not None and f"its decoder crashed ({how.name})" in str(reader.error)
    assert len(read_audio(long)) > 30 * SAMPLE_RATE


def test_a_decoder_that_gives_nothing_is_ended(
    tmp_path: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.m4a", part(speech, 0, 1))
    read_audio(path)
    monkeypatch.setattr(audio_decoders, "_PATIENCE_SECONDS", 0.3)
    for pid in decoder_processes():
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(AudioError, match="gave no sound for 0.3 s"):
        read_audio(path)
    monkeypatch.undo()
    assert len(read_audio(path)) >= SAMPLE_RATE


def test_a_decoder_ends_with_its_parent(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "a.m4a", part(speech, 0, 1))
    code = (
        "import sys, os, signal; from asr import audio, audio_decoders; audio.read_audio(sys.argv[1])\n"
        "print(*(process._popen.pid for process in audio_decoders._all), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    (pid,) = map(int, done.stdout.split())
    until = time.monotonic() + 5
    while time.monotonic() < until and is_running(pid):
        time.sleep(0.02)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_decoder_outlives_the_thread_that_began_it(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "a.m4a", part(speech, 0, 1))
    for process in list(audio_decoders._all):
        audio_decoders._idle.clear()
        audio_decoders._all.discard(process)
        process.kill()
    thread = threading.Thread(target=read_audio, args=(path,))
    thread.start()
    thread.join()
    (pid,) = decoder_processes()
    read_audio(path)
    assert decoder_processes() == [pid] and is_running(pid)


def test_a_fork_has_a_decoder_of_its_own(tmp_path: Path, speech: np.ndarray) -> None:
    path = write(tmp_path / "a.m4a", part(speech, 0, 1))
    expected = read_audio(path)
    pid = os.fork()
    if not pid:
        os._exit(0 if np.array_equal(read_audio(path), expected) else 1)
    np.testing.assert_array_equal(read_audio(path), expected)
    assert os.waitpid(pid, 0)[1] == 0


# --- any damage at all


def test_any_damage_gives_sound_or_a_clear_error(tmp_path: Path) -> None:
    rng = random.Random(1)
    logging.disable(logging.WARNING)
    try:
        seeds = write_seeds(tmp_path, 0.3)
        contents = [seed.read_bytes() for seed in seeds]
        n_heard = 0
        for number in range(66):
            seed = seeds[number % len(seeds)]
            path = tmp_path / f"damaged-{seed.name}"
            path.write_bytes(mutated(contents[number % len(seeds)], contents, rng))
            try:
                n_heard += len(heard(path)[0]) > 0
            except AsrError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    finally:
        logging.disable(logging.NOTSET)
    assert 22 < n_heard < 66


@pytest.mark.parametrize("name", SEEDS)
def test_undamaged_files_of_all_formats_have_no_fault(tmp_path: Path, speech: np.ndarray, name: str) -> None:
    import soxr

    codec, rate, layout = SEEDS[name]
    samples = soxr.resample(part(speech, 0, 3), SAMPLE_RATE, rate)
    found, message = heard(write_sound(tmp_path / name, samples, codec, rate, layout))
    assert message is None
    assert likeness(found, part(speech, 1, 2.5), SAMPLE_RATE) > 0.9


# --- folders


def test_a_folder_run_takes_all_that_can_be_read_but_no_program(tmp_path: Path) -> None:
    for suffix in "sph gsm voc wv asf m2ts wave dss".split():
        (tmp_path / f"a.{suffix}").touch()
    (tmp_path / "a.ts").write_bytes(b"\x47\x40\x00")
    (tmp_path / "program.ts").write_text("export const answer = 42;\n")
    assert [path.name for path in find_audio(tmp_path)] == sorted(
        f"a.{suffix}" for suffix in "sph gsm voc wv asf m2ts wave dss ts".split()
    )


def test_libraries_write_nothing_to_the_terminal(
    tmp_path: Path, speech: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, suffix in enumerate((".mp3", ".m4a", ".flac")):
        path = write(tmp_path / f"{number}{suffix}", speech)
        damage(path, 0.3)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(AudioError):
            read_audio(path)
    (tmp_path / "no.mp3").write_bytes(random.Random(1).randbytes(20_000))
    with pytest.raises(AudioError):
        read_audio(tmp_path / "no.mp3")
    assert capfd.readouterr() == ("", "")
