"""``search --confirm --host``: what a finalist's token takes on the board that the table is of.

The one idea: a finalist is a probe. It is built here with the decoder of the table that is most
like it, and the board times both, round by round, as it timed the table's own probes
(``profile_on_board``); what it took over the other, times the other's row, is its time. What came
is kept until the search ends, so one that was interrupted asks the board only for what is missing.
"""

import os
from dataclasses import dataclass, field

from merino_edge.errors import UsageError
from merino_edge.export.recipe import RECIPES, in_precision
from merino_edge.formats.architecture import Architecture, describe
from merino_edge.formats.latency_merge import differences
from merino_edge.formats.latency_table import (
    FIT,
    PREDICTED,
    LatencyRow,
    LatencyTable,
    Workload,
    read_table,
)
from merino_edge.formats.probes import ProbeSet
from merino_edge.pipeline.closest_row import closest_row, last_token
from merino_edge.pipeline.profile import keep
from merino_edge.pipeline.remote.profile import Timing, profile_on_board
from merino_edge.pipeline.remote.walk import RemoteOptions, Say
from merino_edge.runtime.beside import Timed, timed_of

MOST_MINUTES = 2.0  # for one finalist; two decoders are known well in much less


@dataclass(frozen=True)
class BoardBench:
    """Builds decoders here and times them on a board, beside decoders of a table.

    Attributes:
        table: Of that board.
        context_len: Of the search: a token is timed at its end.
        host: The board, as for ssh.
        folder: Where what came from the board is kept.
        options: How to reach it.
        on_stage, on_progress: Told what was done, and what is going on.
        max_minutes: For each; backend and threads are the table's.
    """

    table: LatencyTable
    context_len: int
    host: str
    folder: str
    options: RemoteOptions = field(default_factory=RemoteOptions)
    on_stage: Say = lambda text: None
    on_progress: Say = lambda text: None
    max_minutes: float = MOST_MINUTES

    def __post_init__(self) -> None:
        if self.table.provenance == PREDICTED:
            raise UsageError(
                "the table is predicted: there is no board that it is of.",
                hint="leave out --host, or measure the board: merino-edge profile --host "
                f"{self.host} -o table.json",
            )

    @property
    def provenance(self) -> str:
        """Of its figures: the table's own."""
        return self.table.provenance

    def __call__(self, architecture: Architecture) -> Timed:
        """What one token takes at the end of the context.

        Raises:
            UsageError: The board is not the one that the table is of, or another setting runs.
            MerinoError: As ``profile_on_board``.
        """
        path = os.path.join(self.folder, f"finalist-{architecture.arch_id}.json")
        found = self._kept(path, architecture) or self._measured(architecture, path)
        self._check(found, path)
        for text in found.conditions.warnings:
            self.on_stage(f"warning: {self.host}: {text}")
        return self._timed(found, architecture)

    def _kept(self, path: str, architecture: Architecture) -> LatencyTable | None:
        """What an interrupted search was told, if it asked for the same two rows."""
        if not os.path.isfile(path):
            return None
        found = read_table(path)
        rows = {(row.architecture, row.workload) for row in found.rows}
        return found if rows >= set(self._keys(architecture)) else None

    def _measured(self, architecture: Architecture, path: str) -> LatencyTable:
        setting = self.table.setting
        self.on_stage(f"timing {describe(architecture)} on {self.host}")
        os.makedirs(self.folder, exist_ok=True)
        return profile_on_board(
            self._probes(architecture),
            in_precision(RECIPES[setting.target], setting.precision),
            path,
            self.host,
            Timing(setting.backend, setting.threads, self.max_minutes),
            self.options,
            self.on_stage,
            self.on_progress,
            conclude=keep,
        )

    def _probes(self, architecture: Architecture) -> ProbeSet:
        table, setting, (row, load) = self.table, self.table.setting, self._pair(architecture)
        names = (table.anchor, row.architecture)
        timed = {architecture.arch_id: architecture, **{n: table.architectures[n] for n in names}}
        return ProbeSet(
            space=table.space,
            seed=table.seed,
            target=setting.target,
            precision=setting.precision,
            context_len=setting.context_len,
            lengths=sorted({load.length, Workload.of_label(row.workload).length}),
            anchor=table.anchor,
            architectures=timed,
            roles=dict.fromkeys(timed, FIT),
        )

    def _pair(self, architecture: Architecture) -> tuple[LatencyRow, Workload]:
        """What it is timed beside, and at which token."""
        load = last_token(self.table, self.context_len)
        return closest_row(self.table, architecture, load), load

    def _check(self, found: LatencyTable, path: str) -> None:
        unlike = differences(self.table, found)
        if unlike:
            os.unlink(path)  # the next call measures anew
            raise UsageError(
                f"'{self.host}' is not as it was when the table was measured: {'; '.join(unlike)}.",
                hint="set it as it was, or measure it again: merino-edge profile --host "
                f"{self.host} -o table.json",
            )

    def _keys(self, architecture: Architecture) -> tuple[tuple[str, str], tuple[str, str]]:
        """Architecture and workload of the finalist's row, and of the one beside it."""
        row, load = self._pair(architecture)
        return (architecture.arch_id, load.label), (row.architecture, row.workload)

    def _timed(self, found: LatencyTable, architecture: Architecture) -> Timed:
        """By the rounds that both were timed in."""
        rows = {(row.architecture, row.workload): row for row in found.rows}
        mine, other = (rows[key] for key in self._keys(architecture))
        others_ms = dict(zip(other.rounds, other.samples_ms, strict=True))
        ratios = [
            ms / others_ms[i]
            for i, ms in zip(mine.rounds, mine.samples_ms, strict=True)
            if i in others_ms
        ]
        usual_ms = self._pair(architecture)[0].latency_ms.p50
        return timed_of(ratios, list(mine.raw_ms), usual_ms)
