"""The first eight bytes of our binary files: seven that name the format, one for its version."""

from merino_edge.errors import FormatError, SchemaVersionError

MAGIC_BYTES = 8


def check_magic(head: bytes, magic: bytes, what: str, path: str) -> None:
    """Ask whether a file begins as it should, before anything else in it is believed.

    Args:
        head: Its first bytes; fewer than eight are refused.
        magic: The eight that it must begin with, the last one the version.
        what: What it must be, for people: "a table of pieces".
        path: The file.

    Raises:
        FormatError: It is something else.
        SchemaVersionError: It was written by another version.
    """
    if len(head) < MAGIC_BYTES or head[:7] != magic[:7]:
        raise FormatError("not {}.".format(what), path)
    if head[7] != magic[7]:
        raise SchemaVersionError(
            "version {} of the format, this version reads {}.".format(head[7], magic[7]),
            path,
            hint="build the bundle again with this version.",
        )
