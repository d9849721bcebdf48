"""Checks of an installation, each with what it found and what to do about it: what `asr doctor` shows."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr import extras
from asr.errors import AsrError

if TYPE_CHECKING:  # what is broken is to be reported, so nothing is needed to begin with
    import numpy as np

_LEVEL_SECONDS = 2.0
_QUIET_DB = -60.0  # of full scale, RMS; a microphone in a quiet room gives more as soon as one speaks
_LOUDEST = 0.99  # of full scale: the converter is at its limit
OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is (OK, WARNING or FAILED), and what there is to say about it.

    FAILED: asr cannot transcribe files. WARNING: something else, such as the microphone, does not work.
    """

    name: str
    status: str
    detail: str


def checks(*, device: str | None = None, level_test: bool = True) -> Iterator[Check]:
    """All checks, one after the other. device: the microphone to listen to, as its number or name."""
    yield _check("Python", _python, FAILED)
    yield _check("ONNX Runtime", _onnx_runtime, FAILED)
    yield _check("search", _search, WARNING)
    yield _check("PyTorch", _torch, WARNING)
    if extras.is_installed("torch"):
        yield _check("CUDA", _cuda, WARNING)
    yield _check("sound files", _sound_files, FAILED)
    yield from _models()
    inputs = _check("microphones", _microphones, WARNING)
    yield inputs
    if level_test and inputs.status == OK:
        yield _check("level", lambda: _level(device), WARNING)
    yield _check("typing", _typing, WARNING)
    yield _check("commands.toml", _commands, WARNING)
    yield _check("hook.py", _hook, WARNING)


class _Doubtful(AsrError):
    """Something works, but hardly as its user wants."""


def _check(name: str, look: Callable[[], str], status_of_errors: str) -> Check:
    """What looking found. A surprise is a finding as well: the other checks go on."""
    try:
        return Check(name, OK, look())
    except _Doubtful as error:
        return Check(name, WARNING, str(error))
    except AsrError as error:
        return Check(name, status_of_errors, str(error))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Check(name, status_of_errors, f"unexpected {reason[:300]}")


def _python() -> str:
    return f"{platform.python_version()}, {sys.executable}"


def _onnx_runtime() -> str:
    import onnxruntime

    return f"{onnxruntime.__version__}, {os.cpu_count()} cores"


def _search() -> str:
    from asr.decoding.kernel import kernel

    if kernel() is not None:
        return "compiled"
    return "by NumPy, which finds the same in more time: there was no C compiler when asr was installed"


def _torch() -> str:
    if not extras.is_installed("torch"):
        return f"not installed; training, asr export and CUDA need it: {extras.remedy()}"
    import torch
    import torchaudio

    return f"{torch.__version__}, torchaudio {torchaudio.__version__}, {torch.get_num_threads()} threads"


def _cuda() -> str:
    import torch

    if torch.version.cuda is None:
        return "not in this build of PyTorch; everything runs on the CPU"
    build = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    if not torch.cuda.is_available():
        return f"no device for {build}; everything runs on the CPU"
    return f"{torch.cuda.get_device_name()}, {build}"


def _sound_files() -> str:
    from asr.audio import library_versions

    return ", ".join(f"{name} {version}" for name, version in library_versions().items())


def _models() -> Iterator[Check]:
    from asr import pretrained

    names = pretrained.names()
    if not names:
        yield Check("models", FAILED, "none came with this installation; install asr again, or train one")
    for name in names:
        yield _check(f"model {name}", lambda name=name: _model(name), FAILED)  # type: ignore[misc]


def _model(name: str) -> str:
    from asr import engine, metadata, pretrained
    from asr.errors import CheckpointError

    path = pretrained.find(name)
    changed = pretrained.changed_files(path.parent)
    if changed:
        raise CheckpointError(f"{', '.join(changed)}: not as shipped; install asr again")
    engine.load(path, device="cpu")
    return f"{metadata.describe(path)['weights'] / 1e6:.1f} million weights, as shipped"


def _microphones() -> str:
    from asr.microphone import devices

    return ", ".join(f"{device.id} {device.name}{' *' * device.is_default}" for device in devices())


def _level(device: str | None) -> str:
    import numpy as np

    from asr.audio import SAMPLE_RATE
    from asr.microphone import Microphone

    heard: list[np.ndarray] = []
    with Microphone(device) as microphone:
        for block in microphone:
            heard.append(block)
            if sum(map(len, heard)) >= _LEVEL_SECONDS * SAMPLE_RATE:
                break
    return level_of(np.concatenate(heard))


def level_of(samples: np.ndarray) -> str:
    """How loud a recording is, for its microphone's user; an AsrError when it is of little use."""
    import numpy as np

    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0:
        raise _Doubtful("nothing but zeros: the microphone is muted, or no program may record")
    rms_db = 10 * np.log10(float(np.mean(samples.astype(np.float64) ** 2)))
    level = f"{rms_db:.0f} dB, peak {20 * np.log10(peak):.0f} dB of full scale"
    if peak >= _LOUDEST:
        raise _Doubtful(f"{level}: overdriven; turn the input down")
    if rms_db < _QUIET_DB:
        raise _Doubtful(f"{level}: hardly anything; speak while this runs, or turn the input up")
    return level


def _typing() -> str:
    from asr.keyboard import Keyboard

    return Keyboard("auto", os.environ).tool


def _commands() -> str:
    from asr.paths import config_file
    from asr.spoken import default_commands, load_commands

    path = config_file("commands.toml")
    commands = load_commands(path)
    if not path.exists():
        return f"{len(commands)} default phrases ({path} does not exist)"
    n_own = sum(commands.get(phrase) != default for phrase, default in default_commands().items())
    n_own += len(set(commands) - set(default_commands()))
    return f"{len(commands)} phrases, {n_own} of them changed by {path}"


def _hook() -> str:
    from asr.dictation import load_hook
    from asr.paths import config_file

    path = config_file("hook.py")
    return f"none ({path} does not exist)" if load_hook(path) is None else str(path)
