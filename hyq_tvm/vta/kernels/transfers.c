/* LOAD and STORE. */
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
