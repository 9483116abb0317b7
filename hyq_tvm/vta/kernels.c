/* Instructions of HyQ-VTA on arrays that Python owns; see docs/isa.md for what each one means.
 * Names in capitals with an underscore come from the instruction table, as #defines. */
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

/* ---------------------------------------------------------------- LOAD and STORE */

static int64_t element_bytes(int64_t kind) {
  switch (kind) {
    case MEMORY_UOP: case MEMORY_ACC: return 4;
    case MEMORY_ACC16: case MEMORY_TBL: return 2;
    case MEMORY_PRM: return 16;
    default: return 1;
  }
}

static void fill_lanes(machine_t *m, int64_t kind, int64_t entry, int64_t lane, int64_t n,
                       const uint8_t *from) {
  int64_t at = entry * m->block + lane;
  switch (kind) {
    case MEMORY_INP: memcpy(m->inp + at, from, n); break;
    case MEMORY_ACC: memcpy(m->acc + at, from, 4 * n); break;
    case MEMORY_ACC8:
      for (int64_t i = 0; i < n; i++) m->acc[at + i] = (int8_t)from[i];
      break;
    case MEMORY_ACCU8:
      for (int64_t i = 0; i < n; i++) m->acc[at + i] = from[i];
      break;
    default:
      for (int64_t i = 0; i < n; i++) {
        int16_t v;
        memcpy(&v, from + 2 * i, 2);
        m->acc[at + i] = v;
      }
  }
}

static void pad_lanes(machine_t *m, int64_t kind, int64_t entry, int64_t lane, int64_t n) {
  int64_t value = m->reg[REGISTER_LOAD_PAD], at = entry * m->block + lane;
  if (kind == MEMORY_INP) {
    memset(m->inp + at, (int)(value & 255), n);
    return;
  }
  for (int64_t i = 0; i < n; i++) m->acc[at + i] = (int32_t)value;
}

static void load_run(machine_t *m, int64_t kind, int64_t entry, int64_t length,
                     const uint8_t *from) {
  int64_t block = m->block, n = (length + block - 1) / block, bytes = element_bytes(kind);
  int64_t whole = from ? length : 0;
  for (int64_t k = 0; k < n; k++) {
    int64_t have = clamp(whole - k * block, 0, block);
    if (have) fill_lanes(m, kind, entry + k, 0, have, from + k * block * bytes);
    if (have < block) pad_lanes(m, kind, entry + k, have, block - have);
  }
  memset(m->written[kind == MEMORY_INP ? BUFFER_INP : BUFFER_ACC] + entry, 1, n);
}

static void load_matrix_row(machine_t *m, const int64_t *f, int64_t y, int64_t x,
                            const uint8_t *from) {
  int64_t block = m->block, length = f[LOAD_LENGTH];
  int64_t n = (length + block - 1) / block, rows = (f[LOAD_X_SIZE] + block - 1) / block;
  int transposed = f[LOAD_MEMORY] == MEMORY_WGT_T;
  for (int64_t c = 0; c < length; c++) {
    int64_t entry, out, in;
    if (transposed) {
      entry = (y * n + c / block) * rows + x / block;
      out = c % block;
      in = x % block;
    } else {
      entry = (y * rows + x / block) * n + c / block;
      out = x % block;
      in = c % block;
    }
    m->wgt[((f[LOAD_SRAM] + entry) * block + out) * block + in] = (int8_t)from[c];
  }
}

static void load_flat(machine_t *m, int64_t kind, int64_t entry, int64_t bytes,
                      const uint8_t *from) {
  switch (kind) {
    case MEMORY_UOP:
      memcpy(m->uop + entry, from, bytes);
      memset(m->written[BUFFER_UOP] + entry, 1, bytes / 4);
      break;
    case MEMORY_TBL:
      memcpy(m->tbl + entry, from, bytes);
      memset(m->written[BUFFER_TBL] + entry, 1, bytes / 2);
      break;
    default:
      memcpy(m->prm + entry * m->block, from, bytes);
      memset(m->written[BUFFER_PRM] + entry, 1, bytes / (16 * m->block));
  }
}

static int64_t buffer_of(int64_t kind) {
  switch (kind) {
    case MEMORY_UOP: return BUFFER_UOP;
    case MEMORY_WGT: case MEMORY_WGT_T: return BUFFER_WGT;
    case MEMORY_INP: return BUFFER_INP;
    case MEMORY_TBL: return BUFFER_TBL;
    case MEMORY_PRM: return BUFFER_PRM;
    default: return BUFFER_ACC;
  }
}

