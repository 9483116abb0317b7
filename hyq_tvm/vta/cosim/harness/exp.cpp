// Differences through the exponential alone, one a cycle. DIFF_BITS and LATENCY are the unit's.
#include MODEL_HEADER
#include "ports.h"

extern "C" __attribute__((visibility("default"))) void hyq_exp_weights(
    const uint16_t *differences, int64_t count, uint16_t *weights) {
  VerilatedContext context;
  Model unit{&context};
  for (int64_t i = 0; i < count + LATENCY; i++) {
    unit.diff_i = i < count ? differences[i] : 0;
    unit.clk_i = 0;
    unit.eval();
    unit.clk_i = 1;
    unit.eval();
    if (i >= LATENCY - 1 && i - LATENCY + 1 < count) weights[i - LATENCY + 1] = unit.weight_o;
  }
}
