"""asr doctor: every check says what it found, and only what is essential makes it fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from asr import diagnosis, pretrained
from asr.cli import main
from asr.diagnosis import FAILED, OK, WARNING, Check, checks, level_of
from asr.errors import AsrError, CheckpointError, MicrophoneError
from asr.microphone import Device


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of settings, empty; no desktop; no microphone."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("asr.microphone.devices", no_devices)
    (tmp_path / "asr").mkdir()
    return tmp_path / "asr"


def no_devices() -> list[Device]:
    raise MicrophoneError("microphone: no input found")


def found(name: str, **options: object) -> Check:
    (check,) = (check for check in checks(**options) if check.name == name)  # type: ignore[arg-type]
    return check


def shipped(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str = "english") -> Path:
    """The folder of a model that is the only one shipped."""
    home = folder / "pretrained" / name
    home.mkdir(parents=True)
    shutil.copy(model, home / pretrained.MODEL_FILE)
    pretrained.write_checksums(home)
    monkeypatch.setattr(pretrained, "FOLDER", home.parent)
    return home


def test_an_installation_that_can_transcribe_is_well(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped(tmp_path, tiny_checkpoint, monkeypatch)
    assert {check.name: check.status for check in checks()} == {
        "Python": OK,
        "ONNX Runtime": OK,
        "search": OK,
        "PyTorch": OK,
        "CUDA": OK,
        "sound files": OK,
        "model english": OK,
        "microphones": WARNING,
        "typing": WARNING,
        "commands.toml": OK,
        "hook.py": OK,
    }


def test_every_detail_is_one_line_that_says_something() -> None:
    for check in checks():
        assert check.detail and "\n" not in check.detail


def test_the_shipped_models_are_those_of_their_checksums() -> None:
    for name in pretrained.names():
        assert pretrained.changed_files(pretrained.FOLDER / name) == [], (
            f"asr/pretrained/{name}: write SHA256SUMS anew, as recipes/english/ship.py does"
        )


def test_a_damaged_model_is_found(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shipped(tmp_path, tiny_checkpoint, monkeypatch)
    content = bytearray((home / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (home / "model.safetensors").write_bytes(content)
    check = found("model english")
    assert check.status == FAILED and "model.safetensors: not as shipped" in check.detail


def test_a_model_of_another_format_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    shipped(tmp_path, junk, monkeypatch)
    check = found("model english")
    assert check.status == FAILED and "not a readable model file" in check.detail


def test_files_that_came_or_went_are_changes_and_documents_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("a")
    (tmp_path / "b.bin").write_text("b")
    pretrained.write_checksums(tmp_path)
    (tmp_path / "README.md").write_text("text")
    assert pretrained.changed_files(tmp_path) == []
    (tmp_path / "a.bin").unlink()
    (tmp_path / "c.bin").write_text("c")
    assert pretrained.changed_files(tmp_path) == ["a.bin", "c.bin"]


def test_a_model_without_checksums_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="SHA256SUMS: cannot be read"):
        pretrained.changed_files(tmp_path)


def test_an_installation_without_a_model_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    assert found("models").status == FAILED
    assert main(["doctor", "--no-level-test"]) == 1


def test_a_surprise_is_a_finding_and_the_other_checks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, str]:
        raise OSError("libsndfile.so:\nno such file")

    monkeypatch.setattr("asr.audio.library_versions", broken)
    results = {check.name: check for check in checks()}
    assert results["sound files"] == Check(
        "sound files", FAILED, "unexpected OSError: libsndfile.so: no such file"
    )
    assert results["hook.py"].status == OK


def test_settings_that_cannot_be_read_are_named(settings: Path) -> None:
    (settings / "commands.toml").write_text("[commands")
    (settings / "hook.py").write_text("1 / 0")
    assert "commands.toml: not TOML" in found("commands.toml").detail
    assert "ZeroDivisionError" in found("hook.py").detail
    assert found("commands.toml").status == found("hook.py").status == WARNING


def test_own_phrases_are_counted(settings: Path) -> None:
    (settings / "commands.toml").write_text('[commands]\n"my name" = "Ada"\n"period" = ""\n"comma" = ";"\n')
    assert ", 3 of them changed by " in found("commands.toml").detail


class FakeMicrophone:
    """Noise of a given level, or silence."""

    level = 0.0
    n_given = 0

    def __init__(self, device: str | None) -> None:
        self.device = device

    def __enter__(self) -> FakeMicrophone:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def __iter__(self) -> Iterator[np.ndarray]:
        random = np.random.default_rng(1)
        while True:
            FakeMicrophone.n_given += 1600
            yield random.uniform(-self.level, self.level, 1600).astype(np.float32)


@pytest.mark.parametrize(
    ("level", "status", "detail"),
    [
        (0.1, OK, "-25 dB, peak -20 dB of full scale"),
        (0.0, WARNING, "nothing but zeros"),
        (0.0001, WARNING, "hardly anything"),
        (1.0, WARNING, "overdriven"),
    ],
)
def test_the_microphone_is_listened_to_for_two_seconds(
    monkeypatch: pytest.MonkeyPatch, level: float, status: str, detail: str
) -> None:
    monkeypatch.setattr("asr.microphone.devices", lambda: [Device(3, "USB Audio", 1, 48_000, True)])
    monkeypatch.setattr("asr.microphone.Microphone", FakeMicrophone)
    monkeypatch.setattr(FakeMicrophone, "level", level)
    monkeypatch.setattr(FakeMicrophone, "n_given", 0)
    assert found("microphones").detail == "3 USB Audio *"
    check = found("level")
    assert check.status == status and detail in check.detail
    assert FakeMicrophone.n_given == 2 * 32_000  # for two looks


def test_the_microphone_is_left_alone_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.microphone.devices", lambda: [Device(3, "USB Audio", 1, 48_000, True)])
    assert "level" not in {check.name for check in checks(level_test=False)}


def test_a_level_of_no_samples_is_a_finding() -> None:
    with pytest.raises(AsrError, match="nothing but zeros"):
        level_of(np.zeros(0, np.float32))


def test_json_holds_all_checks(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json", "--no-level-test"])
    results = json.loads(capsys.readouterr().out)
    assert [set(result) for result in results] == [{"name", "status", "detail"}] * len(results)
    assert status == int(any(result["status"] == FAILED for result in results))


def test_the_table_names_every_check(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [Check("PyTorch", FAILED, "gone [sic]"), Check("typing", WARNING, "no display")]
    monkeypatch.setattr(diagnosis, "checks", lambda **options: iter(failing))
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out.splitlines()
    assert [line.split() for line in output] == [
        ["PyTorch", "failed", "gone", "[sic]"],
        ["typing", "warning", "no", "display"],
    ]
