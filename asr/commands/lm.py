"""asr lm build|train|tune|info: language models for the beam search."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import arguments, extras
from asr.commands import add_decoder_options, add_model_options, decoder_options, protect_inputs
from asr.errors import ExitStatus, OutputError, UsageError

if TYPE_CHECKING:
    from asr.decoding.language import Language
    from asr.lm import Trial

_MIXED_PRUNE = 5e-8  # of texts to be mixed, as the model that comes with asr is pruned

_EXAMPLES = """\
examples:
  asr lm build minutes.txt manuals.txt -o my.lm         mix what comes with asr with your own texts
  asr lm build books.txt.gz --mix none -o books.lm      count words and their neighbours in text, nothing else
  asr lm build 3-gram.arpa.gz -o librispeech.lm         convert a model of another toolkit
  asr lm train books.txt train.jsonl -o my.rnn          learn a recurrent model to go with it
  asr lm tune dev.jsonl --lm my.lm --save               find the best weights and keep them in my.lm
  asr lm info my.lm --text held-out.txt                 sizes, and the perplexity of a text
  asr transcribe talk.mp3 --lm my.lm
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "lm",
        description="Language models: build one of n-grams from text or ARPA, train a recurrent one that "
        "goes with it, tune the weights on a manifest, or describe a model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("build", "train", "tune", "info"))
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="texts, manifests or an ARPA file; a manifest; a language model",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where a model that is made goes")
    build = parser.add_argument_group("build")
    build.add_argument(
        "--mix",
        metavar="english|none|PATH",
        help="language model to mix with the new one (default: the one that comes with asr for texts, none "
        "for an ARPA file)",
    )
    build.add_argument(
        "--mix-share",
        type=arguments.probability,
        metavar="P",
        help="of the new model in the mixture (default: what makes parts of the text likeliest that are "
        "left out of it, 0.1 at most)",
    )
    build.add_argument(
        "--order", type=arguments.whole(1, 10), default=3, metavar="N", help="words of an n-gram (default: 3)"
    )
    build.add_argument(
        "--count-prune",
        type=_counts,
        default=(),
        metavar="N,N,...",
        help="drop n-grams seen so often or less, a number for each order, e.g. 0,0,1",
    )
    build.add_argument(
        "--entropy-prune",
        type=arguments.number(0, 1),
        default=0.0,
        metavar="X",
        help="drop n-grams that change the perplexity by a smaller part than this (default: 5e-8 for texts "
        "that are mixed, which only shortens large ones; else 0)",
    )
    build.add_argument(
        "--vocabulary",
        type=arguments.count,
        default=120_000,
        metavar="N",
        help="most frequent words (default: 120000)",
    )
    build.add_argument(
        "--spelling",
        type=arguments.probability,
        default=0.7,
        metavar="P",
        help="probability that a spelled letter is followed by another or a number; 0: as in the text "
        "(default: 0.7)",
    )
    build.add_argument(
        "--add-words",
        metavar="FILE",
        help="a dictionary in CMUdict's form: its words can be recognised where the text lacks them",
    )
    build.add_argument(
        "--added-share",
        type=arguments.probability,
        default=0.1,
        metavar="P",
        help="probability of all added words together, without context (default: 0.1)",
    )
    build.add_argument(
        "--lexicon",
        metavar="FILE|none",
        help="pronunciations; none: words are spelled in characters (default: those that come with asr)",
    )
    train = parser.add_argument_group("train")
    train.add_argument(
        "--words",
        type=arguments.count,
        default=32_000,
        metavar="N",
        help="most frequent words (default: 32000)",
    )
    train.add_argument(
        "--cells", type=arguments.count, default=512, metavar="N", help="of the LSTM (default: 512)"
    )
    train.add_argument(
        "--epochs",
        type=arguments.number(0.001, 1000),
        default=5.0,
        metavar="X",
        help="passes over the text (default: 5)",
    )
    train.add_argument(
        "--mixed-precision",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compute in bfloat16 where the processor has it (default: yes)",
    )
    tune = parser.add_argument_group("tune")
    add_model_options(tune)
    tune.add_argument("--corpus", metavar="NAME", help="only the rows of this corpus")
    tune.add_argument("--limit", type=arguments.count, metavar="N", help="only the first N rows")
    tune.add_argument("--save", action="store_true", help="keep the best weights in the file of --lm")
    tune.add_argument("--plot", metavar="FILE.png", help="draw the word error rates")
    info = parser.add_argument_group("info")
    info.add_argument("--text", metavar="FILE", help="tell the perplexity of this text")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    add_decoder_options(parser)


