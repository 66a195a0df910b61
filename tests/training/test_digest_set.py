"""A set of checksums behaves as Python's set of their first eight bytes."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.training.digest_set import DigestSet


@given(values=st.lists(st.integers(0, 30)), newest=st.integers(1, 5))
def test_it_equals_a_set_whatever_was_merged_when(values, newest):
    seen, ours = set(), DigestSet(newest)
    for value in values:
        digest = hashlib.sha256(bytes([value])).digest()
        assert ours.add(digest) == (digest not in seen)
        seen.add(digest)
    assert len(ours) == len(seen)


def test_a_merged_document_costs_eight_bytes():
    ours = DigestSet(newest=1000)
    for number in range(5000):
        ours.add(hashlib.sha256(b"%d" % number).digest())
    assert ours._sorted.nbytes == 8 * len(ours) == 40_000
    assert np.all(ours._sorted[1:] > ours._sorted[:-1])
