"""Trees of requests: each shared token once, and every path spells its text."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.pipeline.evaluation.requests import Request
from merino_edge.pipeline.evaluation.trees import common_prefix, plans

text = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)
requests = st.lists(st.builds(Request, text, text), min_size=1, max_size=12)


def path(tree, node):
    """Tokens that a node sees, in the order of their depths."""
    seen = np.flatnonzero(tree.sees[node])
    seen = seen[np.argsort(tree.depths[seen])]
    assert tree.depths[seen].tolist() == list(range(len(seen)))
    return tuple(tree.ids[seen].tolist())


@given(requests, st.integers(1, 30))
def test_each_row_sees_exactly_what_comes_before_the_token_that_it_predicts(asked, max_tree):
    found = plans(asked, max_tree=max_tree)
    answered = []
    for plan in found:
        for place, rows in zip(plan.members, plan.rows, strict=True):
            whole = asked[place].context + asked[place].continuation
            n = len(asked[place].context)
            assert len(rows) == len(asked[place].continuation)
            for i, node in enumerate(rows):
                assert path(plan.tree, node) == whole[: n + i]
            answered.append(place)
    assert sorted(answered) == list(range(len(asked)))


@given(requests)
def test_no_node_stands_twice_in_a_tree(asked):
    for plan in plans(asked):
        paths = [path(plan.tree, node) for node in range(len(plan.tree))]
        assert len(set(paths)) == len(paths)


def test_the_answers_of_a_question_share_it():
    question = tuple(range(20))
    asked = [Request(question, (30, 31, n)) for n in range(4)]
    (plan,) = plans(asked)
    assert len(plan.tree) == 22  # the last tokens are only predicted
    assert sorted(plan.members) == [0, 1, 2, 3]


def test_two_questions_that_begin_with_a_word_stay_apart():
    asked = [Request((1, 2, *range(10, 20)), (3,)), Request((1, 2, *range(30, 40)), (3,))]
    assert [len(plan.tree) for plan in plans(asked)] == [12, 12]


def test_contexts_that_differ_at_their_end_share_their_beginning():
    asked = [Request((1, 2, 3, 4, 5), (9, 9)), Request((1, 2, 3, 4, 6), (9, 9))]
    (plan,) = plans(asked)
    assert len(plan.tree) == 4 + 2 + 2


def test_a_prefix_common_to_all_contexts_is_found_and_left_out():
    asked = [Request((7,) * 40 + (n,), (1, 2)) for n in range(3)]
    assert common_prefix(asked, least=32) == 40
    assert common_prefix(asked, least=41) == 0
    assert sum(len(plan.tree) for plan in plans(asked, prefix=40)) == 6


def test_a_common_prefix_leaves_each_context_a_token():
    asked = [Request((7,) * 40, (1,)), Request((7,) * 40, (2,))]
    assert common_prefix(asked, least=1) == 39
