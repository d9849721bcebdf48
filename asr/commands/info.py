"""asr info [MODEL]: what a model is, what it was trained on, and how well it does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from asr.errors import ExitStatus


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "info", description="Labels, sizes, training data and measured results of a model."
    )
    parser.add_argument(
        "model", nargs="?", default="english", metavar="MODEL", help="name or path (default: english)"
    )
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")


def run(args: argparse.Namespace) -> ExitStatus:
    from asr import metadata, pretrained

    path = pretrained.find(args.model)
    facts = {"file": str(path), "megabytes": round(path.stat().st_size / 1e6, 1)}
    facts |= metadata.describe(path)
    if args.json:
        import json

        print(json.dumps(facts))
    else:
        for line in _lines(facts):
            print(line)
    return ExitStatus.OK


def _lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {value}"
