"""The compiler driver: calibrate, quantize, check, schedule, build."""

from __future__ import annotations

import os
import resource
import time
import warnings
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import tvm
from tqdm import tqdm
from tvm import relax

import hyq_tvm
from hyq_tvm import module_facts as facts
from hyq_tvm.artifact import Metadata, check_host, package_versions
from hyq_tvm.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    PlanError,
    TuningError,
)
from hyq_tvm.executable import Executable
from hyq_tvm.images import ImageFolder, Prepare, Preprocessing
from hyq_tvm.processor import host_features
from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.graph import Graph
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.quantization.planner import make_plan
from hyq_tvm.quantization.target_drop import plan_for_drop
from hyq_tvm.targets import resolve
from hyq_tvm.targets.backend import option_dict
from hyq_tvm.targets.cuda import CudaTarget
from hyq_tvm.targets.vta import VTATarget
from hyq_tvm.tuning import (
    Bar,
    Budget,
    Task,
    Tracker,
    accelerator,
    extract,
    gpu,
    measurer,
    rounds,
    run,
)
from hyq_tvm.tuning.measure import Measurer
from relay_passes.add_integer_entry import add_integer_entry
from relay_passes.check_integer_only import check_integer_only
from relay_passes.extract_graph import extract_graph
from relay_passes.lower_linear_softmax import LowerLinearSoftmax
from relay_passes.quantize_graph import quantize_graph
from schedules import recorded


def quantize(
    mod: tvm.IRModule,
    calibration: Any = None,
    config: QuantConfig | None = None,
    *,
    plan: QuantPlan | str | os.PathLike[str] | None = None,
    preprocess: Prepare | None = None,
    target_drop: float | None = None,
    progress: bool = True,
) -> tvm.IRModule:
    """Turn a float module into an integer-only one that carries its plan.

    mod: float Relax from ``from_torch``, ``from_onnx`` or elsewhere; static shapes, batch first.
    calibration: images without labels. An array or tensor [n, ...] of float32, an iterable of such
        batches (any n, read once), or a folder of pictures together with ``preprocess``.
    config: choices (default: ``QuantConfig()``).
    plan: use this plan, or plan file, and calibrate nothing.
    preprocess: picture to float32 [3, height, width], such as ``hyq_tvm.images.Preprocessing``.
    target_drop: points of top-1 that may be lost, estimated on the first 64 images: tensors and
        layers get more bits, at the least cost, until that holds. What was raised, and why, is in
        ``notes["target_drop"]`` of the plan; a warning says when nothing reaches the target.
    progress: show a progress bar on a terminal.

    Raises ``UnsupportedModelError``, ``CalibrationError``, ``ConfigError``, ``PlanError`` (a plan
    of another model) or ``AccumulatorOverflowError``.
    """
    facts.check_module(mod)
    if facts.is_quantized(mod):
        raise ConfigError("the module is quantized already: quantize the float module instead")
    if plan is not None and (calibration is not None or config is not None):
        raise ConfigError("a plan holds all choices: give plan=, or calibration= and config=")
    if plan is not None and target_drop is not None:
        raise ConfigError("a plan holds all choices: target_drop= makes one from calibration=")
    if plan is None and calibration is None:
        raise CalibrationError("calibration data is missing: give images, or a plan")
    graph = extract_graph(mod)
    if plan is None:
        batches, total = _batches(graph, calibration, preprocess)
        made = _calibrated_plan(
            graph, batches, config or QuantConfig(), target_drop, _Progress(total, progress)
        )
    else:
        made = _given_plan(graph, plan)
    quantized = quantize_graph(graph, made)
    if isinstance(preprocess, Preprocessing):
        return facts.with_preprocessing(quantized, preprocess)
    return quantized


