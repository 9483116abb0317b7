"""The text recogniser in other tools: ONNX Runtime's static INT8 in several settings, and NNCF.

Every entry of ``PEERS`` turns the ONNX file and calibration inputs float32 [n,3,48,w] into
``run(x [1,3,48,w]) -> scores``; files go to a folder. What is not installed raises
``UnavailableError``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peer_runtimes import need, ort_session

Floats = NDArray[np.float32]
Run = Callable[[Floats], Floats]
Peer = Callable[[Path, Floats, Path], Run]

OPSET = 13
"""Scales per channel do not exist before."""

CHUNK = 4
"""Lines whose activations ONNX Runtime's calibration holds at once; all 64 take 12 GB."""

PERCENTILE = 99.999


class _Reader:
    """Calibration inputs as ONNX Runtime reads them, a range at a time."""

    def __init__(self, name: str, inputs: Floats) -> None:
        self.name, self.inputs = name, inputs
        self.set_range(0, len(inputs))

    def __len__(self) -> int:
        return len(self.inputs)

    def set_range(self, start_index: int, end_index: int) -> None:
        """The inputs that come next."""
        self._rows = iter(self.inputs[start_index:end_index])

    def get_next(self) -> dict[str, Floats] | None:
        """One line, or the end."""
        row = next(self._rows, None)
        return None if row is None else {self.name: row[None]}


def prepared(file: Path, inputs: Floats, cache: Path) -> Path:
    """The model for one input shape, without shape arithmetic, in a newer opset."""
    onnx = need("onnx")
    shape_inference = need("onnxruntime.quantization.shape_inference")
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"recogniser-{inputs.shape[-1]}.onnx"
    if not path.exists():
        converter = need("onnx.version_converter")
        model = converter.convert_version(onnx.load(str(file)), OPSET)
        shape = model.graph.input[0].type.tensor_type.shape
        for dimension, value in zip(shape.dim, (1, *inputs.shape[1:]), strict=True):
            dimension.dim_value = value
        onnx.save(model, str(path.with_suffix(".fixed")))
        shape_inference.quant_pre_process(str(path.with_suffix(".fixed")), str(path))
    return path


def ort_float(file: Path, inputs: Floats, cache: Path) -> Run:
    """ONNX Runtime in float32."""
    return ort_session(prepared(file, inputs, cache), threads=1)


def ort_int8(
    file: Path,
    inputs: Floats,
    cache: Path,
    percentile: bool = False,
    products_only: bool = False,
    defaults: bool = False,
) -> Run:
    """ONNX Runtime, static INT8: uint8 activations, int8 weights per channel.

    percentile: ranges leave out what is rarer, else minimum and maximum. products_only: only
    convolutions and matrix products are quantized. defaults: the tool's own settings.
    """
    tools = need("onnxruntime.quantization")
    source = prepared(file, inputs, cache)
    path = cache / f"{source.stem}-int8-{percentile:d}{products_only:d}{defaults:d}.onnx"
    if not path.exists():
        options: dict[str, Any] = {"extra_options": {"CalibStridedMinMax": CHUNK}}
        if not defaults:
            options |= {
                "per_channel": True,
                "activation_type": tools.QuantType.QUInt8,
                "weight_type": tools.QuantType.QInt8,
            }
        if percentile:
            options["calibrate_method"] = tools.CalibrationMethod.Percentile
            options["extra_options"]["CalibPercentile"] = PERCENTILE
        if products_only:
            options["op_types_to_quantize"] = ["Conv", "MatMul", "Gemm"]
        name = need("onnx").load(str(source)).graph.input[0].name
        tools.quantize_static(str(source), str(path), _Reader(name, inputs), **options)
    return ort_session(path, threads=1)


def nncf_int8(file: Path, inputs: Floats, cache: Path) -> Run:
    """OpenVINO, INT8 by NNCF made for transformers; the rest in float32."""
    ov, nncf = need("openvino"), need("nncf")
    source = prepared(file, inputs, cache)
    path = cache / f"{source.stem}-nncf.xml"
    if not path.exists():
        made = nncf.quantize(
            ov.Core().read_model(str(source)),
            nncf.Dataset([row[None] for row in inputs]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
        )
        ov.save_model(made, str(path), compress_to_fp16=False)
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = ov.Core().compile_model(str(path), "CPU", options)
    request, output = compiled.create_infer_request(), compiled.output(0)
    return lambda x: np.array(request.infer({0: x})[output])


PEERS: dict[str, Peer] = {
    "ONNX Runtime fp32": ort_float,
    "ONNX Runtime int8, defaults": partial(ort_int8, defaults=True),
    "ONNX Runtime int8, all operators, min-max": ort_int8,
    "ONNX Runtime int8, all operators, percentile": partial(ort_int8, percentile=True),
    "ONNX Runtime int8, products only, percentile": partial(
        ort_int8, percentile=True, products_only=True
    ),
    "OpenVINO, NNCF int8, rest fp32": nncf_int8,
}
