"""Both scorers give what one plain pass per request gives, whatever they share or rewind."""

import math

import numpy as np
import pytest
from doubles import (
    llama_architecture,
    native_bundle,
    random_tensors,
    tiny_architecture,
    tiny_bundle,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merino_edge.errors import SessionError
from merino_edge.formats.bundle import Bundle
from merino_edge.pipeline.evaluation.requests import Request
from merino_edge.pipeline.evaluation.session_scorer import SessionScorer
from merino_edge.runtime import load
from merino_edge.runtime.backends.reference import ReferenceBackend

torch = pytest.importorskip("torch")
from merino_edge.model.transformer import load_model  # noqa: E402
from merino_edge.pipeline.evaluation.torch_scorer import TorchScorer  # noqa: E402

pytestmark = pytest.mark.torch
QUESTION = tuple(range(20, 34))
REQUESTS = [
    *[Request(QUESTION, (40 + n, 41, 42 + n)) for n in range(3)],
    *[Request(QUESTION, (n,)) for n in (1, 250, 299)],
    Request((*QUESTION[:10], 77), (5, 6)),
    Request((*QUESTION[:10], 78), (5, 6)),
    Request((9,), (1, 2, 3, 4, 5)),
    Request(QUESTION, (40, 41, 42)),  # asked twice
    Request(QUESTION + (40,), (41, 42)),  # the border elsewhere
]


def plain(logits_of, request):
    """A full pass, log softmax in float64, token by token."""
    whole = request.context + request.continuation
    total, greedy = 0.0, True
    for i in range(len(request.context), len(whole)):
        row = np.asarray(logits_of(whole[:i]), dtype=np.float64)
        total += row[whole[i]] - row.max() - math.log(np.exp(row - row.max()).sum())
        greedy = greedy and int(row.argmax()) == whole[i]
    return total, greedy


def agrees(scorer, logits_of, requests, tolerance=1e-4):
    found = dict(scorer.score(requests))
    assert sorted(found) == list(range(len(requests)))
    for place, request in enumerate(requests):
        total, greedy = plain(logits_of, request)
        assert found[place].log_likelihood == pytest.approx(total, abs=tolerance)
        assert found[place].is_greedy is greedy
    return found


@pytest.fixture(scope="module", params=["merino", "llama"])
def model(request):
    a = llama_architecture() if request.param == "llama" else tiny_architecture()
    return load_model(a, random_tensors(a, 0))


def torch_logits(model):
    @torch.no_grad()
    def logits(ids):
        return model(torch.tensor([ids]))[0, -1].numpy()

    return logits


@pytest.mark.parametrize("batch_tokens", [1, 30, 1024])
def test_torch_gives_what_a_pass_per_token_gives(model, batch_tokens):
    agrees(TorchScorer(model, 48, batch_tokens), torch_logits(model), REQUESTS)


def test_torch_reads_a_prefix_that_all_share_once(model, monkeypatch):
    shared = tuple(range(100, 134))  # longer than LEAST_PREFIX
    requests = [Request((*shared, n), (7, n)) for n in range(5)]
    sizes = []
    packed = type(model).packed

    def counting(self, packing):
        sizes.append(packing.ids.shape[1])
        return packed(self, packing)

    monkeypatch.setattr(type(model), "packed", counting)
    agrees(TorchScorer(model, 48), torch_logits(model), requests)
    assert sizes == [34, 10]


def test_the_likeliest_token_is_greedy_and_no_other(model):
    best = int(torch_logits(model)(QUESTION).argmax())
    requests = [Request(QUESTION, (best,)), Request(QUESTION, ((best + 1) % 300,))]
    found = agrees(TorchScorer(model, 48), torch_logits(model), requests)
    assert [found[0].is_greedy, found[1].is_greedy] == [True, False]


ids = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.builds(Request, ids, ids), min_size=1, max_size=6))
def test_torch_and_a_session_agree_on_any_requests(tmp_path_factory, requests):
    a = tiny_architecture()
    path = tmp_path_factory.mktemp("any") / "bundle"
    with load(tiny_bundle(path, a), backend="reference") as session:
        theirs = dict(SessionScorer(session, chunk=2).score(requests))
    ours = dict(TorchScorer(load_model(a, random_tensors(a, 0)), 48).score(requests))
    for place, score in ours.items():
        assert score.log_likelihood == pytest.approx(theirs[place].log_likelihood, abs=1e-4)
        assert score.is_greedy == theirs[place].is_greedy


@pytest.mark.parametrize("chunk", [1, 2, 128])
def test_a_session_that_rewinds_gives_what_a_pass_per_token_gives(tmp_path, chunk):
    path = tiny_bundle(tmp_path / "bundle")
    truth = ReferenceBackend(Bundle.open(path))
    with load(path, backend="reference") as session:
        agrees(SessionScorer(session, chunk=chunk), fresh(truth), REQUESTS)


def fresh(backend):
    def logits(ids):
        backend.reset()
        return backend.prefill(ids)[0]

    return logits


def test_a_session_reads_a_question_once(tmp_path):
    with load(tiny_bundle(tmp_path / "bundle"), backend="reference") as session:
        read = []
        forward = session.backend._forward
        session.backend._forward = lambda ids, rows: read.append(len(ids)) or forward(ids, rows)
        list(SessionScorer(session).score(REQUESTS[:6]))
    assert sum(read) == len(QUESTION) + 3 * 2  # one-token continuations cost nothing


def test_the_native_core_goes_back_to_where_two_texts_part(tmp_path, native_library):
    path = native_bundle(tmp_path / "bundle", precision="fp32")
    with load(path, backend="native", threads=1) as session, load(path, "native", 1) as other:
        agrees(SessionScorer(session), fresh(other.backend), REQUESTS, tolerance=2e-3)


@pytest.mark.onnx
def test_an_exported_bundle_scores_as_torch_does(tmp_path):
    from tiny_tasks import write_checkpoint

    from merino_edge.export.bundler import Source
    from merino_edge.model.checkpoint import load_checkpoint
    from merino_edge.pipeline.build import build_for_target

    path = write_checkpoint(tmp_path / "checkpoint", tiny_architecture())
    checkpoint = load_checkpoint(path)
    target = str(tmp_path / "bundle")
    build_for_target(Source.from_checkpoint(checkpoint), "host", target)
    model = load_model(checkpoint.architecture, checkpoint.tensors())
    with load(target, backend="ort", threads=1) as session:
        agrees(SessionScorer(session), torch_logits(model), REQUESTS)


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(SessionError, match="a request of 5 tokens does not fit"):
        list(TorchScorer(model, 4).score([Request((1, 2, 3, 4), (5, 6))]))
    with pytest.raises(SessionError, match="needs a token before"):
        list(TorchScorer(model, 4).score([Request((), (5, 6))]))


def test_greedy_continuations_agree_and_end_where_the_context_does(tmp_path):
    a = tiny_architecture()
    scorer = TorchScorer(load_model(a, random_tensors(a, 0)), 20)
    with load(tiny_bundle(tmp_path / "bundle", a), backend="reference") as session:
        theirs = list(SessionScorer(session, 20).continuation(QUESTION))
    ours = list(scorer.continuation(QUESTION))
    assert ours == theirs
    assert len(ours) == 20 - len(QUESTION) + 1
