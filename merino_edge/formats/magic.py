"""The first eight bytes of our binary files: seven that name the format, one for its version."""

from typing import Optional

from merino_edge.errors import FormatError, SchemaVersionError

MAGIC_BYTES = 8


def check_magic(
    head: bytes, magic: bytes, what: str, path: str, newest: Optional[int] = None
) -> None:
    """Ask whether a file begins as it should, before anything else in it is believed.

    Args:
        head: Its first bytes; fewer than eight are refused.
        magic: The eight that it must begin with, the last one the oldest version that is read.
        what: What it must be, for people: "a table of pieces".
        path: The file.
        newest: The newest version that is read; that of ``magic`` unless given.

    Raises:
        FormatError: It is something else.
        SchemaVersionError: It was written by another version.
    """
    if len(head) < MAGIC_BYTES or head[:7] != magic[:7]:
        raise FormatError("not {}.".format(what), path)
    versions = range(magic[7], (newest or magic[7]) + 1)
    if head[7] not in versions:
        raise SchemaVersionError(
            "version {} of the format, this version reads {}.".format(
                head[7], " and ".join(map(str, versions))
            ),
            path,
            hint="build the bundle again with this version.",
        )
