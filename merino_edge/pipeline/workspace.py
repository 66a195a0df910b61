"""Where the stages of a run keep their results, and how a second run knows what to skip.

The one idea: a stage's *key* is a digest of everything it depends on, written beside its
result once that is complete. Same key and the result is still there: the stage is up to date.
The version of merino-edge is part of the key.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from merino_edge import __version__
from merino_edge.formats import jsonio

SCHEMA = "merino-edge.stage/1"


class Stamp(NamedTuple):
    """What stands beside a finished stage.

    Attributes:
        key: Digest of the inputs.
        elapsed_s: How long the stage took.
    """

    key: str
    elapsed_s: float


class Workspace:
    """A folder with one entry a stage.

    Args:
        root: The folder; made if it is not there.
        on_note: Told, in one line, what is skipped and what took how long.
    """

    def __init__(self, root: str, on_note: Callable[[str], None]):
        self.root = root
        self._note = on_note
        os.makedirs(os.path.join(root, "stages"), exist_ok=True)

    def path(self, name: str) -> str:
        """Path of a result."""
        return os.path.join(self.root, name)

    def stage(self, name: str, result: str, inputs: Mapping[str, Any], make: Callable) -> bool:
        """Run ``make()`` unless its result is up to date.

        Args:
            name: Of the stage.
            result: Name of the file or folder it makes.
            inputs: Everything the result depends on, as JSON values or records.
            make: Makes the result, whole or not at all.

        Returns:
            True if it ran.
        """
        stamp_path = os.path.join(self.root, "stages", f"{name}.json")
        key = digest(dict(inputs))
        if os.path.exists(self.path(result)) and _read_key(stamp_path) == key:
            self._note(f"{name}: up to date")
            return False
        self._note(f"{name}: started")
        start = time.monotonic()
        make()
        elapsed_s = round(time.monotonic() - start, 3)
        jsonio.write_record(stamp_path, SCHEMA, Stamp(key, elapsed_s))
        self._note(f"{name}: done in {elapsed_s:.1f} s")
        return True


def digest(inputs: Any) -> str:
    """SHA-256 of JSON values or records, and of the version that reads them."""
    document = json.dumps([__version__, jsonio.encode(inputs)], sort_keys=True)
    return hashlib.sha256(document.encode("utf-8")).hexdigest()


def _read_key(path: str) -> str | None:
    if not os.path.exists(path):
        return None
    return jsonio.read_record(path, SCHEMA, Stamp).key
