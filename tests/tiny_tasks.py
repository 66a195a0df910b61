"""A folder of tasks and texts as `merino-edge eval --data` wants it, and checkpoints to score.

Small, and real all the same: task files of lm-evaluation-harness, JSON lines, byte-level tokens.
"""

import json

from doubles import random_tensors, tiny_architecture, write_tokenizer

COLOURS = ["red", "green and blue", "a rather long answer about yellow", "no"]


def items(n):
    """Questions with four choices of different lengths; some begin alike."""
    return [
        {
            "question": "The sheep {} on hill {}".format("sleeps" if i % 2 else "counts", i // 3),
            "choices": [f"{word} {i}" for word in COLOURS],
            "label": i % 4,
        }
        for i in range(n)
    ]


TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
DESCRIBED = "description: 'Once upon a time a board was small, and so was its model. '\n"


def write_data(folder, n_items=8):
    """tasks "colours_local" and "described_local", and both texts; gives the path."""
    for name in ("lm_eval_tasks", "eval", "lm/ptb", "lm/wikitext-2"):
        (folder / name).mkdir(parents=True)
    lines = "".join(json.dumps(item) + "\n" for item in items(n_items))
    (folder / "eval/colours.jsonl").write_text(lines)
    for name, text in (("colours", TASK), ("described", TASK + DESCRIBED)):
        task = text.format(name=name + "_local", file="eval/colours.jsonl")
        (folder / f"lm_eval_tasks/{name}_local.yaml").write_text(task)
    text = " the sheep sleeps on the hill \n and <unk> counts 12 boards \n" * 6
    (folder / "lm/ptb/ptb.test.txt").write_text(text)
    (folder / "lm/wikitext-2/wiki.test.tokens").write_text(" \n = Merino = \n" + text)
    return str(folder)


def write_checkpoint(path, architecture=None, seed=0, **generation):
    """A checkpoint with random weights and a tokenizer of a few hundred tokens; gives its path."""
    from merino_edge.formats.manifest import GenerationDefaults
    from merino_edge.model.checkpoint import CheckpointInfo, save_checkpoint

    a = architecture or tiny_architecture(max_seq_len=128)
    write_tokenizer(path.parent / "tokenizer.json", a.vocab_size)
    text = (path.parent / "tokenizer.json").read_text()
    defaults = GenerationDefaults(**(generation or {"eos_token_ids": [0]}))
    save_checkpoint(
        str(path), CheckpointInfo(a, generation=defaults), random_tensors(a, seed), text
    )
    return str(path)
