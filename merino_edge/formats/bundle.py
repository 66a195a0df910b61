"""A bundle: a folder with a manifest that vouches for every file in it.

The one idea: nothing is used before the manifest says what it is, and nothing is trusted
before its SHA-256 agrees. A bundle appears whole or not at all: it is filled under a temporary
name beside its place and renamed at the end, whatever interrupts.

Opening is on the way to a first token, so what only making and verifying need (hashlib, shutil and
tempfile, several milliseconds) is imported there.
"""

import contextlib
import os
from typing import Dict, Iterator, Optional

from merino_edge.errors import ChecksumError, FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.manifest import SCHEMA, BundleManifest, FileEntry, KVCacheSpec

MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20


class Bundle:
    """An opened bundle. Opening reads the manifest and checks names and sizes, not contents.

    Attributes:
        path: The folder.
        manifest: What it says.
    """

    def __init__(self, path: str, manifest: BundleManifest):
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str) -> "Bundle":
        """Read and check the manifest; how long that takes does not depend on the weights.

        Checked here: the manifest's schema and fields; that a cache can have the numbers that it
        gives; that every file it names lies in the folder,
        is there, is no link, and has the size that the manifest says. Not read here: what is in
        those files. Whoever opens one checks its head, as the native decoder does (version, shape
        and place of every tensor); a flipped bit among the weights is found by
        ``verify_checksums`` alone, which `merino-edge verify` and the building of an engine call.

        Raises:
            FormatError: Not a bundle, a path leaves the folder, or a file is missing or cut.
            SchemaVersionError: Made by a version with another schema.
        """
        manifest_path = os.path.join(path, MANIFEST)
        if not os.path.isfile(manifest_path):
            raise FormatError(
                "not a bundle: there is no {} in it.".format(MANIFEST),
                path,
                hint="make one with: merino-edge build --target host CHECKPOINT -o bundle/",
            )
        manifest = jsonio.read_record(manifest_path, SCHEMA, BundleManifest)
        _check_cache(manifest.kv_cache, manifest_path)
        for name, entry in manifest.files.items():
            _check_name(name, manifest_path)
            _check_size(os.path.join(path, name), entry)
        return cls(path, manifest)

    def file(self, role: str) -> str:
        """Path of the one file with this role.

        Raises:
            FormatError: There is none.
        """
        for name, entry in self.manifest.files.items():
            if entry.role == role:
                return os.path.join(self.path, name)
        raise FormatError("the bundle holds no file with the role '{}'.".format(role), self.path)

    def verify_checksums(self) -> Dict[str, str]:
        """Read every file once and compare; returns name -> sha256.

        Raises:
            ChecksumError: Names the first file that differs.
        """
        found = {}
        for name, entry in self.manifest.files.items():
            path = os.path.join(self.path, name)
            found[name] = sha256_of(path)
            if found[name] != entry.sha256:
                raise ChecksumError(
                    "sha256 is {}…, the manifest says {}….".format(
                        found[name][:12], entry.sha256[:12]
                    ),
                    path,
                    hint="the file changed since the bundle was made; copy or build it again.",
                )
        return found

    @property
    def bundle_id(self) -> str:
        """Twelve hexadecimal digits over the checksums of all files."""
        import hashlib

        lines = sorted("{} {}".format(n, e.sha256) for n, e in self.manifest.files.items())
        return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()[:12]

    @property
    def size_bytes(self) -> int:
        """All files together, without the manifest."""
        return sum(entry.size_bytes for entry in self.manifest.files.values())


def sha256_of(path: str) -> str:
    """SHA-256 of a file, read in pieces."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def file_entries(folder: str, roles: Dict[str, str]) -> Dict[str, FileEntry]:
    """Checksums and sizes of the named files of a folder."""
    return {
        name: FileEntry(
            sha256_of(os.path.join(folder, name)), os.path.getsize(os.path.join(folder, name)), role
        )
        for name, role in roles.items()
    }


@contextlib.contextmanager
def folder_in_place(path: str, marker: str, force: bool = False) -> Iterator[str]:
    """A temporary folder that becomes ``path`` when the block ends well, and vanishes otherwise.

    Args:
        path: Where the folder shall stand.
        marker: File that tells a folder of this kind, so that only such a one is replaced.
        force: Replace an existing folder of the kind.

    Raises:
        UsageError: Something is there already.
    """
    import shutil
    import tempfile

    refuse_existing(path, marker, force)
    parent = os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(
        prefix=".tmp-" + os.path.basename(os.path.abspath(path)), dir=parent
    )
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~jsonio.umask())
        _swap_in(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_existing(path: str, marker: str, force: bool) -> None:
    """Refuse to overwrite, and never overwrite what is not ours.

    Raises:
        UsageError: The path exists and ``force`` is off, or it is not a folder with ``marker``.
    """
    if not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path)):
        return
    if not os.path.isfile(os.path.join(path, marker)):
        raise UsageError(
            "'{}' exists and has no {} in it.".format(path, marker), hint="name another -o."
        )
    if not force:
        raise UsageError(
            "'{}' exists already.".format(path), hint="name another -o, or add --force."
        )


def _swap_in(temporary: str, path: str) -> None:
    import shutil
    import tempfile

    if not os.path.isdir(path):
        os.rename(temporary, path)
        return
    aside = tempfile.mkdtemp(prefix=".old-", dir=os.path.dirname(os.path.abspath(path)))
    os.rename(path, os.path.join(aside, "folder"))
    os.rename(temporary, path)
    shutil.rmtree(aside, ignore_errors=True)


def _check_name(name: str, manifest_path: str) -> None:
    parts = name.split("/")
    if name != os.path.normpath(name) or os.path.isabs(name) or ".." in parts or "\\" in name:
        raise FormatError("the path {!r} leaves the bundle.".format(name), manifest_path, "files")


def _check_cache(spec: KVCacheSpec, manifest_path: str) -> None:
    """Whoever allocates a cache trusts its numbers."""
    counts = [spec.context_len] + list(spec.buckets)
    for layer in spec.layers:
        counts += layer if len(layer) == 2 else [0]
    if not spec.layers or min(counts) < 1 or max(counts) >= 2**31:
        raise FormatError(
            "layers are pairs of numbers, and these, context_len and buckets from 1 to 2^31 - 1.",
            manifest_path,
            "kv_cache",
        )
    if spec.dtype not in ("float32", "float16"):
        raise FormatError("is '{}'.".format(spec.dtype), manifest_path, "kv_cache.dtype")
    if spec.buckets and spec.buckets[-1] != spec.context_len:
        raise FormatError("the last must be context_len.", manifest_path, "kv_cache.buckets")


def _check_size(path: str, entry: FileEntry) -> None:
    if not os.path.isfile(path) or os.path.islink(path):
        raise FormatError("the manifest lists this file, but it is missing or a link.", path)
    size = os.path.getsize(path)
    if size != entry.size_bytes:
        raise ChecksumError(
            "{} bytes, the manifest says {}.".format(size, entry.size_bytes),
            path,
            hint="copy or build the bundle again.",
        )


def optional_file(bundle: Bundle, role: str) -> Optional[str]:
    """Path of the file with this role, or None."""
    roles = {entry.role: name for name, entry in bundle.manifest.files.items()}
    return os.path.join(bundle.path, roles[role]) if role in roles else None