/* The bytes of run (y, x), or NULL in padding; a negative status when some were never written. */
static int run_source(machine_t *m, const int64_t *f, int64_t y, int64_t x, int64_t bytes,
                      const uint8_t **from) {
  *from = NULL;
  if (y < 0 || y >= f[LOAD_Y_SIZE] || x < 0 || x >= f[LOAD_X_SIZE]) return STATUS_OK;
  int64_t at = f[LOAD_DRAM] + y * m->reg[REGISTER_LOAD_Y_STRIDE] +
               x * m->reg[REGISTER_LOAD_X_STRIDE];
  const uint8_t *hole = memchr(m->written[BUFFER_DRAM] + at, 0, bytes);
  if (hole) FAIL(STATUS_UNWRITTEN_DRAM, hole - m->written[BUFFER_DRAM]);
  m->count[COUNTER_DRAM_READS] += bytes;
  *from = m->dram + at;
  return STATUS_OK;
}

static int load_entry(machine_t *m, const int64_t *f, int64_t y, int64_t x, int64_t *entry) {
  int64_t kind = f[LOAD_MEMORY], length = f[LOAD_LENGTH], bytes = length * element_bytes(kind);
  const uint8_t *from;
  int status = run_source(m, f, y, x, bytes, &from);
  if (status != STATUS_OK) return status;
  switch (kind) {
    case MEMORY_WGT: case MEMORY_WGT_T:
      load_matrix_row(m, f, y, x, from);
      break;
    case MEMORY_UOP: case MEMORY_TBL:
      load_flat(m, kind, *entry, bytes, from);
      *entry += length;
      break;
    case MEMORY_PRM:
      load_flat(m, kind, *entry, bytes, from);
      *entry += length / m->block;
      break;
    default:
      load_run(m, kind, *entry, length, from);
      *entry += (length + m->block - 1) / m->block;
  }
  return STATUS_OK;
}

static int load(machine_t *m, const int64_t *f) {
  int64_t kind = f[LOAD_MEMORY], entry = f[LOAD_SRAM];
  if (kind == MEMORY_WGT || kind == MEMORY_WGT_T) {
    int64_t n = (f[LOAD_LENGTH] + m->block - 1) / m->block;
    n *= f[LOAD_Y_SIZE] * ((f[LOAD_X_SIZE] + m->block - 1) / m->block);
    memset(m->wgt + entry * m->block * m->block, 0, n * m->block * m->block);
    memset(m->written[BUFFER_WGT] + entry, 1, n);
    if (m->block == FAST_BLOCK) memset(m->paired + entry, 0, n);
    m->count[COUNTER_WGT_WRITES] += n;
  }
  int64_t top = f[LOAD_PAD_TOP], left = f[LOAD_PAD_LEFT];
  for (int64_t y = -top; y < f[LOAD_Y_SIZE] + f[LOAD_PAD_BOTTOM]; y++)
    for (int64_t x = -left; x < f[LOAD_X_SIZE] + f[LOAD_PAD_RIGHT]; x++) {
      int status = load_entry(m, f, y, x, &entry);
      if (status != STATUS_OK) return status;
    }
  m->count[COUNTER_UOP_WRITES + buffer_of(kind)] += entry - f[LOAD_SRAM];
  return STATUS_OK;
}

static void store_lanes(machine_t *m, int64_t kind, const int32_t *from, int64_t n, uint8_t *to) {
  switch (kind) {
    case MEMORY_ACC: memcpy(to, from, 4 * n); break;
    case MEMORY_ACC8:
      for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)(int8_t)clamp(from[i], -128, 127);
      break;
    case MEMORY_ACCU8:
      for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)clamp(from[i], 0, 255);
      break;
    default:
      for (int64_t i = 0; i < n; i++) {
        int16_t v = (int16_t)clamp(from[i], -32768, 32767);
        memcpy(to + 2 * i, &v, 2);
      }
  }
}

