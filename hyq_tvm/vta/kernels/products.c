/* GEMM. */
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
