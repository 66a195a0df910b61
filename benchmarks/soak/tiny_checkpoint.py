"""A checkpoint next to nothing, with a tokenizer: what the soak and the socket's own cost are of.

The one idea: where a token costs microseconds, whatever is beside the decoder stands alone. Random
weights in two blocks, the first applied twice; the text that its tokenizer learns on is this.

Example:
  python benchmarks/soak/tiny_checkpoint.py tiny/
  merino-edge build --target nano-cpu --precision int8 tiny/ -o bundle/
"""

import argparse
from pathlib import Path

from merino_edge.errors import MerinoError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.checkpoint import CheckpointInfo, save_checkpoint
from merino_edge.model.transformer import random_tensors
from merino_edge.training.tokenizer import train_bpe

SEED = 0
ARCHITECTURE = Architecture(
    blocks=(
        BlockSpec(d_model=32, n_head=2, n_kv_head=2, d_ff=64, depth=2),
        BlockSpec(d_model=48, n_head=3, n_kv_head=3, d_ff=96, depth=1),
    ),
    vocab_size=300,
    max_seq_len=256,
)


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="the folder to make")
    options = parser.parse_args()
    a = ARCHITECTURE
    tokenizer = train_bpe([Path(__file__).read_text("utf-8")], a.vocab_size)
    try:
        save_checkpoint(options.output, CheckpointInfo(a), random_tensors(a, SEED), tokenizer)
    except (MerinoError, OSError) as error:
        parser.exit(getattr(error, "exit_code", 1), f"error: {error}\n")


if __name__ == "__main__":
    main()