static int store(machine_t *m, const int64_t *f) {
  int64_t kind = f[STORE_MEMORY], length = f[STORE_LENGTH], block = m->block;
  int64_t n = (length + block - 1) / block, bytes = length * element_bytes(kind);
  int64_t entry = f[STORE_SRAM];
  for (int64_t y = 0; y < f[STORE_Y_SIZE]; y++)
    for (int64_t x = 0; x < f[STORE_X_SIZE]; x++, entry += n) {
      int64_t at = f[STORE_DRAM] + y * m->reg[REGISTER_STORE_Y_STRIDE] +
                   x * m->reg[REGISTER_STORE_X_STRIDE];
      const uint8_t *hole = memchr(m->written[BUFFER_ACC] + entry, 0, n);
      if (hole) FAIL(STATUS_UNWRITTEN_ACC, hole - m->written[BUFFER_ACC]);
      store_lanes(m, kind, m->acc + entry * block, length, m->dram + at);
      memset(m->written[BUFFER_DRAM] + at, 1, bytes);
      m->count[COUNTER_ACC_READS] += n;
      m->count[COUNTER_DRAM_WRITES] += bytes;
    }
  return STATUS_OK;
}

/* ---------------------------------------------------------------- GEMM */

static void make_pairs(int16_t *pairs, const int8_t *wgt) {
  for (int o = 0; o < FAST_BLOCK; o++)
    for (int i = 0; i < FAST_BLOCK; i++)
      pairs[(i / 2) * 2 * FAST_BLOCK + 2 * o + i % 2] = wgt[o * FAST_BLOCK + i];
}

/* The product of 16 inputs and a tile of pairs; the accumulators are kept or start at 0. */
static inline void fast_tile(int32_t *acc, const int8_t *inp, const int16_t *pairs, int init,
                             int unsigned_inputs) {
  int16_t x[FAST_BLOCK];
  int32_t two[FAST_BLOCK / 2];
  for (int i = 0; i < FAST_BLOCK; i++) x[i] = unsigned_inputs ? (uint8_t)inp[i] : inp[i];
  memcpy(two, x, sizeof two);
#if defined(__AVX512BW__)
  __m512i a = init ? _mm512_setzero_si512() : _mm512_loadu_si512(acc);
  for (int k = 0; k < FAST_BLOCK / 2; k++) {
    __m512i w = _mm512_loadu_si512(pairs + 2 * FAST_BLOCK * k);
    a = _mm512_add_epi32(a, _mm512_madd_epi16(_mm512_set1_epi32(two[k]), w));
  }
  _mm512_storeu_si512(acc, a);
#elif defined(__AVX2__)
  for (int half = 0; half < 2; half++) {
    __m256i *at = (__m256i *)(acc + 8 * half);
    __m256i a = init ? _mm256_setzero_si256() : _mm256_loadu_si256(at);
    for (int k = 0; k < FAST_BLOCK / 2; k++) {
      const int16_t *from = pairs + 2 * FAST_BLOCK * k + FAST_BLOCK * half;
      __m256i w = _mm256_loadu_si256((const __m256i *)from);
      a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_set1_epi32(two[k]), w));
    }
    _mm256_storeu_si256(at, a);
  }
#else
  for (int o = 0; o < FAST_BLOCK; o++) {
    uint32_t s = init ? 0u : (uint32_t)acc[o];
    for (int k = 0; k < FAST_BLOCK / 2; k++) {
      const int16_t *w = pairs + 2 * FAST_BLOCK * k + 2 * o;
      s += (uint32_t)(x[2 * k] * w[0] + x[2 * k + 1] * w[1]);
    }
    acc[o] = (int32_t)s;
  }
#endif
}

static inline void tile(int32_t *acc, const int8_t *inp, const int8_t *wgt, int block, int init,
                        int unsigned_inputs) {
  int16_t x[MAX_BLOCK];
  for (int i = 0; i < block; i++) x[i] = unsigned_inputs ? (uint8_t)inp[i] : inp[i];
  for (int o = 0; o < block; o++) {
    int32_t s = 0;
    for (int i = 0; i < block; i++) s += (int32_t)x[i] * (int16_t)wgt[o * block + i];
    acc[o] = (int32_t)((uint32_t)s + (init ? 0u : (uint32_t)acc[o]));
  }
}

