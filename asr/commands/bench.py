"""asr bench: how fast recordings become text here, how soon the first one, and how much memory it takes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from asr import __version__, arguments, pretrained
from asr.commands import add_engine_option, add_model_options
from asr.errors import AudioError, ExitStatus, UsageError

# Of the source tree: what is installed carries no recording.
_SAMPLE = Path(__file__).parent.parent.parent / "tests" / "data" / "2803-161169-0006.flac"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        description="Measure how fast recordings become text on this machine, as a Markdown table: start-up"
        " in fresh processes, all recordings end to end, the stages of the work one after another, and, with"
        " a model of one direction, what a stream takes for each 160 ms and how late its words are.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="FILE",
        help="recordings; start-up is that of the first (default: the sample of the tests)",
    )
    add_model_options(parser)
    parser.add_argument(
        "--streaming-model",
        metavar="NAME|PATH",
        help=f"a model of one direction (default: {pretrained.STREAMING}, if it is installed)",
    )
    add_engine_option(parser)
    parser.add_argument(
        "--runs", type=arguments.count, default=10, metavar="N", help="processes for start-up (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")


def run(args: argparse.Namespace) -> ExitStatus:
    from asr import benchmark

    paths = args.paths or _sample()
    for path in paths:
        if not os.path.isfile(path):
            raise AudioError(f"{path}: no such file; check the path")
    streaming = args.streaming_model
    if streaming is None and pretrained.STREAMING in pretrained.names():
        streaming = pretrained.STREAMING
    options = {"engine": args.engine, "device": args.device, "threads": args.threads}
    transcribe = [sys.executable, "-m", "asr", "transcribe", "-m", args.model]
    transcribe += [f"--{name}={value}" for name, value in options.items() if value is not None]
    loading = ", ".join([repr(args.model), *(f"{name}={value!r}" for name, value in options.items())])
    # Processes first: beside a small one their memory is measured right.
    start_up = benchmark.start_up(
        f"asr.recognizer.Recognizer.load({loading}).new_decoder", [*transcribe, "--", paths[0]], args.runs
    )
    whole = benchmark.run_process([*transcribe, "--", *paths])

    from asr.recognizer import Recognizer

    recognizer = Recognizer.load(args.model, **options)
    stages, seconds = benchmark.time_stages(recognizer, paths)
    streamed = None
    if streaming is not None:
        options["threads"] = args.threads or 1  # as asr listen has it
        second_pass = recognizer if streaming == pretrained.STREAMING else None
        streamed = benchmark.time_stream(recognizer.beside(streaming, **options), paths, second_pass)
    figures = {
        "version": __version__,
        "machine": benchmark.machine(),
        "model": args.model,
        **options,
        "recordings": paths,
        "audio_seconds": round(seconds, 2),
        "runs": args.runs,
        "start_up": {name: cost.values() for name, cost in start_up.items()},
        "end_to_end": {**whole.values(), "real_time_factor": round(whole.seconds / seconds, 5)},
        "stages": {name: cost.values() for name, cost in stages.items()},
        "streaming_model": streaming,
        "streaming": streamed,
    }
    print(json.dumps(figures) if args.json else _table(figures))
    return ExitStatus.OK


def _sample() -> list[str]:
    if not _SAMPLE.is_file():
        raise UsageError("bench: this installation carries no recording; name one or more")
    return [str(_SAMPLE)]


def _table(figures: dict[str, Any]) -> str:
    """The figures for people to read, in Markdown."""
    machine, audio, recordings = figures["machine"], figures["audio_seconds"], figures["recordings"]
    named = recordings[0] if len(recordings) == 1 else f"{len(recordings)} recordings"
    lines = [
        f"asr {figures['version']}, model {figures['model']}; {named}, {audio:.1f} s of audio",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}",
        "",
        "| | seconds | CPU seconds | x real time | x real time of CPU | peak MB |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    runs = figures["runs"]
    lines += [_row(f"start to {step}, median of {runs}", cost) for step, cost in figures["start_up"].items()]
    lines.append(_row("all recordings, start-up included", figures["end_to_end"], audio))
    lines += [_row(f"stage: {stage}", cost, audio) for stage, cost in figures["stages"].items()]
    if figures["streaming"]:
        lines += ["", f"| streaming, model {figures['streaming_model']} | |", "| --- | --: |"]
        for name, value in figures["streaming"].items():
            lines.append(f"| {name.replace('_', ' ')} | {'-' if value is None else f'{value:.3f}'} |")
    return "\n".join(lines)


def _row(name: str, cost: dict[str, float], audio: float | None = None) -> str:
    """A line of the table; audio: seconds of it, where a speed makes sense."""
    taken = [cost["seconds"], cost["cpu_seconds"]]
    speeds = ["", ""] if audio is None else [f"{audio / max(seconds, 1e-4):.0f}" for seconds in taken]
    memory = f"{cost['peak_megabytes']:.0f}" if "peak_megabytes" in cost else ""
    return f"| {' | '.join([name, *(f'{seconds:.3f}' for seconds in taken), *speeds, memory])} |"
