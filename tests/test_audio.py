"""Sound from files, videos and standard input: right samples, bounded memory, clear refusals."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from asr import audio, audio_decoders
from asr.audio import SAMPLE_RATE, find_audio, is_audio_path, open_audio, read_audio, write_audio
from asr.errors import AudioError, OutputError, UsageError

SPEECH = Path(__file__).parent / "data" / "2803-161169-0006.flac"


def chirp(seconds: float, rate: int, low: float = 200, high: float = 1200) -> np.ndarray:
    """A tone that rises steadily, so that no two moments of it look alike."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (low * time + (high - low) * time**2 / (2 * max(seconds, 1e-9)))
    return (0.5 * np.sin(phase)).astype(np.float32)


def write_video(
    path: Path,
    samples: np.ndarray | None,
    rate: int = 48_000,
    codec: str = "aac",
    picture: str | None = None,
    sound_from: float = 0.0,
) -> Path:
    """A container with a sound track of (samples,) or (channels, samples), a picture, or both."""
    with av.open(str(path), "w") as container:
        if picture is not None:
            video: Any = container.add_stream(picture, rate=10)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        if samples is not None:
            samples = np.atleast_2d(samples)
            layout = "mono" if len(samples) == 1 else "stereo"
            track: Any = container.add_stream(codec, rate=rate)
            track.bit_rate = 192_000
            track.layout = layout
        if picture is not None:
            for _ in range(20):
                container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(video.encode(None))
        if samples is not None:
            resampler = av.AudioResampler(track.format, layout, rate, track.frame_size or rate)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples), format="fltp", layout=layout
            )
            frame.sample_rate = rate
            frame.pts = round(sound_from * rate)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return path


def write_silent_wav(path: Path, seconds: int, rate: int, n_channels: int) -> Path:
    """A 16-bit WAV of zeros that takes no room on disk."""
    n_bytes = seconds * rate * n_channels * 2
    form = struct.pack("<HHIIHH", 1, n_channels, rate, rate * n_channels * 2, n_channels * 2, 16)
    header = b"RIFF" + struct.pack("<I", 36 + n_bytes) + b"WAVEfmt " + struct.pack("<I", 16) + form
    with open(path, "wb") as file:
        file.write(header + b"data" + struct.pack("<I", n_bytes))
        file.truncate(len(header) + 8 + n_bytes)
    return path


