"""Stores, archives and keys for the tests of updates: the tiny golden bundle, in versions.

Readable by Python 3.6, because the device's tests use it too.
"""

import io
import json
import os
import shutil
import tarfile

from merino_edge.formats import archive
from merino_edge.formats.archive_writer import index_of, pack
from merino_edge.formats.bundle import MANIFEST, Bundle
from merino_edge.runtime.updates.install import install
from merino_edge.runtime.updates.store import Store
from merino_edge.runtime.updates.switch import activate, confirm

GOLDEN_BUNDLE = os.path.join(os.path.dirname(__file__), "golden", "tiny-bundle")
# Of version 1.2.0 of the golden bundle, unsigned: the same from every Python.
GOLDEN_ARCHIVE_SHA256 = "47e33b4ccd7e34f806c28f092e229a0afa3d663132a41d02358e805a654c3734"


def packed(path, version=None, sign=None, bundle=GOLDEN_BUNDLE):
    """An archive of the golden bundle; returns its path."""
    pack(Bundle.open(str(bundle)), str(path), version, sign)
    return str(path)


def changed_bundle(folder, **fields):
    """A copy of the golden bundle with other fields in its manifest; files still match."""
    shutil.copytree(GOLDEN_BUNDLE, str(folder))
    path = os.path.join(str(folder), MANIFEST)
    with open(path, encoding="utf-8") as stream:
        document = dict(json.load(stream), **fields)
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(document, stream)
    return str(folder)


def wrong_golden():
    """The golden prompts, one token of which no model ever gave."""
    with open(os.path.join(GOLDEN_BUNDLE, MANIFEST), encoding="utf-8") as stream:
        golden = json.load(stream)["golden"]
    golden[0]["output_ids"][3] += 1
    return golden


def passes(path):
    """A self-test that is passed."""


def put(store, path, options=None):
    """Install an archive."""
    with open(path, "rb") as stream:
        return install(store, stream, path, options)


def good_store(path, archive_path):
    """A store whose slot a is active and confirmed."""
    store = Store(str(path))
    put(store, archive_path)
    activate(store, passes)
    confirm(store)
    return store


def members():
    """(name, content) of the golden bundle's files, in an archive's order."""
    for file in index_of(Bundle.open(GOLDEN_BUNDLE)).files:
        with open(os.path.join(GOLDEN_BUNDLE, file.name), "rb") as stream:
            yield file.name, stream.read()


def archive_of(files, index_data=None):
    """Bytes of an archive of any files, its index made to match or given."""
    index = index_of(Bundle.open(GOLDEN_BUNDLE))
    entries = [archive.ArchivedFile(n, archive.archive_id(d), len(d)) for n, d in files]
    data = index_data or archive.index_bytes(index._replace(files=entries))
    parts = [archive.header(archive.INDEX, len(data)), data, archive.padding(len(data))]
    for name, content in files:
        parts += [archive.header(name, len(content)), content, archive.padding(len(content))]
    return b"".join(parts + [archive.END])


def tar_of(change=None, extra=()):
    """Bytes of an archive as ``tarfile`` writes it, each member passed through ``change``."""
    data = archive.index_bytes(index_of(Bundle.open(GOLDEN_BUNDLE)))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in [(archive.INDEX, data)] + list(members()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change is not None:
                change(info)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return out.getvalue()
