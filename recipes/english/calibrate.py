"""Fit a checkpoint to the language model and its words' probabilities to how often they are right.

    python recipes/english/calibrate.py RUN/best.safetensors dev.jsonl [--plot reliability.png]

What is kept in it are the acoustic scale that gives the fewest errors, and the calibration. The expected
calibration error that is printed is cross-validated: half of the utterances are judged with what was fitted
to the other half.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from asr import align, checkpoint
from asr.audio import read_audio
from asr.decoding.decoder import DecoderOptions
from asr.evaluation import Result, bins, calibration_error, evaluate
from asr.lm import Trial, tune
from asr.manifest import Utterance, read_manifest
from asr.recognizer import Recognizer
from asr.text import normalize
from asr.torch_engine import TorchEngine

Judged = list[tuple[float, bool]]  # mean posterior of a word's labels, and whether it was right


def fit(judged: Judged) -> align.Calibration:
    """The logistic function of the greatest likelihood, by Newton's method."""
    means, right = (np.array(column, float) for column in zip(*judged, strict=True))
    inputs = np.stack([np.ones_like(means), means], 1)
    weights = np.zeros(2)
    for _ in range(30):
        found = 1 / (1 + np.exp(-inputs @ weights))
        hessian = (inputs * (found * (1 - found))[:, None]).T @ inputs
        weights -= np.linalg.solve(hessian + 1e-6 * np.eye(2), inputs.T @ (found - right))
    return align.Calibration(float(weights[0]), float(weights[1]))


def best_scale(recognizer: Recognizer, utterances: list[Utterance]) -> float:
    """The acoustic scale, in steps of 0.05, with the fewest words wrong."""
    heard = [(normalize(u.text), list(recognizer.log_probs([read_audio(u.audio)]))) for u in utterances]

    def show(trial: Trial) -> None:
        print(f"acoustic scale {trial.options.acoustic_scale}: {100 * trial.word_error:.2f} % words wrong")

    start = DecoderOptions(acoustic_scale=1.0)
    best = tune(recognizer, heard, start, show, {"acoustic_scale": 0.05})[0].options.acoustic_scale
    assert best is not None
    return best


def judged(results: list[Result]) -> Judged:
    return [pair for result in results for pair in result.confidences]


def apply(calibration: align.Calibration, words: Judged) -> list[tuple[float, bool]]:
    return [(calibration(mean), right) for mean, right in words]


def draw(confidences: list[tuple[float, bool]], path: Path) -> None:
    """Share of right words against their probability, the bars as wide as the tenths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    groups = [group for group in bins(confidences) if group]
    said = [sum(p for p, _ in group) / len(group) for group in groups]
    true = [sum(right for _, right in group) / len(group) for group in groups]
    axes.plot([0, 1], [0, 1], color="gray", linewidth=1)
    axes.scatter(said, true, s=[20 + 600 * len(group) / len(confidences) for group in groups])
    axes.set(xlabel="probability given", ylabel="share of words that were right", xlim=(0, 1), ylim=(0, 1))
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--acoustic-scale", type=float, help="keep this one; none is looked for")
    args = parser.parse_args()
    model = checkpoint.load(args.checkpoint)
    for name in ("acoustic_scale", "calibration"):
        model.info.pop(name, None)
    utterances = read_manifest(args.manifest)
    scale = args.acoustic_scale
    if scale is None:
        scale = best_scale(Recognizer(TorchEngine(model), str(args.checkpoint)), utterances)
    model.info["acoustic_scale"] = scale
    results = evaluate(Recognizer(TorchEngine(model), str(args.checkpoint)), utterances).results
    halves = [judged(results[half::2]) for half in (0, 1)]
    crossed = apply(fit(halves[0]), halves[1]) + apply(fit(halves[1]), halves[0])
    before, after = calibration_error(halves[0] + halves[1]), calibration_error(crossed)
    print(f"expected calibration error: {before:.3f} before, {after:.3f} after")
    calibration = fit(halves[0] + halves[1])
    model.info["calibration"] = vars(calibration)
    checkpoint.save(model, args.checkpoint)
    if args.plot:
        draw(crossed, args.plot)
    print(f"{args.checkpoint}: offset {calibration.offset:.3f}, slope {calibration.slope:.3f}")


if __name__ == "__main__":
    main()
