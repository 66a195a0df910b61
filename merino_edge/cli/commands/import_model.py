"""Turn other people's weights into a checkpoint.

Reads a Hugging Face folder (config.json, safetensors, tokenizer.json) of the families Llama with
SmolLM2, OPT, GPT-2 with Cerebras-GPT, and GPT-NeoX with Pythia, or one GGUF file of the llama
family. The weights become float32, the tokenizer a tokenizer.json that a board can read, and the
chat template plain prefixes and suffixes. What would change the model's arithmetic and is not
supported is refused by name; nothing is guessed, no pickle is opened, and nothing half-written
is left. With --random-weights only the shape is taken and no file of weights is needed: for
measuring speed. Presets: opt-125m, opt-350m, pythia-70m, pythia-160m, cerebras-gpt-111m, gpt2,
smollm2-135m.

Example:
  merino-edge import SmolLM2-135M-Instruct.Q4_1.gguf -o checkpoint/
  merino-edge import opt-350m-folder/ -o checkpoint/
  merino-edge import pythia-70m --random-weights -o checkpoint/
  merino-edge build --target host checkpoint/ -o bundle/
"""

import argparse
from typing import Any, Dict, List, Tuple

from merino_edge.cli import options, output


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a Hugging Face folder or GGUF file; with --random-weights a config.json or preset",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="checkpoint to make")
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="use this tokenizer.json in place of the model's own"
    )
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="take only the shape and draw the weights from --seed; for speed, not for text",
    )
    options.add_seed(parser)
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Import, then print what was found."""
    from merino_edge.model.importers.models import import_model

    progress = output.Progress("import", quiet=args.quiet)
    report = import_model(
        args.model,
        args.output,
        args.force,
        progress.update,
        args.tokenizer,
        args.seed if args.random_weights else None,
    )
    progress.done("done")
    facts = _facts(report)
    if args.json:
        output.print_json(facts)
    else:
        _print_card(facts)
    return 0


def _facts(report: Any) -> Dict[str, Any]:
    """Everything the card shows, as plain JSON values."""
    from merino_edge.core.counting import n_params

    a = report.checkpoint.architecture
    path = report.checkpoint.path
    return {
        "checkpoint": path,
        "name": report.name,
        "family": report.family,
        "n_params": n_params(a),
        "n_layers": a.n_layers,
        "d_model": a.blocks[0].d_model,
        "n_head": a.blocks[0].n_head,
        "n_kv_head": a.blocks[0].n_kv_head,
        "d_ff": a.blocks[0].d_ff,
        "vocab_size": a.vocab_size,
        "max_seq_len": a.max_seq_len,
        "tie_embeddings": a.tie_embeddings,
        "arch_id": a.arch_id,
        "storage": report.storage,
        "weights": report.checkpoint.info.provenance.get("weights"),
        "notes": list(report.notes),
        "chat": sorted(report.chat.format.roles) if report.chat.format else None,
        "chat_reason": report.chat.reason,
        "next": "merino-edge build --target host {} -o bundle/".format(path),
    }


def _print_card(facts: Dict[str, Any]) -> None:
    rows = _card(facts)
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        print("{}  {}".format(label.ljust(width), text))


def _card(facts: Dict[str, Any]) -> List[Tuple[str, str]]:
    storage = ", ".join("{} x{}".format(kind, n) for kind, n in facts["storage"].items())
    weights = facts["weights"] or "{}; converted to float32".format(storage)
    tied = "tied to the embedding" if facts["tie_embeddings"] else "its own matrix"
    parameters = "{:,} ({})".format(facts["n_params"], output.human_count(facts["n_params"]))
    layers = "{n_layers} of d {d_model}, heads {n_head}/{n_kv_head}, ffn {d_ff}".format(**facts)
    chat = "roles {}; {}".format(", ".join(facts["chat"] or []), facts["chat_reason"])
    rows = [
        ("model", facts["name"]),
        ("family", facts["family"]),
        ("parameters", parameters),
        ("layers", layers),
        ("vocabulary", "{:,}, head {}".format(facts["vocab_size"], tied)),
        ("context", "{:,} tokens".format(facts["max_seq_len"])),
        ("weights", weights),
        ("chat", chat if facts["chat"] else "none: {}".format(facts["chat_reason"])),
    ]
    rows += [("note", note) for note in facts["notes"]]
    return rows + [("checkpoint", facts["checkpoint"]), ("next", facts["next"])]
