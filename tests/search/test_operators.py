"""Moves of the search: children are members, parents are left alone, keys tell genomes apart."""

import numpy as np
import pytest

from merino_edge.core import space as spaces
from merino_edge.core.budget import Budget
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.entropy import EntropyConfig, network_entropy
from merino_edge.core.targets import get
from merino_edge.search.operators import canonical, first_generation, genome_keys, mutate
from merino_edge.search.splits import best_split, even_splits
from merino_edge.search.tables import Tables

PAPER, TINY = spaces.get("paper"), spaces.get("tiny")
FREE = TINY.replace(monotone=False)


@pytest.mark.parametrize("space", [PAPER, TINY, FREE], ids=["paper", "tiny", "free"])
def test_children_are_members_and_parents_are_left_alone(space):
    rng = np.random.default_rng(0)
    parents = first_generation(space, rng, 300)
    before = parents.copy()
    children = mutate(parents, space, rng)
    assert (parents == before).all()
    assert children.shape == parents.shape
    assert all(space.decode(child) in space for child in children)


def test_a_child_differs_from_its_parent_in_at_most_two_genes():
    rng = np.random.default_rng(1)
    parents = first_generation(FREE, rng, 1000)  # blocks are not sorted, so genes stay in place
    changed = (mutate(parents, FREE, rng) != parents).sum(axis=(1, 2))
    assert changed.max() == 2
    assert (changed >= 1).mean() > 0.7


def test_mutation_reaches_every_choice_of_every_gene():
    rng = np.random.default_rng(2)
    genomes = np.repeat(FREE.smallest()[None], 2000, axis=0)
    seen = [set(), set(), set()]
    for _ in range(12):
        genomes = mutate(genomes, FREE, rng)
        for gene in range(3):
            seen[gene] |= set(genomes[:, :, gene].ravel().tolist())
    assert [len(values) for values in seen] == list(FREE.n_choices)


def test_the_first_generation_holds_the_smallest_member():
    assert (first_generation(PAPER, np.random.default_rng(3), 9)[0] == PAPER.smallest()).all()


def test_the_order_of_equal_widths_is_settled_and_widths_ascend():
    genome = np.array([[[4, 1, 0], [4, 0, 3], [2, 5, 5], [4, 0, 1]]])
    expected = [[2, 5, 5], [4, 0, 1], [4, 0, 3], [4, 1, 0]]
    assert canonical(genome, PAPER)[0].tolist() == expected
    assert (canonical(genome, PAPER.replace(monotone=False)) == genome).all()


def test_keys_are_equal_exactly_for_equal_genomes():
    genomes = PAPER.sample(np.random.default_rng(4), 20000)
    keys = genome_keys(genomes, PAPER)
    assert len(np.unique(keys)) == len(np.unique(genomes.reshape(len(genomes), -1), axis=0))
    assert (genome_keys(genomes.copy(), PAPER) == keys).all()


def test_keys_still_differ_where_they_no_longer_fit_in_64_bits():
    large = PAPER.replace(n_blocks=12)
    assert large.size > 2**64
    genomes = large.sample(np.random.default_rng(5), 20000)
    genomes[1] = genomes[0]
    genomes[1, 0, 2] ^= 1  # the first gene to be lost if high digits overflowed away
    assert len(np.unique(genome_keys(genomes, large))) == len(genomes)


def test_splits_have_the_same_layers_and_the_same_entropy():
    genome = np.array([[8, 0, 3], [9, 0, 0], [9, 1, 0], [9, 0, 0]])  # 4 x 640, 3 x 704, one wider
    splits = even_splits(genome, PAPER)
    assert len(splits) > 2
    totals = [network_entropy(PAPER.decode(split)).total for split in splits]
    assert totals == pytest.approx([totals[0]] * len(totals), rel=1e-12)


def test_the_best_split_is_even_and_keeps_the_budget():
    tables = Tables.build(PAPER, Pricing.by_roofline(get("nano"), WorkPoint()), EntropyConfig())
    lopsided = np.array([[8, 0, 3], [9, 0, 0], [9, 1, 0], [9, 0, 0]])
    free = PAPER.decode(best_split(lopsided, tables, Budget(max_flops=10**12)))
    assert sorted(block.depth for block in free.blocks) == [1, 2, 2, 2]
    # 40 layers of one width: 4 blocks of 10 store four times what one block would.
    one_width = np.array([[0, 0, 15], [0, 0, 15], [0, 0, 3], [0, 0, 3]])
    even = PAPER.decode(best_split(one_width, tables, Budget(max_flops=10**12)))
    assert [block.depth for block in even.blocks] == [10, 10, 10, 10]


def test_where_widths_may_shrink_a_genome_is_its_only_split():
    genome = np.array([[2, 0, 1], [1, 0, 1], [2, 0, 3]])
    assert even_splits(genome, FREE).tolist() == [genome.tolist()]


def test_a_space_without_the_depth_that_an_even_split_needs_keeps_the_genome():
    gaps = PAPER.replace(name="gaps", depths=(1, 2, 8))
    genome = np.array([[3, 0, 2], [3, 0, 0], [3, 0, 0], [3, 0, 0]])  # 11 layers: 3, 3, 3, 2
    expected = canonical(genome[None], gaps)
    assert (even_splits(genome, gaps) == expected).all()
