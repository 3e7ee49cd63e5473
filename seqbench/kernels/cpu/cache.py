"""Generated source in files, so that what is compiled from it is kept between runs."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from seqbench.files import cache_folder, write_file


def folder() -> Path:
    """Where generated code is kept: in the cache folder, or a temporary one if it is read-only."""
    path = cache_folder() / "kernels"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return _temporary()
    return path if os.access(path, os.W_OK) else _temporary()


@functools.cache
def _temporary() -> Path:
    """Of this process and user alone: what lies there is executed."""
    return Path(tempfile.mkdtemp(prefix="seqbench-kernels-"))


_loading = threading.Lock()  # nobody gets a module that is half made
_loaded: dict[str, ModuleType] = {}


@functools.cache
def fingerprint(files: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """Of files in this folder that generated code is built on, and of what compiles it: of others it is not used."""
    digest = hashlib.sha256()
    for name in files:
        digest.update(Path(__file__).with_name(name).read_bytes())
    for package in packages:
        digest.update(version(package).encode())
    return digest.hexdigest()


def numba_function(name: str, fields: Sequence[str], body: Sequence[str]) -> str:
    """Source of a function that takes arguments, an int64 array [fields], and knows them by their names."""
    lines = [f"{field} = arguments[{i}]" for i, field in enumerate(fields)] + list(body)
    # Compiled code is found by its name: see `source_module`.
    return (
        f"\n\ndef NAME_{name}(arguments):\n" + "\n".join(f"    {line}" for line in lines)
        + f"\n\n\n{name} = njit(nogil=True, cache=True, error_model='numpy')(NAME_{name})\n"
    )  # fmt: skip


def numba_module(stem: str, text: str) -> ModuleType:
    """The module of a generated source for numba."""
    return source_module(stem, f"{text}\n# {fingerprint(('vector.py', 'product.py'), ('numba', 'llvmlite'))}\n")


@functools.cache
def own_module(name: str) -> ModuleType:
    """A module of this folder that numba compiles, loaded as a copy among what is kept: numba writes beside it."""
    return numba_module(name, Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))


def source_module(stem: str, text: str) -> ModuleType:
    """The module of a generated source, named after its content: two that differ never share a name.

    Args:
        stem: begins the module's name.
        text: Python source; NAME in it becomes the module's name.
    """
    name = f"{stem}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with _loading:
        if name not in _loaded:
            _loaded[name] = _load(name, text)
        return _loaded[name]


def _load(name: str, text: str) -> ModuleType:
    path = folder() / f"{name}.py"
    content = text.replace("NAME", name)
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        write_file(path, content.encode())
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
