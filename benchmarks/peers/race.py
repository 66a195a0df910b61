"""The race: trials, starts, and rounds in which everybody takes a turn.

The one idea: a machine changes over minutes, so everything that is compared is measured side by
side. In a round each contestant takes one turn; the order turns by one place a round. A turn is a
prompt (its rate), then a text that grows, with steps timed around each length of the past. All get
the same ids. What fails is out with its reason, and its samples so far remain.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import quiet
from contest_process import ContestantError, ContestProcess
from peers_report import Setting

from merino_edge.formats.manifest import GoldenPrompt
from merino_edge.formats.measurement import percentile

SETTLE_S = 0.3  # OpenMP's threads wait for up to 200 ms before they sleep
WARM_UP_TOKENS = 4
TRIAL_TIMES = 2
Start = Callable[[Mapping[str, Any]], ContestProcess]


@dataclass
class Entry:
    """A contestant in the race, and what is known of it so far.

    Attributes:
        name: For people.
        start: Starts its process with a set of options.
        variants: Ways of which the fastest is raced.
        only_reads: It computes nothing: no starts, no prompts, no tokens to compare.
    """

    name: str
    start: Start
    variants: tuple[Mapping[str, Any], ...] = ({},)
    only_reads: bool = False
    variant: Mapping[str, Any] | None = None
    about: str = ""
    trials: dict[str, float | None] = field(default_factory=dict)
    decode_ms: dict[str, list[float]] = field(default_factory=dict)
    decode_p90_ms: dict[str, list[float]] = field(default_factory=dict)
    prefill_tok_per_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    process_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    agreement: tuple[int, int] | None = None
    follows_itself: bool = False
    asleep_share: float | None = None
    failure: str | None = None
    process: ContestProcess | None = None


class Race:
    """All contestants of a model.

    Args:
        entries: Who takes part.
        setting: What is asked.
        vocab_size: Ids are drawn below it.
        note: Told how far it is.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        setting: Setting,
        vocab_size: int,
        note: Callable[[str], None],
    ):
        self.entries, self.intervals = list(entries), []
        self._setting, self._note = setting, note
        rng = np.random.default_rng(setting.seed)
        n_ids = setting.context_len
        # low ids are often marks of a text's end
        self._ids = rng.integers(vocab_size // 100, vocab_size, n_ids).tolist()

    def run(self, golden: Mapping[str, Sequence[GoldenPrompt]], after: Callable[[], None]) -> None:
        """Trials, starts, rounds.

        Args:
            golden: Name -> prompts and what follows; for those that compute.
            after: Called after every round, to save what there is.
        """
        try:
            self._each("trial", self._try_variants)
            for index in range(self._setting.starts):
                self._each(f"start {index + 1} of {self._setting.starts}", self._start_once)
            self._each("opening", self._open)
            self._each("comparing tokens", lambda e: self._compare(e, golden.get(e.name, ())))
            for index in range(self._setting.rounds + 1):
                self._round(index)
                after()
        finally:
            for entry in self.entries:
                _finish(entry)

    def children_cpu_s(self) -> float:
        """CPU time of all contestants that run."""
        return sum(e.process.cpu_s() for e in self.entries if e.process is not None)

    def _round(self, index: int) -> None:
        order = (
            self.entries[index % len(self.entries) :] + self.entries[: index % len(self.entries)]
        )
        label = f"round {index} of {self._setting.rounds}" if index else "a round to warm up"
        before, start = quiet.look(self.children_cpu_s()), time.perf_counter()
        self._each(label, lambda e: self._turn(e, index > 0), order)
        after = quiet.look(self.children_cpu_s())
        self.intervals.append(quiet.between(before, after, time.perf_counter() - start))

    def _each(
        self, label: str, act: Callable[[Entry], None], order: Iterable[Entry] | None = None
    ) -> None:
        for entry in list(order or self.entries):
            if entry.failure is None:
                self._note(f"{label}: {entry.name}")
                try:
                    act(entry)
                except ContestantError as error:
                    entry.failure = str(error)
                    self._note(f"{entry.name} is out: {error}")
                    _finish(entry)

    def _try_variants(self, entry: Entry) -> None:
        if len(entry.variants) == 1:
            entry.variant = entry.variants[0]
            return
        failure = ""
        for variant in entry.variants:
            try:
                entry.trials[label_of(variant)] = self._trial_ms(entry.start(variant))
            except ContestantError as error:
                entry.trials[label_of(variant)], failure = None, str(error)
        times = {k: v for k, v in entry.trials.items() if v is not None}
        if not times:
            raise ContestantError(failure)
        best = min(times, key=lambda name: times[name])
        entry.variant = next(v for v in entry.variants if label_of(v) == best)

    def _trial_ms(self, process: ContestProcess) -> float:
        """Of a token at the middle one of the pasts, the better of some tries."""
        past, found = self._setting.pasts[len(self._setting.pasts) // 2], []
        try:
            process.ask("open")
            for _ in range(TRIAL_TIMES):
                process.ask("reset")
                process.ask("prefill", ids=self._ids[:past])
                ids = self._ids[past : past + self._setting.n_tokens]
                found.append(statistics.median(process.ask("decode", ids=ids)["ms"]))
        finally:
            process.close()
        return round(min(found), 3)

    def _start_once(self, entry: Entry) -> None:
        if entry.only_reads:
            return
        process = entry.start(entry.variant)
        try:
            opened = process.ask("open")
            first = process.ask("prefill", ids=self._ids[: self._setting.first_prompt_len])
            entry.process_s.append(round(time.perf_counter() - process.started_s, 4))
            entry.first_token_s.append(round(opened["load_s"] + first["s"], 4))
        finally:
            process.close()

    def _open(self, entry: Entry) -> None:
        entry.process = entry.start(entry.variant)
        entry.about = entry.process.ask("open")["about"]
        entry.process.settle(SETTLE_S)

    def _compare(self, entry: Entry, golden: Sequence[GoldenPrompt]) -> None:
        if not golden:
            return
        agrees = of = 0
        for prompt in golden:
            entry.process.ask("reset")
            found = [entry.process.ask("prefill", ids=prompt.input_ids)["best"]]
            answer = entry.process.ask("follow", ids=prompt.output_ids[:-1])
            found += answer["best"]
            clear = [i for i in range(len(prompt.output_ids)) if i not in prompt.unclear]
            agrees += sum(found[i] == prompt.output_ids[i] for i in clear)
            of += len(clear)
            entry.follows_itself = answer["follows_itself"]
        entry.agreement = agrees, of
        entry.process.settle(SETTLE_S)

    def _turn(self, entry: Entry, counts: bool) -> None:
        setting, process = self._setting, entry.process
        process.ask("reset")
        prompt_s = process.ask("prefill", ids=self._ids[: setting.prompt_len])["s"]
        if counts:
            if not entry.only_reads:
                entry.prefill_tok_per_s.append(round(setting.prompt_len / prompt_s, 1))
            self._growing_text(entry, process)
        else:
            process.ask("decode", ids=self._ids[:WARM_UP_TOKENS])
        process.settle(SETTLE_S)

    def _growing_text(self, entry: Entry, process: ContestProcess) -> None:
        """Steps on both sides of each length of the past."""
        process.ask("reset")
        position, n_tokens = 0, self._setting.n_tokens
        for past in self._setting.pasts:
            begin, end = past - n_tokens // 2, past - n_tokens // 2 + n_tokens
            process.ask("prefill", ids=self._ids[position:begin])
            _keep(entry, past, process.ask("decode", ids=self._ids[begin:end])["ms"])
            position = end


def label_of(variant: Mapping[str, Any]) -> str:
    """A set of options in a few words; empty for none."""
    return ", ".join(f"{key}={value}" for key, value in variant.items())


def _keep(entry: Entry, past: int, times: Sequence[float]) -> None:
    ordered = sorted(times)
    entry.decode_ms.setdefault(str(past), []).append(round(percentile(ordered, 50), 4))
    entry.decode_p90_ms.setdefault(str(past), []).append(round(percentile(ordered, 90), 4))


def _finish(entry: Entry) -> None:
    """Close its process and keep what only the end tells."""
    process, entry.process = entry.process, None
    if process is None:
        return
    process.close()
    entry.peak_bytes = process.peak_bytes
    if process.slept_s:
        entry.asleep_share = round(process.cpu_while_asleep_s / process.slept_s, 4)
