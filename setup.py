"""Build of the compiled data path; everything else stands in pyproject.toml.

``KEYFERRY_BUILD_EXT`` chooses: ``auto`` (default: compile where a C compiler is found, else install pure
Python), ``require`` (fail without one), ``off`` (never compile).
"""

import os

from setuptools import Extension, setup

MODE = os.environ.get("KEYFERRY_BUILD_EXT", "auto")
if MODE not in ("auto", "require", "off"):
    raise SystemExit(f"KEYFERRY_BUILD_EXT is {MODE!r}: use auto, require or off")

MODULES = [
    "keyferry.capture._pushes",
    "keyferry.payload._bulks",
    "keyferry.payload._crc64",
    "keyferry.transfer._asking",
    "keyferry.transfer._comparing",
    "keyferry.transfer._comparing_values",
    "keyferry.transfer._lanes",
    "keyferry.transfer._pages",
    "keyferry.transfer._relay",
    "keyferry.transfer._requests",
]


def extensions() -> list[Extension]:
    # Handed over as .pyx, not through cythonize(): that drops `optional`.
    return [
        Extension(
            name,
            ["src/" + name.replace(".", "/") + ".pyx"],
            optional=MODE == "auto",
            extra_compile_args=["-O3"],
        )
        for name in MODULES
    ]


setup(ext_modules=[] if MODE == "off" else extensions())
