"""The FP32 twin: the same models on the same hand-written tiles, in float32.

What INT8 gains over float is only worth stating against float code of equal quality. Convolutions,
dense layers and their memory are those of ``schedules.llvm`` with another number type; attention
is unfused, with an exact softmax whose exponential is a vectorised polynomial.

``float_program(graph)`` compiles a whole model; ``exact_program(quantized)`` an integer model whose
attentions compute exactly, in float, between the same integers.
"""

from benchmarks.float32.exact_attention import exact_program
from benchmarks.float32.model import float_program
from benchmarks.float32.target import float_target

__all__ = ["exact_program", "float_program", "float_target"]
