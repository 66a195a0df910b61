"""Archives and manifests that somebody changed, drawn by hypothesis, and a jail to try them in.

The one idea: a change is most dangerous where everything else is right. So besides bytes that are
changed anywhere there are members that were moved, doubled or turned into links with a right sum in
their header, an index with one wrong value in an archive that is right otherwise, and a manifest
with one wrong value below checksums that were made to agree. Each is accepted or refused with a
MerinoError; anything else is a fault, and so is whatever appears outside the store.
"""

import copy
import hashlib
import io
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from merino_edge.errors import MerinoError
from merino_edge.formats import archive
from merino_edge.formats.archive_writer import index_of
from merino_edge.formats.bundle import MANIFEST, Bundle
from merino_edge.runtime.updates.install import InstallOptions, install
from merino_edge.runtime.updates.store import Store

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "tiny-bundle"
OUTSIDE = "outside"
LONGEST_S = 20
MOST_BYTES = 10**6

_NASTY: list[Any] = [None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 1e308, 0.5, "", "x"]
_NASTY += ["../" + OUTSIDE, "../../" + OUTSIDE, "../../../../" + OUTSIDE, "/" + OUTSIDE, "a/../b"]
_NASTY += [
    "\0",
    "\ud800",
    "\x1b[2J",
    "é",
    "a" * 5000,
    "a/" * 60,
    "..",
    ".",
    "/",
    "\\",
    "manifest.json",
]
_NASTY += ["archive.json", "archive.sig", [], {}, [[]], [None], {"": None}, [[[[[[[[]]]]]]]]]
_NASTY += ["merino-edge.bundle/0", "merino-edge.bundle/2", "9" * 40, "0" * 64, "\uff11.2"]
TYPES = b"01234567gxLKSNVDAM\0"


def changed_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes flipped, cut out, doubled, moved or replaced, mostly near the headers."""
    places = st.one_of(
        st.integers(0, len(data)),
        st.integers(0, 3000),
        st.integers(0, len(data) // 512).map(_block),
    )
    edit = st.tuples(places, st.integers(0, 5), st.integers(0, 1024), st.binary(max_size=64))
    return st.lists(edit, min_size=1, max_size=4).map(lambda edits: _edited(data, edits))


def _block(number: int) -> int:
    return 512 * number


def _edited(data: bytes, edits: list[tuple[int, int, int, bytes]]) -> bytes:
    for place, kind, length, new in edits:
        head, tail = data[:place], data[place:]
        if kind == 0 and tail:
            data = head + bytes([tail[0] ^ (1 << length % 8)]) + tail[1:]
        elif kind == 1:
            data = head + tail[length:]
        elif kind == 2:
            data = head + tail[:length] + tail
        elif kind == 3:
            data = head + new + tail[len(new) :]
        elif kind == 4:
            data = head + new + tail
        elif kind == 5 and length < 64:
            data = head
    return data


@st.composite
def changed_members(draw: Any, members: list[tuple[str, bytes]]) -> bytes:
    """Whole members in another order, twice, or not at all; headers with a right sum."""
    order = draw(st.lists(st.integers(0, len(members) - 1), max_size=len(members) + 2))
    parts = []
    for n in order if draw(st.booleans()) else range(len(members)):
        name, content = members[n]
        block = bytearray(archive.header(name, len(content)))
        if draw(st.integers(0, 3)) == 0:
            place = draw(st.sampled_from([0, 100, 108, 124, 136, 156, 157, 257, 345]))
            new = draw(
                st.one_of(
                    st.sampled_from([b"../" + OUTSIDE.encode(), b"/x", b"\xff", b"77"]),
                    st.binary(min_size=1, max_size=12),
                )
            )
            if place == 156:
                new = bytes([draw(st.sampled_from(TYPES))])
            block[place : place + len(new)] = new
        parts += [_summed(bytes(block[:512])), content, archive.padding(len(content))]
    return b"".join([*parts, archive.END])


def _summed(block: bytes) -> bytes:
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + f"{sum(blank):06o}\0 ".encode() + block[156:]


@st.composite
def changed_json(draw: Any, document: Any) -> Any:
    """One to three values of a document replaced, removed, doubled or added."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        document = _change(document, draw(st.integers(0, 2**32)), draw(st.sampled_from(_NASTY)))
    return document


def _change(document: Any, seed: int, value: Any) -> Any:
    rng = random.Random(seed)
    places = list(_places(document))
    if not places:
        return value
    holder, key = rng.choice(places)
    act = rng.randrange(6)
    if act == 0:
        del holder[key]
    elif act == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif act == 2 and isinstance(holder, dict):
        holder[value if isinstance(value, str) else "more"] = copy.deepcopy(holder[key])
    elif act == 3 and isinstance(holder[key], int):
        holder[key] += rng.choice([-1, 1, 10**6, -(10**6)])
    else:
        holder[key] = copy.deepcopy(value)
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    pairs: Any = ()
    if isinstance(document, dict):
        pairs = list(document.items())
    elif isinstance(document, list):
        pairs = list(enumerate(document))
    for key, value in pairs:
        yield document, key
        yield from _places(value)


