/* Instructions of HyQ-VTA on arrays that Python owns; see docs/isa.md for what each one means.
 * Names in capitals with an underscore come from the instruction table, as #defines.
 * The files of this folder are one source, put together by kernels_native.py. */
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define MAX_BLOCK 64
#define MAX_ROW 8192
#define EXCLUDED (-(1 << 30))

typedef struct {
  int32_t multiplier, second;
  int64_t offset;
} param_t;

typedef struct {
  int64_t block, entries[BUFFER_COUNT];
  uint32_t *uop;
  int8_t *inp, *wgt;
  int32_t *acc;
  int16_t *tbl;
  param_t *prm;
  uint8_t *dram;
  uint8_t *written[BUFFER_COUNT];
  int64_t *reg, *count, *detail;
  /* For BLOCK 16: weight tiles as int16 pairs [input / 2][output][2], made when first used. */
  int16_t *pairs;
  uint8_t *paired;
} machine_t;

#define FAST_BLOCK 16

#define FAIL(status, where)  \
  do {                       \
    m->detail[0] = (where);  \
    return (status);         \
  } while (0)
#define NEED(buffer, index)                                             \
  do {                                                                  \
    if (!m->written[BUFFER_##buffer][index])                            \
      FAIL(STATUS_UNWRITTEN_##buffer, (int64_t)(index));                \
  } while (0)

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t clamp(int64_t v, int64_t low, int64_t high) {
  return minimum(maximum(v, low), high);
}
static inline int64_t shift_left(int64_t v, int64_t s) { return (int64_t)((uint64_t)v << (s & 63)); }
static inline int64_t multiply(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a * (uint64_t)b);
}
static inline int64_t sum(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static inline int64_t rounding_shift(int64_t v, int64_t s) {
  s &= 63;
  return sum(v, (int64_t)(((uint64_t)1 << s) >> 1)) >> s;
}
static inline int64_t bit_length(int64_t v) { return v ? 64 - __builtin_clzll((uint64_t)v) : 0; }
static inline int64_t rounding_divide(int64_t n, int64_t d) { return (n + (d >> 1)) / d; }
static inline int64_t clipped(const machine_t *m, int64_t v) {
  return clamp(v, m->reg[REGISTER_LOW], m->reg[REGISTER_HIGH]);
}
static inline int64_t joined(const int32_t *entry, int lane) {
  return (int64_t)(((uint64_t)(uint32_t)entry[lane + 1] << 32) | (uint32_t)entry[lane]);
}
