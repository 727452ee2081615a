// Stands in for CUDA's header: TF32 matrices of 16 x 8 and 8 x 16. Lane 0 holds all of each matrix and does the work;
// the other lanes' fragments stay empty, so kernels may only treat all elements of a fragment alike.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda_runtime.h"

namespace nvcuda::wmma {

struct matrix_a {
  static constexpr int kSize = 16 * 8, kInner = 8;
};
struct matrix_b {
  static constexpr int kSize = 8 * 16, kInner = 16;
};
struct accumulator {
  static constexpr int kSize = 16 * 16, kInner = 16;
};
struct row_major {};
struct col_major {};
namespace precision {
struct tf32 {};
}  // namespace precision
enum layout_t { mem_row_major };

template <typename Use, int, int, int, typename T, typename Layout = void>
struct fragment {
  static constexpr int num_elements = Use::kSize;
  float x[num_elements] = {};
};

inline float __float_to_tf32(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = (bits + 0x1000) & 0xffffe000u;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

// What the cores see of a float: they leave out the lower bits.
inline float as_tf32(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits &= 0xffffe000u;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

template <typename Use, int kM, int kN, int kK, typename T, typename Layout>
void load_matrix_sync(fragment<Use, kM, kN, kK, T, Layout>& to, const float* from, unsigned pitch) {
  constexpr int kInner = Use::kInner;
  if (::emulator::lane() != 0) return;
  for (int i = 0; i < Use::kSize; ++i) {
    const int row = i / kInner, col = i % kInner;
    to.x[i] = std::is_same_v<Layout, row_major> ? from[row * pitch + col] : from[col * pitch + row];
  }
}

template <typename Sum>
void fill_fragment(Sum& sum, float value) {
  for (float& element : sum.x) element = value;
}

template <typename Sum, typename A, typename B>
void mma_sync(Sum& result, const A& a, const B& b, const Sum& sum) {
  if (::emulator::lane() != 0) return;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      float total = sum.x[i * 16 + j];
      for (int k = 0; k < 8; ++k) total += as_tf32(a.x[i * 8 + k]) * as_tf32(b.x[k * 16 + j]);
      result.x[i * 16 + j] = total;
    }
  }
}

template <typename Sum>
void store_matrix_sync(float* to, const Sum& sum, unsigned pitch, layout_t) {
  if (::emulator::lane() != 0) return;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) to[i * pitch + j] = sum.x[i * 16 + j];
  }
}

}  // namespace nvcuda::wmma