def compile(
    mod: tvm.IRModule,
    target: Any = "llvm",
    calibration: Any = None,
    config: QuantConfig | None = None,
    records: str | os.PathLike[str] | None = None,
    allow_float: Collection[str] = (),
    *,
    plan: QuantPlan | str | os.PathLike[str] | None = None,
    preprocess: Prepare | None = None,
    progress: bool = True,
) -> Executable:
    """Compile a module for a target.

    mod: what ``quantize`` returned; or a float module, which is quantized first if ``calibration``
        or ``plan`` is given. A float module without either is compiled in float, except that its
        softmax becomes the linear one, with a warning.
    target: ``"llvm"`` (this machine), a dictionary such as ``{"kind": "llvm", "mcpu": "znver4"}``,
        or a TVM target.
    records: a folder that ``tune`` wrote. Its fastest choices come before those of the package's
        own records; where neither has one that fits, a kernel is what its rule makes.
    allow_float: names of layers that may compute in float; what that costs is in
        ``metadata.float_operators``. A plan with softmax ``"exact"`` allows itself.

    Raises ``TargetError``, ``FloatComputationError`` listing the layers that would compute in
    float, ``ConfigError``, ``TuningError`` where a line is no record, and what ``quantize`` raises.
    """
    backend, tvm_target = resolve(target)
    folder = None if records is None else Path(records)
    if folder is not None:
        recorded.read(folder)
    facts.check_module(mod)
    if calibration is not None or plan is not None:
        mod = quantize(
            mod, calibration, config, plan=plan, preprocess=preprocess, progress=progress
        )
    elif config is not None:
        raise ConfigError("config= chooses how to quantize: give calibration= as well")
    started = time.perf_counter()
    if isinstance(preprocess, Preprocessing):
        mod = facts.with_preprocessing(mod, preprocess)
    integer = facts.is_quantized(mod)
    layers = _float_layers(mod, allow_float) if integer else []
    if not integer:
        mod = _with_linear_softmax(mod, tvm_target)
    specs = facts.input_specs(mod), facts.output_specs(mod)
    built = backend.build(add_integer_entry(mod), tvm_target, folder)
    metadata = Metadata(
        *specs,
        integer_only=integer and not layers,
        target=option_dict(tvm_target),
        machine=built.machine,
        features=built.features,
        versions={"hyq_tvm": hyq_tvm.__version__, **package_versions()},
        float_operators=facts.float_costs(mod, layers),
        notes={**facts.notes(mod), **built.notes, **_cost(started)},
    )
    refusal = _refusal(metadata)
    return Executable(metadata, facts.plan_text(mod), built.library, refusal=refusal)


