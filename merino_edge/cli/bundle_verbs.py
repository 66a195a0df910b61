"""The verbs of ``merino-edge bundle``, and the words that each takes.

The one idea: declared here, done in ``commands.bundle``, so that either can be read at a glance.
"""

import argparse

from merino_edge.cli import options


def _declare_keygen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", required=True, help="private key file; the public one is beside it (.pub)"
    )


def _declare_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="the folder")
    parser.add_argument("-o", "--output", help="the archive (the folder's name + .mebundle)")
    parser.add_argument("--version", help="of the product, such as 1.4.0")
    parser.add_argument("--key", metavar="FILE", help="private key to sign with")
    options.add_force(parser)


def _declare_install(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("archive", help="what `pack` made; - reads stdin")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="FILE",
        help="public key to check with, beside STORE/keys/*.pub; repeatable",
    )
    parser.add_argument(
        "--max-size", type=options.count, metavar="SIZE", help="unpacked size at most (4G)"
    )
    parser.add_argument(
        "--allow-downgrade", action="store_true", help="take an older version of the product"
    )


def _declare_activate(parser: argparse.ArgumentParser) -> None:
    _declare_self_test(parser)
    parser.add_argument("--slot", choices=("a", "b"), help="this one (the one not yet tried)")
    parser.add_argument(
        "--starts",
        type=options.positive_int,
        default=3,
        metavar="N",
        help="starts in which it has to be confirmed (3)",
    )


def _declare_self_test(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--timeout",
        type=options.positive_float,
        default=1800.0,
        metavar="SECONDS",
        help="a self-test that takes longer has failed (1800)",
    )
    options.add_backend(parser)
    options.add_quiet(parser)


def add_store(parser: argparse.ArgumentParser) -> None:
    """``--store``: which store."""
    parser.add_argument("--store", metavar="DIR", help="where the slots are")


# Verb, one line of help, what declares its options.
VERBS = (
    ("keygen", "make a pair of keys to sign with", _declare_keygen),
    ("pack", "make one file of a bundle, signed if there is a key", _declare_pack),
    ("install", "put an archive into the slot that is not active", _declare_install),
    ("activate", "test what was installed, and switch to it, on trial", _declare_activate),
    ("self-test", "test the active slot; roll back if it fails", _declare_self_test),
    ("boot", "count a start, before it happens; roll back after too many", add_store),
    ("confirm", "end the trial of the active slot: it is good", add_store),
    ("rollback", "go back to the other slot", add_store),
    ("list", "say what the slots hold", add_store),
)
