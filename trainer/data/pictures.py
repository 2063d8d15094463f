"""Pictures as files: a folder of PNGs, one for each row, made once beside the archive they come
from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from trainer import aside


def unpack(pictures: np.ndarray, cache: Path, *, name: str) -> np.ndarray:
    """Write ``pictures`` (grey, [n, height, width]) into a folder of ``cache``, unless they are
    there; their paths.

    The folder's name carries a hash of what is in it, and it appears whole, by a rename.
    """
    digest = hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()[:16]
    folder = (cache / f"{name}-{digest}").absolute()
    if not folder.is_dir():
        with aside.folder(cache, prefix=f".unpacking-{name}-") as made:
            for row, picture in enumerate(pictures):
                path = made / _place(row)
                if row % _A_FOLDER == 0:
                    path.parent.mkdir()
                Image.fromarray(picture).save(path)
            try:
                made.rename(folder)
            except OSError:
                # Someone else was quicker, which is as good.
                if not folder.is_dir():
                    raise
    return np.array([str(folder / _place(row)) for row in range(len(pictures))], dtype=object)


_A_FOLDER = 1000


def _place(row: int) -> str:
    return f"{row // _A_FOLDER:03d}/{row:06d}.png"
