"""The compiled part of searching and aligning: kernel.c as a library.

Installing the package compiles it where there is a C compiler. Without it, or when it was made from another
kernel.c, the same is done by NumPy.
"""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@cache
def kernel() -> ctypes.PyDLL | None:
    """The compiled code, None where there is none that was made from this source."""
    try:
        # It does not let the interpreter go: a call is short, and what it reads must not change meanwhile.
        library = ctypes.PyDLL(str(_FOLDER / "_kernel.abi3.so"))
        made_from = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, "source_checksum")))
        source = (_FOLDER / "kernel.c").read_bytes()
    except (OSError, ValueError):
        return None
    if made_from.decode() != hashlib.sha256(source).hexdigest():
        return None
    library.go_on.argtypes, library.go_on.restype = [ctypes.c_void_p], ctypes.c_int64
    library.stay.argtypes, library.stay.restype = [ctypes.c_void_p] * 3, None
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.align.argtypes = [pointer, integer, integer, pointer, integer, pointer, pointer, pointer]
    library.align.restype = None
    return library
