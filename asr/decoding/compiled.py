"""Lanes whose frames are computed by kernel.c, many times as fast as by NumPy."""

from __future__ import annotations

import ctypes

import numpy as np

from asr.decoding.frames import Block
from asr.decoding.graph import Graph
from asr.decoding.hypotheses import Hypotheses
from asr.decoding.kernel import kernel
from asr.decoding.lanes import Lanes
from asr.decoding.lookahead import BigramLookAhead
from asr.decoding.ngram import NGramModel

_LEAST_ROOM = 1024
_NEVER = 1 << 62
_MOST_LONGER, _MOST_LANES = 8, 32  # as in kernel.c
# What go_on() asks for; 0 is nothing.
_ROOM, _HISTORY_ROOM, _LOOK_AHEAD, _SCORES, _GAINS, _RESCORING = range(1, 7)

_END = np.dtype(
    [(name, np.int64) for name in ("extension", "word", "text", "state", "last_word")]
    + [(name, np.float32) for name in ("score", "gained")]
)


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


_POINTER, _INTEGER, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


# What each pointer of kernel.c points to.
_KINDS = {
    name: np.dtype(kind)
    for kind, names in {
        np.float64: "probabilities held carried factors gaps total staying blank label sorted",
        np.float32: "alone without_context table less added log_probs back_offs scores tried_scores ahead"
        " history_scores",
        np.int64: "keys first_keys branches first_word tried lane_starts ids history needed",
        np.int32: "suffixes words starts ancestors slots",
        np.bool_: "is_context has_run",
        np.uint8: "extensions groups",
    }.items()
    for name in names.split()
} | {"ends": _END}


class _NGrams(ctypes.Structure):
    _fields_ = [
        *_fields(_INTEGER, "n_words n_longer n_blocks n_contexts"),
        *_fields(_POINTER, "keys first_keys log_probs back_offs is_context suffixes"),
    ]


class _Columns(ctypes.Structure):
    _fields_ = _fields(_POINTER, "blank label ahead ids")


class _Search(ctypes.Structure):
    _fields_ = [
        *_fields(_POINTER, "lm branches first_word words alone without_context"),
        *_fields(_INTEGER, "n_nodes n_labels n_contexts"),
        *_fields(_POINTER, "table less added starts ancestors"),
        *_fields(_NUMBER, "most_gained threshold lm_weight word_score"),
        *_fields(_INTEGER, "beam_size has_gains period n_frames n_tried"),
        *_fields(_POINTER, "probabilities held carried scores tried_scores tried has_run"),
        *_fields(_INTEGER, "n_lanes current"),
        *_fields(_POINTER, "lane_starts factors gaps"),
        ("columns", _Columns * 2),
        *_fields(_POINTER, "history history_scores"),
        *_fields(_INTEGER, "n_history history_room frame stage n_since room n_ends n_needed"),
        *_fields(_POINTER, "total staying blank label sorted extensions ends needed groups slots"),
        ("floors", _NUMBER * _MOST_LANES),
        ("extension_starts", _INTEGER * (_MOST_LANES + 1)),
        ("end_starts", _INTEGER * (_MOST_LANES + 1)),
    ]


def new_lanes(graph: Graph) -> Lanes:
    """The fastest that there are."""
    library = kernel()
    return Lanes(graph) if library is None else CompiledLanes(graph, library)


