"""A microphone that can be spoken into, unplugged and plugged in again: a sound server of its own."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pytest

NEEDS = "Debian's pulseaudio, pulseaudio-utils, libportaudio2, libasound2-plugins; bin/check installs them"


class VirtualMicrophone:
    """PulseAudio in a folder of its own, whose only input hears what is played into it."""

    def __init__(self, folder: Path) -> None:
        programs = ("pulseaudio", "pactl", "paplay")
        plugins = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
        if not all(map(shutil.which, programs)) or not plugins or not ctypes.util.find_library("portaudio"):
            pytest.skip(f"needs {NEEDS}")
        self._folder = folder
        self.environment = os.environ | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "pulse"),
            "PULSE_STATE_PATH": str(folder / "state"),
            "PULSE_SERVER": f"unix:{folder}/pulse/native",
        }

    def __enter__(self) -> VirtualMicrophone:
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
        command += ["-L", "module-native-protocol-unix"]
        with open(self._folder / "log", "wb") as log:
            self._server = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while subprocess.run(["pactl", "info"], env=self.environment, capture_output=True).returncode:
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.1)
        self.plug_in()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.terminate()
        self._server.wait(10)

    def _run(self, *command: str) -> None:
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=60)

    def plug_in(self) -> None:
        self._run("pactl", "load-module", "module-null-sink", "sink_name=speaker")

    def unplug(self) -> None:
        self._run("pactl", "unload-module", "module-null-sink")

    def say(self, recording: Path) -> None:
        """Play a file into the microphone; its last tenths of a second may still be on their way."""
        self._run("paplay", "--device=speaker", str(recording))
