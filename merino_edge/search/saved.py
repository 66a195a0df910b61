"""An interrupted search on disk: one file a seed, which the same question takes up again.

The one idea: the state is arrays (``Evolution.state``) and the question that they belong to. A
file of another question is refused, not mixed in. The file is numpy's .npz, read without pickle.
"""

import contextlib
import glob
import hashlib
import io
import os
import zipfile
from typing import Any

import numpy as np

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.search.evolution import Evolution

_QUESTION = "question"


def question_digest(*parts: Any) -> str:
    """A name for what a search was asked: records, numbers and strings."""
    return hashlib.sha256(jsonio.dumps(jsonio.encode(parts)).encode("utf-8")).hexdigest()


def save_evolution(path: str, evolution: Evolution, question: str) -> None:
    """Write the state, atomically.

    Raises:
        OSError: It cannot be written; an old file is untouched.
    """
    arrays: dict[str, Any] = {
        **evolution.state(),
        _QUESTION: np.frombuffer(question.encode("ascii"), np.uint8),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    jsonio.write_bytes_atomic(path, buffer.getvalue())


def forget(folder: str) -> None:
    """Remove the saved states of a search, and their folder if nothing else is in it."""
    for path in glob.glob(os.path.join(glob.escape(folder), "vocabulary-*-seed-*.npz")):
        os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def restore_evolution(path: str, evolution: Evolution, question: str) -> bool:
    """Take a saved state up again; False where there is none.

    Raises:
        FormatError: The file is damaged, or belongs to another question.
    """
    if not os.path.exists(path):
        return False
    hint = "remove the file, or search with --force to begin again."
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        same = arrays.pop(_QUESTION).tobytes().decode("ascii") == question
        if same:
            evolution.restore(arrays)
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"not a saved search: {error}.", path, hint=hint) from error
    if not same:
        raise FormatError("the saved search is of another question.", path, hint=hint)
    return True
