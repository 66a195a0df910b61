"""What is held out: a rule that sends every text to one side, the same side every time.

The one idea: the side follows from the text alone. Of a file that is one document (a book, say)
the last lines are held out. A record of a JSONL file goes to one side whole, by its checksum, so
that the same text falls on the same side in every corpus and in every order. A file that cannot
be cut (one word) is treated like a record. Exact copies are left out before (see ``corpus``);
passages that stand on both sides are looked for after (see ``overlap``).
"""

from merino_edge.training.corpus import Document

RULE = "files: the end is held out; records: whole, by the first 32 bits of their SHA-256"


def split_document(document: Document, val_fraction: float) -> tuple[str, str]:
    """(training text, held-out text): cut at the end of a line, else of a word, else not at all.

    Args:
        document: A record stays whole.
        val_fraction: Part of a file's text, or of all records, to hold out.
    """
    if document.line is None:
        text = document.text
        target = int(len(text) * (1 - val_fraction))
        cut = (text.rfind("\n", 0, target) + 1) or (text.rfind(" ", 0, target) + 1)
        if text[:cut].strip() and text[cut:].strip():
            return text[:cut], text[cut:]
    held_out = int(document.sha256[:8], 16) < val_fraction * (1 << 32)
    return ("", document.text) if held_out else (document.text, "")
