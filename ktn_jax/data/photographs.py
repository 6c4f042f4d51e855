"""The user's own photographs as surroundings: found, decoded once a process, cut out.

Photographs are labelled as showing nobody, so they must show no people and no parts of
them (statues, dolls, posters, mirrors). Which ones do is the user's choice of folders;
a file `exclude.txt` in a folder names files to leave out, one name or glob a line,
relative to the folder, `#` starts a comment.
"""

import fnmatch
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ktn_jax.errors import UserError

EXCLUDE = "exclude.txt"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_LONGEST = 1024  # pixels; larger photographs are kept at this size
_KEPT = 256  # decoded files a process holds, of about 2 MB each


class Photographs(NamedTuple):
    """Files to draw from, each list sorted."""

    scenes: tuple[str, ...] = ()  # whole photographs, for behind people
    cutouts: tuple[str, ...] = ()  # things with alpha around them


NO_PHOTOS = Photographs()


def find_pictures(folders: Sequence[str | Path]) -> tuple[str, ...]:
    """Image files under the folders, by folder as given and then by name.

    Left out: what a folder's exclude.txt names. UserError where nothing is left.
    """
    found: list[str] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; name one that holds photographs")
        unwanted = _read_excluded(folder / EXCLUDE)
        names = [
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.suffix.lower() in _SUFFIXES and path.is_file()
        ]
        wanted = [name for name in sorted(names) if not _matches(name, unwanted)]
        if not wanted:
            raise UserError(
                f"no photographs in {folder}; put {', '.join(_SUFFIXES)} there, or see "
                f"what its {EXCLUDE} leaves out"
            )
        found += [os.fspath(folder / name) for name in wanted]
    return tuple(found)


def sample_photo(
    rng: np.random.Generator, files: Sequence[str], size: int, *, part: float = 0.35
) -> Image.Image:
    """A crop of a photograph, turned, mirrored and tinted at random. size: pixels.

    part: the least share of the photograph's shorter side that is shown.
    """
    photo = _decode(files[rng.integers(len(files))])
    shorter = min(photo.size)
    side = shorter * rng.uniform(part, 1.0) ** (1 if part < 0.3 else 0.7)
    wide = min(side * rng.uniform(0.85, 1.2), photo.width)
    high = min(side, photo.height)
    left = rng.uniform(0, photo.width - wide)
    top = rng.uniform(0, photo.height - high)
    box = (left, top, left + wide, top + high)
    # draft pixels are enough: resize reads the box alone
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=1.5)
    if rng.random() < 0.5:
        crop = ImageOps.mirror(crop)
    if rng.random() < 0.5:
        crop = ImageEnhance.Color(crop).enhance(rng.uniform(0.2, 1.5))
    if rng.random() < 0.1:  # seen as it never was: textures matter more than sense
        crop = ImageOps.flip(crop)
    return crop


def sample_patch(
    rng: np.random.Generator, files: Sequence[str], size: int = 96
) -> np.ndarray:
    """A small part of a photograph, as cloth or a thing may show. [size, size, 3] u8."""
    return np.asarray(sample_photo(rng, files, size, part=0.08))


def sample_cutout(
    rng: np.random.Generator, files: Sequence[str], height: int
) -> np.ndarray:
    """A thing with alpha around it. [height, w, 4] u8."""
    thing = _decode(files[rng.integers(len(files))], "RGBA")
    width = max(1, round(thing.width * height / thing.height * rng.uniform(0.8, 1.25)))
    thing = thing.resize((min(width, 3 * height), height), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        thing = ImageOps.mirror(thing)
    return np.asarray(thing)


@functools.lru_cache(_KEPT)
def _decode(path: str, mode: str = "RGB") -> Image.Image:
    """The picture in a file, at most _LONGEST pixels long."""
    try:
        with Image.open(path) as file:
            file.draft(mode, (_LONGEST, _LONGEST))  # a jpeg shrinks as it is read
            picture = ImageOps.exif_transpose(file).convert(mode)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{path} cannot be decoded ({error}); delete it or name it in {EXCLUDE}"
        ) from error
    picture.thumbnail((_LONGEST, _LONGEST))
    return picture


def _read_excluded(path: Path) -> list[str]:
    """The globs in an exclude.txt; none where there is no such file."""
    if not path.exists():
        return []
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def _matches(name: str, globs: Sequence[str]) -> bool:
    """Whether a glob names the file, its bare name, or a folder it lies in."""
    parents = [parent.as_posix() for parent in Path(name).parents]
    tried = (name, Path(name).name, *parents)
    return any(
        fnmatch.fnmatchcase(one, glob.rstrip("/")) for glob in globs for one in tried
    )
