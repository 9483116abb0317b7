/* The one function that Python calls. */
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
