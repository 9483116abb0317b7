// Runs CUDA kernels on the CPU: every thread of a block is a fiber, blocks run one after the other.
//
// Comes before the kernels' source (HYQ_EMULATED). Fibers give way only where CUDA's threads meet,
// so that a missing meeting shows as a wrong result, in one of the two orders at least.

#define HYQ_EMULATED
#define HYQ_INLINE static inline
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline
#define alignas(n) __attribute__((aligned(n)))  // g++ wants alignas before static

extern "C" {
void* malloc(unsigned long);
void* memcpy(void*, const void*, unsigned long);
float nearbyintf(float);
void hyq_switch(void** save, void* load);
}

asm(R"(
.text
.globl hyq_switch
.hidden hyq_switch
hyq_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

namespace hyq {

constexpr int kWarp = 32, kThreads = 1024, kStack = 1 << 15, kCopies = 256, kGroups = 16;

struct Index {
  unsigned x, y, z;
};
struct Copy {
  void* target;
  const void* source;
  int bytes;
};
struct Fiber {
  void* stack_pointer;
  Index index;
  int number;
  bool done;
  int meetings;                  // of its warp
  Copy copies[kCopies];          // issued, not yet arrived
  int issued, groups, ends[kGroups];
};

static Fiber fibers[kThreads];
static Fiber* current;
static void* home;
static int threads, live, step = 1;
static Index block_index, block_size, grid_size;
static void (*body)(void**);
static void** arguments;

static int waiting, generation;
static int warp_waiting[kWarp], warp_generation[kWarp], warp_live[kWarp];
static const void* slots[2][kThreads];

static void give_way() {
  Fiber* self = current;
  int next = self->number;
  do {
    next = (next + step + threads) % threads;
  } while (fibers[next].done);
  if (next == self->number) return;
  current = &fibers[next];
  hyq_switch(&self->stack_pointer, current->stack_pointer);
}

static void meet_block() {
  int mine = generation;
  if (++waiting == live) {
    waiting = 0;
    ++generation;
    return;
  }
  while (mine == generation) give_way();
}

static void meet_warp() {
  int warp = current->number / kWarp, mine = warp_generation[warp];
  if (++warp_waiting[warp] == warp_live[warp]) {
    warp_waiting[warp] = 0;
    ++warp_generation[warp];
    return;
  }
  while (mine == warp_generation[warp]) give_way();
}

// What every lane of the warp brought to this meeting.
static const void* const* exchange(const void* value) {
  const void** table = slots[current->meetings++ & 1];
  table[current->number] = value;
  meet_warp();
  return table + current->number / kWarp * kWarp;
}

static void arrive(Fiber* f, int pending) {
  int ready = f->groups - pending;
  if (ready <= 0) return;
  for (int i = 0; i < f->ends[ready - 1]; ++i) {
    memcpy(f->copies[i].target, f->copies[i].source, f->copies[i].bytes);
  }
  int done = f->ends[ready - 1];
  for (int i = done; i < f->issued; ++i) f->copies[i - done] = f->copies[i];
  for (int i = ready; i < f->groups; ++i) f->ends[i - ready] = f->ends[i] - done;
  f->issued -= done;
  f->groups -= ready;
}

static void entry() {
  body(arguments);
  Fiber* self = current;
  self->done = true;
  --live;
  int warp = self->number / kWarp;
  if (live && waiting == live) waiting = 0, ++generation;
  if (--warp_live[warp] && warp_waiting[warp] == warp_live[warp]) {
    warp_waiting[warp] = 0, ++warp_generation[warp];
  }
  void* forgotten;
  if (live == 0) hyq_switch(&forgotten, home);
  int next = self->number;
  do {
    next = (next + step + threads) % threads;
  } while (fibers[next].done);
  current = &fibers[next];
  hyq_switch(&forgotten, current->stack_pointer);
}

static void prepare() {
  static char* stacks = static_cast<char*>(malloc(static_cast<unsigned long>(kThreads) * kStack));
  for (int i = 0; i < kWarp; ++i) warp_live[i] = warp_waiting[i] = 0;
  waiting = 0;
  live = threads;
  for (int i = 0; i < threads; ++i) {
    Fiber& f = fibers[i];
    f.index = {i % block_size.x, i / block_size.x % block_size.y,
               i / (block_size.x * block_size.y)};
    f.number = i;
    f.done = false;
    f.meetings = f.issued = f.groups = 0;
    ++warp_live[i / kWarp];
    void** top = reinterpret_cast<void**>(stacks + static_cast<long>(i + 1) * kStack - 72);
    *top = nullptr;  // where entry would return to
    *--top = reinterpret_cast<void*>(&entry);
    f.stack_pointer = top - 6;
  }
}

static void launch(void (*kernel)(void**), const unsigned* sizes, void** passed, int order) {
  body = kernel;
  arguments = passed;
  grid_size = {sizes[0], sizes[1], sizes[2]};
  block_size = {sizes[3], sizes[4], sizes[5]};
  threads = sizes[3] * sizes[4] * sizes[5];
  step = order;
  for (unsigned z = 0; z < sizes[2]; ++z) {
    for (unsigned y = 0; y < sizes[1]; ++y) {
      for (unsigned x = 0; x < sizes[0]; ++x) {
        block_index = {x, y, z};
        prepare();
        current = &fibers[order > 0 ? 0 : threads - 1];
        hyq_switch(&home, current->stack_pointer);
      }
    }
  }
}

template <unsigned long... I>
struct Indices {};

template <class... A, unsigned long... I>
static void apply(void (*kernel)(A...), void** passed, Indices<I...>) {
  kernel(*static_cast<A*>(passed[I])...);
}

template <class... A>
static void call(void (*kernel)(A...), void** passed) {
  apply(kernel, passed, Indices<__integer_pack(sizeof...(A))...>());
}

template <class... A>
static int count(void (*)(A...)) {
  return sizeof...(A);
}

}  // namespace hyq

#define HYQ_KERNEL(name)                                                      \
  static void name##_body(void** passed) { hyq::call(name, passed); }         \
  extern "C" int name##_count() { return hyq::count(name); }                  \
  extern "C" void name##_run(const unsigned* sizes, void** passed, int order) { \
    hyq::launch(name##_body, sizes, passed, order);                           \
  }

#define threadIdx (hyq::current->index)
#define blockIdx hyq::block_index
#define blockDim hyq::block_size
#define gridDim hyq::grid_size
#define __syncthreads() hyq::meet_block()
#define __syncwarp(...) hyq::meet_warp()

template <class T>
static inline T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
static inline T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
static inline T __ldg(const T* p) {
  return *p;
}

static inline int hyq_dot4(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) {
    c += static_cast<signed char>(a >> i) * static_cast<signed char>(b >> i);
  }
  return c;
}
static inline int hyq_dot4_us(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) {
    c += static_cast<unsigned char>(a >> i) * static_cast<signed char>(b >> i);
  }
  return c;
}

