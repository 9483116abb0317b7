"""What a user would run a model with instead, each in a good configuration.

Every entry of ``RUNTIMES`` turns a model into ``run(x) -> logits``, float32 arrays both. What takes
long (ONNX export, quantization) is kept in a folder. A runtime that is not installed raises
``UnavailableError``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.latency_models import CALIBRATION, LatencyModel
from benchmarks.real_models import UnavailableError

Floats = NDArray[np.float32]
Run = Callable[[Floats], Floats]
OPSET = 18


@dataclass(frozen=True)
class Job:
    """A model, traced with ``batch`` samples, on ``threads`` threads; files go to ``cache``."""

    model: LatencyModel
    batch: int
    threads: int
    cache: Path

    def file(self, ending: str) -> Path:
        """Where a file of this model lies."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return self.cache / f"{self.model.name}-b{self.batch}{ending}"

    def calibration(self) -> list[Floats]:
        """The same noise that our own plan is made from."""
        return [self.model.images(self.batch, seed) for seed in range(CALIBRATION)]


def need(name: str) -> Any:
    """A module of a tool; raises ``UnavailableError`` saying how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(f"{name} is not installed: pip install hyq-tvm[peers]") from error


def torch_eager(job: Job) -> Run:
    """PyTorch as it is."""
    module = job.model.module()

    @torch.inference_mode()
    def run(x: Floats) -> Floats:
        return np.asarray(module(torch.from_numpy(x)).numpy())

    return run


def torch_compiled(job: Job) -> Run:
    """``torch.compile`` with weights folded in (freezing)."""
    inductor = need("torch._inductor.config")
    module = job.model.module()
    torch.set_num_threads(job.threads)
    with inductor.patch(freezing=True), torch.no_grad():
        compiled = torch.compile(module)
        compiled(torch.from_numpy(job.model.images(job.batch)))

    @torch.no_grad()
    def run(x: Floats) -> Floats:
        with inductor.patch(freezing=True):
            return np.asarray(compiled(torch.from_numpy(x)).numpy())

    return run


def onnx_file(job: Job) -> Path:
    """The model as ONNX, exported once."""
    path = job.file(".onnx")
    if not path.exists():
        need("onnxscript")
        example = torch.from_numpy(job.model.images(job.batch))
        torch.onnx.export(
            job.model.module(), (example,), str(path), dynamo=True, opset_version=OPSET,
            external_data=False, verbose=False,
        )  # fmt: skip
    return path


def ort_session(path: Path, threads: int) -> Run:
    """ONNX Runtime on a file with one input."""
    ort = need("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def ort_float(job: Job) -> Run:
    """ONNX Runtime, float32."""
    return ort_session(onnx_file(job), job.threads)


def ort_int8(job: Job, everything: bool = False) -> Run:
    """ONNX Runtime, static quantization with uint8 activations and int8 weights per channel.

    everything: its default choice of operators; else softmax and the products before it stay
    float, which is faster and more accurate.
    """
    path = job.file("-ort-int8-all.onnx" if everything else "-ort-int8.onnx")
    if not path.exists():
        _quantize_onnx(job, path, everything)
    return ort_session(path, job.threads)


class _Images:
    """A calibration reader as ONNX Runtime wants it."""

    def __init__(self, name: str, batches: list[Floats]) -> None:
        self._feeds = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._feeds, None)


def _quantize_onnx(job: Job, path: Path, everything: bool) -> None:
    tools = need("onnxruntime.quantization")
    shape_inference = need("onnxruntime.quantization.shape_inference")
    source, prepared = onnx_file(job), job.file("-prepared.onnx")
    shape_inference.quant_pre_process(str(source), str(prepared))
    model = need("onnx").load(str(prepared))
    kept = [] if everything else _score_products(model.graph)
    tools.quantize_static(
        str(prepared),
        str(path),
        _Images(model.graph.input[0].name, job.calibration()),
        quant_format=tools.QuantFormat.QDQ,
        per_channel=True,
        activation_type=tools.QuantType.QUInt8,
        weight_type=tools.QuantType.QInt8,
        nodes_to_exclude=kept,
    )


def _score_products(graph: Any, depth: int = 4) -> list[str]:
    """Softmax nodes and the products of two activations that feed them."""
    makers = {name: node for node in graph.node for name in node.output}
    kept = [node.name for node in graph.node if node.op_type == "Softmax"]
    frontier = [n for node in graph.node if node.op_type == "Softmax" for n in node.input]
    for _ in range(depth):
        nodes = [makers[name] for name in frontier if name in makers]
        kept += [n.name for n in nodes if n.op_type == "MatMul"]
        frontier = [i for n in nodes if n.op_type in ("Add", "Mul", "Div") for i in n.input]
    return sorted(set(kept))


def openvino(job: Job, precision: str, quantize: bool = False) -> Run:
    """OpenVINO; precision: ``"f32"`` or ``"bf16"`` for whatever is not INT8.

    quantize: INT8 by NNCF, made for transformers.
    """
    ov = need("openvino")
    core = ov.Core()
    model = core.read_model(str(_nncf_file(job) if quantize else onnx_file(job)))
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": job.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        },
    )
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(x: Floats) -> Floats:
        return np.asarray(request.infer({0: x}, share_inputs=True, share_outputs=True)[output])

    return run


def _nncf_file(job: Job) -> Path:
    path = job.file("-nncf.xml")
    if not path.exists():
        ov, nncf = need("openvino"), need("nncf")
        made = nncf.quantize(
            ov.Core().read_model(str(onnx_file(job))),
            nncf.Dataset(job.calibration()),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=CALIBRATION,
        )
        ov.save_model(made, str(path), compress_to_fp16=False)
    return path


RUNTIMES: dict[str, Callable[[Job], Run]] = {
    "ORT fp32": ort_float,
    "ORT int8": ort_int8,
    "ORT int8, all operators": partial(ort_int8, everything=True),
    "OpenVINO fp32": partial(openvino, precision="f32"),
    "OpenVINO bf16": partial(openvino, precision="bf16"),
    "OpenVINO NNCF int8, rest fp32": partial(openvino, precision="f32", quantize=True),
    "OpenVINO NNCF int8, rest bf16": partial(openvino, precision="bf16", quantize=True),
    "torch eager": torch_eager,
    "torch.compile": torch_compiled,
}