def _text(document: Any) -> bytes:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")


def golden_members() -> list[tuple[str, bytes]]:
    """The golden bundle's archive, member by member."""
    index = index_of(Bundle.open(str(GOLDEN)), "1")
    files = [(file.name, (GOLDEN / file.name).read_bytes()) for file in index.files]
    return [(archive.INDEX, archive.index_bytes(index)), *files]


def joined(members: list[tuple[str, bytes]]) -> bytes:
    """An archive of members, as they are."""
    parts = [
        archive.header(n, len(data)) + data + archive.padding(len(data)) for n, data in members
    ]
    return b"".join(parts) + archive.END


def with_manifest(members: list[tuple[str, bytes]], manifest: Any) -> bytes:
    """An archive with another manifest, in which all that can be made to agree agrees."""
    data = _text(manifest)
    index = json.loads(members[0][1])
    index["files"][0].update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    try:
        files = manifest["files"]
        lines = sorted(f"{n} {e['sha256']}" for n, e in files.items())
        index["bundle_id"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
        index["name"] = manifest["name"]
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError):
        pass  # it is not to be helped
    return joined([(archive.INDEX, _text(index)), (MANIFEST, data), *members[2:]])


def archives() -> st.SearchStrategy[bytes]:
    """Archives changed in every way there is here."""
    members = golden_members()
    index, manifest = json.loads(members[0][1]), json.loads(members[1][1])
    by_index = changed_json(index).map(
        lambda found: joined([(archive.INDEX, _text(found)), *members[1:]])
    )
    by_manifest = changed_json(manifest).map(lambda found: with_manifest(members, found))
    return st.one_of(
        changed_bytes(joined(members)), changed_members(members), by_index, by_manifest
    )


def manifests() -> st.SearchStrategy[bytes]:
    """Manifests changed as text and as documents."""
    data = (GOLDEN / MANIFEST).read_bytes()
    return st.one_of(changed_bytes(data), changed_json(json.loads(data)).map(_text))


class Jail:
    """A store in a folder whose other contents must not change.

    Attributes:
        accepted: How many were taken.
        refused: Name of the error -> how many.
        store: The store.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._depth = folder / "one" / "two"
        self._depth.mkdir(parents=True)
        self.store = Store(str(self._depth / "store"))
        self._bundle = self._depth / "bundle"
        self._bundle.mkdir()
        for path in GOLDEN.iterdir():
            (self._bundle / path.name).write_bytes(path.read_bytes())
        self.accepted = 0
        self.refused: dict[str, int] = {}
        self._before: list[str] = []
        self._before = self._outside()

    def try_archive(self, data: bytes, keep: bool = False) -> bool:
        """Install it; whether it was taken. Anything but a MerinoError comes through.

        Unless it is to be kept it is removed again: a slot that holds an archive already is not
        filled again, so another one with the same index would not be read to its end.
        """
        with self._counted() as taken:
            options = InstallOptions(max_bytes=MOST_BYTES, allow_downgrade=True)
            done = install(self.store, io.BytesIO(data), "x.mebundle", options)
            self.store.check(done.slot)
            if not keep:
                shutil.rmtree(self.store.slot(done.slot))
            taken.append(done)
        assert self._outside() == self._before, "something was written outside the store"
        inside = set(os.listdir(self.store.slots)) if os.path.isdir(self.store.slots) else set()
        assert inside <= {"a", "b"}, f"something was left: {inside}"
        return bool(taken)

    def try_manifest(self, data: bytes) -> bool:
        """Open a bundle with it; whether it was taken."""
        (self._bundle / MANIFEST).write_bytes(data)
        with self._counted() as taken:
            bundle = Bundle.open(str(self._bundle))
            assert len(bundle.bundle_id) == 12
            taken.append(bundle)
        return bool(taken)

    @contextmanager
    def _counted(self) -> Iterator[list[Any]]:
        taken: list[Any] = []
        before = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(LONGEST_S)
        try:
            yield taken
            self.accepted += 1
        except MerinoError as error:
            name = type(error).__name__
            self.refused[name] = self.refused.get(name, 0) + 1
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def _outside(self) -> list[str]:
        found = [path for path in ("/" + OUTSIDE, OUTSIDE) if os.path.lexists(path)]
        for path in (self._folder, self._folder / "one", self._depth):
            found += [str(path / name) for name in sorted(os.listdir(path)) if name != "store"]
        return found


def _too_long(number: int, frame: Any) -> None:
    raise AssertionError(f"it took longer than {LONGEST_S} s")
