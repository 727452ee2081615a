#include "conv2d/conv2d.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "common/scratch.h"

namespace fastgan {
namespace {

constexpr Index kTransformedBytes = 400 << 10;  // of a block's tiles: with their products they stay in L2
constexpr Index kMaxTiles = 72;
constexpr Index kSumBytes = 256 << 20;  // of all threads' sums of a weight's gradient
constexpr Index kGradBlockBytes =
    3 << 20;  // of both factors of a weight's gradient, which are cheaper to read than the sums

}  // namespace
}  // namespace fastgan

#define FASTGAN_BODY "conv2d/conv2d_cpu.inc"
#include "common/isa_dispatch.h"

// The compiled bodies are few, and long to compile: one for each set of float32 vectors above the baseline, one for
// bfloat16 where there are dot products of it.
#ifdef FASTGAN_X86_ISA_LEVELS
#define FASTGAN_CONV2D_DISPATCH(function)                                \
  (dtype == Dtype::kBFloat16          ? ::fastgan::avx512_bf16::function \
   : isa_level() >= IsaLevel::kAvx512 ? ::fastgan::avx512::function      \
                                      : ::fastgan::avx2::function)
#endif

namespace fastgan {

bool conv2d_serves(Dtype dtype) {
#ifdef FASTGAN_X86_ISA_LEVELS
  return isa_level() >= (dtype == Dtype::kBFloat16 ? IsaLevel::kAvx512Bf16 : IsaLevel::kAvx2);
#else
  return false;
#endif
}

namespace {

void check_dtype(Dtype dtype) {
  if (!conv2d_serves(dtype)) {
    throw std::invalid_argument(std::string("no convolution of this dtype at ") + isa_level_name(isa_level()));
  }
}

}  // namespace

void conv2d_forward(const void* x, Dtype dtype, const Shape& shape, const float* weight, Index outputs,
                    const Conv2dOptions& options, void* out, int threads) {
  check_dtype(dtype);
#ifdef FASTGAN_CONV2D_DISPATCH
  FASTGAN_CONV2D_DISPATCH(run_forward)(x, shape, weight, outputs, options, out, threads);
#endif
}

void conv2d_backward_input(const void* grad_out, const void* out, Dtype dtype, const Shape& shape, const float* weight,
                           Index outputs, const Conv2dOptions& options, void* grad_x, int threads) {
  check_dtype(dtype);
#ifdef FASTGAN_CONV2D_DISPATCH
  FASTGAN_CONV2D_DISPATCH(run_backward_input)(grad_out, out, shape, weight, outputs, options, grad_x, threads);
#endif
}

void conv2d_backward_weight(const void* x, const void* grad_out, const void* out, Dtype dtype, const Shape& shape,
                            Index outputs, const Conv2dOptions& options, float* grad_weight, int threads) {
  check_dtype(dtype);
#ifdef FASTGAN_CONV2D_DISPATCH
  FASTGAN_CONV2D_DISPATCH(run_backward_weight)(x, grad_out, out, shape, outputs, options, grad_weight, threads);
#endif
}

}  // namespace fastgan