static int gemm_step(machine_t *m, const int64_t *f, int64_t dst, int64_t src, int64_t wgt) {
  int64_t block = m->block;
  int init = f[GEMM_INIT] != 0;
  if (dst >= m->entries[BUFFER_ACC]) FAIL(STATUS_DST_RANGE, dst);
  if (src >= m->entries[BUFFER_INP]) FAIL(STATUS_SRC_RANGE, src);
  if (wgt >= m->entries[BUFFER_WGT]) FAIL(STATUS_THIRD_RANGE, wgt);
  NEED(INP, src);
  NEED(WGT, wgt);
  if (!init) NEED(ACC, dst);
  m->written[BUFFER_ACC][dst] = 1;
  int32_t *a = m->acc + dst * block;
  const int8_t *p = m->inp + src * block, *w = m->wgt + wgt * block * block;
  if (block != FAST_BLOCK) {
    tile(a, p, w, (int)block, init, f[GEMM_INP_U8] != 0);
    return STATUS_OK;
  }
  int16_t *pairs = m->pairs + wgt * block * block;
  if (!m->paired[wgt]) {
    make_pairs(pairs, w);
    m->paired[wgt] = 1;
  }
  fast_tile(a, p, pairs, init, f[GEMM_INP_U8] != 0);
  return STATUS_OK;
}

static int gemm(machine_t *m, const int64_t *f) {
  for (int64_t y = 0; y < f[GEMM_ITER_OUT]; y++)
    for (int64_t x = 0; x < f[GEMM_ITER_IN]; x++) {
      int64_t dst = y * f[GEMM_DST_OUT] + x * f[GEMM_DST_IN];
      int64_t src = y * f[GEMM_SRC_OUT] + x * f[GEMM_SRC_IN];
      int64_t wgt = y * f[GEMM_WGT_OUT] + x * f[GEMM_WGT_IN];
      for (int64_t u = f[GEMM_UOP_BEGIN]; u < f[GEMM_UOP_END]; u++) {
        NEED(UOP, u);
        uint32_t word = m->uop[u];
        int status = gemm_step(m, f, dst + UOP_DST(word), src + UOP_SRC(word),
                               wgt + UOP_THIRD(word));
        if (status != STATUS_OK) return status;
      }
    }
  int64_t steps = f[GEMM_ITER_OUT] * f[GEMM_ITER_IN] * (f[GEMM_UOP_END] - f[GEMM_UOP_BEGIN]);
  m->count[COUNTER_MACS] += steps * m->block * m->block;
  m->count[COUNTER_UOP_READS] += steps;
  m->count[COUNTER_INP_READS] += steps;
  m->count[COUNTER_WGT_READS] += steps;
  m->count[COUNTER_ACC_READS] += f[GEMM_INIT] ? 0 : steps;
  m->count[COUNTER_ACC_WRITES] += steps;
  return STATUS_OK;
}

/* ---------------------------------------------------------------- VECTOR */

static int64_t scaled(const machine_t *m, int64_t value, int64_t reciprocal, int64_t shift) {
  return clipped(m, sum(rounding_shift(multiply(value, reciprocal), shift),
                        m->reg[REGISTER_ZERO_POINT]));
}

static int64_t looked_up(const machine_t *m, int64_t value) {
  int64_t index = clamp(value - m->reg[REGISTER_TABLE_LOW], 0, m->reg[REGISTER_TABLE_SIZE] - 1);
  return m->tbl[m->reg[REGISTER_TABLE_BASE] + index];
}

static int64_t requantized(const machine_t *m, int64_t b, const param_t *p) {
  return clipped(m, sum(sum(b * p->multiplier, p->offset) >> (p->second & 63),
                        m->reg[REGISTER_ZERO_POINT]));
}

static int reads_table(int64_t op) { return op == FUNCTION_LOOKUP || op == FUNCTION_REQ_LOOKUP; }

/* Functions whose result is one number a lane. */
static int64_t lane_value(const machine_t *m, int64_t op, int64_t a, int64_t b, const param_t *p,
                          const int32_t *row, int64_t reduced) {
  switch (op) {
    case FUNCTION_MOV: return clipped(m, b);
    case FUNCTION_MIN: return clipped(m, minimum(a, b));
    case FUNCTION_MAX: return clipped(m, maximum(a, b));
    case FUNCTION_ADD: return clipped(m, a + b);
    case FUNCTION_SUB: return clipped(m, a - b);
    case FUNCTION_MUL: return clipped(m, a * b);
    case FUNCTION_SHR: return clipped(m, rounding_shift(a, b & 31));
    case FUNCTION_REQ: return requantized(m, b, p);
    case FUNCTION_REQ_LOOKUP: return looked_up(m, requantized(m, b, p));
    case FUNCTION_SCALE_ADD:
      return clipped(m, sum(sum(sum(a * p->multiplier, b * p->second), p->offset) >>
                                m->reg[REGISTER_SHIFT],
                            m->reg[REGISTER_ZERO_POINT]));
    case FUNCTION_LOOKUP: return looked_up(m, b);
    case FUNCTION_ROW_SUM: return clipped(m, sum(a, reduced));
    case FUNCTION_ROW_MAX: return clipped(m, maximum(a, reduced));
    case FUNCTION_NORM:
      return clipped(m, rounding_shift(multiply(m->reg[REGISTER_COUNT] * b - row[0], row[1]),
                                       row[2]));
    case FUNCTION_RESCALE: return scaled(m, b, joined(row, 0), row[2]);
    default: return scaled(m, 256 * a + b, joined(row, 0), row[2]);
  }
}

