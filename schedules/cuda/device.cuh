// What every file of kernels starts with: types without headers, and the instructions that TVM's
// code generator has no words for. Each function names its definition in the PTX manual.
//
// HYQ_EMULATED: the same functions are defined by a host that runs kernels thread by thread.

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
#if defined(__CUDACC__) && !defined(__CUDACC_RTC__)
// nvcc reads the host's headers first, in which these names may be another type of the same size.
typedef long long hyq_int64;
typedef unsigned long long hyq_uint64;
#define int64_t hyq_int64
#define uint64_t hyq_uint64
#else
typedef long long int64_t;
typedef unsigned long long uint64_t;
#endif
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;

#ifndef HYQ_EMULATED
#define HYQ_INLINE __device__ __forceinline__

// Four products of int8 and their sum (dp4a.s32.s32).
HYQ_INLINE int hyq_dot4(int a, int b, int c) { return __dp4a(a, b, c); }

// Four products of uint8 a and int8 b and their sum (dp4a.u32.s32).
HYQ_INLINE int hyq_dot4_us(int a, int b, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// 16x8 sums += 16x32 int8 times 32x8 int8 (mma.m16n8k32), fragments as that has them; before sm_80
// four times mma.m8n8k16, whose fragments are the quarters of the large ones.
template <bool kUnsigned>
HYQ_INLINE void hyq_mma_any(int* c, const int* a, const int* b) {
#if __CUDA_ARCH__ >= 800
  if (kUnsigned) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#else
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int* d = c + 2 * (i & 1);
    if (kUnsigned) {
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                   : "+r"(d[0]), "+r"(d[1])
                   : "r"(a[i]), "r"(b[i >> 1]));
    } else {
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                   : "+r"(d[0]), "+r"(d[1])
                   : "r"(a[i]), "r"(b[i >> 1]));
    }
  }
#endif
}

HYQ_INLINE void hyq_mma(int* c, const int* a, const int* b) { hyq_mma_any<false>(c, a, b); }
HYQ_INLINE void hyq_mma_us(int* c, const int* a, const int* b) { hyq_mma_any<true>(c, a, b); }

// Four 8x16 tiles of bytes to fragments, one row of 16 bytes a lane (ldmatrix.x4).
HYQ_INLINE void hyq_load_matrices(int* d, const signed char* row) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(address));
}

// kBytes from global to shared memory, without a stop where the architecture can (cp.async).
template <int kBytes>
HYQ_INLINE void hyq_copy(signed char* target, const signed char* source) {
#if __CUDA_ARCH__ >= 800
  if (kBytes >= 4) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(target));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(source),
                 "n"(kBytes >= 4 ? kBytes : 4)
                 : "memory");
    return;
  }
#endif
  if (kBytes == 16) {
    *reinterpret_cast<int4*>(target) = *reinterpret_cast<const int4*>(source);
  } else if (kBytes == 8) {
    *reinterpret_cast<int2*>(target) = *reinterpret_cast<const int2*>(source);
  } else if (kBytes == 4) {
    *reinterpret_cast<int*>(target) = *reinterpret_cast<const int*>(source);
  } else if (kBytes == 2) {
    *reinterpret_cast<short*>(target) = *reinterpret_cast<const short*>(source);
  } else {
    *target = *source;
  }
}

