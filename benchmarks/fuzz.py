"""Differential fuzzing: random hybrids, compiled against golden against float.

``python -m benchmarks.fuzz --graphs 2000``

Every seed is a model (``benchmarks.fuzzing.recipe``), a configuration and its data. The model is
written as Relax and, independently, as PyTorch; what is compiled must equal the NumPy golden model
bit for bit, also on data that calibration never saw, and the golden model must be as near to
PyTorch as the plan predicts. Seeds and verdicts are lines of the log; those that passed are not run
again, so that the command goes on where it stopped. A failure is shrunk to a small file, which

``python -m benchmarks.fuzz --reproduce FILE``

runs again.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.fuzzing import campaign
from benchmarks.fuzzing.recipe import Recipe

LOG = Path(__file__).with_name("results") / "fuzz.jsonl"
REPRODUCERS = Path("fuzz-failures")


def summary(records: list[campaign.Record]) -> str:
    """Verdicts, what was refused, and how far noise was from its prediction."""
    verdicts = Counter(record.verdict for record in records)
    lines = [f"{len(records)} graphs: " + ", ".join(f"{n} {v}" for v, n in verdicts.most_common())]
    ran = [record for record in records if record.verdict == campaign.OK]
    if ran:
        worse = [min(r.predicted_db, 40.0) - r.measured_db for r in ran if r.predicted_db < 100]
        seconds = sum(r.seconds for r in records)
        shown = ", ".join(f"{np.percentile(worse, q):.1f}" for q in (50, 95, 100))
        lines.append(f"dB below the prediction (at most 40 dB), median, 95 %, worst: {shown}")
        lines.append(f"on the accelerator's simulator as well: {sum(r.vta for r in ran)}")
        lines.append(f"{60 * len(records) / seconds:.0f} graphs a minute")
    reasons = Counter(r.detail.splitlines()[0][:90] for r in records if r.verdict == "refused")
    lines += [f"refused {count} times: {reason}" for reason, count in reasons.most_common()]
    lines += [f"seed {r.seed}: {r.verdict}: {r.detail[:200]}" for r in records if r.failed]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--vta-every", type=int, default=10, help="0: never")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--no-shrink", action="store_true", help="only log failures")
    parser.add_argument("--reproduce", type=Path, help="run the recipe of this file alone")
    options = parser.parse_args()
    if options.reproduce:
        from benchmarks.fuzzing.check import check

        print(check(Recipe.from_json(options.reproduce.read_text(encoding="utf-8"))))
        return
    seeds = range(options.start, options.start + options.graphs)
    for record in campaign.run(seeds, options.log, options.vta_every, options.minutes):
        if record.failed:
            print(f"seed {record.seed}: {record.verdict}: {record.detail}", flush=True)
            if not options.no_shrink:
                print(f"  reproducer: {campaign.reproduce(record, REPRODUCERS)}", flush=True)
    records = [r for r in campaign.read(options.log) if r.seed in seeds]
    print(summary(records))
    sys.exit(any(record.failed for record in records))


if __name__ == "__main__":
    main()
