"""One model's part of a run: its files, its contestants, its race, and what they found.

The one idea: a contestant that cannot take part (its package is not installed, its file cannot be
made, a bundle lacks what a backend needs) becomes a refusal with its reason, before the race.
"""

import argparse
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from contest_process import ContestProcess, environment
from contestants import CONTEXT_LEN, TITLES, Contestant, contestants, known_refusals
from peers_report import ModelResult, Roofline, Row, Setting
from race import Entry, Race, label_of
from rooflines import Reads, step_reads
from stand_in import work
from workshop import PACKAGE, MakingError, Workshop, size_bytes

from merino_edge.errors import MerinoError
from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.formats.manifest import GoldenPrompt

PASTS = (64, 512, 1000)
PROMPT_LEN = 512
FIRST_PROMPT_LEN = 16
PRECISIONS = {
    "int4": "bundle-host-int4",
    "int8": "bundle-host-int8",
    "fp32": "bundle-nano-cpu-fp32",
}


def setting_of(args: argparse.Namespace) -> Setting:
    """What is asked of everybody, from the options."""
    return Setting(
        pasts=list(PASTS),
        n_tokens=args.tokens,
        prompt_len=PROMPT_LEN,
        rounds=args.rounds,
        starts=args.starts,
        first_prompt_len=FIRST_PROMPT_LEN,
        threads=args.threads,
        context_len=CONTEXT_LEN,
        seed=args.seed,
    )


class ModelRun:
    """One model: its files, its entries, its race.

    Args:
        name: A key of ``TITLES``.
        args: The options of ``run.py``.
        note: Told how far it is.
        save: Called with what there is, after every round.
    """

    def __init__(
        self,
        name: str,
        args: argparse.Namespace,
        note: Callable[[str], None],
        save: Callable[[ModelResult], None],
    ):
        self._name, self._args, self._save = name, args, save
        self._note = lambda text: note(f"{TITLES[name]}, {text}")
        self._folder = Path(args.work).resolve()
        self._refusals = {each.name: each.why for each in known_refusals(name)}
        self._shop = Workshop(name, self._folder, args.gguf, self._python_of, self._note)
        self._paths: dict[str, str] = {}
        self._reads: dict[str, Reads] = {}
        self._entries: dict[Contestant, Entry] = {}
        self._golden: dict[str, list[GoldenPrompt]] = {}
        self._lines: list[Entry] = []

    def prepare(self) -> None:
        """Make the files, and find out who cannot take part."""
        wanted = [c for c in contestants(self._name) if _wanted(c.name, self._args.only)]
        entries = {c: self._entry(c) for c in wanted}
        self._entries = {c: entry for c, entry in entries.items() if entry is not None}
        self._golden = {c.name: self._shop.golden(c.ours) for c in self._entries}
        self._lines = self._make_lines()

    def race(self) -> None:
        """Race those that can."""
        everybody = [*self._entries.values(), *self._lines]
        vocab_size = self._shop.architecture.vocab_size
        race = Race(everybody, setting_of(self._args), vocab_size, self._note)

        def save() -> None:
            self._save(self._result(race))

        try:
            race.run(self._golden, save)
        finally:
            save()

    def _entry(self, contestant: Contestant) -> Entry | None:
        try:
            path = self._shop.path(contestant.source)
            for role in contestant.roles:
                if optional_file(Bundle.open(path), role) is None:
                    raise MakingError(f"its bundle holds no file of the role '{role}'")
            python = self._python_of(contestant.package)
        except MakingError as error:
            self._refusals[contestant.name] = str(error)
            self._note(f"{contestant.name} takes no part: {error}")
            return None
        self._paths[contestant.name] = path
        arguments = {"path": path, **contestant.options}
        start = functools.partial(
            self._start, contestant.name, python, contestant.adapter, arguments
        )
        return Entry(contestant.name, start, contestant.variants)

    def _make_lines(self) -> list[Entry]:
        """Contestants that only read, one for each precision of ours."""
        found = []
        for precision, source in PRECISIONS.items():
            try:
                reads = step_reads(Bundle.open(self._shop.path(source)))
            except (MakingError, MerinoError) as error:
                self._note(f"no roofline of {precision}: {error}")
                continue
            self._reads[precision] = reads
            arguments = {
                "path": "",
                "parts": reads.parts,
                "kv_bytes_per_token": reads.kv_bytes_per_token,
                "context_len": CONTEXT_LEN,
            }
            start = functools.partial(
                self._start, "reading " + precision, sys.executable, "reading", arguments
            )
            found.append(Entry(precision, start, only_reads=True))
        return found

    def _start(
        self,
        name: str,
        python: str,
        adapter: str,
        arguments: dict[str, Any],
        variant: dict[str, Any],
    ) -> ContestProcess:
        threads = self._args.threads
        log = self._folder / self._name / (re.sub(r"\W+", "-", name) + ".log")
        env = environment(threads, str(PACKAGE.parent) if adapter == "ours" else "")
        options = {"threads": threads, **arguments, **variant}
        return ContestProcess(python, adapter, options, env, str(log))

    @functools.cache  # noqa: B019 (one object a model, as long as the run)
    def _python_of(self, package: str) -> str:
        if package == "merino_edge":
            return sys.executable
        code = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({package!r}))"
        for python in self._args.python:
            if not subprocess.run([python, "-c", code], capture_output=True).returncode:
                return python
        raise MakingError(f"{package} is not installed in any interpreter that was named")

    def _result(self, race: Race) -> ModelResult:
        by_name = {entry.name: entry for entry in race.entries}
        rows = [_row(c, entry, self._paths[c.name]) for c, entry in self._entries.items()]
        lines = [
            Roofline(
                precision=precision,
                stored_bytes=reads.stored_bytes,
                executed_bytes=reads.executed_bytes,
                kv_bytes_per_token=reads.kv_bytes_per_token,
                decode_ms=by_name[precision].decode_ms,
                failure=by_name[precision].failure,
            )
            for precision, reads in self._reads.items()
        ]
        return ModelResult(
            name=self._name,
            work=work(self._shop.architecture),
            peer_work=work(self._shop.peer_architecture),
            rows=rows,
            rooflines=lines,
            refusals=self._refusals,
            intervals=race.intervals,
        )


def _row(contestant: Contestant, entry: Entry, path: str) -> Row:
    agrees, of = entry.agreement or (None, None)
    return Row(
        name=contestant.name,
        bits=contestant.bits,
        ours=contestant.ours,
        about=entry.about,
        file_bytes=size_bytes(path, contestant.roles),
        variant=label_of(entry.variant or {}),
        trials=entry.trials,
        decode_ms=entry.decode_ms,
        decode_p90_ms=entry.decode_p90_ms,
        prefill_tok_per_s=entry.prefill_tok_per_s,
        first_token_s=entry.first_token_s,
        process_s=entry.process_s,
        peak_bytes=entry.peak_bytes,
        agrees=agrees,
        of=of,
        follows_itself=entry.follows_itself,
        asleep_share=entry.asleep_share,
        failure=entry.failure,
    )


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(word in name for word in only)
