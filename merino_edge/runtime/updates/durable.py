"""Changing folders so that a power cut leaves the old or the new, and what is done stays done.

The one idea: a rename is the only way anything gets its name, what is renamed was synced before,
and the folder is synced after; so the changes reach the disk in the order in which they were made.
All changes of a store pass through here, and through ``os`` alone: a test takes its place, records
every operation, and replays what a cut may leave of them.

Temporary names are fixed (``.new-NAME``), since whoever writes holds the store's lock: what a cut
left of one is overwritten by the next, and no litter gathers.
"""

import contextlib
import errno
import os
import stat
from typing import Callable, Iterator

Write = Callable[[bytes], object]


def make_folder(path: str) -> None:
    """A folder and those above it; what is there already is left as it is."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(os.path.abspath(path))
    make_folder(above)
    os.mkdir(path, 0o755)
    sync_folder(above)


@contextlib.contextmanager
def new_file(path: str) -> Iterator[Write]:
    """A file that is written in pieces and synced at the end; its name is synced by its folder."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o644)

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]

    try:
        yield write
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: str, data: bytes) -> None:
    """Replace a file: a reader sees the old one or the new one, after a power cut too."""
    temporary = _beside(path)
    with new_file(temporary) as write:
        write(data)
    rename(temporary, path)


def point(link: str, target: str) -> None:
    """Let a symbolic link point elsewhere, in one step."""
    temporary = _beside(link)
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    rename(temporary, link)


def rename(path: str, new_path: str) -> None:
    """Rename within one folder, and wait until the disk has it."""
    os.rename(path, new_path)
    sync_folder(os.path.dirname(os.path.abspath(new_path)))


def remove(path: str) -> None:
    """A file, or a folder with all that is in it; links are removed and never followed."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    for name in os.listdir(path):
        remove(os.path.join(path, name))
    os.rmdir(path)


def sync_folder(path: str) -> None:
    """Wait until the disk has what was made, renamed and removed in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot, and need not (FAT)
            raise
    finally:
        os.close(handle)


def _beside(path: str) -> str:
    return os.path.join(os.path.dirname(path), ".new-" + os.path.basename(path))