// PTX ISA, "Matrix fragments for mma.m16n8k32": lane 4g+t holds rows g and g+8 of A, column g of B.
template <int (*dot)(int, int, int)>
static inline void hyq_mma_any(int* c, const int* a, const int* b) {
  int mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const void* const* lanes = hyq::exchange(mine);
  auto of = [&](int lane, int i) { return static_cast<const int*>(lanes[lane])[i]; };
  int lane = hyq::current->number % hyq::kWarp, g = lane / 4, t = lane % 4;
  int sums[4] = {c[0], c[1], c[2], c[3]};
  for (int i = 0; i < 4; ++i) {
    int half = i / 2, column = 2 * t + i % 2;
    for (int k = 0; k < 4; ++k) {
      sums[i] = dot(of(4 * g + k, half), of(4 * column + k, 4), sums[i]);
      sums[i] = dot(of(4 * g + k, 2 + half), of(4 * column + k, 5), sums[i]);
    }
  }
  hyq::meet_warp();  // fragments live on their lanes' stacks until everybody has read them
  for (int i = 0; i < 4; ++i) c[i] = sums[i];
}
static inline void hyq_mma(int* c, const int* a, const int* b) { hyq_mma_any<hyq_dot4>(c, a, b); }
static inline void hyq_mma_us(int* c, const int* a, const int* b) {
  hyq_mma_any<hyq_dot4_us>(c, a, b);
}

// PTX ISA, ldmatrix: lanes 8i to 8i+7 name the rows of matrix i; lane 4g+t gets word t of row g.
static inline void hyq_load_matrices(int* d, const signed char* row) {
  const void* const* rows = hyq::exchange(row);
  int lane = hyq::current->number % hyq::kWarp;
  for (int i = 0; i < 4; ++i) {
    memcpy(d + i, static_cast<const char*>(rows[8 * i + lane / 4]) + 4 * (lane % 4), 4);
  }
}

template <int kBytes>
static inline void hyq_copy(signed char* target, const signed char* source) {
  static_assert(kBytes <= 16);
  if (reinterpret_cast<unsigned long>(target) % kBytes ||
      reinterpret_cast<unsigned long>(source) % kBytes || hyq::current->issued == hyq::kCopies) {
    __builtin_trap();  // misaligned, or more than the emulator holds
  }
  hyq::current->copies[hyq::current->issued++] = {target, source, kBytes};
}
static inline void hyq_copy_commit() {
  if (hyq::current->groups == hyq::kGroups) __builtin_trap();
  hyq::current->ends[hyq::current->groups++] = hyq::current->issued;
}
template <int kPending>
static inline void hyq_copy_wait() {
  hyq::arrive(hyq::current, kPending);
}

static inline int hyq_exchange(int value, int mask) {
  int mine = value;
  const void* const* lanes = hyq::exchange(&mine);
  int other = *static_cast<const int*>(lanes[hyq::current->number % hyq::kWarp ^ mask]);
  hyq::meet_warp();
  return other;
}
static inline long long hyq_exchange_wide(long long value, int mask) {
  long long mine = value;
  const void* const* lanes = hyq::exchange(&mine);
  long long other = *static_cast<const long long*>(lanes[hyq::current->number % hyq::kWarp ^ mask]);
  hyq::meet_warp();
  return other;
}

static inline int hyq_high_product(int a, int b) {
  return static_cast<int>(static_cast<long long>(a) * b >> 32);
}
static inline int __clzll(long long value) { return value ? __builtin_clzll(value) : 64; }
static inline int __clz(int value) { return value ? __builtin_clz(value) : 32; }
static inline int hyq_leading_zeros(long long value) { return __clzll(value); }

static inline int hyq_pick(int a, int b, int order) {
  unsigned long long both = static_cast<unsigned>(a) | static_cast<unsigned long long>(b) << 32;
  unsigned picked = 0;
  for (int i = 0; i < 4; ++i) {
    picked |= static_cast<unsigned>(both >> 8 * (order >> 4 * i & 7) & 255) << 8 * i;
  }
  return static_cast<int>(picked);
}

struct int2 {
  int x, y;
};
struct int4 {
  int x, y, z, w;
};
