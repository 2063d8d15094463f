"""Pictures as files: a folder of PNGs, one for each row, written once into the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from trainer import staging

_FILES_PER_FOLDER = 1000


def unpack(pictures: np.ndarray, cache: Path, *, name: str) -> np.ndarray:
    """The paths of ``pictures`` (grey, [n, height, width]) as files in a folder of ``cache``.

    The folder's name carries a hash of its content, and it appears as a whole, by a rename.
    """
    content = np.ascontiguousarray(pictures).tobytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    folder = (cache / f"{name}-{digest}").absolute()
    if not folder.is_dir():
        with staging.folder(cache, prefix=f".unpacking-{name}-") as staged:
            for row, picture in enumerate(pictures):
                path = staged / _name(row)
                if row % _FILES_PER_FOLDER == 0:
                    path.parent.mkdir()
                Image.fromarray(picture).save(path)
            try:
                staged.rename(folder)
            except OSError:
                # Another process may have been faster, which is as good.
                if not folder.is_dir():
                    raise
    paths = [str(folder / _name(row)) for row in range(len(pictures))]
    return np.array(paths, dtype=object)


def _name(row: int) -> str:
    subfolder = row // _FILES_PER_FOLDER
    return f"{subfolder:03d}/{row:06d}.png"
