"""A small image that really serves, made on the spot: no registry can be assumed.

It holds this interpreter, the shared libraries that it needs, llama.cpp from its wheel and the server around
it, about 180 MB, and takes the place of llama.cpp's official image:

    --backend "large=container:llamacpp?model=large&image=$(python -m harness.launchers.image)"

Its tag is the hash of what it holds, so that it is made once and again after a change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError, LaunchError, UnavailableError
from harness.launchers.container_engine import ContainerEngine, foreign_errors, open_engine

__all__ = ["have_image"]

REPOSITORY = "assay-llamacpp"
_SITE = "/assay"
_LABEL = "assay=image"
_NEEDLESS = ("__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests", "tkinter")
_NEEDLESS_STARTS = ("_tkinter", "config-")
_LIBRARY = re.compile(r"(/\S+) \(0x")
_HARNESS = Path(__file__).parents[1]

_Contents = dict[str, Path]
"""Path inside → file of this machine."""


def have_image(name: str = "image") -> str:
    """See that the image is there, and return its name with its tag.

    Parameters
    ----------
    name: what errors call it.

    Raises
    ------
    UnavailableError: there is no container engine, no llama.cpp, or this is no Linux.
    LaunchError: the engine does not take the image.
    """
    contents = _contents()
    tag = _hash(contents)
    image = f"{REPOSITORY}:{tag}"
    with open_engine(name) as engine, foreign_errors(name, f"{engine.program} did not import {image}"):
        known = engine.client.images.list(filters={"label": _LABEL})
        if not any(one.rpartition("/")[2] == image for old in known for one in old.tags):
            _import(name, engine, contents, tag)
            for old in known:
                # One in use stays.
                with contextlib.suppress(engine.sdk.errors.APIError):
                    engine.client.images.remove(old.id)
    return image


def _import(name: str, engine: ContainerEngine, contents: _Contents, tag: str) -> None:
    command = [str(Path(sys.executable).resolve()), "-m", "harness.launchers.llamacpp_server"]
    changes = [
        f"ENTRYPOINT {json.dumps(command)}",
        f"ENV PYTHONPATH={_SITE}",
        f"ENV PYTHONHOME={sys.base_prefix}",
        "ENV OMP_NUM_THREADS=1",
        f"LABEL {_LABEL}",
    ]
    with tempfile.TemporaryDirectory(prefix="assay-image-") as folder:
        archive = Path(folder) / "image.tar"
        with tarfile.open(archive, "w") as tar:
            for inside, path in sorted(contents.items()):
                tar.add(path.resolve(), inside, recursive=False)
        # podman heeds no name that is given along.
        said = engine.client.api.import_image_from_file(str(archive), changes=changes)
    made = re.search(r"sha256:[0-9a-f]{64}", said)
    if made is None:
        raise LaunchError(
            f"{name}: {engine.program} did not import {REPOSITORY}:{tag} ({said.strip()[:200]})"
        )
    engine.client.images.get(made[0]).tag(REPOSITORY, tag)


def _contents() -> _Contents:
    if platform.system() != "Linux":
        raise UnavailableError("the image is made of this machine's programs: do so on Linux, or pull one")
    try:
        import xllamacpp
    except ImportError as exc:
        raise UnavailableError("the image needs llama.cpp: pip install xllamacpp") from exc
    python = Path(sys.executable).resolve()
    contents = {str(python): python}
    stdlib = Path(sysconfig.get_path("stdlib"))
    contents |= {str(path): path for path in _files(stdlib)}
    wheel = Path(xllamacpp.__file__).parent
    contents |= {f"{_SITE}/xllamacpp/{path.relative_to(wheel)}": path for path in _files(wheel)}
    ours = (_HARNESS / "__init__.py", _HARNESS / "errors.py", *_HARNESS.glob("launchers/*.py"))
    contents |= {f"{_SITE}/harness/{path.relative_to(_HARNESS)}": path for path in ours}
    binaries = [path for path in contents.values() if path == python or ".so" in path.suffixes]
    return contents | {library: Path(library) for library in _libraries(binaries)}


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if _is_needed(one)]
        yield from (Path(place) / one for one in files if _is_needed(one))


def _is_needed(name: str) -> bool:
    return name not in _NEEDLESS and not name.startswith(_NEEDLESS_STARTS)


def _libraries(binaries: list[Path]) -> set[str]:
    """The shared libraries that these load, their loader included, where the loader looks for them."""
    try:
        said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError as exc:
        raise UnavailableError("the image needs ldd to know its libraries: apt install libc-bin") from exc
    return set(_LIBRARY.findall(said))


def _hash(contents: _Contents) -> str:
    total = hashlib.sha256()
    for inside, path in sorted(contents.items()):
        with path.open("rb") as file:
            total.update(f"{inside} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:12]


if __name__ == "__main__":
    try:
        print(have_image())
    except HarnessError as problem:
        sys.exit(str(problem))
