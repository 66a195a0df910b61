"""Questions with choices: the harness's task asks and judges, our scorer answers.

The one idea: between the two stands only a list of requests. ``ChoiceTask`` builds the questions as
lm-evaluation-harness does, gives their requests to whoever scores them, and hands the scores back
to the harness's own ``process_results``, aggregation and standard errors.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from merino_edge.errors import UnsupportedError
from merino_edge.pipeline.evaluation.encoding import TextRequests
from merino_edge.pipeline.evaluation.lm_eval_door import lm_eval
from merino_edge.pipeline.evaluation.requests import Request, Score
from merino_edge.pipeline.evaluation.results import Item, Metric
from merino_edge.pipeline.evaluation.scored_model import ScoredModel

BOOTSTRAPS = 1000  # for the standard errors that have no formula, such as F1's


class ChoiceTask:
    """A task of the harness, ready to be scored.

    Args:
        name: As it was asked for.
        task: Of ``task_files.load_task``.
        model: Encodes.
        files: Its data files and their SHA-256.
        limit: Take the first so many questions; None for all.

    Attributes:
        requests: What to score.

    Raises:
        UnsupportedError: The task generates text.
    """

    def __init__(
        self,
        name: str,
        task: Any,
        model: ScoredModel,
        files: dict[str, str],
        limit: int | None = None,
    ):
        if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
            raise UnsupportedError(
                f"task '{name}' asks for {task.OUTPUT_TYPE}, not for log-likelihoods.",
                hint="merino-edge eval --harness takes every task of lm-evaluation-harness.",
            )
        self.name, self.files, self._task = name, files, task
        with contextlib.redirect_stderr(io.StringIO()):  # its progress is not ours
            task.build_all_requests(limit=limit, rank=0, world_size=1)
        encoder = TextRequests(model)
        self.requests: list[Request] = encoder.requests(task.instances)
        self.n_truncated = encoder.n_truncated
        self.n_items = len({instance.doc_id for instance in task.instances})
        self.n_items_in_all = len(task.eval_docs)
        self.items: list[Item] = []
        n_shot = task.get_config("num_fewshot") or 0
        self.how = (
            f"lm-evaluation-harness {lm_eval().__version__}, {task.OUTPUT_TYPE}, {n_shot}-shot, "
            f"version {task.VERSION}: log-likelihood of each choice after the question; acc takes "
            "the largest, acc_norm the largest per character"
        )
        self.settings: dict[str, Any] = {"n_fewshot": n_shot}

    def finish(self, scores: Sequence[Score]) -> dict[str, Metric]:
        """Metrics, from a score for each request; ``items`` is filled."""
        task = self._task
        for instance, score in zip(task.instances, scores, strict=True):
            instance.resps.append((score.log_likelihood, score.is_greedy))
        task.apply_filters()
        by_item: dict[int, list[Any]] = defaultdict(list)
        for instance in task.instances:
            by_item[instance.doc_id].append(instance)
        values: dict[str, list[Any]] = defaultdict(list)
        for item, instances in sorted(by_item.items()):
            judged = self._judge(item, sorted(instances, key=lambda each: each.idx))
            for metric, value in judged.items():
                values[metric].append(value)
        return {metric: _metric(task, metric, found) for metric, found in values.items()}

    def _judge(self, item: int, instances: list[Any]) -> dict[str, Any]:
        key = next(iter(instances[0].filtered_resps))
        answers = [instance.filtered_resps[key] for instance in instances]
        judged: dict[str, Any] = self._task.process_results(instances[0].doc, answers)
        likely = [float(answer[0]) for answer in answers]
        told = {name: v for name, v in judged.items() if isinstance(v, (int, float))}
        self.items.append(Item(self.name, item, likely, int(np.argmax(likely)), told))
        return judged


def _metric(task: Any, metric: str, values: list[Any]) -> Metric:
    """As ``lm_eval.evaluate`` computes it."""
    aggregate = task.aggregation()[metric]
    error = lm_eval().api.metrics.stderr_for_metric(aggregate, bootstrap_iters=BOOTSTRAPS)
    stderr = float(error(values)) if error and len(values) > 1 else None
    return Metric(float(aggregate(values)), stderr)
