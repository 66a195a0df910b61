"""Two evaluations of the same questions, question by question: do they choose the same?

The one idea: two accuracies that are equal may come from different answers, and two that differ may
differ by chance. The files of ``merino-edge eval --items`` are compared pair by pair: questions
where another choice is the likeliest, and what only one of the two got right, with the exact
two-sided sign test (McNemar) of that.

Example:
  merino-edge eval smollm2/ --data DIR --tasks piqa --items torch.jsonl
  merino-edge eval fp32/ --data DIR --tasks piqa --backend ort --items ort.jsonl
  python benchmarks/quality/compare_items.py torch.jsonl ort.jsonl
"""

import argparse
import json
import math
from typing import Any, NamedTuple

from merino_edge.cli.output import table
from merino_edge.errors import FormatError, MerinoError

HEADER = ("task", "items", "other choices", "largest difference", "only 1st right", "only 2nd", "p")
Items = dict[tuple[str, int], dict[str, Any]]  # (task, item) -> what was found


class Difference(NamedTuple):
    """What two evaluations of the same items make of them.

    Attributes:
        n: Items.
        n_other_choices: Of them, those where another choice is the likeliest.
        n_only_first: What only the first got right.
        n_only_second: What only the second did.
        p: That a split of these as uneven is chance (exact two-sided sign test); 1 for none.
        largest: Difference of two log-likelihoods of one choice, nats.
    """

    n: int
    n_other_choices: int
    n_only_first: int
    n_only_second: int
    p: float
    largest: float


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", metavar="ITEMS.jsonl")
    parser.add_argument("second", metavar="ITEMS.jsonl")
    options = parser.parse_args()
    try:
        print(table(HEADER, compare(read(options.first), read(options.second))), end="")
    except (MerinoError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


def read(path: str) -> Items:
    """The items of a file.

    Raises:
        FormatError: A line is not an item.
    """
    with open(path, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    try:
        found = [json.loads(line) for line in lines]
        return {(item["task"], item["item"]): item for item in found}
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"not the items of an evaluation: {error!r}.", path) from error


def compare(first: Items, second: Items) -> list[tuple[str, ...]]:
    """A row a task, over the items that both have.

    Raises:
        FormatError: They have none in common.
    """
    both = [key for key in first if key in second]
    if not both:
        raise FormatError("the two files have no item in common.")
    rows = []
    for task in dict.fromkeys(key[0] for key in both):
        d = difference(first, second, task)
        facts = (d.n, d.n_other_choices, f"{d.largest:.1e}", d.n_only_first, d.n_only_second)
        rows.append((task, *map(str, facts), f"{d.p:.3f}"))
    return rows


def difference(first: Items, second: Items, task: str) -> Difference:
    """Of one task, over the items that both have."""
    both = [key for key in second if key[0] == task and key in first]
    pairs = [(first[key], second[key]) for key in both]
    right = [(a["metrics"].get("acc"), b["metrics"].get("acc")) for a, b in pairs]
    one = sum(x == 1.0 and y == 0.0 for x, y in right)
    two = sum(x == 0.0 and y == 1.0 for x, y in right)
    nats = [
        abs(x - y)
        for a, b in pairs
        for x, y in zip(a["log_likelihoods"], b["log_likelihoods"], strict=True)
    ]
    other = sum(a["choice"] != b["choice"] for a, b in pairs)
    return Difference(len(pairs), other, one, two, sign_test(one, two), max(nats, default=0.0))


def sign_test(one: int, other: int) -> float:
    """Chance of a split as uneven as this one, or more so, if both sides are as likely."""
    n, least = one + other, min(one, other)
    tail: float = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    return min(1.0, 2 * tail)


if __name__ == "__main__":
    main()
