// Access to ports of any width: Verilator makes them 8, 16, 32 or 64 bits wide, or arrays of words.
#pragma once
#include <cstdint>
#include "verilated.h"

template <typename T> void put_bits(T &port, int first, int bits, uint64_t value) {
  uint64_t mask = (bits == 64 ? ~0ull : (1ull << bits) - 1) << first;
  port = static_cast<T>((port & ~mask) | ((value << first) & mask));
}

template <std::size_t N> void put_bits(VlWide<N> &port, int first, int bits, uint64_t value) {
  for (int i = 0; i < bits;) {
    int word = (first + i) / 32, at = (first + i) % 32;
    int part = 32 - at < bits - i ? 32 - at : bits - i;
    uint32_t mask = (part == 32 ? ~0u : (1u << part) - 1) << at;
    port[word] = (port[word] & ~mask) | (static_cast<uint32_t>(value >> i) << at & mask);
    i += part;
  }
}

template <typename T> uint64_t get_bits(const T &port, int first, int bits) {
  return (port >> first) & (bits == 64 ? ~0ull : (1ull << bits) - 1);
}

template <std::size_t N> uint64_t get_bits(const VlWide<N> &port, int first, int bits) {
  uint64_t value = 0;
  for (int i = 0; i < bits;) {
    int word = (first + i) / 32, at = (first + i) % 32;
    int part = 32 - at < bits - i ? 32 - at : bits - i;
    uint32_t mask = part == 32 ? ~0u : (1u << part) - 1;
    value |= static_cast<uint64_t>(port[word] >> at & mask) << i;
    i += part;
  }
  return value;
}
