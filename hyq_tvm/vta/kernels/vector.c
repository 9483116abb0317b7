/* VECTOR. */
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
