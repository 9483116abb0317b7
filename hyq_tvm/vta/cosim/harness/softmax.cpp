// Rows through the softmax unit. LANES, LOGIT_BITS and CODE_BITS are the unit's.
#include MODEL_HEADER
#include "ports.h"

static const uint64_t kPatience = 100000;

static void tick(Model &unit, uint64_t &cycles) {
  unit.clk_i = 0;
  unit.eval();
  unit.clk_i = 1;
  unit.eval();
  cycles++;
}

// logits: rows x length; codes the same. pause: a bubble of input after every so many words, 0:
// none. Returns the cycles taken, or 0 when the unit stopped answering.
extern "C" __attribute__((visibility("default"))) uint64_t hyq_softmax_rows(
    const int16_t *logits, int64_t rows, int64_t length, uint64_t scale, int64_t pause,
    uint8_t *codes) {
  VerilatedContext context;
  Model unit{&context};
  uint64_t cycles = 0;
  unit.rst_ni = 0;
  unit.in_valid_i = 0;
  for (int i = 0; i < 4; i++) tick(unit, cycles);
  unit.rst_ni = 1;
  unit.scale_i = scale;
  cycles = 0;
  for (int64_t row = 0; row < rows; row++) {
    const int16_t *in = logits + row * length;
    uint8_t *out = codes + row * length;
    for (int64_t first = 0, word = 1; first < length; first += LANES, word++) {
      unit.in_valid_i = 0;
      unit.eval();
      while (!unit.in_ready_o) tick(unit, cycles);
      if (pause && word % pause == 0) tick(unit, cycles);
      for (int lane = 0; lane < LANES; lane++) {
        bool keep = first + lane < length;
        put_bits(unit.in_keep_i, lane, 1, keep);
        put_bits(unit.in_logit_i, lane * LOGIT_BITS, LOGIT_BITS, keep ? in[first + lane] : 0x155);
      }
      unit.in_last_i = first + LANES >= length;
      unit.in_valid_i = 1;
      tick(unit, cycles);
    }
    unit.in_valid_i = 0;
    uint64_t start = cycles;
    for (int64_t first = 0; first < length;) {
      if (cycles - start > kPatience) return 0;
      if (unit.out_valid_o) {
        for (int lane = 0; lane < LANES && first + lane < length; lane++)
          out[first + lane] = get_bits(unit.out_code_o, lane * CODE_BITS, CODE_BITS);
        if (unit.out_last_o != (first + LANES >= length)) return 0;
        first += LANES;
      }
      tick(unit, cycles);
    }
  }
  return cycles;
}