static void set_entry(machine_t *m, int32_t *entry, int64_t a, int64_t b, int64_t c, int64_t d) {
  memset(entry, 0, 4 * m->block);
  entry[0] = (int32_t)a;
  entry[1] = (int32_t)b;
  entry[2] = (int32_t)c;
  entry[3] = (int32_t)d;
}

static void moments(machine_t *m, int32_t *dst, const int32_t *src) {
  int64_t s1 = joined(dst, 0), s2 = joined(dst, 2);
  for (int64_t lane = 0; lane < m->reg[REGISTER_LANES]; lane++) {
    s1 = sum(s1, src[lane]);
    s2 = sum(s2, (int64_t)src[lane] * src[lane]);
  }
  set_entry(m, dst, s1, s1 >> 32, s2, s2 >> 32);
}

static int root(machine_t *m, int32_t *dst, const int32_t *src) {
  int64_t s1 = joined(src, 0), s2 = joined(src, 2);
  int64_t v = sum(multiply(m->reg[REGISTER_COUNT], s2), -multiply(s1, s1));
  v = maximum(1, sum(v, m->reg[REGISTER_EPSILON]));
  if (v >= (int64_t)1 << 62) FAIL(STATUS_VARIANCE, v);
  int64_t z = (64 - bit_length(v)) & ~(int64_t)1;
  int64_t upper = (int64_t)(((uint64_t)v << z) >> 32);
  int64_t square = ((int64_t)1 << 62) / upper, found = 0;
  for (int bit = 16; bit >= 0; bit--) {
    int64_t candidate = found + ((int64_t)1 << bit);
    if (candidate * candidate <= square) found = candidate;
  }
  set_entry(m, dst, s1, found, 32 - z / 2, 0);
  return STATUS_OK;
}

static void reciprocal(machine_t *m, int32_t *dst, const int32_t *src) {
  int64_t l = maximum(src[0], 1), h = bit_length(l);
  int64_t value = rounding_divide(shift_left(m->reg[REGISTER_RESCALE_MULTIPLIER], h), l);
  set_entry(m, dst, value, value >> 32, h + m->reg[REGISTER_RESCALE_SHIFT], 0);
}

static int64_t reduced_row(const machine_t *m, int64_t op, const int32_t *src) {
  int64_t result = src[0];
  for (int64_t lane = 1; lane < m->reg[REGISTER_LANES]; lane++)
    result = op == FUNCTION_ROW_SUM ? result + src[lane] : maximum(result, src[lane]);
  return result;
}

static int is_binary(int64_t op) { return (FUNCTION_BINARY_MASK >> op) & 1; }
static int is_row(int64_t op) { return (FUNCTION_ROW_MASK >> op) & 1; }
static int is_parameter(int64_t op) { return (FUNCTION_PARAMETER_MASK >> op) & 1; }

static int vector_ranges(machine_t *m, const int64_t *f, int64_t dst, int64_t src, int64_t third) {
  int64_t op = f[VECTOR_OP], to_inputs = f[VECTOR_TARGET] == TARGET_INP;
  if (dst >= m->entries[to_inputs ? BUFFER_INP : BUFFER_ACC]) FAIL(STATUS_DST_RANGE, dst);
  if (is_binary(op)) NEED(ACC, dst);
  if (f[VECTOR_OPERAND] == OPERAND_ACC) {
    if (src >= m->entries[BUFFER_ACC]) FAIL(STATUS_SRC_RANGE, src);
    NEED(ACC, src);
  }
  if (is_row(op)) {
    if (third >= m->entries[BUFFER_ACC]) FAIL(STATUS_THIRD_RANGE, third);
    NEED(ACC, third);
  }
  if (is_parameter(op) || f[VECTOR_OPERAND] == OPERAND_PRM) {
    if (third >= m->entries[BUFFER_PRM]) FAIL(STATUS_THIRD_RANGE, third);
    NEED(PRM, third);
  }
  return STATUS_OK;
}

