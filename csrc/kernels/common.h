// What the CPU kernels share. Kernels know neither torch nor Python: raw pointers, sizes, strides, a thread count.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>

// One body, compiled for AVX-512, AVX2 and the baseline; the loader picks by CPU. Needs GCC 12 and glibc's ifunc.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__GLIBC__)
#define FASTGAN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define FASTGAN_CLONES_NAME "x86-64-v4, x86-64-v3, baseline"
#else
#define FASTGAN_CLONES
#define FASTGAN_CLONES_NAME "baseline"
#endif

// A clone compiles what is inlined into it for its own instructions; what it calls stays baseline.
#define FASTGAN_INLINE inline __attribute__((always_inline))

namespace fastgan {

using Index = std::int64_t;
using Shape = std::array<Index, 4>;  // N, C, H, W

struct Images {
  const float* data;
  Shape stride;  // in elements
};

}  // namespace fastgan
