"""Everything that changes a store, as scenes: what was there before, a command, what it leads to.

The one idea: a device is asked what its owner would ask after a power cut. Does ``current`` run
(all checksums, all golden tokens)? Does the next start run? And does the same command, given
again, do what it was for, and leave nothing lying about? The bundle is the tiny one of
``tests/golden``.
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from merino_edge.cli.main import main
from merino_edge.errors import MerinoError
from merino_edge.formats.archive_writer import pack
from merino_edge.formats.bundle import MANIFEST, Bundle
from merino_edge.runtime.open import load
from merino_edge.runtime.updates.install import install
from merino_edge.runtime.updates.store import Store
from merino_edge.runtime.updates.switch import activate, boot, confirm
from merino_edge.runtime.verify import check_golden_tokens

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "tiny-bundle"
ABSENT, RUNS = "absent", "runs"
# What is active is damaged: in a way that a start sees, or in one that only a self-test does.
SHORT, FLIPPED = "short", "flipped"


class Archives(NamedTuple):
    """The files that scenes install.

    Attributes:
        one, two, three: The same bundle, as three versions of a product.
        wrong: Whole, but its golden tokens are not what the model gives.
        cut: The third without its last kilobytes.
    """

    one: str
    two: str
    three: str
    wrong: str
    cut: str


class Scene(NamedTuple):
    """A command in a situation.

    Attributes:
        name: For people.
        prepare: Makes the situation.
        words: The command, after ``bundle``; "{two}" is the path of that archive.
        code: Its exit code when nobody disturbs it.
        active: The slot that is active in the end.
        before: How ``current`` is before the command: ABSENT, RUNS, SHORT or FLIPPED.
        codes_again: Exit codes that are right when it is given a second time.
    """

    name: str
    prepare: Callable[[Store, Archives], None]
    words: tuple[str, ...]
    code: int
    active: str | None
    before: str
    codes_again: tuple[int, ...] = (0,)

    def command(self, store: str, archives: Archives) -> list[str]:
        """Arguments of ``merino-edge``."""
        words = [word.format(**archives._asdict()) for word in self.words]
        options = ["--backend", "reference", "-q"] if words[0] in ("activate", "self-test") else []
        return ["bundle", words[0], "--store", store, *words[1:], *options]


def make_archives(folder: Path) -> Archives:
    """Pack them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: str(folder / f"{name}.mebundle") for name in Archives._fields}
    for version, name in enumerate(("one", "two", "three"), 1):
        pack(Bundle.open(str(GOLDEN)), paths[name], str(version), force=True)
    shutil.copytree(GOLDEN, folder / "wrong", dirs_exist_ok=True)
    manifest = folder / "wrong" / MANIFEST
    document = json.loads(manifest.read_text("utf-8"))
    document["golden"][0]["output_ids"][3] += 1
    manifest.write_text(json.dumps(document), "utf-8")
    pack(Bundle.open(str(folder / "wrong")), paths["wrong"], "9", force=True)
    Path(paths["cut"]).write_bytes(Path(paths["three"]).read_bytes()[:-8000])
    return Archives(**paths)


