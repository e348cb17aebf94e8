"""The user's cache of compiled programs, with which a repeated command starts sooner."""

import contextlib
import functools
import hashlib
import os
import platform
import stat
import sys
from pathlib import Path
from typing import Any

import jax

LIMIT_BYTES = 2_000_000_000  # at each start, older programs are removed
SHORTEST_SECONDS = 0.1  # programs that compile sooner are not kept


@functools.cache
def keep_programs() -> None:
    """Lets JAX keep the programs that it compiles in the user's cache folder, for one process.

    A folder set for JAX, as by JAX_COMPILATION_CACHE_DIR, takes precedence; JAX_ENABLE_COMPILATION_CACHE=false
    turns the cache off. If no private folder can be made, programs are not kept, and a line says why.
    """
    config: Any = jax.config  # its options are attributes that its type does not declare
    if config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
        return
    try:
        programs = private_folder(_processor())
        remove_oldest(programs.parent, LIMIT_BYTES)
    except (OSError, RuntimeError) as error:
        print(
            f"deepconv: compiled programs are not kept, and each start compiles again: {error}. "
            "JAX_COMPILATION_CACHE_DIR=DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false avoids this line",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(programs))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_SECONDS)


def private_folder(name: str) -> Path:
    """Makes and returns deepconv/xla/<name> in the user's cache folder. Raises OSError if other users can write to it.

    JAX executes what it finds there. Raises RuntimeError if the home directory is unknown.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".cache"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
        raise PermissionError(f"everyone can write to {base}")
    for folder in (base / "deepconv", base / "deepconv" / "xla", base / "deepconv" / "xla" / name):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{folder} belongs to another user, or others can write to it")
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written")
    return base / "deepconv" / "xla" / name


def remove_oldest(folder: Path, limit_bytes: int) -> None:
    """Removes the least recently used files until the rest take at most limit_bytes."""
    files = []
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            found = file.stat()
            if stat.S_ISREG(found.st_mode):
                files.append((max(found.st_atime_ns, found.st_mtime_ns), found.st_size, file))
    excess = sum(size for _, size, _ in files) - limit_bytes
    for _, size, file in sorted(files):
        if excess <= 0:
            return
        file.unlink(missing_ok=True)
        excess -= size


def _processor() -> str:
    """Returns a digest of the processor, for whose instructions XLA compiles: machines may share a home directory."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:  # not Linux
        lines = []
    described = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return hashlib.sha256("\n".join(described or [platform.platform()]).encode()).hexdigest()[:16]
