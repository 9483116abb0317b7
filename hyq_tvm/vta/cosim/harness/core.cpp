// A program on the core, with a memory behind its ports: every read is answered `latency` cycles
// later in order, loads and stores share one data port of a beat a cycle, instructions have their own.
#include <cstring>
#include <deque>
#include MODEL_HEADER
#include MODEL_ROOT_HEADER
#include "ports.h"

struct core_run_t {
  uint8_t *dram;
  int64_t dram_bytes, program, count, latency, patience;
  int64_t *starts, *ends;  // [3][count], by unit in the order of its instructions
  void *memories[6];       // uop, inp, wgt, acc, tbl, prm; set before and read after a run
  int64_t memory_bytes[6];
  int64_t backdoor, cycles;
};

enum { kDone = 0, kHung = 1, kOpcode = 2 };

namespace {

struct Reads {
  struct Pending { int64_t due, address; };
  std::deque<Pending> queue;
  bool due(int64_t now) const { return !queue.empty() && queue.front().due <= now; }
};

template <typename T> void fetch(const core_run_t &run, int64_t address, T &port) {
  for (int i = 0; i < BUS_BYTES; i++) {
    uint8_t byte = address + i < run.dram_bytes ? run.dram[address + i] : 0;
    put_bits(port, 8 * i, 8, byte);
  }
}

template <typename Memory> void move(Memory &memory, void *data, int64_t bytes, bool in) {
  void *cells = &memory[0];
  in ? memcpy(cells, data, bytes) : memcpy(data, cells, bytes);
}

// Words of the table lie in two memories, even and odd ones.
template <typename Memory>
void move_table(Memory &even, Memory &odd, uint16_t *data, int64_t words, bool in) {
  for (int64_t i = 0; i < words; i++) {
    auto &cell = (i % 2 ? odd : even)[i / 2];
    in ? (void)(cell = data[i]) : (void)(data[i] = cell);
  }
}

// Accumulators lie in four banks: pairs of an entry's bits, added without carry, say in which.
template <typename Memory>
void move_banks(Memory *const banks[4], void *data, int64_t bytes, bool in) {
  const int64_t size = sizeof((*banks[0])[0]);
  for (int64_t entry = 0; entry * size < bytes; entry++) {
    int bank = 0;
    for (int64_t bits = entry; bits; bits >>= 2) bank ^= bits & 3;
    void *cell = &(*banks[bank])[entry >> 2], *place = static_cast<char *>(data) + entry * size;
    in ? memcpy(cell, place, size) : memcpy(place, cell, size);
  }
}

void exchange(Model &core, core_run_t &run, bool in) {
  auto &root = *core.rootp;
  move(root.hyq_core__DOT__u_uop__DOT__cells, run.memories[0], run.memory_bytes[0], in);
  move(root.hyq_core__DOT__u_inp__DOT__cells, run.memories[1], run.memory_bytes[1], in);
  move(root.hyq_core__DOT__u_wgt__DOT__cells, run.memories[2], run.memory_bytes[2], in);
  auto *first = &root.hyq_core__DOT__u_acc__DOT__gen_bank__BRA__0__KET____DOT__u_ram__DOT__cells;
  decltype(first) const banks[4] = {
      first, &root.hyq_core__DOT__u_acc__DOT__gen_bank__BRA__1__KET____DOT__u_ram__DOT__cells,
      &root.hyq_core__DOT__u_acc__DOT__gen_bank__BRA__2__KET____DOT__u_ram__DOT__cells,
      &root.hyq_core__DOT__u_acc__DOT__gen_bank__BRA__3__KET____DOT__u_ram__DOT__cells};
  move_banks(banks, run.memories[3], run.memory_bytes[3], in);
  move_table(root.hyq_core__DOT__u_tbl__DOT__u_even__DOT__cells,
             root.hyq_core__DOT__u_tbl__DOT__u_odd__DOT__cells,
             static_cast<uint16_t *>(run.memories[4]), run.memory_bytes[4] / 2, in);
  move(root.hyq_core__DOT__u_prm__DOT__cells, run.memories[5], run.memory_bytes[5], in);
}

class Bench {
 public:
  Bench(Model &core, core_run_t &run) : core_(core), run_(run) {}

