"""Which names a version of ``tensorrt`` has: names.json, and what a version calls itself.

The one idea: a version is a set of names. Everything that differs between versions and is not a
name (what a profile index means, whether half is a builder's choice) is asked of the names too,
the way code that runs on several versions has to ask.
"""

import json
import os

FULL_VERSIONS = {
    "8.0.1": "8.0.1.6",
    "8.2.1": "8.2.1.8",
    "8.6.1": "8.6.1.6",
    "10.3": "10.3.0.30",
    "11.0": "11.0.0.114",
}
VERSIONS = tuple(FULL_VERSIONS)
_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "names.json")


def names_of(version):
    """Class -> its names, of one version.

    Raises:
        ValueError: There is no double of this version.
    """
    if version not in FULL_VERSIONS:
        raise ValueError(f"no double of tensorrt {version}; there are {', '.join(VERSIONS)}")
    with open(_PATH, encoding="utf-8") as file:
        return json.load(file)[version]


def release(version):
    """("8.2.1") -> (8, 2, 1)."""
    return tuple(int(part) for part in version.split("."))