HYQ_INLINE void hyq_copy_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most kPending committed groups of this thread's copies are under way.
template <int kPending>
HYQ_INLINE void hyq_copy_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// The value of another lane of the warp (shfl.sync.bfly).
HYQ_INLINE int hyq_exchange(int value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
HYQ_INLINE int64_t hyq_exchange_wide(int64_t value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

HYQ_INLINE int hyq_high_product(int a, int b) { return __mulhi(a, b); }
HYQ_INLINE int hyq_leading_zeros(int64_t value) { return __clzll(value); }
HYQ_INLINE int hyq_pick(int a, int b, int order) { return __byte_perm(a, b, order); }
#endif  // HYQ_EMULATED

HYQ_INLINE void hyq_copy_1(signed char* t, const signed char* s) { hyq_copy<1>(t, s); }
HYQ_INLINE void hyq_copy_2(signed char* t, const signed char* s) { hyq_copy<2>(t, s); }
HYQ_INLINE void hyq_copy_4(signed char* t, const signed char* s) { hyq_copy<4>(t, s); }
HYQ_INLINE void hyq_copy_8(signed char* t, const signed char* s) { hyq_copy<8>(t, s); }
HYQ_INLINE void hyq_copy_16(signed char* t, const signed char* s) { hyq_copy<16>(t, s); }

// The same from `spare` where there is nothing to copy.
template <int kBytes>
HYQ_INLINE void hyq_copy_or(signed char* t, const signed char* s, const signed char* spare,
                            bool exists) {
  hyq_copy<kBytes>(t, exists ? s : spare);
}
HYQ_INLINE void hyq_copy_or_1(signed char* t, const signed char* s, const signed char* p, bool e) {
  hyq_copy_or<1>(t, s, p, e);
}
HYQ_INLINE void hyq_copy_or_2(signed char* t, const signed char* s, const signed char* p, bool e) {
  hyq_copy_or<2>(t, s, p, e);
}
HYQ_INLINE void hyq_copy_or_4(signed char* t, const signed char* s, const signed char* p, bool e) {
  hyq_copy_or<4>(t, s, p, e);
}
HYQ_INLINE void hyq_copy_or_8(signed char* t, const signed char* s, const signed char* p, bool e) {
  hyq_copy_or<8>(t, s, p, e);
}
HYQ_INLINE void hyq_copy_or_16(signed char* t, const signed char* s, const signed char* p, bool e) {
  hyq_copy_or<16>(t, s, p, e);
}
HYQ_INLINE void hyq_copy_wait_0() { hyq_copy_wait<0>(); }
HYQ_INLINE void hyq_copy_wait_1() { hyq_copy_wait<1>(); }
HYQ_INLINE void hyq_copy_wait_2() { hyq_copy_wait<2>(); }

HYQ_INLINE int hyq_row_max(int value, int lanes) {
  for (int mask = lanes >> 1; mask > 0; mask >>= 1) {
    int other = hyq_exchange(value, mask);
    value = other > value ? other : value;
  }
  return value;
}
HYQ_INLINE int hyq_row_sum(int value, int lanes) {
  for (int mask = lanes >> 1; mask > 0; mask >>= 1) value += hyq_exchange(value, mask);
  return value;
}
HYQ_INLINE int64_t hyq_row_sum_wide(int64_t value, int lanes) {
  for (int mask = lanes >> 1; mask > 0; mask >>= 1) value += hyq_exchange_wide(value, mask);
  return value;
}

// Four bytes with `low` in the lowest.
HYQ_INLINE int hyq_pack(int low, int second, int third, int high) {
  return (low & 255) | ((second & 255) << 8) | ((third & 255) << 16) | (high << 24);
}
HYQ_INLINE int hyq_pack_pair(int low, int high) { return (low & 0xffff) | (high << 16); }

// (v * m + half of 2^s) >> s, in 64 bits.
HYQ_INLINE int64_t hyq_requantize(int v, int m, int s) {
  int64_t product = static_cast<int64_t>(v) * m;
  return (product + (static_cast<int64_t>(1) << (s - 1))) >> s;
}

// Words that lie together in global memory.
HYQ_INLINE void hyq_read_4(int* d, const void* p) { d[0] = *static_cast<const int*>(p); }
HYQ_INLINE void hyq_read_8(int* d, const void* p) {
  int2 v = *static_cast<const int2*>(p);
  d[0] = v.x;
  d[1] = v.y;
}
HYQ_INLINE void hyq_read_16(int* d, const void* p) {
  int4 v = *static_cast<const int4*>(p);
  d[0] = v.x;
  d[1] = v.y;
  d[2] = v.z;
  d[3] = v.w;
}
// Four channels' sums += the products of one word with a word of each.
HYQ_INLINE void hyq_dot4x4(int* sums, int a, const signed char* weights) {
  int w[4];
  hyq_read_16(w, weights);
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] = hyq_dot4(a, w[i], sums[i]);
}
// Four channels' sums += the products of the bytes of two words.
HYQ_INLINE void hyq_four_products(int* sums, int a, int b) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sums[i] += static_cast<signed char>(a >> 8 * i) * static_cast<signed char>(b >> 8 * i);
  }
}
HYQ_INLINE void hyq_write_4(void* p, int a) { *static_cast<int*>(p) = a; }
HYQ_INLINE void hyq_write_8(void* p, int a, int b) { *static_cast<int2*>(p) = int2{a, b}; }
HYQ_INLINE void hyq_write_16(void* p, int a, int b, int c, int d) {
  *static_cast<int4*>(p) = int4{a, b, c, d};
}

