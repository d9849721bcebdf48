"""The curves of a training run as a picture: losses, error rates and learning rate by update."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asr.files import write_atomically


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The training and validation lines of metrics.jsonl in the order of their updates.

    What a run did again after it was killed counts the second time only.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["event"] in {"training", "validation"}:
            update = entry["update"]
            found = {key: earlier for key, earlier in found.items() if key[0] <= update}
            found[update, entry["event"]] = entry
    return list(found.values())


def series(entries: list[dict[str, Any]], event: str, part: str) -> dict[str, list[tuple[int, float]]]:
    """(update, value) of every number of such events whose name begins or ends like this."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        if entry["event"] == event:
            for name, value in entry.items():
                if value is not None and (name.startswith(part) or name.endswith(part)):
                    found.setdefault(name, []).append((entry["update"], value))
    return found


def draw(metrics: Path, image: Path) -> None:
    """Write a PNG of what metrics.jsonl holds; ModuleNotFoundError without matplotlib."""
    from matplotlib.figure import Figure  # not pyplot: no window, and nothing that stays in memory

    entries = read_metrics(metrics)
    panels = [
        ("CTC loss per label", series(entries, "training", "loss/"), "log"),
        ("error rate, validation", series(entries, "validation", "_error"), "linear"),
        ("learning rate", series(entries, "training", "learning_rate"), "linear"),
    ]
    panels = [panel for panel in panels if panel[1]] or panels[:1]
    figure = Figure(figsize=(5 * len(panels), 4.5), layout="constrained")
    (row,) = figure.subplots(1, len(panels), squeeze=False)
    for axes, (title, lines, scale) in zip(row, panels, strict=True):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker=".", label=name.removeprefix("loss/"))
        axes.set(title=title, xlabel="update", yscale=scale if lines else "linear")
        axes.grid(alpha=0.3)
        if lines:
            axes.legend()
    write_atomically(image, lambda file: figure.savefig(file, format="png", dpi=100))
