"""asr average MODEL MODEL... -o OUTPUT: the mean of several checkpoints."""

from __future__ import annotations

import argparse
from typing import Any

from asr.commands import protect_inputs
from asr.errors import ExitStatus


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "average",
        description="Write the mean of the weights of several models of one training run, which may be "
        "better than each of them. A run keeps the models of its latest validations with training.keep=N.",
    )
    parser.add_argument("models", nargs="+", metavar="NAME|PATH")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the model to write")


def run(args: argparse.Namespace) -> ExitStatus:
    from asr import extras

    extras.require("torch", "asr average")
    from asr import checkpoint, pretrained

    models = [pretrained.find(model) for model in args.models]
    protect_inputs(args, "output", read=models)
    mean = checkpoint.average(models)
    checkpoint.save(mean, args.output)
    print(args.output)
    return ExitStatus.OK
