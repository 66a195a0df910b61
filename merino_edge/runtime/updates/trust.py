"""Who may update this device: the public keys in its store, and those named on the command line.

The one idea: as soon as there is one key, an archive needs a signature by one of them; there is no
option that says otherwise. A key file that cannot be read is an error and never "no key". Whoever
can write the folder of the keys decides who may update, so let it belong to root.
"""

import os
from typing import Dict, List, Optional, Sequence

from merino_edge.errors import FormatError
from merino_edge.formats.archive import SIGNATURE, signed_message
from merino_edge.formats.archive_reader import ArchiveReader
from merino_edge.formats.signing_keys import read_public_key, signature_from
from merino_edge.runtime.updates import signing

SUFFIX = ".pub"


def key_paths(folder: str, named: Sequence[str] = ()) -> List[str]:
    """The key files of a store's folder, and the named ones."""
    found = os.listdir(folder) if os.path.isdir(folder) else []
    inside = [os.path.join(folder, name) for name in sorted(found) if name.endswith(SUFFIX)]
    return inside + list(named)


def check_signature(reader: ArchiveReader, paths: Sequence[str], path: str) -> Optional[str]:
    """Check an archive's signature, if there is a key to check it with.

    Args:
        reader: Whose index and signature were read.
        paths: Key files.
        path: Of the archive, for messages.

    Returns:
        The name of the key that signed it; None where no key is set, so nothing was checked.

    Raises:
        FormatError: Keys are set, and it is unsigned, signed by another key or wrongly signed; or
            a key file is none.
        MissingDependencyError: PyNaCl is not installed.
    """
    keys: Dict[str, bytes] = {}
    for key in (read_public_key(each) for each in paths):
        keys[key.key_id] = bytes.fromhex(key.public_key)
    if not keys:
        return None
    if reader.signature is None:
        raise FormatError(
            "the archive is not signed, and this store takes signed ones only.",
            path,
            note="its keys: {}.".format(", ".join(paths)),
            hint="merino-edge bundle pack BUNDLE --key PRIVATE.key -o signed.mebundle",
        )
    signature = signature_from(reader.signature, path + ": " + SIGNATURE)
    if signature.key_id not in keys:
        raise FormatError(
            "the archive is signed by key {}, which is none of this store's.".format(
                signature.key_id
            ),
            path,
            note="its keys: {}.".format(", ".join(sorted(keys))),
        )
    message = signed_message(reader.index_data)
    signing.check(keys[signature.key_id], message, bytes.fromhex(signature.signature), path)
    return signature.key_id