def run(args: argparse.Namespace) -> ExitStatus:
    return {"build": _build, "train": _train, "tune": _tune, "info": _info}[args.action](args)


def _counts(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers like 0,0,1")
    return tuple(map(int, parts))


def _build(args: argparse.Namespace) -> ExitStatus:
    if not args.inputs or not args.output:
        raise UsageError("asr lm build: needs texts or an ARPA file, and -o FILE")
    from asr import pretrained, pronouncer
    from asr.decoding import language
    from asr.decoding.arpa import is_arpa
    from asr.labels import Lexicon
    from asr.lm import BuildOptions, build, read_dictionary

    protect_inputs(args, "output")
    lexicon = None
    if args.lexicon != "none":
        lexicon = Lexicon.load(args.lexicon or pretrained.LEXICON_FILE)
    paths = [Path(path) for path in args.inputs]
    mix = args.mix or ("none" if lexicon is None or is_arpa(paths[0]) else "english")
    mixed_with = None
    if mix != "none":
        if lexicon is None:
            raise UsageError("--mix: needs pronunciations; leave out --lexicon none")
        mixed_with = language.load(pretrained.LANGUAGE_FILE if mix == "english" else mix)
    entropy_prune = args.entropy_prune
    if entropy_prune is None:
        entropy_prune = 0.0 if mixed_with is None else _MIXED_PRUNE
    options = BuildOptions(
        order=args.order,
        count_prune=args.count_prune,
        vocabulary=args.vocabulary,
        spelling=args.spelling,
        added_share=args.added_share,
        entropy_prune=entropy_prune,
        share=args.mix_share,
    )
    added = read_dictionary(Path(args.add_words)) if args.add_words else None
    built = build(paths, lexicon, options, added, mixed_with, pronouncer.shipped())
    sources = [Path(path).name for path in [*args.inputs, *filter(None, [args.add_words])]]
    info = {**built.info, "sources": sources}
    if mixed_with is not None:
        info["mixed"] = {"with": mix if mix == "english" else Path(mix).name, **built.info["mixed"]}
    language.save(replace(built, info=info), args.output)
    if not args.quiet:
        _report(built, mixed_with, mix)
    print(args.output)
    return ExitStatus.OK


def _report(built: Language, mixed_with: Language | None, mix: str) -> None:
    if mixed_with is not None:
        n_new = len(built.lm.words) - len(mixed_with.lm.words)
        share = 100 * built.info["mixed"]["share"]
        print(f"mixed with {mix}: {share:.0f} % of the new texts, {n_new} new words", file=sys.stderr)
    if built.pronunciations is not None:
        n_missing = len(built.lm.words) - 3 - len(set(built.pronunciations.words.tolist()))
        if n_missing:
            print(f"{n_missing} words have no pronunciation and cannot be recognised", file=sys.stderr)


def _train(args: argparse.Namespace) -> ExitStatus:
    if not args.inputs or not args.output:
        raise UsageError("asr lm train: needs texts, and -o FILE")
    unfinished = Path(f"{args.output}.unfinished")
    protect_inputs(args, "output", written=[unfinished])
    extras.require("torch", "asr lm train")
    import torch

    from asr.decoding import recurrent
    from asr.lm import read_sentences
    from asr.training.recurrent_lm import Progress, RecurrentOptions, train

    if args.threads:
        torch.set_num_threads(args.threads)
    options = RecurrentOptions(vocabulary=args.words, n_cells=args.cells, epochs=args.epochs)
    sentences = read_sentences([Path(path) for path in args.inputs])

    def show(progress: Progress) -> None:
        print(
            f"{100 * progress.done:.1f} %, {progress.words_per_second:.0f} words a second, "
            f"perplexity of the text about {progress.perplexity:.0f}",
            file=sys.stderr,
        )

    model = train(
        sentences,
        options,
        Path(f"{args.output}.unfinished"),
        None if args.quiet else show,
        mixed_precision=args.mixed_precision,
    )
    model.info["sources"] = [Path(path).name for path in args.inputs]
    recurrent.save(model, args.output)
    print(args.output)
    return ExitStatus.OK


def _tune(args: argparse.Namespace) -> ExitStatus:
    if len(args.inputs) != 1:
        raise UsageError("asr lm tune: needs one manifest")
    if args.save and args.lm in ("auto", "none"):
        raise UsageError("--save: say with --lm which file shall keep the weights")
    if args.plot:
        extras.require("matplotlib", "--plot")
    from asr.audio import read_audio
    from asr.decoding import language
    from asr.lm import GRID, tune
    from asr.manifest import read_manifest
    from asr.recognizer import Recognizer
    from asr.text import normalize

    utterances = read_manifest(args.inputs[0], corpus=args.corpus, limit=args.limit)
    if args.plot:
        protect_inputs(args, "plot", read=[utterance.audio for utterance in utterances])
    options = decoder_options(args)
    recognizer = Recognizer.load(args.model, device=args.device, threads=args.threads, decoding=options)
    config = recognizer.new_decoder.config
    if config is None or recognizer.new_decoder.language is None:
        raise UsageError("asr lm tune: needs a language model and a beam")
    heard = [(normalize(u.text), list(recognizer.log_probs([read_audio(u.audio)]))) for u in utterances]
    start = replace(options, **{name: getattr(config, name) for name in GRID})

    def show(trial: Trial) -> None:
        if not args.quiet:
            print(_line(trial), file=sys.stderr)

    trials = tune(recognizer, heard, start, show)
    print(_line(trials[0]))
    if args.plot:
        _plot(trials, args.plot)
    if args.save:
        tuned = {name: getattr(trials[0].options, name) for name in GRID}
        kept = language.load(args.lm)
        language.save(replace(kept, info={**kept.info, "decoding": tuned}), args.lm)
    return ExitStatus.OK


def _line(trial: Trial) -> str:
    options = trial.options
    return (
        f"--prior-weight {options.prior_weight} --lm-weight {options.lm_weight} "
        f"--word-score {options.word_score}: {100 * trial.word_error:.2f} % words wrong"
    )


def _plot(trials: list[Trial], path: str) -> None:
    """One panel for each weight, every trial a point."""
    from matplotlib.figure import Figure

    from asr.lm import GRID

    figure = Figure(figsize=(4 * len(GRID), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(GRID), sharey=True), GRID, strict=True):
        axes.scatter([getattr(t.options, name) for t in trials], [100 * t.word_error for t in trials])
        axes.set_xlabel(name.replace("_", " "))
    figure.axes[0].set_ylabel("words wrong (%)")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written ({error})") from None


def _info(args: argparse.Namespace) -> ExitStatus:
    from asr import pretrained
    from asr.decoding import language, recurrent
    from asr.decoding.decoder import file_of_recurrent
    from asr.decoding.graph import BeamConfig
    from asr.lm import perplexity, read_sentences

    if len(args.inputs) > 1:
        raise UsageError("asr lm info: needs one language model")
    path = Path(args.inputs[0]) if args.inputs else pretrained.shipped_language()
    if path is None:
        raise UsageError("asr lm info: no language model comes with this installation; name one")
    shipped = None if args.inputs else pretrained.shipped_recurrent()
    with_it = file_of_recurrent(args.rnn_lm, shipped)
    described = language.load(path)
    facts: dict[str, Any] = {"file": str(path), "megabytes": round(path.stat().st_size / 1e6, 1)}
    facts["words"] = len(described.lm.words)
    facts |= {f"{n}-grams": size for n, size in enumerate(described.lm.counts, start=1)}
    if described.pronunciations is not None:
        facts["pronunciations"] = len(described.pronunciations.words)
    facts |= described.info
    mixture = None
    if with_it is not None:
        model = recurrent.load(with_it)
        share = BeamConfig.recurrent_share if args.rnn_share is None else args.rnn_share
        mixture = recurrent.Mixture(model, share, described.lm.words, described.lm.unigrams)
        facts["recurrent"] = {"file": str(with_it), "words": len(model.words), "share": share, **model.info}
    if args.text:
        value, unknown = perplexity(described.lm, read_sentences([Path(args.text)]), mixture)
        facts |= {"perplexity": round(value, 2), "unknown_words": f"{100 * unknown:.2f} %"}
    if args.json:
        import json

        print(json.dumps(facts))
    else:
        for key, value in facts.items():
            print(f"{key}: {value}")
    return ExitStatus.OK