def tune(
    mod: tvm.IRModule,
    target: Any = "llvm",
    records: str | os.PathLike[str] = "records",
    minutes: float | None = 30,
    *,
    trials: int | None = None,
    seed: int = 0,
    tracker: str | None = None,
    key: str = "",
    split: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """Measure choices of the schedule rules for a quantized module, and keep the fastest.

    target: as for ``compile``; with a tracker, what its servers are.
    records: the folder for measurements, which ``compile(..., records=...)`` reads; returned. Each
        measurement is on the disk before the next one starts: the same call goes on where a killed
        one stopped, and with the same ``seed`` goes the same way.
    minutes, trials: stop after so much time, or so many measurements, those of a killed call
        included; None for no such limit.
    tracker, key: ``"host:port"`` of a TVM RPC tracker and the key of the servers that measure;
        None measures on this machine.
    split: for a GPU that cannot be reached, measure nothing: write ``trials`` candidates (default:
        64) to this folder, which ``python -m hyq_tvm.gpu_timing`` measures where the GPU is. What
        ``records`` holds decides which; ``hyq_tvm.tuning.take`` adds what comes back.
    progress: show a progress bar on a terminal.

    Raises ``TuningError``, ``TargetError``, ``ConfigError`` (a float module).
    """
    budget = Budget(minutes, trials)
    where = None if tracker is None else Tracker.parse(tracker, key)
    tvm_target = resolve(target)[1]
    facts.check_module(mod)
    if not facts.is_quantized(mod):
        raise ConfigError("tune() takes an integer module: quantize() the float module first")
    folder = Path(records)
    if split is not None:
        _split(mod, tvm_target, folder, Path(split), where, trials, seed)
        return folder
    tasks, measuring = _tuning(mod, tvm_target, where)
    with Bar(budget, progress) as bar:
        run(tasks, folder, budget, measuring, seed, bar)
    return folder


def _tuning(
    mod: tvm.IRModule, target: Any, tracker: Tracker | None
) -> tuple[list[Task], Callable[[], AbstractContextManager[Measurer]]]:
    """What there is to tune, and what measures it."""
    if isinstance(target, CudaTarget):
        return gpu.extract(mod, target), lambda: gpu.measurer(target, tracker)
    if not isinstance(target, VTATarget):
        return extract(mod, target), lambda: measurer(target, tracker)
    if tracker is not None:
        raise TuningError("target 'vta' is measured by its cycle model: leave the tracker out")
    return accelerator.extract(mod, target), lambda: accelerator.cycle_measurer(target)


def _split(
    mod: tvm.IRModule,
    target: Any,
    records: Path,
    folder: Path,
    tracker: Tracker | None,
    trials: int | None,
    seed: int,
) -> None:
    """Candidates for a machine that cannot be reached."""
    if not isinstance(target, CudaTarget):
        raise TuningError(f"split= is for target 'cuda': tune for {target.kind.name!r} there")
    if tracker is not None:
        raise TuningError("split= is for machines that cannot be reached: leave the tracker out")
    rounds.prepare(gpu.extract(mod, target), records, folder, trials or rounds.TRIALS, target, seed)


class _Progress:
    """A bar over calibration images, which then says what else goes on."""

    def __init__(self, total: int | None, show: bool) -> None:
        self.total = total
        self.bar = tqdm(
            total=total, unit="image", desc="calibrating", disable=None if show else True
        )

    def __call__(self, images: int) -> None:
        self.bar.update(images)
        if self.bar.n == self.total:
            self.bar.set_description("choosing scales")


def _calibrated_plan(
    graph: Graph,
    batches: Iterable[Any],
    config: QuantConfig,
    target_drop: float | None,
    progress: _Progress,
) -> QuantPlan:
    with progress.bar:
        if target_drop is None:
            return make_plan(graph, batches, config, progress=progress)
        return plan_for_drop(graph, batches, config, target_drop, progress)


def _batches(
    graph: Graph, calibration: Any, prepare: Prepare | None
) -> tuple[Iterable[Any], int | None]:
    """Calibration data as an iterable of batches, and how many images there are if known."""
    if isinstance(calibration, str | os.PathLike):
        if prepare is None:
            raise CalibrationError(
                f"{calibration} is a folder: say how its pictures become arrays with preprocess=, "
                "such as hyq_tvm.images.Preprocessing(size=(224, 224), resize=248)"
            )
        folder = ImageFolder(Path(calibration), prepare)
        return folder, len(folder)
    if isinstance(calibration, ImageFolder):
        return calibration, len(calibration)
    if hasattr(calibration, "shape"):
        rank = len(graph.inputs[0].shape)
        if len(calibration.shape) == rank:
            return [calibration], int(calibration.shape[0])
    return calibration, None


def _given_plan(graph: Graph, plan: QuantPlan | str | os.PathLike[str]) -> QuantPlan:
    made = plan if isinstance(plan, QuantPlan) else QuantPlan.load(plan)
    if made.fingerprint != graph.fingerprint():
        raise PlanError(
            "the plan was made for another model (its fingerprint differs): weights, shapes and "
            "batch size must be the same; calibrate again"
        )
    return made


def _float_layers(mod: tvm.IRModule, allow_float: Collection[str]) -> list[str]:
    """Layers that compute in float with permission; raises ``FloatComputationError``."""
    plan = QuantPlan.from_json(facts.plan_text(mod))
    return check_integer_only(mod, allow={*allow_float, *facts.exact_softmax_layers(plan)})


def _with_linear_softmax(mod: tvm.IRModule, target: Any) -> tvm.IRModule:
    """A float module, its softmax lowered, its operators fused by TVM's own rules."""
    warnings.warn(
        "compiling a float model: only its softmax becomes linear, everything else computes in "
        "float. For an integer-only program pass calibration=, some 100 unlabelled images",
        stacklevel=3,
    )
    with target:
        passes = [LowerLinearSoftmax(), relax.get_pipeline("zero")]
        return tvm.transform.Sequential(passes)(mod)


def _cost(started: float) -> dict[str, float]:
    """What compiling took: seconds, and the most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "compile_seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mib": round(peak, 1),
    }


def _refusal(metadata: Metadata) -> str:
    """Why this machine cannot run what it compiled; empty if it can."""
    try:
        check_host(metadata, host_features())
    except ArtifactError as error:
        return str(error)
    return ""