def verdict(store: str) -> str:
    """How ``current`` is: "absent", "runs", or what is wrong with it."""
    current = os.path.join(store, "current")
    if not os.path.lexists(current):
        return ABSENT
    try:
        bundle = Bundle.open(current)
        bundle.verify_checksums()
        with load(current, "reference") as session:
            check_golden_tokens(session.backend, bundle.manifest.golden)
    except (MerinoError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return RUNS


def faults_after_cut(scene: Scene, store: str, archives: Archives) -> list[str]:
    """What a device would suffer from whose power was cut in a scene; best an empty list.

    The store is used up by this: the command is given again in it.
    """
    faults = []
    found = verdict(store)
    if scene.before in (RUNS, ABSENT) and found not in (RUNS, scene.before):
        faults.append(f"after the cut, current: {found}")
    faults += _faults_of_next_start(scene, store)
    code, said = run_quietly(scene.command(store, archives))
    if code not in (*scene.codes_again, scene.code):
        faults.append(f"given again, the command ends with {code}: {said}")
    return faults + faults_of_end(scene, store)


def faults_of_end(scene: Scene, store: str) -> list[str]:
    """What is not as it should be when the command has done its work."""
    faults = []
    found, active = verdict(store), Store(store).read_state().active
    if active != scene.active:
        faults.append(f"in the end slot {active} is active, not {scene.active}")
    if found != (RUNS if scene.active else ABSENT):
        faults.append(f"in the end, current: {found}")
    names = [*os.listdir(store), *os.listdir(os.path.join(store, "slots"))]
    litter = [name for name in names if name.startswith(".")]
    return [*faults, f"in the end there lies {litter}"] if litter else faults


def _faults_of_next_start(scene: Scene, store: str) -> list[str]:
    """The service's next start: count it, then run; in a copy, since it changes the state."""
    copy = store + ".next"
    if os.path.isdir(store):
        shutil.copytree(store, copy, symlinks=True)
    try:
        code, said = run_quietly(["bundle", "boot", "--store", copy])
        found = verdict(copy)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    if (found, code) == (RUNS, 0) or scene.before == FLIPPED:
        return []
    nothing_yet = scene.before == ABSENT == found and code == 2
    return [] if nothing_yet else [f"the next start ends with {code} ({said}), current: {found}"]


def run_quietly(words: list[str]) -> tuple[int, str]:
    """A command of ours in this process: exit code, and the last line of what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    return code, said.getvalue().strip().rpartition("\n")[2]


def _passes(path: str) -> None:
    """No self-test: what is prepared here is known to be right."""


def _put(store: Store, archive: str) -> None:
    with open(archive, "rb") as stream:
        install(store, stream, archive)


def _nothing(store: Store, archives: Archives) -> None:
    """A device that was never used."""


def _one_installed(store: Store, archives: Archives) -> None:
    _put(store, archives.one)


def _one_on_trial(store: Store, archives: Archives) -> None:
    _put(store, archives.one)
    activate(store, _passes)


def _one_good(store: Store, archives: Archives) -> None:
    _one_on_trial(store, archives)
    confirm(store)


def _two_installed(store: Store, archives: Archives) -> None:
    _one_good(store, archives)
    _put(store, archives.two)


def _two_on_trial(store: Store, archives: Archives) -> None:
    _two_installed(store, archives)
    activate(store, _passes)


def _two_spent(store: Store, archives: Archives) -> None:
    _two_on_trial(store, archives)
    for _ in range(3):
        boot(store)


def _two_good(store: Store, archives: Archives) -> None:
    _two_on_trial(store, archives)
    confirm(store)


def _wrong_installed(store: Store, archives: Archives) -> None:
    _one_good(store, archives)
    _put(store, archives.wrong)


def _two_shortened(store: Store, archives: Archives) -> None:
    _two_good(store, archives)
    os.truncate(os.path.join(store.bundle("b"), "weights.safetensors"), 1000)


def _two_flipped(store: Store, archives: Archives) -> None:
    _two_good(store, archives)
    path = Path(store.bundle("b")) / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)


SCENES = (
    Scene("install into an empty store", _nothing, ("install", "{one}"), 0, None, ABSENT),
    Scene("activate the first", _one_installed, ("activate",), 0, "a", ABSENT),
    Scene("count the first start", _one_on_trial, ("boot",), 0, "a", RUNS),
    Scene("confirm the first", _one_on_trial, ("confirm",), 0, "a", RUNS),
    Scene("install the second", _one_good, ("install", "{two}"), 0, "a", RUNS),
    Scene("activate the second", _two_installed, ("activate",), 0, "b", RUNS),
    Scene("count a start on trial", _two_on_trial, ("boot",), 0, "b", RUNS),
    Scene("confirm the second", _two_on_trial, ("confirm",), 0, "b", RUNS),
    Scene("boot ends a crash loop", _two_spent, ("boot",), 0, "a", RUNS),
    Scene("roll back by hand", _two_good, ("rollback",), 0, "a", RUNS),
    Scene("install over the first", _two_good, ("install", "{three}"), 0, "b", RUNS),
    Scene("install what is cut off", _two_good, ("install", "{cut}"), 8, "b", RUNS),
    # A second try finds the slot marked, and nothing else to activate: 2.
    Scene("activate what fails", _wrong_installed, ("activate",), 5, "a", RUNS, (2,)),
    Scene("boot leaves a shortened file", _two_shortened, ("boot",), 0, "a", SHORT),
    # A second try tests the slot that was rolled back to: 0.
    Scene("self-test finds a flipped bit", _two_flipped, ("self-test",), 8, "a", FLIPPED, (0,)),
)
