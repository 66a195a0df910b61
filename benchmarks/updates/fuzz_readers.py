"""A coverage-guided fuzzer (atheris, which is libFuzzer) over what reads untrusted files.

The one idea: hypothesis changes what we thought of; libFuzzer keeps whatever reaches a line that
nothing reached before, and goes on from there. Two targets: "archive" reads a whole archive from
memory, "manifest" turns bytes into the manifest's record. A MerinoError is an answer; any other
exception ends the run and leaves the input that caused it.

An archive's checksum cannot be guessed, so the target makes sums and sizes agree before it reads
(every second input), and the fuzzer works on what lies behind them.

Example:
  python benchmarks/updates/fuzz_readers.py archive corpus/ -max_total_time=60
  python benchmarks/updates/fuzz_readers.py manifest corpus/ -runs=200000
"""

import hashlib
import io
import json
import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["merino_edge.formats", "merino_edge.errors"]):
    from merino_edge.errors import MerinoError
    from merino_edge.formats import archive, jsonio
    from merino_edge.formats.archive_reader import ArchiveReader
    from merino_edge.formats.manifest import SCHEMA, BundleManifest

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "tiny-bundle"
MOST_SEED_BYTES = 16384


def read_archive(data: bytes) -> None:
    """Read an archive to its end; no piece may come before its header was found right."""
    if data[:1] == b"\1":
        data = _agreeing(data[1:])
    try:
        reader = ArchiveReader(io.BytesIO(data), "x")
        for file in reader.index.files:
            reader.copy(file, len)
        reader.finish()
    except MerinoError:
        return


def read_manifest(data: bytes) -> None:
    """Read a manifest; what was read is written and read again, and is the same."""
    try:
        record = jsonio.record_from(jsonio.json_from(data, "x"), "x", SCHEMA, BundleManifest)
    except MerinoError:
        return
    again = jsonio.decode(BundleManifest, json.loads(json.dumps(jsonio.encode(record))), "x")
    assert repr(again) == repr(record)


def _agreeing(data: bytes) -> bytes:
    """Bytes as an archive: JSON up to the first zero is the index, the rest content, sums made."""
    text, _, rest = data.partition(b"\0")
    try:
        document = json.loads(text.decode())
        for file in document["files"]:
            size = min(int(file["size_bytes"]) % 2048, len(rest))
            content, rest = rest[:size], rest[size:]
            file.update(size_bytes=size, sha256=hashlib.sha256(content).hexdigest())
            file["content"] = content
        contents = [(file["name"], file.pop("content")) for file in document["files"]]
        text = jsonio.dumps(document).encode()
        parts = [archive.header(archive.INDEX, len(text)), text, archive.padding(len(text))]
        for name, content in contents:
            parts += [archive.header(name, len(content)), content, archive.padding(len(content))]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return data
    return b"".join([*parts, archive.END, rest[:1]])


def _write_seeds(target: str, folder: Path) -> None:
    """What the fuzzer begins with: one right input."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = (GOLDEN / "manifest.json").read_bytes()
    if target == "manifest":
        (folder / "golden").write_bytes(manifest)
        return
    file = archive.ArchivedFile("manifest.json", hashlib.sha256(b"abc").hexdigest(), 3)
    index = archive.ArchiveIndex("x", "0" * 12, SCHEMA, [file, file._replace(name="a/b")], "1.2")
    text = archive.index_bytes(index)
    (folder / "agreeing").write_bytes(b"\1" + text + b"\0abcabc")
    (folder / "plain").write_bytes(_agreeing(text + b"\0abcabc"))


def _main() -> None:
    targets = {"archive": read_archive, "manifest": read_manifest}
    if len(sys.argv) < 3 or sys.argv[1] not in targets:
        sys.exit(f"usage: fuzz_readers.py {'|'.join(targets)} CORPUS [options of libFuzzer]")
    name, corpus = sys.argv[1:3]
    _write_seeds(name, Path(corpus))
    options = [sys.argv[0], corpus, f"-max_len={MOST_SEED_BYTES}", *sys.argv[3:]]
    os.chdir(corpus)
    options[1] = "."
    atheris.Setup(options, targets[name])
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