def refusal(path: Path | str, **options: object) -> str:
    """The message that reading the whole source fails with; always a single line."""
    with pytest.raises(AudioError) as caught:
        read_audio(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(("standard input: ", f"{path}: "))
    return message


def is_same_sound(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Equal but for the first and last 50 ms, where codecs and filters differ."""
    edge = SAMPLE_RATE // 20
    n = min(len(found), len(expected))
    return float(np.abs(found[edge : n - edge] - expected[edge : n - edge]).max()) < tolerance


def set_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# --- what comes out of good files


def test_real_speech_comes_out_as_stored() -> None:
    with open_audio(SPEECH) as reader:
        assert (reader.sample_rate, reader.n_channels, reader.name) == (16_000, 1, str(SPEECH))
        assert reader.duration == pytest.approx(8.47, abs=0.001)
    expected, _ = soundfile.read(SPEECH, dtype="float32")
    np.testing.assert_array_equal(read_audio(SPEECH), expected)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_bit_depth_gives_the_same_sound(tmp_path: Path, subtype: str) -> None:
    sound = chirp(0.2, SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype=subtype)
    found = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(found, sound, atol=0.01 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 384_000])
def test_every_sample_rate_arrives_at_16_khz(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(1, rate), rate, subtype="FLOAT")
    found = read_audio(tmp_path / "a.wav")
    assert len(found) == SAMPLE_RATE
    assert is_same_sound(found, chirp(1, SAMPLE_RATE), 1e-3)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus", "mp3"])
def test_libsndfile_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    form, subtype = {"opus": ("OGG", "OPUS"), "mp3": ("MP3", None)}.get(suffix, (None, None))
    soundfile.write(path, chirp(2, SAMPLE_RATE), SAMPLE_RATE, format=form, subtype=subtype)
    assert is_same_sound(read_audio(path), chirp(2, SAMPLE_RATE), 0.1)


@pytest.mark.parametrize(
    ("file_name", "codec", "picture"),
    [
        ("a.m4a", "aac", None),
        ("a.aac", "aac", None),
        ("a.mp4", "aac", "mpeg4"),
        ("a.mkv", "libopus", "mpeg4"),
        ("a.webm", "libopus", "libvpx"),
        ("a.mov", "pcm_s16le", "mpeg4"),
    ],
)
def test_ffmpeg_formats(tmp_path: Path, file_name: str, codec: str, picture: str | None) -> None:
    path = write_video(tmp_path / file_name, chirp(2, 48_000), codec=codec, picture=picture)
    found = read_audio(path)
    expected = chirp(2, SAMPLE_RATE)
    if file_name == "a.aac":  # a bare stream cannot say that it begins with 1024 of delay at 48 kHz
        found = found[1024 // 3 :]
    assert is_same_sound(found, expected, 0.1)


def test_opus_written_by_ffmpeg_begins_where_its_sound_does(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[4000:4400] = 0.5 * np.sin(np.arange(400))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    heard = read_audio(path)
    assert len(heard) == SAMPLE_RATE
    assert abs(int(np.correlate(heard, samples[4000:4400]).argmax()) - 4000) <= 4


def test_sound_that_begins_after_the_picture_keeps_its_time(tmp_path: Path) -> None:
    sound = chirp(1, 48_000)
    path = write_video(
        tmp_path / "a.mkv", sound, codec="pcm_s16le", picture="mpeg4", sound_from=0.75
    )
    found = read_audio(path)
    assert not found[: round(0.7 * SAMPLE_RATE)].any()
    assert is_same_sound(found[round(0.75 * SAMPLE_RATE) :], chirp(1, SAMPLE_RATE), 0.01)


def test_loud_float_samples_are_left_alone(tmp_path: Path) -> None:
    sound = np.array([0.5, 1.5, -3.0, 0.0], dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), sound)


def test_five_milliseconds_are_enough(tmp_path: Path) -> None:
    for rate in (8_000, 16_000, 48_000):
        soundfile.write(tmp_path / "a.wav", chirp(0.005, rate), rate)
        assert len(read_audio(tmp_path / "a.wav")) == 80


def test_streamed_wav_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(1, SAMPLE_RATE), SAMPLE_RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    where = content.index(b"data") + 4
    for length in (b"\xff" * 4, bytes(4)):
        content[where : where + 4] = length
        (tmp_path / "b.wav").write_bytes(content)
        assert len(read_audio(tmp_path / "b.wav")) == SAMPLE_RATE


# --- channels


def test_mix_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    sound = np.stack([chirp(0.1, SAMPLE_RATE), np.full(1600, 0.25, dtype=np.float32)], axis=1)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), sound.mean(axis=1), atol=1e-7)


def test_one_of_64_channels(tmp_path: Path) -> None:
    sound = np.tile(np.arange(64, dtype=np.float32) / 64, (1600, 1))
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    for number in (1, 2, 64):
        found = read_audio(tmp_path / "a.wav", channels=number)
        np.testing.assert_array_equal(found, sound[:, number - 1])
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), sound.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_one_channel_of_a_video(tmp_path: Path, codec: str) -> None:
    sound = np.stack([chirp(1, 48_000), chirp(1, 48_000, 2000, 3000)])
    path = write_video(tmp_path / "a.mov", sound, codec=codec, picture="mpeg4")
    assert is_same_sound(read_audio(path, channels=1), chirp(1, SAMPLE_RATE), 0.05)
    assert is_same_sound(read_audio(path, channels=2), chirp(1, SAMPLE_RATE, 2000, 3000), 0.05)


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_channel_that_is_not_there_is_refused(tmp_path: Path, number: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((1600, 2)), SAMPLE_RATE)
    message = refusal(tmp_path / "a.wav", channels=number)
    assert f"no channel {number}, it has 2" in message


def test_channels_must_be_mix_or_a_number() -> None:
    with pytest.raises(UsageError, match="'left'"):
        open_audio(SPEECH, channels="left")


# --- blocks


@pytest.mark.parametrize("block_seconds", [0.0001, 0.013, 0.25, 1.0, 60.0])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_of_any_size_join_to_the_whole(
    tmp_path: Path, rate: int, block_seconds: float
) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(1.01, rate), rate)
    with open_audio(tmp_path / "a.wav", block_seconds=block_seconds) as reader:
        blocks = list(reader)
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(tmp_path / "a.wav"))
    size = max(1, round(block_seconds * SAMPLE_RATE))
    assert all(len(block) == size for block in blocks[:-1])
    assert 0 < len(blocks[-1]) <= size
    assert all(b.dtype == np.float32 and b.ndim == 1 and b.flags.c_contiguous for b in blocks)


def peak_megabytes(path: Path) -> float:
    tracemalloc.start()
    try:
        with open_audio(path) as reader:
            for _ in reader:
                pass
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_length_of_a_wav(tmp_path: Path) -> None:
    read_audio(SPEECH, duration=0.1)  # imports are not the file's memory
    short = peak_megabytes(write_silent_wav(tmp_path / "short.wav", 60, 44_100, 2))
    long = peak_megabytes(write_silent_wav(tmp_path / "long.wav", 1200, 44_100, 2))
    assert long < short + 1
    assert long < 20


def test_memory_is_bounded_for_many_channels_at_a_high_rate(tmp_path: Path) -> None:
    assert peak_megabytes(write_silent_wav(tmp_path / "a.wav", 3, 192_000, 64)) < 20


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    sound = np.zeros(SAMPLE_RATE * 600, dtype=np.float32)
    path = write_video(tmp_path / "a.mkv", sound, SAMPLE_RATE, codec="pcm_s16le", picture="mpeg4")
    assert peak_megabytes(path) < 10  # all of it would be 38


def test_blocks_of_a_variable_bit_rate_mp3_join_without_seams(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, chirp(4, SAMPLE_RATE), SAMPLE_RATE)
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(read_audio(path), whole, atol=1e-5)
    np.testing.assert_allclose(read_audio(path, offset=2), whole[2 * SAMPLE_RATE :], atol=1e-5)


# --- offset and duration


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_offset_and_duration_are_exact_at_16_khz(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, chirp(3, SAMPLE_RATE), SAMPLE_RATE)
    whole = read_audio(path)
    found = read_audio(path, offset=1.25, duration=0.5)
    np.testing.assert_allclose(found, whole[20_000:28_000], atol=1e-6)
    np.testing.assert_allclose(read_audio(path, offset=2.9999), whole[47_998:], atol=1e-6)


@pytest.mark.parametrize(
    ("file_name", "codec"), [("a.wav", ""), ("a.mp3", ""), ("a.m4a", "aac"), ("a.webm", "libopus")]
)
@pytest.mark.parametrize("offset", [0.3, 2.5])
def test_offset_is_within_a_millisecond_at_other_rates(
    tmp_path: Path, file_name: str, codec: str, offset: float
) -> None:
    path = tmp_path / file_name
    if codec:
        write_video(path, chirp(4, 48_000), codec=codec)
    else:
        soundfile.write(path, chirp(4, 48_000), 48_000)
    whole = read_audio(path)
    found = read_audio(path, offset=offset, duration=1)
    assert len(found) == SAMPLE_RATE
    begin = round(offset * SAMPLE_RATE)
    differences = [
        float(np.abs(whole[begin + lag :][1000:15_000] - found[1000:15_000]).max())
        for lag in range(-16, 17)
    ]
    assert min(differences) < 0.01


def test_offset_skips_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.m4a", chirp(30, SAMPLE_RATE), SAMPLE_RATE)
    decoded = 0
    original = audio_decoders._as_frames

    def counting(message: dict[str, Any], payload: bytes) -> np.ndarray:
        nonlocal decoded
        decoded += sum(n_samples for _, n_samples in message["frames"])
        return original(message, payload)

    monkeypatch.setattr(audio_decoders, "_as_frames", counting)
    assert len(read_audio(path, offset=25, duration=1)) == SAMPLE_RATE
    assert decoded < 4 * SAMPLE_RATE


def test_duration_beyond_the_end_gives_what_there_is(tmp_path: Path) -> None:
    with open_audio(SPEECH, offset=8, duration=100) as reader:
        assert reader.duration == pytest.approx(0.47, abs=0.001)
        assert sum(map(len, reader)) == pytest.approx(0.47 * SAMPLE_RATE, abs=1)


def test_offset_beyond_the_end_is_refused(tmp_path: Path) -> None:
    assert "offset 9 s is at or beyond the end (8.47" in refusal(SPEECH, offset=9)
    path = write_video(tmp_path / "a.m4a", chirp(2, 48_000))
    assert "offset 9 s is at or beyond the end (2.0" in refusal(path, offset=9)


@pytest.mark.parametrize(
    "options",
    [
        {"offset": -1.0},
        {"offset": float("nan")},
        {"offset": float("inf")},
        {"duration": -1.0},
        {"duration": 0.0},
        {"duration": float("nan")},
        {"raw_sample_rate": 0},
    ],
)
def test_impossible_numbers_are_wrong_usage(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        open_audio(SPEECH, **options)  # type: ignore[arg-type]


# --- standard input and raw samples


def test_standard_input_holds_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    set_standard_input(monkeypatch, SPEECH.read_bytes())
    np.testing.assert_array_equal(read_audio("-"), read_audio(SPEECH))


def test_standard_input_can_be_opened_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    set_standard_input(monkeypatch, SPEECH.read_bytes())
    with audio.spool_standard_input() as path:
        for _ in range(2):
            with open_audio(path, name="standard input") as reader:
                assert reader.name == "standard input"
                assert sum(map(len, reader)) == len(read_audio(SPEECH))
    assert not path.exists()


def test_raw_samples_from_standard_input_and_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = (chirp(0.5, 8_000) * 32_767).astype("<i2")
    (tmp_path / "a.raw").write_bytes(sound.tobytes() + b"\0")  # an odd byte is no sample
    set_standard_input(monkeypatch, sound.tobytes())
    piped = read_audio("-", raw_sample_rate=8_000)
    np.testing.assert_array_equal(piped, read_audio(tmp_path / "a.raw", raw_sample_rate=8_000))
    assert is_same_sound(piped, chirp(0.5, SAMPLE_RATE), 1e-2)


def test_raw_samples_without_a_rate_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(range(256)) * 4)
    assert "--raw --sample-rate" in refusal(tmp_path / "a.raw")


def test_empty_and_closed_standard_input_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_standard_input(monkeypatch, b"")
    assert "empty" in refusal("-")
    set_standard_input(monkeypatch, b"not sound at all")
    assert "not a sound" in refusal("-")
    monkeypatch.setattr(sys, "stdin", None)
    assert "closed" in refusal("-")


# --- bad input


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "a.wav")


def test_directory(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert "empty (0 bytes)" in refusal(tmp_path / "a.wav")


def test_text_named_wav(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("These are words, not sound.\n" * 50)
    assert "not a sound or video file" in refusal(tmp_path / "a.wav")


def test_device_is_not_a_file() -> None:
    assert "not a regular file" in refusal("/dev/null")


def test_file_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(audio, "open", denied, raising=False)
    assert "no permission" in refusal(SPEECH)


@pytest.mark.parametrize("file_name", ["a.wav", "a.ogg", "a.flac"])
def test_header_without_samples(tmp_path: Path, file_name: str) -> None:
    soundfile.write(tmp_path / file_name, np.zeros(0), SAMPLE_RATE)
    message = refusal(tmp_path / file_name)
    assert "no samples" in message or "empty (0 bytes)" in message  # libsndfile writes no header


def test_video_without_sound(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", None, picture="mpeg4")
    assert "no audio stream found; is this a video without sound?" in refusal(path)


def test_truncated_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", chirp(1, 48_000), picture="mpeg4")
    path.write_bytes(path.read_bytes()[:-2000])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_truncated_flac_gives_its_good_part_and_says_where_it_broke(
    tmp_path: Path, rate: int
) -> None:
    soundfile.write(tmp_path / "whole.flac", chirp(4, rate), rate)
    content = (tmp_path / "whole.flac").read_bytes()
    path = tmp_path / "a.flac"
    path.write_bytes(content[: len(content) // 2])
    good: list[np.ndarray] = []
    with open_audio(path, block_seconds=0.5) as reader, pytest.raises(AudioError) as caught:
        good.extend(reader)  # extend keeps what came before the error
    found = np.concatenate(good)
    assert 1.5 * SAMPLE_RATE < len(found) < 2.5 * SAMPLE_RATE
    assert f"{path}: damaged or cut off at {len(found) / SAMPLE_RATE:.2f} s;" in str(caught.value)
    assert is_same_sound(found, chirp(4, SAMPLE_RATE)[: len(found)], 1e-2)


def test_flac_cut_between_two_frames_is_damaged_too(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 3 * SAMPLE_RATE)
    soundfile.write(tmp_path / "whole.flac", noise, SAMPLE_RATE)
    content = (tmp_path / "whole.flac").read_bytes()
    sync = content[content.index(b"\xff\xf8") :][:4]
    starts = [n for n in range(len(content)) if content.startswith(sync, n)]
    (tmp_path / "a.flac").write_bytes(content[: starts[6]])
    assert "damaged or cut off at 1." in refusal(tmp_path / "a.flac")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers(tmp_path: Path, bad: float) -> None:
    sound = chirp(1, SAMPLE_RATE)
    sound[12_345] = bad
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    assert "sample 12345 (at 0.77 s) is not a finite number" in refusal(tmp_path / "a.wav")
    assert "sample 12345 " in refusal(tmp_path / "a.wav", offset=0.5)
    assert len(read_audio(tmp_path / "a.wav", duration=0.5)) == SAMPLE_RATE // 2


@pytest.mark.parametrize("rate", [1, 999, 1_000_000])
def test_rates_that_are_not_speech(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), rate)
    assert f"sample rate of {rate} Hz is not speech" in refusal(tmp_path / "a.wav")


# --- directories, imports


def test_audio_is_known_by_its_suffix() -> None:
    assert is_audio_path("talk.FLAC") and is_audio_path(Path("a/b.webm"))
    assert not is_audio_path("talk.txt") and not is_audio_path("wav")


def test_find_audio_is_sorted_and_skips_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.wav", "a.MP3", "notes.txt", "._b.wav", "deep/c.m4a", ".cache/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_audio(tmp_path) == [tmp_path / "a.MP3", tmp_path / "b.wav"]
    assert find_audio(tmp_path, recursive=True) == [*find_audio(tmp_path), tmp_path / "deep/c.m4a"]


def test_directory_without_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.wav").touch()
    with pytest.raises(AudioError, match="no audio files in this directory; add --recursive"):
        find_audio(tmp_path)
    with pytest.raises(AudioError, match="no such directory"):
        find_audio(tmp_path / "none")


def test_import_loads_no_audio_library() -> None:
    code = "import sys, asr.audio; print({'soundfile', 'av', 'soxr', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_what_is_written_can_be_read(tmp_path: Path, suffix: str) -> None:
    path, samples = tmp_path / f"kept{suffix}", chirp(1, SAMPLE_RATE)
    with write_audio(path) as append:
        for block in np.array_split(samples, 7):
            append(block)
        assert not path.exists()
    np.testing.assert_allclose(read_audio(path), samples, atol=1 / 32768)
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_recorded_before_an_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_audio(tmp_path / "kept.wav") as append:
        append(chirp(1, SAMPLE_RATE))
        raise KeyboardInterrupt
    assert len(read_audio(tmp_path / "kept.wav")) == SAMPLE_RATE


def test_a_wav_beyond_the_length_that_its_header_can_hold_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "_LARGEST_WAV", 20_000)
    with write_audio(tmp_path / "long.wav") as append:
        append(chirp(1, SAMPLE_RATE))
    content = (tmp_path / "long.wav").read_bytes()
    assert content[4:8] == content[40:44] == b"\xff" * 4
    np.testing.assert_allclose(read_audio(tmp_path / "long.wav"), chirp(1, SAMPLE_RATE), atol=1 / 32768)


def test_other_kinds_of_files_and_other_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.wav or \.flac"), write_audio(tmp_path / "kept.mp3"):
        pass
    with pytest.raises(OutputError, match="cannot be written"), write_audio(tmp_path / "gone/kept.wav"):
        pass