static void vector_lanes(machine_t *m, const int64_t *f, int64_t dst, int64_t src, int64_t third) {
  int64_t op = f[VECTOR_OP], operand = f[VECTOR_OPERAND], block = m->block;
  int64_t result[MAX_BLOCK];
  int32_t row[4] = {0, 0, 0, 0};
  const int32_t *old = m->acc + dst * block, *source = m->acc + src * block;
  const param_t *p = m->prm + third * block;
  if (is_row(op)) memcpy(row, m->acc + third * block, sizeof row);
  int64_t reduced = 0;
  if (op == FUNCTION_ROW_SUM || op == FUNCTION_ROW_MAX) reduced = reduced_row(m, op, source);
  for (int64_t lane = 0; lane < block; lane++) {
    int64_t a = is_binary(op) ? old[lane] : 0;
    int64_t b = operand == OPERAND_ACC   ? source[lane]
                : operand == OPERAND_IMM ? m->reg[REGISTER_IMMEDIATE]
                                         : p[lane].second;
    result[lane] = lane_value(m, op, a, b, p + lane, row, reduced);
  }
  if (f[VECTOR_TARGET] == TARGET_INP)
    for (int64_t lane = 0; lane < block; lane++) m->inp[dst * block + lane] = (int8_t)result[lane];
  else
    for (int64_t lane = 0; lane < block; lane++) m->acc[dst * block + lane] = (int32_t)result[lane];
}

static int vector_step(machine_t *m, const int64_t *f, int64_t dst, int64_t src, int64_t third) {
  int status = vector_ranges(m, f, dst, src, third);
  if (status != STATUS_OK) return status;
  int32_t *d = m->acc + dst * m->block, *s = m->acc + src * m->block;
  switch (f[VECTOR_OP]) {
    case FUNCTION_MOMENTS: moments(m, d, s); break;
    case FUNCTION_ROOT: status = root(m, d, s); break;
    case FUNCTION_RECIPROCAL: reciprocal(m, d, s); break;
    default: vector_lanes(m, f, dst, src, third);
  }
  m->written[f[VECTOR_TARGET] == TARGET_INP ? BUFFER_INP : BUFFER_ACC][dst] = 1;
  return status;
}

static int need_table(machine_t *m, int64_t size) {
  int64_t base = m->reg[REGISTER_TABLE_BASE];
  if (base + size > m->entries[BUFFER_TBL]) FAIL(STATUS_TABLE_RANGE, base + size);
  const uint8_t *hole = memchr(m->written[BUFFER_TBL] + base, 0, size);
  if (hole) FAIL(STATUS_UNWRITTEN_TBL, hole - m->written[BUFFER_TBL]);
  return STATUS_OK;
}

static void count_vector(machine_t *m, const int64_t *f) {
  int64_t op = f[VECTOR_OP];
  int64_t steps = f[VECTOR_ITER_OUT] * f[VECTOR_ITER_IN] * (f[VECTOR_UOP_END] - f[VECTOR_UOP_BEGIN]);
  int64_t reads = is_binary(op) + is_row(op) + (f[VECTOR_OPERAND] == OPERAND_ACC);
  m->count[COUNTER_UOP_READS] += steps;
  m->count[COUNTER_ACC_READS] += steps * reads;
  m->count[COUNTER_PRM_READS] += steps * (is_parameter(op) || f[VECTOR_OPERAND] == OPERAND_PRM);
  m->count[COUNTER_TBL_READS] += reads_table(op) ? steps * m->block : 0;
  m->count[f[VECTOR_TARGET] == TARGET_INP ? COUNTER_INP_WRITES : COUNTER_ACC_WRITES] += steps;
}

static int vector(machine_t *m, const int64_t *f) {
  int status = STATUS_OK;
  if (reads_table(f[VECTOR_OP])) status = need_table(m, m->reg[REGISTER_TABLE_SIZE]);
  if (status != STATUS_OK) return status;
  for (int64_t y = 0; y < f[VECTOR_ITER_OUT]; y++)
    for (int64_t x = 0; x < f[VECTOR_ITER_IN]; x++) {
      int64_t dst = y * f[VECTOR_DST_OUT] + x * f[VECTOR_DST_IN];
      int64_t src = y * f[VECTOR_SRC_OUT] + x * f[VECTOR_SRC_IN];
      int64_t third = y * f[VECTOR_THIRD_OUT] + x * f[VECTOR_THIRD_IN];
      for (int64_t u = f[VECTOR_UOP_BEGIN]; u < f[VECTOR_UOP_END]; u++) {
        NEED(UOP, u);
        uint32_t word = m->uop[u];
        status = vector_step(m, f, dst + UOP_DST(word), src + UOP_SRC(word),
                             third + UOP_THIRD(word));
        if (status != STATUS_OK) return status;
      }
    }
  count_vector(m, f);
  return STATUS_OK;
}

