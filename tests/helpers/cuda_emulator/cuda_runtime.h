// Stands in for CUDA's header: what the kernels use of it, on emulator.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

#define FASTGAN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream), ::emulator::launch(#kernel, grid, block, shared_bytes, [&] { (kernel)(__VA_ARGS__); }))

#define FASTGAN_SHARED(type, name, count) \
  static const char name##_key = 0;       \
  type* const name = static_cast<type*>(::emulator::shared(&name##_key, sizeof(type) * (count), false))

#define FASTGAN_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::emulator::dynamic_shared())

using cudaStream_t = void*;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline void __syncthreads() { ::emulator::switch_to_scheduler(::emulator::State::kAtBlockBarrier); }

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ::emulator::check_mask(mask);
  ::emulator::switch_to_scheduler(::emulator::State::kAtWarpBarrier);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
  ::emulator::check_mask(mask);
  return ::emulator::exchange(value, [&](auto lane_value) { return lane_value(source & 31); });
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  ::emulator::check_mask(mask);
  return ::emulator::exchange(value, [&](auto lane_value) { return lane_value(::emulator::lane() ^ bits); });
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  ::emulator::check_mask(mask);
  const int source = ::emulator::lane() + static_cast<int>(delta);
  return ::emulator::exchange(value, [&](auto lane_value) { return source < 32 ? lane_value(source) : value; });
}

template <typename T>
T atomicAdd(T* address, T value) {
  static_assert(std::is_integral_v<T>, "sums of floats must have an order");
  const T old = *address;
  *address += value;
  return old;
}

inline void __threadfence() {}

template <typename T>
T __ldg(const T* address) {
  return *address;
}

template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
