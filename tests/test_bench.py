"""asr bench and what it measures with: costs of processes, of stages and of streams."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asr import benchmark, checkpoint, cli, export
from asr.benchmark import STAGES, Stopwatch, run_process, time_stages, time_stream
from asr.errors import BenchmarkError, CheckpointError, ExitStatus
from asr.recognizer import Recognizer
from tests.conftest import SENTENCE

SECONDS = 2.37  # of SENTENCE


@pytest.fixture(scope="module")
def tiny_graph(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    export.export(checkpoint.load(tiny_checkpoint), path)
    return path


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_that_sleeps_takes_time_and_no_cpu() -> None:
    cost = run_process(python("import time; time.sleep(0.6)"))
    assert cost.seconds >= 0.6
    assert cost.cpu_seconds < 0.6


def test_a_process_that_computes_takes_cpu_seconds() -> None:
    cost = run_process(python("import time\nwhile time.process_time() < 0.3: pass"))
    assert cost.cpu_seconds >= 0.3
    assert cost.seconds >= 0.3 * 0.9


def test_peak_memory_is_that_of_the_process() -> None:
    # Measured from a small process: this one has torch in it.
    measure = (
        "import sys; from asr.benchmark import run_process;"
        "print(run_process([sys.executable, '-c', 'bytearray(200 << 20)']).peak_megabytes)"
    )
    shown = subprocess.run(python(measure), capture_output=True, text=True, check=True).stdout
    assert 200 < float(shown) < 260


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(BenchmarkError, match="^no model here$"):
        run_process(python("import sys; sys.exit('asr: error: no model here')"))
    with pytest.raises(BenchmarkError, match="^exit status 3$"):
        run_process(python("raise SystemExit(3)"))


def test_a_stage_inside_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "process_time", lambda: 2 * now)
    watch = Stopwatch()

    def slow_items():
        nonlocal now
        for item in range(3):
            now += 10
            yield item

    with watch.time("outer"):
        now += 1
        for _ in watch.passing("inner", slow_items()):
            now += 2
    assert watch.cost("inner") == benchmark.Cost(30, 60)
    assert watch.cost("outer") == benchmark.Cost(7, 14)
    assert watch.cost("never") == benchmark.Cost(0, 0)


def test_stages_take_their_share_of_the_whole(tiny_graph: Path) -> None:
    recognizer = Recognizer.load(tiny_graph)
    begin = time.perf_counter()
    stages, seconds = time_stages(recognizer, [SENTENCE, SENTENCE])
    elapsed = time.perf_counter() - begin
    assert seconds == pytest.approx(2 * SECONDS)
    assert list(stages) == list(STAGES)
    assert all(cost.seconds > 0 for cost in stages.values())
    assert sum(cost.seconds for cost in stages.values()) <= elapsed


def test_measuring_leaves_the_recogniser_as_it_was(tiny_graph: Path) -> None:
    recognizer = Recognizer.load(tiny_graph)
    before = recognizer.new_decoder
    time_stages(recognizer, [SENTENCE])
    assert recognizer.new_decoder is before


def test_a_stream_is_measured_by_its_steps(parrot: Path) -> None:
    figures = time_stream(Recognizer.load(parrot), [SENTENCE])
    assert figures["audio_seconds"] == pytest.approx(SECONDS + 2.0)
    assert figures["utterances"] == 1
    assert 0 < figures["network_ms_median"] <= figures["network_ms_95"]
    assert 0 < figures["all_ms_median"] <= figures["all_ms_95"]
    assert figures["final_median"] > 0


def test_a_bidirectional_model_is_no_stream(tiny_graph: Path) -> None:
    with pytest.raises(CheckpointError, match="bidirectional"):
        time_stream(Recognizer.load(tiny_graph), [SENTENCE])


def bench(*arguments: str | Path) -> int:
    return cli.main(["bench", "--runs", "1", "-q", *map(str, arguments)])


def test_bench_measures_start_up_stages_and_streaming(
    tiny_graph: Path, parrot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-m", tiny_graph, "--streaming-model", parrot, "--threads", "1", "--json", SENTENCE]
    assert bench(*arguments) == ExitStatus.OK
    figures = json.loads(capsys.readouterr().out)
    steps = figures["start_up"]
    assert list(steps) == ["Python", "imports", "models", "text"]
    assert steps["Python"]["cpu_seconds"] < steps["imports"]["cpu_seconds"] < steps["text"]["cpu_seconds"]
    whole = figures["end_to_end"]
    assert whole["real_time_factor"] == pytest.approx(whole["seconds"] / figures["audio_seconds"], rel=1e-3)
    assert figures["audio_seconds"] == SECONDS
    assert figures["threads"] == 1 and figures["recordings"] == [str(SENTENCE)]
    assert list(figures["stages"]) == list(STAGES)
    assert figures["streaming"]["utterances"] == 1
    assert figures["machine"]["cores"] >= 1


def test_bench_takes_the_sample_and_shows_a_table(
    tiny_graph: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.pretrained.names", lambda: [])
    assert bench("-m", tiny_graph) == ExitStatus.OK
    head, machine, _, *table = capsys.readouterr().out.splitlines()
    assert "2803-161169-0006.flac, 8.5 s of audio" in head
    assert " cores" in machine
    assert {line.count("|") for line in table} == {7}
    assert "streaming" not in "".join(table)


def test_bench_names_a_recording_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("missing.wav") == ExitStatus.SOME_FAILED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "asr: error: missing.wav: no such file; check the path\n"


def test_bench_without_the_sample_asks_for_a_recording(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("asr.commands.bench._SAMPLE", tmp_path / "none.flac")
    assert bench() == ExitStatus.USAGE
    assert "name one or more" in capsys.readouterr().err
