"""The part of the package that is compiled; everything else is in setup.cfg."""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

KERNEL = "asr/decoding/kernel.c"
CHECKSUM = hashlib.sha256((Path(__file__).parent / KERNEL).read_bytes()).hexdigest()

setup(
    ext_modules=[
        # No module of Python's, but a library that ctypes loads: any Python can use it, and no headers are
        # needed. Optional: without a C compiler the search is slower, and finds the same.
        Extension(
            "asr.decoding._kernel",
            [KERNEL],
            define_macros=[("SOURCE_CHECKSUM", f'"{CHECKSUM}"')],
            extra_compile_args=["-O3"],
            libraries=["m"],
            py_limited_api=True,
            optional=True,
        )
    ]
)
