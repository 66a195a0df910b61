"""The space that --space and --context ask for, for the commands that choose decoders."""

import os
from typing import Any, Optional


def chosen_space(
    name: Optional[str],
    context_len: Optional[int],
    target: Any,
    vocab_size: Optional[int] = None,
) -> Any:
    """A preset or a file, with the context and vocabulary that were asked for.

    Args:
        name: Of a preset, or a path; None for the target's own.
        context_len: Longest sequence; None for the space's, at most the target's.
        target: Where the decoders will run.
        vocab_size: Instead of the space's vocabularies.
    """
    from merino_edge.core import space as spaces  # a board has the command line, and not this

    name = name or target.default_space
    is_file = name.endswith((".json", ".toml")) or os.path.exists(name)
    space = spaces.from_file(name) if is_file and name not in spaces.PRESETS else spaces.get(name)
    space = space.replace(max_seq_len=context_len or min(space.max_seq_len, target.max_seq_len))
    if vocab_size:
        space = space.replace(vocab_size=vocab_size, vocabularies=())
    return space
