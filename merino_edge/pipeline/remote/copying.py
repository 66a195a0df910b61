"""Copying bundles to the board, so that it can break off anywhere and go on.

The one idea: a file grows on the board as ``NAME.part`` and gets its name only when its SHA-256 is
the manifest's, so what has a name is whole; and bytes are written to their *position*, so that a
sender whose connection is half dead and its successor can only write the same bytes to the same
places. The manifest comes last: a folder with a manifest is a complete bundle.

The folder is named by the bundle's id, a checksum over all files but the manifest. What lies there
whole is found out first, many files at a time, and not sent again.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from merino_edge.errors import BoardError, ChecksumError
from merino_edge.formats.bundle import MANIFEST, Bundle, sha256_of
from merino_edge.pipeline.quantities import human
from merino_edge.pipeline.remote.link_errors import last_line
from merino_edge.pipeline.remote.patience import Patience
from merino_edge.pipeline.remote.ssh import Output, Ssh

_BLOCK_BYTES = 1 << 16  # dd counts in blocks; at most one is sent again
_CHUNK_BYTES = 1 << 18

# $@ are files; for each the size of what has the name, and of what has come of it. -1: nothing.
_SIZES = """
size() { if [ -f "$1" ]; then wc -c <"$1"; else echo -1; fi; }
for file; do echo $(size "$file") $(size "$file.part"); done
"""
# $@ are files and their SHA-256, by turns; for each whether it is there whole.
_WHOLE = """
while [ $# -gt 1 ]; do
  if [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -c 1-64)" = "$2" ]; then echo yes; else echo no; fi
  shift 2
done
"""
# Files in one question: a command of ssh's may be 128 kB long, and a break costs no more than one.
_AT_ONCE = 32
_RECEIVE = """
mkdir -p "$(dirname "$1")" || exit 1
LC_ALL=C dd of="$1.part" bs="$2" seek="$3" conv=notrunc status=none
"""
# $1 a file, $2 its SHA-256; a file that has its name is checked too, and loses it if it differs.
_SETTLE = """
for found in "$1.part" "$1"; do
  [ -f "$found" ] || continue
  if [ "$(sha256sum <"$found" | cut -c 1-64)" = "$2" ]; then
    [ "$found" = "$1" ] || mv -f "$found" "$1" || exit 1
    rm -f "$1.part"; echo whole; exit 0
  fi
  rm -f "$found" || exit 1
done
echo differs
"""


@dataclass(frozen=True)
class RemoteFile:
    """A file to copy.

    Attributes:
        name: For people.
        local: Its path here.
        remote: Its path there.
        size_bytes: Its size.
        sha256: Its checksum, hexadecimal.
    """

    name: str
    local: str
    remote: str
    size_bytes: int
    sha256: str


@dataclass
class Copied:
    """What copying did.

    Attributes:
        sent_bytes: Handed to ssh, lost ones included.
        skipped_bytes: Were there before.
        elapsed_s: Time it took.
    """

    sent_bytes: int = 0
    skipped_bytes: int = 0
    elapsed_s: float = 0.0


def files_of(bundle: Bundle, folder: str) -> list[RemoteFile]:
    """Every file of a bundle and where it goes on the board; the manifest is the last."""
    entries = [(name, e.size_bytes, e.sha256) for name, e in sorted(bundle.manifest.files.items())]
    manifest = os.path.join(bundle.path, MANIFEST)
    entries.append((MANIFEST, os.path.getsize(manifest), sha256_of(manifest)))
    return [
        RemoteFile(name, os.path.join(bundle.path, name), f"{folder}/{name}", size, sha256)
        for name, size, sha256 in entries
    ]


def missing_bytes(ssh: Ssh, files: list[RemoteFile]) -> int:
    """Bytes that the board does not have yet, by the sizes it reports.

    Raises:
        BoardError: The connection failed.
    """
    sizes_there = [size for some in _some(files) for size in _sizes(ssh, some)]
    states = zip(files, sizes_there, strict=True)
    return sum(max(0, file.size_bytes - max(sizes)) for file, sizes in states)


class Copying:
    """The copying of files, repeated by ``patience`` where the connection breaks.

    Attributes:
        copied: What was done so far.
    """

    def __init__(self, ssh: Ssh, patience: Patience, on_progress: Callable[[str], None]):
        self.copied = Copied()
        self._ssh = ssh
        self._patience = patience
        self._on_progress = on_progress

    def copy(self, files: list[RemoteFile]) -> Copied:
        """Copy what the board does not have.

        Raises:
            BoardError: The board did not come back, its disk is full, or the file came twice wrong.
            ChecksumError: The file here is not what the manifest says.
        """
        began = time.monotonic()
        for some in _some(files):
            for file, whole in zip(some, self._whole(some), strict=True):
                if whole:
                    self.copied.skipped_bytes += file.size_bytes
                else:
                    self._copy_file(file)
        self.copied.elapsed_s = time.monotonic() - began
        return self.copied

    def _whole(self, files: list[RemoteFile]) -> list[bool]:
        """For each file whether the board has it, by its checksum."""
        self._on_progress(f"the board checks what it has of {files[0].name} and the next ones")
        words = [word for file in files for word in (file.remote, file.sha256)]
        answer = self._patience.keep_trying(lambda: self._ssh.run(_WHOLE, *words))
        self._check(answer, files[0])
        return [line == "yes" for line in answer.stdout.split()]

    def _copy_file(self, file: RemoteFile) -> None:
        best, sent_before = -1, self.copied.sent_bytes

        def attempt() -> bool:
            nonlocal best
            (named, part), *_ = _sizes(self._ssh, [file])
            if part > best:
                self._patience.progressed()
                best = part
            if named != file.size_bytes and part < file.size_bytes:
                self._send(file, max(0, part) // _BLOCK_BYTES)
            return self._settle(file)

        for _ in range(2):
            if self._patience.keep_trying(attempt):
                if self.copied.sent_bytes == sent_before:
                    self.copied.skipped_bytes += file.size_bytes
                return
        raise self._wrong_twice(file)

    def _send(self, file: RemoteFile, first_block: int) -> None:
        words = (file.remote, str(_BLOCK_BYTES), str(first_block))
        with self._ssh.session(_RECEIVE, *words, feed=True) as session:
            assert session.stdin is not None
            with suppress(BrokenPipeError):  # the reason comes with the end of the session
                for chunk in self._chunks(file, first_block * _BLOCK_BYTES):
                    _write_all(session.stdin, chunk)
                    self.copied.sent_bytes += len(chunk)
            self._check(session.finish(), file)

    def _chunks(self, file: RemoteFile, position: int) -> Iterator[bytes]:
        began, first = time.monotonic(), position
        with open(file.local, "rb") as stream:
            stream.seek(position)
            for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                yield chunk
                position += len(chunk)
                rate = (position - first) / max(time.monotonic() - began, 1e-3)
                self._on_progress(
                    f"{file.name}: {human(position, 'B')} of {human(file.size_bytes, 'B')}, "
                    f"{human(rate, 'B', digits=3)}/s"
                )

    def _settle(self, file: RemoteFile) -> bool:
        """Whether the board has the file, by its checksum; then it has its name, too."""
        self._on_progress(f"{file.name}: the board checks {human(file.size_bytes, 'B')}")
        answer = self._ssh.run(_SETTLE, file.remote, file.sha256)
        self._check(answer, file)
        return answer.stdout.strip() == "whole"

    def _check(self, answer: Output, file: RemoteFile) -> None:
        if answer.code == 0:
            return
        full = "No space left" in answer.stderr or "File too large" in answer.stderr
        where = f"'{self._ssh.host}': {file.remote}"
        raise BoardError(
            f"the disk is full on {where}." if full else f"cannot write on {where}.",
            last_line(answer.stderr) or f"the board's shell ended with code {answer.code}.",
            f"make room there (df -h), then: {self._patience.again}; what was copied is kept.",
        )

    def _wrong_twice(self, file: RemoteFile) -> BoardError | ChecksumError:
        found = sha256_of(file.local)
        if found != file.sha256:
            return ChecksumError(
                f"sha256 is {found[:12]}…, the manifest says {file.sha256[:12]}….",
                file.local,
                hint="the file changed since the bundle was made; build it again.",
            )
        return BoardError(
            f"{file.name} arrived on '{self._ssh.host}' twice with another checksum.",
            "the file here is what the manifest says, so the board's disk or memory is at fault.",
            "on the board: dmesg | tail; try another --remote-dir.",
        )


def _some(files: list[RemoteFile]) -> Iterator[list[RemoteFile]]:
    """The files, as many at a time as fit a question."""
    return (files[i : i + _AT_ONCE] for i in range(0, len(files), _AT_ONCE))


def _sizes(ssh: Ssh, files: list[RemoteFile]) -> list[tuple[int, int]]:
    """(size of the named file, size of its part) for each; -1 where there is none."""
    lines = ssh.run(_SIZES, *(file.remote for file in files)).stdout.splitlines()
    pairs = [line.split() for line in lines]
    return [(int(named), int(part)) for named, part in pairs]


def _write_all(stream: IO[bytes], chunk: bytes) -> None:
    """Write to an unbuffered pipe, which may take less than it is given."""
    view = memoryview(chunk)
    while view:
        view = view[stream.write(view) :]
