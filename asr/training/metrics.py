"""What a run measures, as it goes: metrics.jsonl, TensorBoard events, and a picture of the curves."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

from asr.extras import REMEDY
from asr.training import curves

logger = logging.getLogger(__name__)


class Metrics:
    """The records in a run's folder. TensorBoard and matplotlib are used where they are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._board: Any = None
        self._has_board = self._can_draw = True

    @property
    def path(self) -> Path:
        return self.folder / "metrics.jsonl"

    def write(self, event: str, update: int, **values: Any) -> None:
        """Add a line to metrics.jsonl, and its numbers to the TensorBoard events in tensorboard/."""
        entry: dict[str, Any] = {"event": event, "update": update}
        for name, value in values.items():
            if isinstance(value, float):  # JSON has no NaN and no infinity
                value = round(value, 6) if math.isfinite(value) else None
            entry[name] = value
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if event in {"training", "validation"}:
            self._show_on_board(event, update, values)

    def _show_on_board(self, event: str, update: int, values: dict[str, Any]) -> None:
        if self._board is None and self._has_board:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._has_board = False
                return
            # What a killed run wrote after its last checkpoint is measured again.
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=update)
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{event}/{name}", value, update)
            self._board.flush()

    def draw(self) -> None:
        """Draw curves.png anew; says once that it cannot."""
        if not self._can_draw:
            return
        try:
            curves.draw(self.path, self.folder / "curves.png")
        except ModuleNotFoundError:
            self._can_draw = False
            logger.warning("no curves.png: matplotlib is not installed; %s", REMEDY)

    def forget(self) -> None:
        """Remove the records of an earlier run."""
        self.path.unlink(missing_ok=True)
        (self.folder / "curves.png").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "tensorboard", ignore_errors=True)