  void cycle() {
    core_.clk_i = 0;
    offer();
    core_.eval();
    arbitrate();
    take();
    core_.clk_i = 1;
    core_.eval();
    now_++;
  }

  int64_t now() const { return now_; }
  int64_t quiet() const { return now_ - last_event_; }

 private:
  // Answers that are due.
  void offer() {
    core_.insn_ar_ready_i = core_.ar_ready_i = 1;
    core_.insn_r_valid_i = insns_.due(now_);
    if (core_.insn_r_valid_i) fetch(run_, insns_.queue.front().address, core_.insn_r_data_i);
    core_.r_valid_i = loads_.due(now_);
    if (core_.r_valid_i) fetch(run_, loads_.queue.front().address, core_.r_data_i);
    core_.b_valid_i = !confirmed_.empty() && confirmed_.front() <= now_;
    if (core_.b_valid_i) confirmed_.pop_front();
    core_.w_ready_i = 0;
  }

  // One beat a cycle for loads and stores together; turns where both want it.
  void arbitrate() {
    bool read = core_.r_valid_i && core_.r_ready_o, write = core_.w_valid_o;
    if (read && write && was_read_) {
      read = false;
      core_.r_valid_i = 0;
    }
    core_.w_ready_i = !read;
    if (read || write) was_read_ = read;
    core_.eval();
  }

  // What was agreed on in this cycle.
  void take() {
    if (core_.insn_ar_valid_o) insns_.queue.push_back({now_ + run_.latency, core_.insn_ar_address_o});
    if (core_.insn_r_valid_i && core_.insn_r_ready_o) insns_.queue.pop_front();
    if (core_.ar_valid_o) loads_.queue.push_back({now_ + run_.latency, core_.ar_address_o});
    if (core_.r_valid_i && core_.r_ready_o) loads_.queue.pop_front();
    if (core_.w_valid_o && core_.w_ready_i) {
      for (int i = 0; i < BUS_BYTES; i++) {
        int64_t address = core_.w_address_o + i;
        if (get_bits(core_.w_strobe_o, i, 1) && address < run_.dram_bytes)
          run_.dram[address] = get_bits(core_.w_data_o, 8 * i, 8);
      }
      confirmed_.push_back(now_ + run_.latency);
    }
    for (int unit = 0; unit < 3; unit++) {
      if (core_.trace_start_o >> unit & 1) run_.starts[unit * run_.count + started_[unit]++] = now_;
      if (core_.trace_done_o >> unit & 1) run_.ends[unit * run_.count + ended_[unit]++] = now_ + 1;
    }
    if (core_.trace_start_o || core_.trace_done_o || core_.r_ready_o || core_.w_valid_o)
      last_event_ = now_;
  }

  Model &core_;
  core_run_t &run_;
  Reads insns_, loads_;
  std::deque<int64_t> confirmed_;
  bool was_read_ = false;
  int64_t now_ = 0, last_event_ = 0;
  int64_t started_[3] = {0, 0, 0}, ended_[3] = {0, 0, 0};
};

}  // namespace

extern "C" __attribute__((visibility("default"))) int hyq_core_run(core_run_t *run) {
  VerilatedContext context;
  Model core{&context};
  core.start_i = 0;
  core.address_i = run->program;
  core.count_i = run->count;
  core.rst_ni = 0;
  core.insn_r_valid_i = core.r_valid_i = core.b_valid_i = core.w_ready_i = 0;
  for (int i = 0; i < 4; i++) {
    core.clk_i = 0;
    core.eval();
    core.clk_i = 1;
    core.eval();
  }
  core.rst_ni = 1;
  if (run->backdoor) exchange(core, *run, true);
  Bench bench(core, *run);
  core.start_i = 1;
  bench.cycle();
  core.start_i = 0;
  while (!core.done_o && !core.error_o && bench.quiet() < run->patience) bench.cycle();
  run->cycles = bench.now();
  if (run->backdoor) exchange(core, *run, false);
  return core.done_o ? kDone : core.error_o ? kOpcode : kHung;
}