/* ---------------------------------------------------------------- SOFTMAX */

static int64_t table_word(const machine_t *m, int64_t index) {
  return (uint16_t)m->tbl[m->reg[REGISTER_TABLE_BASE] + index];
}

static int64_t grid_weight(const machine_t *m, int64_t kind, int64_t d) {
  int64_t f_bits = m->reg[REGISTER_FRACTION_BITS], w = m->reg[REGISTER_WEIGHT_BITS];
  int64_t offset = m->reg[REGISTER_OFFSET];
  if (m->reg[REGISTER_GRID_MULTIPLIER]) {
    d = minimum(rounding_shift(d, m->reg[REGISTER_GRID_PRE_SHIFT]), 32767);
    d = rounding_shift(d * m->reg[REGISTER_GRID_MULTIPLIER], m->reg[REGISTER_GRID_SHIFT]);
  }
  d = minimum(d, ((w + 1) << f_bits) - 1);
  int64_t octave = d >> f_bits, f = d & (((int64_t)1 << f_bits) - 1);
  if (kind == EXPONENTIAL_TABLE)
    return (table_word(m, 2 * f) | table_word(m, 2 * f + 1) << 16) >> octave;
  return maximum(shift_left(offset - f, maximum(w - bit_length(offset), 0)), 0) >> octave;
}

static int64_t stepped_weight(const machine_t *m, int64_t kind, int64_t d) {
  int64_t w = m->reg[REGISTER_WEIGHT_BITS], period = m->reg[REGISTER_PERIOD];
  int64_t shift = m->reg[REGISTER_LOGIT_SHIFT], limit = (w + 1) * period - 1;
  if (shift < 0)
    d = rounding_shift(d, -shift);
  else
    d = minimum(d, (limit >> shift) + 1) << shift;
  d = minimum(d, limit);
  int64_t octave = d / period, r = d % period, z = m->reg[REGISTER_OFFSET] - r;
  int64_t top = m->reg[REGISTER_OFFSET];
  if (kind == EXPONENTIAL_POLY2) {
    top = m->reg[REGISTER_CONSTANT];
    z = top - r * z;
  }
  int64_t spare = w - bit_length(top);
  return maximum(shift_left(z, maximum(spare, 0)), 0) >> (octave + maximum(-spare, 0));
}

static int64_t weight(const machine_t *m, int64_t kind, int64_t d) {
  switch (kind) {
    case EXPONENTIAL_WEIGHTS: return table_word(m, minimum(d, m->reg[REGISTER_TABLE_SIZE] - 1));
    case EXPONENTIAL_LINEAR_POT: case EXPONENTIAL_TABLE: return grid_weight(m, kind, d);
    default: return stepped_weight(m, kind, d);
  }
}

static int64_t log2_code(int64_t e, int64_t total) {
  if (e <= 0) return 15;
  int64_t limit = total + total / 3, code = bit_length(limit) - bit_length(e);
  code -= (e << code) > limit;
  return minimum(code, 15);
}

static int64_t probability(const machine_t *m, int64_t result, int64_t e, int64_t total,
                           int64_t row_multiplier) {
  int64_t h = bit_length(total), w = m->reg[REGISTER_WEIGHT_BITS];
  switch (result) {
    case RESULT_UINT8: return rounding_shift((e * row_multiplier) >> 16, h + 6 - w);
    case RESULT_LOG2: return log2_code(e, total);
    case RESULT_GRID: return scaled(m, e, row_multiplier, h + m->reg[REGISTER_RESCALE_SHIFT]);
    case RESULT_WEIGHT_WIDE: return e >> 8;
    default: return e;
  }
}

static int64_t row_multiplier(const machine_t *m, int64_t result, int64_t total) {
  int64_t h = bit_length(total), w = m->reg[REGISTER_WEIGHT_BITS];
  if (result == RESULT_UINT8) return rounding_divide(shift_left(255, h + 22 - w), total);
  if (result == RESULT_GRID)
    return rounding_divide(shift_left(m->reg[REGISTER_RESCALE_MULTIPLIER], h), total);
  return 0;
}

