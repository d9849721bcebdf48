"""The recipe step that writes recordings as other rooms and codecs would give them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import ROOT, load_recipe

from asr.audio import read_audio
from asr.manifest import Utterance, read_manifest, write_manifest

step = load_recipe("english/augment_audio.py")

SPEECH = read_audio(ROOT / "tests/data/1462-170142-0003.flac").astype(np.float64)
RATE = 16_000


def delay(first: np.ndarray, second: np.ndarray) -> int:
    """Samples by which the second lags the first, from their cross-correlation."""
    size = 1 << (2 * len(first) - 1).bit_length()
    correlation = np.fft.irfft(np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size), size)
    lag = int(correlation.argmax())
    return lag if lag < size // 2 else lag - size


def power_above(samples: np.ndarray, hertz: float) -> float:
    """Share of the power above a frequency."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(power[frequencies > hertz].sum() / power.sum())


def test_a_room_response_is_convolved_from_its_direct_sound_on() -> None:
    response = np.zeros(400)
    response[100], response[300] = 1.0, 0.5  # an echo 200 samples after the direct sound
    expected = SPEECH + 0.5 * np.concatenate([np.zeros(200), SPEECH[:-200]])
    expected *= np.sqrt((SPEECH**2).mean() / (expected**2).mean())
    np.testing.assert_allclose(step.in_room(SPEECH, response), expected, atol=1e-9)


def test_a_simulated_room_decays_by_60_db_and_keeps_words_in_place() -> None:
    for seed in range(5):
        response = step.simulate_room(np.random.default_rng(seed))
        seconds = len(response) / RATE
        assert response[0] == 1.0 and 0.15 <= seconds <= 0.8
        tenth = len(response) // 10
        parts = (response[tenth : 2 * tenth], response[-tenth:])
        levels = [10 * np.log10((part**2).mean()) for part in parts]
        assert levels[0] - levels[1] == pytest.approx(60 * 0.8, abs=5)
        assert abs(delay(SPEECH, step.in_room(SPEECH, response))) < RATE / 1000


@pytest.mark.parametrize("application", ["voip", "lowdelay"])
@pytest.mark.parametrize("bit_rate", [12_000, 24_000])
def test_opus_keeps_length_place_and_words_but_not_the_samples(application: str, bit_rate: int) -> None:
    heard = step.through_opus(SPEECH, bit_rate, application)
    assert len(heard) == len(SPEECH) and abs(delay(SPEECH, heard)) <= 8
    similarity = float(np.corrcoef(SPEECH, heard)[0, 1])
    assert 0.5 < similarity < 0.999


def test_a_lower_opus_rate_changes_more() -> None:
    heard = [step.through_opus(SPEECH, rate, "lowdelay") for rate in (12_000, 64_000)]
    errors = [float(((samples - SPEECH) ** 2).mean()) for samples in heard]
    assert errors[0] > 2 * errors[1]


def test_the_telephone_has_nothing_above_four_kilohertz() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    heard = step.through_telephone(noise)
    assert len(heard) == RATE and power_above(noise, 4100) > 0.4 and power_above(heard, 4100) < 0.001
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert np.corrcoef(tone, step.through_telephone(tone))[0, 1] > 0.99


def test_silence_stays_silent() -> None:
    changed = step.augment(np.zeros(RATE), np.random.default_rng(1), [], room=1.0, codec=0.0)
    assert not changed.any()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    speech = Utterance("room", ROOT / "tests/data/1462-170142-0003.flac", "the room", 2.37, "1462", "x")
    write_manifest(tmp_path / "train.jsonl", [speech])
    return tmp_path / "train.jsonl"


def test_copies_follow_from_seed_and_id_and_keep_their_text(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        assert step.main([str(manifest), str(folder), "--copies", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{folders[0]}/manifest.jsonl: 2 copies"
    first, second = (read_manifest(folder / "manifest.jsonl") for folder in folders)
    assert [(u.id, u.text, u.speaker) for u in first] == [
        ("room#augmented1", "the room", "1462"),
        ("room#augmented2", "the room", "1462"),
    ]
    samples = [read_audio(u.audio) for u in first]
    for ours, theirs in zip(samples, second, strict=True):
        assert np.array_equal(ours, read_audio(theirs.audio)) and len(ours) == len(SPEECH)
    assert not np.array_equal(*samples)


def test_copies_that_are_there_are_not_made_again(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert step.main([str(manifest), str(tmp_path / "a")]) == 0
    monkeypatch.setattr(step, "augment", None)
    assert step.main([str(manifest), str(tmp_path / "a")]) == 0
    assert len(read_manifest(tmp_path / "a/manifest.jsonl")) == 1


def test_recorded_rooms_are_used_where_there_are_any(manifest: Path, tmp_path: Path) -> None:
    response = np.zeros(RATE // 2)
    response[[0, -1]] = 0.5, 0.5  # a single echo after half a second
    soundfile.write(tmp_path / "hall.wav", response, RATE)
    lines = [{"audio": "hall.wav", "kind": "rir"}, {"audio": "gone.wav", "kind": "noise"}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--responses", str(tmp_path / "list.jsonl"), "--room", "1", "--codec", "0"]
    assert step.main([str(manifest), str(tmp_path / "a"), *options]) == 0
    heard = read_audio(read_manifest(tmp_path / "a/manifest.jsonl")[0].audio).astype(np.float64)
    expected = SPEECH.copy()
    expected[RATE // 2 - 1 :] += SPEECH[: -(RATE // 2 - 1)]
    assert np.corrcoef(heard, expected)[0, 1] > 0.999


def test_bad_input_is_named_and_the_others_are_done(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.write_text(manifest.read_text() + '{"audio": "gone.wav", "text": "x", "duration": 1.0}\n')
    assert step.main([str(manifest), str(tmp_path / "a")]) == 1
    assert "gone.wav" in capsys.readouterr().err
    assert len(read_manifest(tmp_path / "a/manifest.jsonl")) == 1
    (tmp_path / "list.jsonl").write_text('{"audio": "x.wav", "kind": "noise"}\n')
    arguments = [str(manifest), str(tmp_path / "b"), "--responses", str(tmp_path / "list.jsonl")]
    assert step.main(arguments) == 1
    assert capsys.readouterr().err.endswith("list.jsonl: holds no room responses (kind rir)\n")