class CompiledLanes(Lanes):
    """What Lanes are, by the kernel; between blocks Lanes sees the kernel's columns as its hypotheses."""

    def __init__(self, graph: Graph, library: ctypes.PyDLL) -> None:
        super().__init__(graph)
        self._library = library
        self._search = search = _Search()
        self._columns: tuple[Hypotheses, ...] = ()
        self._given = self._beam  # those hypotheses that are in the columns
        self._room: dict[str, np.ndarray] = {}
        self._lane_starts = np.zeros(_MOST_LANES + 1, np.int64)
        tree, config = graph.tree, graph.config
        _point(
            search,
            lane_starts=self._lane_starts,
            branches=tree.branches,
            first_word=tree.first_word,
            words=tree.words,
            alone=graph.alone,
            without_context=graph.look_ahead.without_context,
        )
        search.n_nodes, search.n_labels, search.most_gained = len(tree), tree.n_labels, graph.most_gained
        search.beam_size, search.threshold = config.beam_size, config.threshold
        search.lm_weight, search.word_score = config.lm_weight, config.word_score
        search.has_gains = self._rescoring is not None
        search.period = _NEVER if self._rescoring is None else self.period
        self._look_ahead = graph.look_ahead if isinstance(graph.look_ahead, BigramLookAhead) else None
        if self._look_ahead is not None:
            arrays = self._look_ahead.arrays
            _point(search, **arrays)
            search.n_contexts = len(arrays["starts"])
        lm = graph.lm
        if isinstance(lm, NGramModel) and not graph.has_phrases and len(lm.counts) <= _MOST_LONGER + 1:
            self._n_grams = _NGrams(lm.counts[0], len(lm.counts) - 1)
            _point(self._n_grams, **lm.arrays)
            self._n_grams.n_blocks = len(lm.arrays["first_keys"])
            self._n_grams.n_contexts = len(lm.arrays["is_context"])
            search.lm = ctypes.addressof(self._n_grams)
        self._make_room()

    def go_on(self, block: Block) -> None:
        search = self._search
        self._take()
        search.n_frames, search.n_tried, search.frame = len(block.scores), block.tried.shape[-1], 0
        lent = _lend(search, **block._asdict())
        while asked := self._call():
            if asked == _ROOM:
                self._make_room()
            elif asked == _HISTORY_ROOM:
                self._n_words = search.n_history
                self._make_history_room(2 * search.history_room)
                self._point_to_lanes()
            elif asked == _LOOK_AHEAD:
                assert self._look_ahead is not None
                with self._look_ahead.lock:
                    self._look_ahead.meet(self._room["needed"][: search.n_needed])
            elif asked == _SCORES:
                self._score(self._room["ends"][: search.n_ends])
            elif asked == _GAINS:
                assert self._rescoring is not None
                ends = self._room["ends"][: search.n_ends]
                ends["gained"] = self._rescoring.known(ends["text"])
            elif asked == _RESCORING:
                self._give()
                self.rescore()
                self._take()
        del lent  # until here the kernel has read it
        self._give()

    def stay(self, held: np.ndarray, carried: np.ndarray) -> None:
        self._take()
        held, carried = _readable("held", held), _readable("carried", carried)
        self._library.stay(ctypes.byref(self._search), held.ctypes.data, carried.ctypes.data)
        self._give()

    def _call(self) -> int:
        """What the kernel asks for."""
        if self._look_ahead is None:
            return self._library.go_on(ctypes.byref(self._search))
        with self._look_ahead.lock:  # another search may have put a larger table in its place
            _point(self._search, table=self._look_ahead.arrays["table"])
            return self._library.go_on(ctypes.byref(self._search))

    def _score(self, ends: np.ndarray) -> None:
        """Words that another language model than n-grams knows, or phrases."""
        scores, states, last_words = self._graph.score(ends["state"].copy(), ends["word"].copy())
        ends["score"], ends["last_word"] = scores, last_words
        ends["state"] = ends["text"] if self._graph.lm is None else states

    def _take(self) -> None:
        """Have the hypotheses in the kernel's columns."""
        search = self._search
        search.n_since = self._n_since
        if self._beam is self._given:
            return
        n = len(self._beam)
        while n > search.room:
            self._make_room()
        columns = self._columns[search.current]
        _copy(self._beam, columns, n)
        self._lane_starts[: self._n + 1] = self._starts
        search.n_lanes = self._n
        self._given = self._beam
        self._point_to_lanes()

    def _give(self) -> None:
        """Let Lanes see the hypotheses."""
        search = self._search
        n = int(self._lane_starts[self._n])
        columns = self._columns[search.current]
        self._given = columns.take(slice(n))
        self._beam, self._starts = self._given, self._lane_starts[: self._n + 1]
        self._n_words, self._n_since = search.n_history, search.n_since

    def _point_to_lanes(self) -> None:
        """Arrays that Lanes may have made anew."""
        search = self._search
        _point(
            search,
            factors=self._factors,
            gaps=self._gaps,
            history=self._words,
            history_scores=self._scores,
        )
        search.n_history, search.history_room = self._n_words, self._words.shape[1]

    def _make_room(self) -> None:
        """Twice as much as there was."""
        search = self._search
        room = max(2 * search.room, _LEAST_ROOM)
        sizes = dict.fromkeys(("total", "staying", "blank", "label", "ends", "needed"), 1)
        sizes |= {"sorted": 3, "slots": 4, "extensions": _size(self._library, "extension_bytes")}
        sizes["groups"] = 3 * _size(self._library, "group_bytes")
        made = {name: np.empty(room * size, _KINDS[name]) for name, size in sizes.items()}
        columns = _empty_columns(room), _empty_columns(room)
        if self._room:  # what a frame goes on with; memory that is not written to is not taken
            for name in ("total", "staying", "blank", "label", "extensions", "ends"):
                made[name][: len(self._room[name])] = self._room[name]
            n = int(self._lane_starts[self._n])
            _copy(self._columns[search.current], columns[search.current], n)
        self._room, self._columns, search.room = made, columns, room
        _point(search, **made)
        for here, column in zip(search.columns, columns, strict=True):
            _point(here, **vars(column))


def _empty_columns(room: int) -> Hypotheses:
    return Hypotheses(
        blank=np.empty(room),
        label=np.empty(room),
        ahead=np.empty(room, np.float32),
        ids=np.empty((9, room), np.int64),
    )


def _copy(old: Hypotheses, new: Hypotheses, n: int) -> None:
    """The first n hypotheses."""
    for theirs, ours in zip(vars(old).values(), vars(new).values(), strict=True):
        ours[..., :n] = theirs[..., :n]


def _size(library: ctypes.PyDLL, name: str) -> int:
    return ctypes.c_int64.in_dll(library, name).value


def _readable(name: str, array: np.ndarray) -> np.ndarray:
    """The array as the kernel reads it, a copy only if its layout or type is another."""
    return np.ascontiguousarray(array, _KINDS[name])


def _lend(structure: ctypes.Structure, **arrays: np.ndarray) -> list[np.ndarray]:
    """Let members of a structure point to arrays of any layout that are only read; those to keep alive."""
    readable = {name: _readable(name, array) for name, array in arrays.items()}
    _point(structure, **readable)
    return list(readable.values())


def _point(structure: ctypes.Structure, **arrays: np.ndarray) -> None:
    """Let members of a structure point to arrays, which must be kept alive."""
    for name, array in arrays.items():
        assert array.flags.c_contiguous and array.dtype == _KINDS[name]
        setattr(structure, name, array.ctypes.data)
