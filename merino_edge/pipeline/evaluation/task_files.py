"""Which tasks there are: lm-evaluation-harness's own task files, with their data beside them.

The one idea: a folder DIR holds ``lm_eval_tasks/*.yaml`` and the data files that they name, as
paths below DIR; nothing is fetched. Questions, choices and metrics are the harness's own classes,
built from the same files, so a figure differs from the harness's only if the model does. Everything
that can be wrong with the files is found here, before a model is asked anything.
"""

import difflib
import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from merino_edge.errors import FormatError, UsageError
from merino_edge.formats.bundle import sha256_of
from merino_edge.pipeline.evaluation.lm_eval_door import lm_eval

FOLDER = "lm_eval_tasks"
SUFFIX = "_local"  # "hellaswag" finds "hellaswag_local"
FEWSHOT_SEED = 1234  # the harness's own default


class TaskFile(NamedTuple):
    """One task of the folder.

    Attributes:
        name: As the file calls it.
        path: The file.
        files: Split -> its data files, as they stand in the file.
    """

    name: str
    path: str
    files: dict[str, list[str]]


def task_manager(data: str) -> Any:
    """The harness's own index of DIR/lm_eval_tasks.

    Raises:
        UsageError: There is no such folder.
        MissingDependencyError: The harness is not installed.
    """
    folder = os.path.join(data, FOLDER)
    if not os.path.isdir(folder):
        raise UsageError(
            f"there is no folder '{folder}' with task files.",
            hint="--data names the folder that holds lm_eval_tasks/ and the data files.",
        )
    return lm_eval().tasks.TaskManager(include_path=folder, include_defaults=False)


def find_task(asked: str, manager: Any, also: Sequence[str] = ()) -> TaskFile:
    """The task of this name, with or without "_local".

    Args:
        asked: What was typed.
        manager: Of ``task_manager``.
        also: Other names that could have been meant.

    Raises:
        UsageError: There is none; the nearest names are given.
        FormatError: The task names no data files.
    """
    name = next((n for n in (asked, asked + SUFFIX) if n in manager.all_subtasks), None)
    if name is None:
        raise unknown_task(asked, [*short_names(manager), *also])
    entry = manager.task_index[name]
    path = str(entry.yaml_path)
    files = ((entry.cfg or {}).get("dataset_kwargs") or {}).get("data_files")
    if not files:
        raise FormatError("the task names no data files, and nothing is fetched.", path)
    splits = files if isinstance(files, dict) else {"train": files}
    return TaskFile(name, path, {s: [f] if isinstance(f, str) else f for s, f in splits.items()})


def short_names(manager: Any) -> list[str]:
    """All tasks, without "_local"."""
    return sorted(name.removesuffix(SUFFIX) for name in manager.all_subtasks)


def unknown_task(asked: str, known: Sequence[str]) -> UsageError:
    """There is no such task; did you mean another?"""
    near = difflib.get_close_matches(asked, known, n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else "choose among them."
    return UsageError(
        f"there is no task '{asked}'.", note=f"there are {', '.join(sorted(known))}.", hint=meant
    )


def check_files(task: TaskFile, data: str) -> dict[str, str]:
    """Look whether the data are there and are JSON, line by line.

    Returns:
        Each file's path below ``data`` -> its SHA-256.

    Raises:
        FormatError: A file is missing, empty, or not JSON; with the line.
    """
    found = {}
    for name in [file for files in task.files.values() for file in files]:
        path = os.path.join(data, name)
        if not os.path.isfile(path):
            raise FormatError(
                f"the file does not exist; task '{task.name}' reads it.",
                path,
                hint="put the data below the folder that --data names.",
            )
        _check_lines(path, task.name)
        found[name] = sha256_of(path)
    return found


def _check_lines(path: str, task: str) -> None:
    n_items = 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            n_items += 1
            try:
                ok = isinstance(json.loads(line), dict)
            except ValueError:
                ok = False
            if not ok:
                raise FormatError(f"line {number} is not a JSON object.", path)
    if not n_items:
        raise FormatError(f"the file is empty; task '{task}' has nothing to ask.", path)


def load_task(task: TaskFile, data: str, manager: Any, n_fewshot: int | None = None) -> Any:
    """The harness's task, with its data.

    Args:
        task: Of ``find_task``; its files were checked.
        data: The folder.
        manager: Of ``task_manager``.
        n_fewshot: Examples before a question; None for what the file says.

    Raises:
        FormatError: The harness cannot make it; its words are in the note.
        UsageError: It has fewer examples than ``n_fewshot``.
    """
    files = {
        s: [os.path.abspath(os.path.join(data, f)) for f in fs] for s, fs in task.files.items()
    }
    # A group of one is the harness's way to load a file with something in it replaced.
    changed = {"task": task.name, "dataset_kwargs": {"data_files": files}}
    try:
        loaded = manager.load([{"group": "merino-edge", "task": [changed]}])
        made = loaded["tasks"][task.name]
    except Exception as error:  # whatever its libraries and the task's own functions raise
        raise FormatError(
            "lm-evaluation-harness cannot load the task.",
            task.path,
            note=f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}",
        ) from error
    if n_fewshot is not None:
        _check_fewshot(made, n_fewshot)
        made.set_config(key="num_fewshot", value=n_fewshot)
    elif made.get_config("num_fewshot") is None:
        made.set_config(key="num_fewshot", value=0)
    made.set_fewshot_seed(seed=FEWSHOT_SEED)
    return made


def _check_fewshot(made: Any, n_fewshot: int) -> None:
    """Where examples are drawn from the questions, each question is left out of its own."""
    n_examples = len(list(made.fewshot_docs() or ())) if n_fewshot else 0
    is_one_asked = made.fewshot_cfg.split == made.config.test_split
    if n_fewshot and n_fewshot > n_examples - is_one_asked:
        raise UsageError(
            f"--fewshot {n_fewshot}: the task '{made.config.task}' has {n_examples} examples"
            + ", one of which is the question." * is_one_asked
            + "." * (not is_one_asked)
        )
