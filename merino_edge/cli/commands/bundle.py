"""Update a device: pack a bundle, install it beside the running one, switch, and roll back.

Example:
  merino-edge bundle keygen -o product.key
  merino-edge bundle pack bundle/ --version 1.4.0 --key product.key -o product.mebundle
  merino-edge bundle install product.mebundle
  merino-edge bundle activate
  merino-edge bundle list

A store has two slots; STORE/current leads to the active one (merino-edge run STORE/current). A new
bundle is installed in the other slot, tested with its golden prompts, and then activated on trial:
`boot` counts each start before it happens, `confirm` ends the trial, and after three starts without
it the next `boot` goes back to the slot that was good. The store is --store, or the variable
MERINO_EDGE_STORE, or /var/lib/merino-edge where that can be written, or below the user's data.

Put public keys (*.pub) into STORE/keys and nothing unsigned is installed any more. Packing and
signing belong to a workstation, everything else to the device; all of it works on both. Exit code 8
for what is damaged, unsigned or wrongly signed, 5 for a failed self-test, 3 for an older schema or
version, 4 where the disk has no room.
"""

import argparse
import contextlib
import os
import sys
from typing import Any, BinaryIO, Dict, Iterator, List

from merino_edge.cli import options
from merino_edge.cli.bundle_verbs import VERBS
from merino_edge.cli.output import Progress, human_bytes, print_json, print_table, warn
from merino_edge.errors import UsageError
from merino_edge.formats.archive import ArchiveIndex
from merino_edge.formats.archive_writer import pack
from merino_edge.formats.bundle import Bundle

ARCHIVE_SUFFIX = ".mebundle"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    verbs.required = True
    for name, help_text, declare in VERBS:
        verb = verbs.add_parser(name, help=help_text, description=help_text)
        declare(verb)
        options.add_json(verb)
        verb.set_defaults(run=RUNS[name])


def run(args: argparse.Namespace) -> int:
    """Do what the verb says."""
    return int(args.run(args))


def _store(args: argparse.Namespace) -> Any:
    from merino_edge.runtime.updates.store import Store, default_folder

    return Store(os.path.abspath(args.store or default_folder()))


def _run_keygen(args: argparse.Namespace) -> int:
    from merino_edge.formats.signing_keys import key_id, write_private_key, write_public_key
    from merino_edge.runtime.updates import signing

    private, public = signing.new_key()
    public_path = args.output + ".pub"
    if os.path.lexists(public_path):
        raise UsageError("'{}' exists.".format(public_path), hint="name another -o.")
    write_private_key(args.output, private, public)
    write_public_key(public_path, public)
    if args.json:
        paths = {"private_key": args.output, "public_key": public_path}
        print_json(dict(paths, key_id=key_id(public)))
        return 0
    sys.stdout.write("key {}\n".format(key_id(public)))
    sys.stdout.write("  {}: keep it secret, keep a copy\n".format(args.output))
    sys.stdout.write("  {}: copy it to STORE/keys/ of every device\n".format(public_path))
    return 0


def _run_pack(args: argparse.Namespace) -> int:
    output = args.output or os.path.normpath(args.bundle) + ARCHIVE_SUFFIX
    index = pack(
        Bundle.open(args.bundle), output, args.version, _signer(args.key), force=args.force
    )
    facts = dict(_facts(index), archive=output, archive_bytes=os.path.getsize(output))
    facts["signed"] = args.key is not None
    if args.json:
        print_json(facts)
        return 0
    signed = "signed" if args.key else "not signed"
    size = human_bytes(facts["archive_bytes"])
    sys.stdout.write("{}: {}, {}, {}\n".format(output, _title(index), size, signed))
    return 0


def _signer(key_path: Any) -> Any:
    """Message -> content of the archive's signature file; None without a key."""
    if key_path is None:
        return None
    from merino_edge.formats.signing_keys import read_private_key, signature_bytes
    from merino_edge.runtime.updates import signing

    private = read_private_key(key_path)
    public = signing.public_key_of(private)
    return lambda message: signature_bytes(signing.sign(private, message), public)


def _run_install(args: argparse.Namespace) -> int:
    from merino_edge.runtime.updates.install import MOST_BYTES, InstallOptions, install

    chosen = InstallOptions(args.key, args.max_size or MOST_BYTES, args.allow_downgrade)
    with _opened(args.archive) as stream:
        done = install(_store(args), stream, args.archive, chosen)
    facts = dict(_facts(done.contents), slot=done.slot, signed_by=done.signed_by)
    if args.json:
        print_json(dict(facts, was_there=done.was_there))
        return 0
    checked = "signed by {}".format(done.signed_by) if done.signed_by else "no key set: unchecked"
    did = "holds" if done.was_there else "now holds"
    sys.stdout.write("slot {} {} {} ({})\n".format(done.slot, did, _title(done.contents), checked))
    sys.stdout.write("next: merino-edge bundle activate\n")
    return 0


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    if not os.path.exists(path):
        raise UsageError("there is no archive '{}'.".format(path))
    with open(path, "rb") as stream:
        yield stream


