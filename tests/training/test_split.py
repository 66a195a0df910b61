"""The side follows from the text: the same text, the same side, in every corpus and order."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from merino_edge.training.corpus import Document, read_documents
from merino_edge.training.split import split_document


def book(text, sha256="80" + "0" * 62):
    return Document("a.txt", text, sha256)


def record(text, line=1):
    return Document("a.jsonl", text, hashlib.sha256(text.encode()).hexdigest(), line)


@given(text=st.text(alphabet="ab \n", min_size=1), fraction=st.floats(0.01, 0.5))
def test_a_split_loses_nothing_and_holds_out_the_end(text, fraction):
    train, val = split_document(book(text), fraction)
    assert train + val == text


def test_a_file_is_cut_at_the_end_of_a_line():
    train, val = split_document(book("one line\n" * 100), 0.1)
    assert (len(train), len(val)) == (90 * 9, 10 * 9)


def test_a_file_of_one_word_goes_to_one_side_by_its_checksum():
    assert split_document(book("merino"), 0.1) == ("merino", "")
    assert split_document(book("merino", "0" * 64), 0.1) == ("", "merino")


@given(
    text=st.text(min_size=1, alphabet="ab \n"), fraction=st.floats(0.01, 0.5), line=st.integers(1)
)
def test_a_record_stays_whole_and_its_place_does_not_matter(text, fraction, line):
    sides = split_document(record(text, line), fraction)
    assert sorted(sides) == ["", text]
    assert sides == split_document(record(text, 1), fraction)


@given(texts=st.lists(st.text(alphabet="abcd", min_size=1, max_size=2)), seed=st.randoms())
def test_no_text_ever_stands_on_both_sides(tmp_path_factory, texts, seed):
    """Copies are left out, and would fall on the same side if they were not."""
    folder = tmp_path_factory.mktemp("corpus")

    def held_out(order):
        lines = [json.dumps({"text": text}) + "\n" for text in order]
        for name, part in (("a", lines[::2]), ("b", lines[1::2])):
            (folder / (name + ".jsonl")).write_text("".join(part))
        sides = [split_document(d, 0.5) for d in read_documents([str(folder)])]
        train = [train for train, _ in sides if train]
        val = [val for _, val in sides if val]
        assert len(set(train)) == len(train)
        assert not set(train) & set(val)
        assert set(train) | set(val) == set(texts)
        return set(val)

    shuffled = list(texts)
    seed.shuffle(shuffled)
    assert held_out(texts) == held_out(shuffled)


def test_about_the_fraction_is_held_out():
    sides = [split_document(record(str(number)), 0.1) for number in range(4000)]
    held_out = sum(1 for _, val in sides if val)
    assert abs(held_out - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5  # four standard deviations
