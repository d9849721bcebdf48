"""asr doctor: what this installation can do, what it lacks, and what to do about that."""

from __future__ import annotations

import argparse
import json
from typing import Any

from asr.errors import ExitStatus


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        description="Check Python, ONNX Runtime, PyTorch, sound libraries, models, microphone, typing tool"
        " and settings. The exit status is 1 if recordings cannot be transcribed.",
    )
    parser.add_argument("--json", action="store_true", help="the checks as one JSON list")
    parser.add_argument(
        "--no-level-test", action="store_true", help="do not listen to the microphone for two seconds"
    )
    parser.add_argument(
        "-d", "--input-device", metavar="ID|NAME", help="microphone, by number or a part of its name"
    )


def run(args: argparse.Namespace) -> ExitStatus:
    from asr import diagnosis

    checks = list(diagnosis.checks(device=args.input_device, level_test=not args.no_level_test))
    if args.json:
        from dataclasses import asdict

        print(json.dumps([asdict(check) for check in checks]))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        colours = {diagnosis.OK: "green", diagnosis.WARNING: "yellow", diagnosis.FAILED: "red"}
        table = Table(box=None, show_header=False)
        for check in checks:
            status = Text(check.status, style=colours[check.status])
            table.add_row(check.name, status, Text(check.detail, overflow="fold"))
        Console(highlight=False).print(table)
    failed = any(check.status == diagnosis.FAILED for check in checks)
    return ExitStatus.SOME_FAILED if failed else ExitStatus.OK