def _run_activate(args: argparse.Namespace) -> int:
    from merino_edge.runtime.updates.switch import activate

    return _tell(args, activate(_store(args), _self_test(args), args.slot, args.starts))


def _run_self_test(args: argparse.Namespace) -> int:
    from merino_edge.runtime.updates.switch import try_active

    return _tell(args, try_active(_store(args), _self_test(args)))


def _self_test(args: argparse.Namespace) -> Any:
    from merino_edge.runtime.updates.selftest import run_self_test

    progress = Progress("bundle", args.quiet or args.json)

    def test(path: str) -> None:
        progress.update("decoding the golden prompts")
        tested = run_self_test(
            path, args.backend, args.threads, args.timeout, args.quiet or args.json
        )
        progress.done("{} golden tokens agree ({})".format(tested.n_tokens, tested.backend))

    return test


def _run_boot(args: argparse.Namespace) -> int:
    from merino_edge.runtime.updates.switch import boot

    return _tell(args, boot(_store(args)))


def _run_confirm(args: argparse.Namespace) -> int:
    from merino_edge.runtime.updates.switch import confirm

    return _tell(args, confirm(_store(args)))


def _run_rollback(args: argparse.Namespace) -> int:
    from merino_edge.runtime.updates.switch import rollback

    return _tell(args, rollback(_store(args)))


def _tell(args: argparse.Namespace, switched: Any) -> int:
    """One line, or JSON; what was left behind is also a warning, for whoever reads logs."""
    if args.json:
        print_json(switched._asdict())
        return 0
    line = "slot {} {}".format(switched.active, switched.did)
    if switched.status == "on trial":
        line += " (on trial, {} of {} starts used)".format(switched.starts, switched.max_starts)
    sys.stdout.write(line + "\n")
    if switched.left is not None and switched.status == "good":
        warn("the update in slot {} was left.".format(switched.left))
    return 0


def _run_list(args: argparse.Namespace) -> int:
    store = _store(args)
    found = store.read_state()
    rows = [_slot_facts(store, slot, found) for slot in ("a", "b")]
    if args.json:
        document = {"store": store.path, "active": found.active, "current": store.current}
        trial = {"starts": found.starts, "max_starts": found.max_starts}
        print_json(dict(document, slots=rows, keys=_keys(store), **trial))
        return 0
    header = ("slot", "active", "status", "name", "version", "bundle id", "size")
    print_table(header, [_row(facts) for facts in rows])
    for facts in rows:
        if facts["reason"]:
            sys.stdout.write("slot {}: {}\n".format(facts["slot"], facts["reason"]))
    keys = len(_keys(store))
    only = "keys set: {}; signed archives only".format(keys) if keys else "no key set: any archive"
    sys.stdout.write("{} ({})\n".format(store.path, only))
    return 0


def _keys(store: Any) -> List[str]:
    from merino_edge.runtime.updates.trust import key_paths

    return key_paths(store.keys)


def _slot_facts(store: Any, slot: str, found: Any) -> Dict[str, Any]:
    known = store.known(slot, found)
    facts: Dict[str, Any] = {"slot": slot, "active": slot == found.active}
    facts.update(status=known.status, reason=known.reason)
    held = store.held(slot) if known.archive_id else None
    return dict(facts, **(_facts(held.contents) if held else {}))


def _row(facts: Dict[str, Any]) -> List[str]:
    size = human_bytes(facts["size_bytes"]) if "size_bytes" in facts else ""
    words = [facts.get(name) or "" for name in ("name", "version", "bundle_id")]
    return [facts["slot"], "yes" if facts["active"] else "", facts["status"]] + words + [size]


def _facts(index: ArchiveIndex) -> Dict[str, Any]:
    return {
        "name": index.name,
        "version": index.version,
        "bundle_id": index.bundle_id,
        "bundle_schema": index.bundle_schema,
        "size_bytes": index.size_bytes,
    }


def _title(index: ArchiveIndex) -> str:
    version = " " + index.version if index.version else ""
    return "{}{} ({})".format(index.name, version, index.bundle_id)


RUNS = {
    "keygen": _run_keygen,
    "pack": _run_pack,
    "install": _run_install,
    "activate": _run_activate,
    "self-test": _run_self_test,
    "boot": _run_boot,
    "confirm": _run_confirm,
    "rollback": _run_rollback,
    "list": _run_list,
}