static void put(machine_t *m, int64_t target, int64_t entry, int64_t lane, int64_t value) {
  if (target == TARGET_INP)
    m->inp[entry * m->block + lane] = (int8_t)value;
  else
    m->acc[entry * m->block + lane] = (int32_t)value;
  m->written[target == TARGET_INP ? BUFFER_INP : BUFFER_ACC][entry] = 1;
}

static int softmax_row(machine_t *m, const int64_t *f, int64_t row) {
  int64_t e[MAX_ROW], n = f[SOFTMAX_LENGTH], block = m->block, result = f[SOFTMAX_RESULT];
  int64_t blocks = (n + block - 1) / block, entry = f[SOFTMAX_SRC] + row * f[SOFTMAX_SRC_STEP];
  const uint8_t *hole = memchr(m->written[BUFFER_ACC] + entry, 0, blocks);
  if (hole) FAIL(STATUS_UNWRITTEN_ACC, hole - m->written[BUFFER_ACC]);
  const int32_t *t = m->acc + entry * block;
  int64_t top = t[0], total = 0;
  for (int64_t j = 1; j < n; j++) top = maximum(top, t[j]);
  for (int64_t j = 0; j < n; j++) {
    e[j] = weight(m, f[SOFTMAX_EXPONENTIAL], minimum(top - t[j], INT32_MAX));
    if (f[SOFTMAX_EXPONENTIAL] == EXPONENTIAL_WEIGHTS && t[j] <= EXCLUDED) e[j] = 0;
    total += e[j];
  }
  if (total > INT32_MAX) FAIL(STATUS_LENGTH, n);
  int64_t dst = f[SOFTMAX_DST] + row * f[SOFTMAX_DST_STEP], target = f[SOFTMAX_TARGET];
  int64_t scale = row_multiplier(m, result, maximum(total, 1));
  for (int64_t j = 0; j < blocks * block; j++) {
    int64_t value = j < n ? probability(m, result, e[j], maximum(total, 1), scale) : 0;
    put(m, target, dst + j / block, j % block, value);
    if (result == RESULT_WEIGHT_WIDE)
      put(m, target, dst + f[SOFTMAX_PLANE] + j / block, j % block, j < n ? e[j] & 255 : 0);
  }
  if (result == RESULT_WEIGHT || result == RESULT_WEIGHT_WIDE) {
    set_entry(m, m->acc + (f[SOFTMAX_TOTAL] + row) * block, total, 0, 0, 0);
    m->written[BUFFER_ACC][f[SOFTMAX_TOTAL] + row] = 1;
    m->count[COUNTER_ACC_WRITES]++;
  }
  m->count[COUNTER_ACC_READS] += blocks;
  m->count[target == TARGET_INP ? COUNTER_INP_WRITES : COUNTER_ACC_WRITES] +=
      blocks * (result == RESULT_WEIGHT_WIDE ? 2 : 1);
  return STATUS_OK;
}

static int softmax(machine_t *m, const int64_t *f) {
  int64_t kind = f[SOFTMAX_EXPONENTIAL];
  int status = STATUS_OK;
  if (kind == EXPONENTIAL_WEIGHTS) status = need_table(m, m->reg[REGISTER_TABLE_SIZE]);
  if (kind == EXPONENTIAL_TABLE)
    status = need_table(m, (int64_t)2 << m->reg[REGISTER_FRACTION_BITS]);
  int tabulated = kind == EXPONENTIAL_WEIGHTS || kind == EXPONENTIAL_TABLE;
  for (int64_t row = 0; row < f[SOFTMAX_ROWS] && status == STATUS_OK; row++) {
    status = softmax_row(m, f, row);
    if (tabulated)
      m->count[COUNTER_TBL_READS] += f[SOFTMAX_LENGTH] * (kind == EXPONENTIAL_TABLE ? 2 : 1);
  }
  return status;
}

int hyq_execute(machine_t *m, const int64_t *f) {
  switch (f[0]) {
    case OPCODE_LOAD: return load(m, f);
    case OPCODE_STORE: return store(m, f);
    case OPCODE_GEMM: return gemm(m, f);
    case OPCODE_VECTOR: return vector(m, f);
    case OPCODE_SOFTMAX: return softmax(m, f);
    case OPCODE_SET: m->reg[f[SET_REGISTER]] = f[SET_VALUE]; return STATUS_OK;
    default: return STATUS_OK;
  }
}
