"""asr export MODEL -o FILE: a model -> an ONNX graph, which runs without torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from asr.commands import protect_inputs
from asr.errors import ExitStatus, UsageError

_EXAMPLES = """\
examples:
  asr export runs/best.safetensors                     runs/best.onnx, which asr then takes on the CPU
  asr export english -o english.onnx --fp32 --audio talk.flac
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        description="Write a model as an ONNX graph from samples to log-probabilities, compare what both"
        " say to recordings, and print by how much their probabilities differ.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="NAME|PATH", help="a shipped model or a checkpoint")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE|DIR",
        help="the graph to write, FILE.onnx, or a folder for MODEL.onnx (default: beside the checkpoint)",
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--int8", action="store_true", default=True, help="weights of eight bits: small and fast (default)"
    )
    weights.add_argument(
        "--fp32", action="store_false", dest="int8", help="weights of 32 bits: as exact as the checkpoint"
    )
    parser.add_argument(
        "--audio", nargs="+", metavar="FILE", help="recordings to compare with (default: a synthetic sound)"
    )


def run(args: argparse.Namespace) -> ExitStatus:
    from asr import extras, pretrained
    from asr.engine import ONNX_SUFFIX

    source = pretrained.find(args.model)
    if source.suffix == ONNX_SUFFIX:
        raise UsageError(f"{source}: is an ONNX graph already; name a checkpoint")
    target = args.output or source.parent
    if target.is_dir():
        target /= source.with_suffix(ONNX_SUFFIX).name
    elif target.suffix != ONNX_SUFFIX:
        raise UsageError(f"{target}: neither a folder nor a name that ends with {ONNX_SUFFIX}")
    protect_inputs(args, "output", written=[target], read=[source])

    for package in ("torch", "onnx"):
        extras.require(package, "asr export")
    from asr import checkpoint, export
    from asr.audio import read_audio

    recordings = [read_audio(path) for path in args.audio or ()] or [export.synthetic_sound()]
    model = checkpoint.load(source)
    export.export(model, target, int8=args.int8)
    difference = export.compare(model, target, recordings)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    print(
        f"{difference.n_frames} frames: probabilities differ by {difference.mean:.6f} on average,"
        f" {difference.largest:.6f} at most; {100 * difference.same_label:.2f} % have the same likeliest"
        " label"
    )
    return ExitStatus.OK
