"""An evaluation from beginning to end: prepare all tasks, score what is not known, report.

The one idea: everything is prepared before the model is asked anything. So a missing file is told
at once and not after hours, and the time that remains is told over all tasks.
"""

import datetime
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import merino_edge
from merino_edge.errors import StoppedError, UsageError
from merino_edge.pipeline.evaluation import perplexity
from merino_edge.pipeline.evaluation.journal import Journal
from merino_edge.pipeline.evaluation.perplexity import TextTask
from merino_edge.pipeline.evaluation.requests import Request, Score
from merino_edge.pipeline.evaluation.results import Evaluation, Item, TaskResult
from merino_edge.pipeline.evaluation.scored_model import ScoredModel
from merino_edge.runtime.conditions import conditions_between, snapshot
from merino_edge.runtime.device_info import device_info, package_versions

PACKAGES = ("numpy", "torch", "onnxruntime", "tokenizers", "lm_eval", "datasets")


class Settings(NamedTuple):
    """What to evaluate.

    Attributes:
        tasks: Names: of texts, or of task files.
        data: The folder with lm/, eval/ and lm_eval_tasks/.
        limit: The first so many items of each; None for all.
        n_fewshot: Examples before a question; None for what the task says.
        text_context: Window of texts; None for 1024 or the model's.
        stride: Tokens that a window of a text predicts; None for the whole window.
    """

    tasks: Sequence[str]
    data: str
    limit: int | None = None
    n_fewshot: int | None = None
    text_context: int | None = None
    stride: int | None = None


class Moment(NamedTuple):
    """How far it is.

    Attributes:
        task: Being scored.
        done, total: Its requests.
        elapsed_s: Since scoring began.
        remaining_s: Over all tasks; None before it can be told.
    """

    task: str
    done: int
    total: int
    elapsed_s: float
    remaining_s: float | None

    def __str__(self) -> str:
        left = "" if self.remaining_s is None else f", {clock(self.remaining_s)} left"
        return f"{self.task}: {self.done} of {self.total} scored, {clock(self.elapsed_s)}{left}"


Show = Callable[[Moment], None]
Say = Callable[[str], None]


def prepare(settings: Settings, model: ScoredModel, say: Say = lambda text: None) -> list[Any]:
    """Tasks with their requests; everything that can be wrong with them is found here.

    Raises:
        UsageError: An unknown task, or none.
        FormatError: A file is missing, empty or damaged.
    """
    if not settings.tasks:
        raise UsageError("no task was named.", hint="--tasks wikitext2,hellaswag")
    manager = None
    found: list[Any] = []
    for name in settings.tasks:
        say(f"reading {name}")
        if name in perplexity.TEXTS:
            found.append(_text_task(name, settings, model))
            continue
        from merino_edge.pipeline.evaluation import task_files
        from merino_edge.pipeline.evaluation.choices import ChoiceTask

        manager = manager or task_files.task_manager(settings.data)
        file = task_files.find_task(name, manager, also=list(perplexity.TEXTS))
        files = task_files.check_files(file, settings.data)
        task = task_files.load_task(file, settings.data, manager, settings.n_fewshot)
        found.append(ChoiceTask(name, task, model, files, settings.limit))
    return found


def _text_task(name: str, settings: Settings, model: ScoredModel) -> TextTask:
    path, files = perplexity.text_files(name, settings.data)
    window = settings.text_context, settings.stride
    return TextTask(name, path, model, files, *window, settings.limit)


def evaluate(
    settings: Settings,
    model: ScoredModel,
    journal: Journal | None = None,
    show: Show = lambda moment: None,
    say: Say = lambda text: None,
) -> tuple[Evaluation, list[Item]]:
    """Score a model.

    Args:
        settings: On what.
        model: Opened.
        journal: What is known already; it grows.
        show: Told how far it is, often.
        say: Told what is being prepared.

    Raises:
        StoppedError: It was interrupted; the journal holds what was scored.
    """
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    if journal is None:  # an empty one is false
        journal = Journal(None, model.facts)
    tasks = prepare(settings, model, say)
    before = snapshot()
    clockwork = _Clockwork(tasks, model, journal, show)
    results, items = [], []
    try:
        for index, task in enumerate(tasks):
            scores, known, seconds = clockwork.scores(index)
            results.append(_result(task, task.finish(scores), known, seconds))
            items += task.items
    except KeyboardInterrupt as error:
        journal.sync()
        raise StoppedError(
            f"stopped at task '{task.name}'; {clockwork.n_done} scores are kept."
            if journal.path
            else f"stopped at task '{task.name}'; nothing is kept without -o.",
            hint="the same command goes on." if journal.path else "name a file with -o.",
        ) from error
    machine = device_info()
    conditions = conditions_between(before, snapshot(), machine.n_cores)
    versions = {"merino-edge": merino_edge.__version__, **package_versions(PACKAGES)}
    return Evaluation(date, model.facts, results, versions, machine, conditions), items


def _result(task: Any, metrics: dict[str, Any], n_known: int, seconds: float) -> TaskResult:
    return TaskResult(
        name=task.name,
        how=task.how,
        metrics=metrics,
        n_items=task.n_items,
        n_items_in_all=task.n_items_in_all,
        n_requests=len(task.requests),
        n_truncated=task.n_truncated,
        n_from_journal=n_known,
        scoring_s=round(seconds, 3),
        files=task.files,
        settings=task.settings,
    )


class _Clockwork:
    """Scores task after task, with what is known left out, and tells the time that remains."""

    def __init__(self, tasks: list[Any], model: ScoredModel, journal: Journal, show: Show):
        self._tasks, self._scorer, self._journal, self._show = tasks, model.scorer, journal, show
        self._known = [[journal.get(request) for request in task.requests] for task in tasks]
        self._costs = []
        for task, known in zip(tasks, self._known, strict=True):
            unknown = [r for r, k in zip(task.requests, known, strict=True) if k is None]
            self._costs.append(self._scorer.cost(unknown))
        self._cost_total = sum(sum(costs) for costs in self._costs)
        self._cost_done = 0.0
        self._start = time.monotonic()
        self.n_done = sum(k is not None for known in self._known for k in known)

    def scores(self, index: int) -> tuple[list[Score], int, float]:
        """Scores of a task's requests, how many of them were known, and the seconds it took."""
        task, known = self._tasks[index], self._known[index]
        places = [place for place, score in enumerate(known) if score is None]
        unknown: list[Request] = [task.requests[place] for place in places]
        n_known = len(known) - len(places)
        begun = time.monotonic()
        done = n_known
        for which, score in self._scorer.score(unknown):
            known[places[which]] = score
            self._journal.add(unknown[which], score)
            self._cost_done += self._costs[index][which]
            self.n_done += 1
            done += 1
            self._show(self._moment(task.name, done, len(known)))
        return cast(list[Score], known), n_known, time.monotonic() - begun

    def _moment(self, name: str, done: int, total: int) -> Moment:
        elapsed = time.monotonic() - self._start
        share = self._cost_done / self._cost_total if self._cost_total else 1.0
        left = elapsed * (1 - share) / share if share > 0.002 else None
        return Moment(name, done, total, elapsed, left)


def clock(seconds: float) -> str:
    """3723 -> "1:02:03"."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
