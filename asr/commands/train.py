"""asr train CONFIG.toml [key=value ...]: train an acoustic model."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import arguments
from asr.commands import protect_inputs
from asr.errors import ExitStatus

if TYPE_CHECKING:
    import torch

    from asr.checkpoint import Checkpoint
    from asr.training.config import RunConfig


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "train",
        description="Train an acoustic model as a TOML file says. A run that was interrupted goes on "
        "where it stopped when the same command is given again.",
    )
    parser.add_argument("config", metavar="CONFIG.toml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. training.seed=2")
    parser.add_argument(
        "--init-from",
        metavar="NAME|PATH",
        help="begin with this model's weights; its shape counts where the configuration says nothing else",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("-t", "--threads", type=arguments.count, metavar="N", help="CPU threads")
    parser.add_argument("--restart", action="store_true", help="begin anew instead of resuming")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="learn one batch by heart, write nothing, and say whether this set-up can learn",
    )
    return parser


def run(args: argparse.Namespace) -> ExitStatus:
    from asr import extras

    extras.require("torch", "asr train")
    from asr import checkpoint, config, pretrained
    from asr.training.config import RunConfig
    from asr.training.distributed import choose_device
    from asr.training.trainer import Trainer, run_files

    source = checkpoint.load(pretrained.find(args.init_from)) if args.init_from else None
    shape = {}
    if source:
        shape = {"model": asdict(source.model.config), "features": asdict(source.front_end.config)}
    resolved = config.load(args.config, args.overrides, RunConfig, shape)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == "cuda" and not torch.cuda.is_available():
        from asr.errors import UsageError

        raise UsageError("--device cuda: no usable CUDA device")
    device = choose_device(args.device)
    if args.dry_run:
        return _rehearse(resolved, device, source, quiet=args.quiet)
    data = resolved.data
    sources = [data.train, data.validation, data.lexicon, data.noise, data.teacher]
    if source:
        sources.append(str(pretrained.find(args.init_from)))
    protect_inputs(args, written=run_files(Path(resolved.output)), read=sources)
    trainer = Trainer(resolved, device)
    is_writer = trainer.group.is_writer  # several processes say everything once
    if source:
        trainer.start_from(source)
    with _Progress(quiet=args.quiet or not is_writer) as progress:
        if args.restart:
            trainer.forget()
        trainer.prepare(progress.on_data)
        if trainer.resume() and is_writer and not args.quiet:
            print(f"resuming {resolved.output} at update {trainer.update}", file=sys.stderr)
        trainer.train(progress.on_update)
    trainer.group.leave()
    if is_writer:
        print(f"{resolved.output}/best.safetensors")
    return ExitStatus.OK


def _rehearse(
    config: RunConfig, device: torch.device, source: Checkpoint | None, *, quiet: bool
) -> ExitStatus:
    from asr.training.dry_run import overfit_one_batch

    with _Progress(quiet=quiet) as progress:
        result = overfit_one_batch(config, device, source, progress.on_update)
    verdict = "this set-up can learn" if result.can_learn else "this set-up does not learn"
    print(
        f"{verdict}: loss {result.first_loss:.2f} -> {result.last_loss:.2f} per label after "
        f"{result.n_updates} updates on {result.n_utterances} utterances (goal: {result.goal:.2f})"
    )
    return ExitStatus.OK if result.can_learn else ExitStatus.SOME_FAILED


class _Progress:
    """A bar with the time left on a terminal; nothing elsewhere (metrics.jsonl has it all)."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("reading audio", total=1.0)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_data(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def on_update(self, trainer: Any) -> None:
        error = trainer.results.get("word_error")
        # Far above what a search with a language model gives.
        shown = f", greedy characters' word error {100 * error:.1f} %" if error is not None else ""
        self._bar.update(
            self._task,
            description=f"epoch {trainer.epoch + 1}, update {trainer.update}{shown}",
            completed=trainer.progress,
            total=1.0,
        )
