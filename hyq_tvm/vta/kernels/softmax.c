/* SOFTMAX. */
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
