r"""Our models inside lm-evaluation-harness: its adapter class, and its command with it registered.

The one idea: the adapter is the harness's own ``TemplateLM`` over our ``Scorer``; it encodes as the
harness does (``encoding``), and only the log-likelihoods are ours. So every task of the harness
runs on a checkpoint and on a bundle on any backend::

    python -m merino_edge.pipeline.evaluation.harness --model merino-edge \
        --model_args path=bundle/,backend=native --tasks hellaswag_local --include_path tasks/

is the harness's ``lm_eval`` with "merino-edge" among its models.
"""

import os
from collections.abc import Sequence
from typing import Any

from merino_edge.errors import UnsupportedError, UsageError
from merino_edge.pipeline.evaluation.encoding import TextRequests
from merino_edge.pipeline.evaluation.lm_eval_door import lm_eval
from merino_edge.pipeline.evaluation.requests import Request, Score, windows
from merino_edge.pipeline.evaluation.scored_model import ScoredModel, open_model
from merino_edge.pipeline.evaluation.task_files import (
    FEWSHOT_SEED,
    check_files,
    find_task,
    load_task,
    task_manager,
)

NAME = "merino-edge"
MOST_NEW_TOKENS = 256  # of a generated answer, as the harness's own models do


class HarnessModel(TextRequests):
    """A checkpoint or bundle as a model of lm-evaluation-harness.

    Args:
        path: The folder, or an opened model.
        backend, threads, context: As ``merino-edge eval`` takes them.
        batch_tokens: Tokens that torch computes together.
        batch_size, max_batch_size, device: What the harness gives to every model; not used.
    """

    def __init__(
        self,
        path: str | ScoredModel,
        backend: str = "auto",
        threads: int | None = None,
        context: int | None = None,
        batch_tokens: int | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
    ):
        opened = (
            open_model(path, backend, threads, context, batch_tokens)
            if isinstance(path, str)
            else path
        )
        super().__init__(opened)

    @property
    def tokenizer_name(self) -> str:
        """Names the harness's cache of requests."""
        return self._model.facts.tokenizer_sha256[:12]

    def get_model_info(self) -> dict[str, Any]:
        """For the harness's report."""
        return dict(self._model.facts._asdict())

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[Any]:
        wanted = super()._loglikelihood_tokens(requests)
        scores = score_all(self._model, wanted)
        for (texts, _, _), score in zip(requests, scores, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, tuple(score))
        return [tuple(score) for score in scores]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, in windows end to end."""
        texts = [request.args[0] for request in requests]
        parts = [
            list(
                windows(self.tok_encode(t), self.prefix_token_id, self.max_length, self.max_length)
            )
            for t in texts
        ]
        scores = iter(score_all(self._model, [window for part in parts for window in part]))
        found = [sum(next(scores).log_likelihood for _ in part) for part in parts]
        for text, likely in zip(texts, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), likely)
        return found

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations, up to a stop string.

        Raises:
            UnsupportedError: Sampling is asked for, or the model is not a bundle.
        """
        from merino_edge.pipeline.evaluation.continuing import greedy_text

        found = []
        for request in requests:
            context, settings = request.args
            if settings.get("do_sample") or settings.get("temperature"):
                raise UnsupportedError("only greedy continuations are given to the harness.")
            until = settings.get("until") or []
            stops = [until] if isinstance(until, str) else list(until)
            n_most = int(settings.get("max_gen_toks") or MOST_NEW_TOKENS)
            text = greedy_text(self._model, context, stops, n_most)
            self.cache_hook.add_partial("generate_until", request.args, text)
            found.append(text)
        return found


def score_all(model: ScoredModel, requests: Sequence[Request]) -> list[Score]:
    """Scores in the order of the requests."""
    found: dict[int, Score] = dict(model.scorer.score(requests))
    return [found[place] for place in range(len(requests))]


def run_harness(
    model: ScoredModel,
    names: Sequence[str],
    data: str,
    limit: int | None = None,
    n_fewshot: int | None = None,
) -> dict[str, Any]:
    """The harness's own ``simple_evaluate`` over the task files of ``data``.

    Raises:
        UsageError: No task, or an unknown one.
        FormatError: A data file is missing, empty or damaged.
    """
    from lm_eval.evaluator import simple_evaluate

    if not names:
        raise UsageError("no task was named.", hint="--tasks hellaswag")
    manager = task_manager(data)
    files = [find_task(name, manager) for name in names]
    checked = {file.name: check_files(file, data) for file in files}
    tasks = [load_task(file, data, manager, n_fewshot) for file in files]
    found = simple_evaluate(
        model=HarnessModel(model),
        tasks=tasks,
        limit=limit,
        num_fewshot=n_fewshot,
        log_samples=False,
        task_manager=manager,
        bootstrap_iters=1000,
        fewshot_random_seed=FEWSHOT_SEED,
    )
    wanted = ("results", "n-samples", "versions", "n-shot", "higher_is_better")
    return {
        **{key: found[key] for key in wanted},
        "model": dict(model.facts._asdict()),
        "files": checked,
        "lm_eval": lm_eval().__version__,
    }


def register() -> None:
    """Make "merino-edge" a model that the harness knows by name."""
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME, target=HarnessModel)


def main() -> None:
    """The harness's own command line."""
    lm_eval()
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TQDM_DISABLE"):
        os.environ.pop(name, None)  # who runs it this way wants its own habits
    register()
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
