"""Records of measured choices: their files, and which one fits an operator.

A record is one line of JSON in a ``.jsonl`` file of a folder: what was measured (``workload`` and
``target``, both keys that say what matters for speed), how (``rule`` and ``choice``), and what came
of it (``seconds``, or ``error``). Folders merge by putting their files together.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hyq_tvm import documents
from hyq_tvm.errors import TuningError
from schedules.llvm.choices import cores
from schedules.llvm.isa import instruction_set
from schedules.rule import Kernel, Spec, Tunable, Workload

SHIPPED = Path(__file__).with_name("records")
"""Records that come with the package."""

ENDING = ".jsonl"

_LOG = logging.getLogger("hyq_tvm.tuning")

_NUMBERS = frozenset(
    "zero_point zero_point_a zero_point_b low high multiplier multiplier_bits shift scale "
    "pad_value value epsilon rescale_multiplier rescale_shift logit_scale logit_zero_point".split()
)
"""Parameters that calibration decides: data of a kernel, which does not change its time."""


@dataclass(frozen=True)
class Record:
    """One measurement.

    seconds: the fastest run; None where the choice failed, for the reason in ``error``.
    cost: seconds that measuring took.
    """

    workload: str
    target: str
    rule: str
    choice: Mapping[str, int]
    seconds: float | None
    error: str = ""
    cost: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """What it is about."""
        return self.workload, self.target

    @property
    def way(self) -> tuple[str, tuple[tuple[str, int], ...]]:
        """Rule and choice, to compare and to look up."""
        return self.rule, tuple(sorted(self.choice.items()))

    def line(self) -> str:
        """The record as a line of a file, its end included."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


def workload_key(workload: Workload) -> str:
    """Operator, shapes, types and structure; equal for layers whose kernels differ in data only."""
    arguments = ",".join(_spec_key(spec) for spec in workload.arguments)
    params = json.dumps(_structure(workload.params), sort_keys=True, separators=(",", ":"))
    return f"{workload.op}({arguments})->{_spec_key(workload.output)} {params}"


def target_key(target: Any) -> str:
    """Processor, instruction set and number of threads; architecture and card of a GPU.

    A GPU whose card is not known has the key of its architecture.
    """
    if str(target.kind.name) == "cuda":
        card = target.attrs.get("model", "")
        return f"cuda/{target.attrs['arch']}" + (f"/{card}" if card else "")
    processor = str(target.attrs.get("mcpu", "generic"))
    return f"llvm/{processor}/{instruction_set(target).name}/{cores(target)}"


def serves(record: str, target: str) -> bool:
    """Whether a record with the key ``record`` says something of ``target``.

    One of any card of an architecture does where the card is not known.
    """
    return record == target or (target.count("/") == 1 and record.startswith(f"{target}/"))


def read(folder: Path) -> list[Record]:
    """All records of a folder, files in alphabetical order.

    Raises ``TuningError`` that names file and line where one is no record. A last line that lacks
    its end, as a killed tuner leaves it, is no error.
    """
    if not folder.is_dir():
        raise TuningError(
            f"{folder} is no folder of tuning records: give the one that tune() wrote"
        )
    return [record for file in sorted(folder.glob(f"*{ENDING}")) for record in read_file(file)]


