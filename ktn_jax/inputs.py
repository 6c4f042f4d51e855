"""From what a user names to the files to read, and what each one's outputs are called.

Files, folders (with all below them), quoted globs and lists of paths (@LIST) become one
sorted-by-input sequence. Names of outputs are relative paths and never leave the output
folder, whatever the inputs are called.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ktn_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_WILD = re.compile(r"[*?\[]")


class Input(NamedTuple):
    """One file to read."""

    path: Path
    name: str  # of its outputs: a relative path with / and without ending


class Shard(NamedTuple):
    """Part `index` of `count` equal parts of the inputs, from 0."""

    index: int
    count: int


def find_inputs(
    inputs: Sequence[str | Path], endings: Sequence[str], *, out: Path | None = None
) -> list[Input]:
    """All files that the inputs stand for, each once, with names that do not collide.

    inputs: files, folders, globs (** crosses folders), or @LIST, a text file with one
    path a line. Folders give their pictures by suffix, sorted by path; links to folders
    are not followed.   endings: of each input's outputs, as "_iuv.png".   out: a folder
    whose own files are no inputs. UserError where an input does not exist.
    """
    found: dict[Path, Path] = {}  # path -> what its name is relative to
    skip = None if out is None else out.absolute()
    for text in map(str, inputs):
        for path, root in _expand(text, skip):
            found.setdefault(path, root)
    if not found:
        raise UserError(
            f"no picture among {', '.join(map(str, inputs))}; known: {', '.join(SUFFIXES)}"
        )
    return _named(found, endings)


def parse_shard(text: str) -> Shard:
    """The shard of "i/n", i from 0. UserError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"--shard={text} is not i/n with 0 <= i < n, as 0/4 ... 3/4")
    return Shard(int(match[1]), int(match[2]))


def _expand(text: str, skip: Path | None) -> Iterator[tuple[Path, Path]]:
    """Files of one input, and the folder that their names are relative to."""
    path = Path(text)
    if path.is_dir():
        yield from ((file, path) for file in _below(path, skip))
    elif os.path.lexists(path):
        yield path, path.parent
    elif text.startswith("@"):
        yield from _listed(Path(text[1:]))
    elif _WILD.search(text):
        fixed = Path(text[: _WILD.search(text).start()] + "x").parent  # before any wildcard
        hits = sorted(Path(hit) for hit in glob.iglob(text, recursive=True))
        files = [hit for hit in hits if not hit.is_dir()]
        if not files:
            raise UserError(f"no file fits {text}")
        yield from ((hit, fixed) for hit in files)
    else:
        raise UserError(f"input {text} does not exist; give files, folders, globs or @LIST")


def _below(folder: Path, skip: Path | None) -> Iterator[Path]:
    """Pictures in a folder and below it, sorted by path; nothing from `skip`."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if (Path(where) / f).absolute() != skip)
        if Path(where).absolute() != skip:
            paths = (Path(where) / file for file in sorted(files))
            yield from (path for path in paths if path.suffix.lower() in SUFFIXES)


def _listed(path: Path) -> Iterator[tuple[Path, Path]]:
    """Files of a list; their names are relative to the folder that all lie in."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(f"cannot read the list {path}: {error.strerror}") from None
    files = [Path(line) for line in lines if line.strip()]
    if not files:
        return
    common = Path(os.path.commonpath([os.path.abspath(file.parent) for file in files]))
    yield from ((file, common) for file in files)


def _named(found: dict[Path, Path], endings: Sequence[str]) -> list[Input]:
    """Inputs with names of which no two would write the same file.

    The name is the path without suffix; where that is taken, with it; then with a number.
    """
    taken: set[str] = set()
    named = []
    for path, root in found.items():
        for name in _names(path, root):
            outputs = {f"{name}{ending}".casefold() for ending in endings}
            if not outputs & taken:
                break
        taken |= outputs
        named.append(Input(path, name))
    return named


def _names(path: Path, root: Path) -> Iterable[str]:
    """Ever longer names of one file, best first."""
    relative = Path(os.path.abspath(path)).relative_to(os.path.abspath(root))
    whole, short = relative.as_posix(), relative.with_name(relative.stem).as_posix()
    yield short
    yield whole
    number = 2
    while True:
        yield f"{whole}_{number}"
        number += 1
