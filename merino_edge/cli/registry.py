"""The list of commands: name, module, machine, one line of help. Imports nothing.

A host command written in modern Python would die in a SyntaxError on a board's Python 3.6, so
``main`` looks here first and says where the command belongs.
"""

from typing import NamedTuple, Tuple


class Command(NamedTuple):
    """One verb of the command line.

    Attributes:
        name: What people type.
        module: Below ``merino_edge.cli.commands``.
        machine: "host" (workstation), "device" (board) or "both".
        summary: One line of help.
    """

    name: str
    module: str
    machine: str
    summary: str


COMMANDS: Tuple[Command, ...] = (
    Command("search", "search", "host", "find an architecture under a budget"),
    Command("tokenize", "tokenize", "host", "turn texts into token shards for training"),
    Command("train", "train", "host", "train an architecture on text"),
    Command("eval", "eval_model", "host", "score a checkpoint or a bundle on texts and questions"),
    Command("import", "import_model", "host", "turn other people's weights into a checkpoint"),
    Command("build", "build", "both", "make a bundle that a machine can run"),
    Command("run", "run", "both", "generate text with a bundle"),
    Command("serve", "serve", "both", "serve a bundle over HTTP, as OpenAI's API"),
    Command("bench", "bench", "both", "time prefill and decode of a bundle"),
    Command(
        "profile", "profile", "both", "time many decoders, for searches that keep their promise"
    ),
    Command("inspect", "inspect_model", "both", "say what a bundle or an architecture holds"),
    Command("verify", "verify", "both", "check a bundle: files, graph, golden tokens"),
    Command("bundle", "bundle", "both", "update a device: pack, install, activate, roll back"),
    Command("doctor", "doctor", "both", "check this machine and say what to mend"),
)