def read_file(file: Path) -> list[Record]:
    """The records of one file; errors as ``read``."""
    try:
        text = documents.read_text(file)
    except (OSError, ValueError) as error:
        raise TuningError(f"{file} cannot be read: {error}") from error
    lines = text.split("\n")
    torn = lines.pop()
    records = [
        _parse(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line
    ]
    return [*records, _parse(torn, str(file))] if is_record(torn) else records


def is_record(line: str) -> bool:
    """Whether a line without its end is a whole record."""
    try:
        _parse(line, "")
    except TuningError:
        return False
    return True


def fastest(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """By workload and target, the best measurement of every choice that ran, the fastest first."""
    best: dict[tuple[str, str], dict[Any, Record]] = {}
    for record in records:
        if record.seconds is None:
            continue
        known = best.setdefault(record.key, {})
        before = known.get(record.way)
        if before is None or record.seconds < (before.seconds or 0.0):
            known[record.way] = record
    return {
        key: sorted(found.values(), key=lambda r: (r.seconds or 0.0, r.way))
        for key, found in best.items()
    }


class Records:
    """Which choices were fastest; a user's records come before those of the package."""

    def __init__(self, *sources: Iterable[Record]) -> None:
        self._sources = [fastest(_of_cards_too(source)) for source in sources]
        self._skipped: set[Any] = set()

    @classmethod
    def load(cls, folder: Path | None) -> Records:
        """The records of ``folder``, if given, and the shipped ones; raises ``TuningError``."""
        shipped = _shipped()
        return cls(shipped) if folder is None else cls(read(folder), shipped)

    def find(self, workload: Workload, target: Any) -> Sequence[Record]:
        """Records of the workload on such a processor with as many threads, the fastest first.

        Of a GPU: on its card, else on any of its architecture.
        """
        if not any(self._sources):
            return ()
        work, machine = workload_key(workload), target_key(target)
        keys = [(work, machine), (work, _architecture(machine))]
        return next((s[key] for s in self._sources for key in keys if key in s), ())

    def kernel(self, workload: Workload, target: Any, tunables: Sequence[Tunable]) -> Kernel | None:
        """The kernel of the fastest record that fits; None where there is none."""
        for record in self.find(workload, target):
            made = _made(record, workload, target, tunables)
            if made is not None:
                return made
            self._skip(record)
        return None

    def _skip(self, record: Record) -> None:
        if (record.key, record.way) in self._skipped:
            return
        self._skipped.add((record.key, record.way))
        _LOG.warning(
            "skipping a tuning record that no longer fits: %s %s for %s on %s",
            record.rule, dict(record.choice), record.workload, record.target,
        )  # fmt: skip


def _of_cards_too(records: Iterable[Record]) -> Iterator[Record]:
    """All records, those of cards once more as ones of their architectures."""
    for record in records:
        yield record
        whole = _architecture(record.target)
        if whole != record.target:
            yield replace(record, target=whole)


def _architecture(target: str) -> str:
    """The key without its card; keys of processors as they are."""
    kind, *parts = target.split("/")
    return f"{kind}/{parts[0]}" if kind == "cuda" and parts else target


def _made(
    record: Record, workload: Workload, target: Any, tunables: Sequence[Tunable]
) -> Kernel | None:
    tunable = next((t for t in tunables if t.name == record.rule), None)
    if tunable is None:
        return None
    fitting = (c for c in tunable.space(workload, target) if asdict(c) == dict(record.choice))
    choice = next(fitting, None)
    return None if choice is None else tunable.schedule(workload, target, choice)


@cache
def _shipped() -> tuple[Record, ...]:
    return tuple(read(SHIPPED)) if SHIPPED.is_dir() else ()


def _spec_key(spec: Spec) -> str:
    known = "" if spec.constant is None else "!"
    return f"{spec.dtype}[{'x'.join(str(n) for n in spec.shape)}]{known}"


def _structure(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _structure(v) for k, v in value.items() if k not in _NUMBERS and v is not None}
    if isinstance(value, list | tuple):
        return [_structure(entry) for entry in value]
    return value


def _parse(line: str, where: str) -> Record:
    try:
        data = documents.parse(line)
        record = Record(**data)
        good = _is_valid(record)
    except (ValueError, TypeError, AttributeError) as error:
        raise TuningError(f"{where}: no tuning record ({error}); delete the line") from error
    if not good:
        raise TuningError(f"{where}: a field has a value that it cannot have; delete the line")
    return record


def _is_valid(record: Record) -> bool:
    texts = (record.workload, record.target, record.rule, record.error)
    whole = all(type(value) is int for value in record.choice.values())
    seconds = record.seconds is None or _positive(record.seconds)
    cost = type(record.cost) in (int, float) and math.isfinite(record.cost)
    return all(isinstance(text, str) for text in texts) and whole and seconds and cost


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
