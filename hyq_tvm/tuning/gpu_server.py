"""A server of a TVM tracker that measures candidates on this machine's GPU.

    python -m hyq_tvm.tuning.gpu_server --tracker HOST:9190 --key h200

Needs the apache-tvm package, the driver and libcudart, no compiler: machine code comes with the
candidates. It runs code that it is sent, without asking who sends it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import tvm_ffi
from tvm import rpc

from hyq_tvm import gpu_timing
from hyq_tvm.errors import HyqError
from hyq_tvm.tuning.gpu import REMOTE, unpacked
from hyq_tvm.tuning.measure import Tracker


def measure_candidates(archive: str, numbers: str) -> str:
    """JSON of the results of candidates ``numbers`` in an uploaded archive, or of a refusal."""
    path = Path(str(tvm_ffi.get_global_func("tvm.rpc.server.workpath")(archive)))
    with tempfile.TemporaryDirectory() as folder:
        unpacked(path, Path(folder))
        try:
            results = list(gpu_timing.measure(Path(folder), json.loads(numbers)))
        except HyqError as error:
            return json.dumps({"results": [], "refusal": str(error)})
    return json.dumps({"results": results, "refusal": ""})


def register() -> None:
    """Make the function known to TVM's server, in the server's process."""
    tvm_ffi.register_global_func(
        REMOTE, lambda archive, numbers: measure_candidates(str(archive), str(numbers)),
        override=True,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module; serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracker", required=True, metavar="HOST:PORT")
    parser.add_argument("--key", required=True)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=9090)
    chosen = parser.parse_args(arguments)
    try:
        tracker = Tracker.parse(chosen.tracker, chosen.key)
    except HyqError as error:
        raise SystemExit(str(error)) from error
    server = rpc.Server(
        chosen.host,
        port=chosen.port,
        port_end=chosen.port + 100,
        tracker_addr=(tracker.host, tracker.port),
        key=tracker.key,
        server_init_callback=register,
    )
    print(f"serving on port {server.port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
