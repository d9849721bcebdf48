"""The recipe step that makes the bad conditions that models are measured in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import ROOT, load_recipe

from asr.audio import read_audio
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.training.surroundings import add_noise, at_rate, through_codec, through_telephone

step = load_recipe("english/robust_set.py")
noise_step = load_recipe("english/noise.py")
augment_step = load_recipe("english/augment_audio.py")

SPEECH = read_audio(ROOT / "tests/data/1462-170142-0003.flac").astype(np.float64)
RATE = 16_000


def share_outside(samples: np.ndarray, lowest: float, highest: float) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(power[(hertz < lowest) | (hertz > highest)].sum() / power.sum())


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """A manifest of three utterances, and eight noises, three pieces of music and eight rooms."""
    rows = []
    for i in range(3):
        audio = tmp_path / f"u{i}.flac"
        soundfile.write(audio, SPEECH[: RATE + i], RATE)
        rows.append(Utterance(f"u{i}", audio, "the room was empty", 1.0, f"s{i}", "librispeech/dev-clean"))
    write_manifest(tmp_path / "dev.jsonl", rows)
    random = np.random.default_rng(0)
    entries = []
    for kind, count in (("noise", 8), ("music", 3), ("rir", 8)):
        for i in range(count):
            name = f"{kind}{i}.flac"
            soundfile.write(tmp_path / name, 0.1 * random.standard_normal(8000), RATE)
            entries.append({"audio": name, "kind": kind, "duration": 0.5})
    noises = tmp_path / "noise.jsonl"
    noises.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return tmp_path / "dev.jsonl", noises


def test_every_condition_has_the_same_utterances(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, noises = inputs
    assert step.main([str(manifest), str(tmp_path / "out"), "--noise", str(noises), "--utterances", "2"]) == 0
    rows = read_manifest(tmp_path / "out/robust.jsonl")
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.corpus, []).append(row.id.split("#")[0])
        assert len(read_audio(row.audio)) >= RATE
    assert len(found) >= 14
    assert all(ids == ["u0", "u1"] for ids in found.values())


def test_it_is_made_alike_every_time(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, noises = inputs
    heard = []
    for folder in ("a", "b"):
        command = [str(manifest), str(tmp_path / folder), "--noise", str(noises), "--utterances", "1"]
        assert step.main(command) == 0
        heard.append([read_audio(row.audio) for row in read_manifest(tmp_path / folder / "robust.jsonl")])
    assert all(np.array_equal(first, second) for first, second in zip(*heard, strict=True))


@pytest.mark.parametrize("ratio_db", [20.0, 0.0])
def test_noise_is_as_loud_as_its_name_says(ratio_db: float) -> None:
    noise = np.random.default_rng(1).standard_normal(5000)
    added = add_noise(SPEECH, noise, ratio_db, np.random.default_rng(0)) - SPEECH
    assert 10 * np.log10((SPEECH**2).mean() / (added**2).mean()) == pytest.approx(ratio_db, abs=0.1)


def test_a_telephone_carries_nothing_outside_of_its_band_but_rounding_noise() -> None:
    heard = through_telephone(SPEECH, (300.0, 3400.0))
    assert share_outside(heard, 150, 4050) < 1e-3
    assert share_outside(SPEECH, 150, 4050) > 5e-3


def test_sound_at_11_khz_has_nothing_above_half_of_that() -> None:
    assert share_outside(at_rate(SPEECH, 11_025), 0, 5600) < 1e-4


def test_a_mobile_telephone_leaves_speech_of_the_same_length() -> None:
    heard = through_codec(SPEECH, "libopencore_amrnb", ".amr", 7_950, sample_rate=8_000)
    assert len(heard) == len(SPEECH) and (heard**2).mean() > 0.3 * (SPEECH**2).mean()
    assert share_outside(heard, 0, 4050) < 1e-3


def test_noises_to_measure_with_are_not_in_the_training_list(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, noises = inputs
    monkeypatch.setattr("sys.argv", ["noise.py", str(noises), str(tmp_path / "training.jsonl")])
    noise_step.main()
    trained = {row.audio.name for row in read_manifest(tmp_path / "training.jsonl")}
    read: set[str] = set()
    monkeypatch.setattr(step, "read_audio", lambda path: (read.add(path.name), read_audio(path))[1])
    assert step.main([str(manifest), str(tmp_path / "out"), "--noise", str(noises)]) == 0
    measured = {name for name in read if name.startswith(("noise", "music"))}
    assert len(trained) == 8 and measured and measured <= {f"noise{i}.flac" for i in range(8)} - trained


def test_rooms_to_measure_with_are_not_in_copies_for_training(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, noises = inputs
    read: dict[str, set[str]] = {"measured": set(), "trained": set()}
    for name, recipe in (("measured", step), ("trained", augment_step)):
        found = read[name]
        monkeypatch.setattr(
            recipe, "read_audio", lambda path, found=found: (found.add(path.name), read_audio(path))[1]
        )
    assert step.main([str(manifest), str(tmp_path / "out"), "--noise", str(noises)]) == 0
    options = ["--responses", str(noises), "--room", "1", "--codec", "0", "--copies", "12"]
    assert augment_step.main([str(manifest), str(tmp_path / "copies"), *options]) == 0
    rooms = {name: {room for room in found if room.startswith("rir")} for name, found in read.items()}
    assert rooms["measured"] and rooms["trained"] and not rooms["measured"] & rooms["trained"]