// Four words of four bytes, turned.
HYQ_INLINE void hyq_turn(int* d) {
  int a = hyq_pick(d[0], d[1], 0x5140), b = hyq_pick(d[2], d[3], 0x5140);
  int e = hyq_pick(d[0], d[1], 0x7362), f = hyq_pick(d[2], d[3], 0x7362);
  d[0] = hyq_pick(a, b, 0x5410);
  d[1] = hyq_pick(a, b, 0x7632);
  d[2] = hyq_pick(e, f, 0x5410);
  d[3] = hyq_pick(e, f, 0x7632);
}

// AT5: the bits of a row's sum, and its multiplier with one division.
HYQ_INLINE int hyq_row_bits(int sum) { return 64 - hyq_leading_zeros(sum > 1 ? sum : 1); }
HYQ_INLINE int64_t hyq_row_multiplier(int sum, int multiplier) {
  int64_t whole = sum > 1 ? sum : 1;
  return ((static_cast<int64_t>(multiplier) << hyq_row_bits(sum)) + (whole >> 1)) / whole;
}
HYQ_INLINE int64_t hyq_shift_wide(int64_t v, int s) {
  return (v + (static_cast<int64_t>(1) << (s - 1))) >> s;
}

// LN2, LN3: variance, inverse root and the shift that goes with it.
HYQ_INLINE int64_t hyq_square(int v) { return static_cast<int64_t>(v) * v; }
HYQ_INLINE int64_t hyq_norm_variance(int sum, int64_t squares, int count, int64_t epsilon) {
  int64_t v = squares * count - static_cast<int64_t>(sum) * sum + epsilon;
  return v > 1 ? v : 1;
}
HYQ_INLINE int hyq_norm_zeros(int64_t variance) { return hyq_leading_zeros(variance) & ~1; }
HYQ_INLINE int hyq_norm_root(int64_t variance) {
  uint64_t v = (static_cast<uint64_t>(variance) << hyq_norm_zeros(variance)) >> 32;
  uint64_t square = (static_cast<uint64_t>(1) << 62) / v;
  uint64_t root = 0;
#pragma unroll
  for (int bit = 16; bit >= 0; --bit) {
    uint64_t candidate = root | (static_cast<uint64_t>(1) << bit);
    if (candidate * candidate <= square) root = candidate;
  }
  return static_cast<int>(root);
}
HYQ_INLINE int hyq_norm_shift(int64_t variance) { return 32 - hyq_norm_zeros(variance) / 2; }

// LN3, LN5 without zero point and saturation.
HYQ_INLINE int64_t hyq_norm_affine(int centred, int root, int shift, int gamma, int64_t beta,
                                   int scale) {
  int64_t n = hyq_shift_wide(static_cast<int64_t>(centred) * root, shift);
  int64_t sum = n * gamma + beta;
  return scale > 0 ? hyq_shift_wide(sum, scale) : sum;
}

// SM1: exact over the whole int32 range.
HYQ_INLINE int hyq_difference(int top, int value, int limit) {
  unsigned d = static_cast<unsigned>(top) - static_cast<unsigned>(value);
  return d > static_cast<unsigned>(limit) ? limit : static_cast<int>(d);
}
// SM2.
HYQ_INLINE int hyq_onto_grid(int d, int multiplier, int pre_shift, int shift, int most) {
  unsigned moved = (static_cast<unsigned>(d) + ((1u << pre_shift) >> 1)) >> pre_shift;
  int a = moved > static_cast<unsigned>(most) ? most : static_cast<int>(moved);
  return (a * multiplier + (1 << (shift - 1))) >> shift;
}
// SM8.
HYQ_INLINE int hyq_softmax_multiplier(int total, int shift) {
  int64_t whole = total;
  return static_cast<int>(((static_cast<int64_t>(255) << (shift + 16)) + (whole >> 1)) / whole);
}
HYQ_INLINE int hyq_softmax_share(int weight, int multiplier, int shift) {
  unsigned high = (static_cast<unsigned>(weight) * static_cast<unsigned>(multiplier)) >> 16;
  return static_cast<int>((high + (1u << (shift - 1))) >> shift);
}

// Nothing: TVM sees that memory is used from its first to its last element.
HYQ_INLINE void hyq_whole(const void*, const void*) {}
