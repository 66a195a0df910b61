"""Seeds, workers, interruptions and ancestors: none of them changes what is found."""

import os
import signal
from itertools import pairwise

import numpy as np
import pytest

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.errors import FormatError, StoppedError
from merino_edge.search import seeds
from merino_edge.search.config import SearchConfig
from merino_edge.search.evolution import Evolution
from merino_edge.search.lineage import Lineage, Rows
from merino_edge.search.problem import pose
from merino_edge.search.run import run_search
from merino_edge.search.saved import forget, restore_evolution, save_evolution

NANO, TINY = targets.get("nano"), spaces.get("tiny")
BUDGET = Budget(max_params=2_000_000, max_flops=10_000_000_000)
QUICK = SearchConfig(candidates=6_000, population=64, n_seeds=3)


def document(**changes):
    question = {"space": TINY, "budget": BUDGET, "config": QUICK, "target": NANO, **changes}
    return run_search(**question).to_document()


def test_the_number_of_workers_does_not_change_a_byte():
    assert document(workers=2) == document(workers=1)


def test_the_best_of_all_seeds_is_taken():
    result = run_search(TINY, BUDGET, QUICK, NANO)
    assert [run.seed for run in result.seeds] == [0, 1, 2]
    assert result.best.entropy.total == pytest.approx(max(r.best_total for r in result.seeds))
    assert result.n_evaluated == 18_000


def interrupt_after(n_steps):
    """A listener that sends this process a Ctrl-C in step ``n_steps``."""
    seen = []

    def listen(progress):
        seen.append(progress)
        if len(seen) == n_steps:
            os.kill(os.getpid(), signal.SIGINT)

    return listen


@pytest.mark.parametrize("n_steps", [1, 40, 100])
def test_an_interrupted_search_goes_on_to_the_same_bytes(tmp_path, n_steps):
    folder = str(tmp_path / "state")
    with pytest.raises(StoppedError, match="candidates of seed") as caught:
        document(state_folder=folder, on_progress=interrupt_after(n_steps))
    assert caught.value.hint == "the same command continues."
    assert document(state_folder=folder) == document()
    forget(folder)
    assert not os.path.exists(folder)


def test_a_state_of_another_question_is_refused(tmp_path):
    folder = str(tmp_path / "state")
    with pytest.raises(StoppedError):
        document(state_folder=folder, on_progress=interrupt_after(5))
    with pytest.raises(FormatError, match="another question"):
        document(state_folder=folder, budget=Budget(max_flops=9_000_000_000))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not an archive", None])
def test_a_damaged_state_is_refused(tmp_path, damage):
    folder = tmp_path / "state"
    with pytest.raises(StoppedError):
        document(state_folder=str(folder), on_progress=interrupt_after(5))
    (path,) = folder.iterdir()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    with pytest.raises(FormatError, match="not a saved search"):
        document(state_folder=str(folder))


def test_a_pickle_in_a_state_is_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = str(tmp_path / "state.npz")
    np.savez(path, question=np.array([Bomb()], dtype=object))
    with pytest.raises(FormatError, match="not a saved search"):
        restore_evolution(path, Evolution(TINY, QUICK), "question")


def test_a_state_is_saved_from_time_to_time(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "_SAVE_EVERY_S", 0.0)
    document(state_folder=str(tmp_path / "state"))
    assert len(list((tmp_path / "state").iterdir())) == 3


def test_a_restored_evolution_asks_what_the_first_would_have_asked(tmp_path):
    (problem,) = pose(TINY, BUDGET, QUICK, NANO)
    first, second = Evolution(TINY, QUICK), Evolution(TINY, QUICK)
    for _ in range(30):
        genomes = first.ask()
        first.tell(genomes, problem.score(genomes))
    save_evolution(str(tmp_path / "a.npz"), first, "q")
    assert restore_evolution(str(tmp_path / "a.npz"), second, "q")
    assert np.array_equal(first.ask(), second.ask())
    assert second.history == first.history
    assert second.step() == first.step()


def test_the_lineage_leads_from_the_first_generation_to_the_winner():
    result = run_search(TINY, BUDGET, QUICK, NANO)
    lineage = result.lineage
    assert lineage[0].generation == 0
    generations = [ancestor.generation for ancestor in lineage]
    assert generations == sorted(set(generations))
    assert lineage[-1].total == pytest.approx(result.best.entropy.total)
    assert lineage[-1].excess == 0.0


def test_children_differ_from_their_parents_in_one_or_two_genes():
    result = run_search(TINY, BUDGET, QUICK, NANO)
    genomes = [TINY.encode(ancestor.architecture) for ancestor in result.lineage]
    for parent, child in pairwise(genomes):
        # Blocks are sorted after a mutation, so they are compared as sets.
        same = {tuple(block) for block in parent.tolist()} & {tuple(b) for b in child.tolist()}
        assert len(same) >= 1


def test_pruning_keeps_the_living_and_their_ancestors_only():
    lineage = Lineage.empty(1)
    genomes = np.zeros((6, 1, 3), dtype=np.int64)
    parent = np.array([-1, -1, 0, 1, 2, 3])
    lineage.add(Rows(np.arange(6), parent, np.array([0, 0, 1, 1, 2, 2]), genomes), np.arange(6))
    lineage.prune(np.array([4]))
    assert lineage.rows.number.tolist() == [0, 2, 4]
    assert lineage.ancestors(4).number.tolist() == [0, 2, 4]
    assert lineage.ancestors(4).born.tolist() == [0, 1, 2]
