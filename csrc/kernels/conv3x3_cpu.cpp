#include "conv3x3.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "scratch.h"

namespace fastgan {
namespace {

constexpr Index kTransformedBytes = 400 << 10;  // of a block's tiles: with their products they stay in L2
constexpr Index kMostTiles = 72;
constexpr Index kWeightTiles = 96;  // of a block, for the gradient of a weight

}  // namespace
}  // namespace fastgan

#define FASTGAN_BODY "conv3x3_cpu.inc"
#include "each_level.h"

namespace fastgan {

void conv3x3_forward(const void* x, Dtype dtype, const Shape& shape, const float* weight, Index outputs,
                     const Conv3x3Options& options, void* out, int threads) {
  FASTGAN_DISPATCH(run_forward)(x, dtype, shape, weight, outputs, options, out, threads);
}

void conv3x3_backward_input(const void* grad_out, const void* out, Dtype dtype, const Shape& shape,
                            const float* weight, Index outputs, const Conv3x3Options& options, void* grad_x,
                            int threads) {
  FASTGAN_DISPATCH(run_backward_input)(grad_out, out, dtype, shape, weight, outputs, options, grad_x, threads);
}

void conv3x3_backward_weight(const void* x, const void* grad_out, const void* out, Dtype dtype, const Shape& shape,
                             Index outputs, const Conv3x3Options& options, float* grad_weight, int threads) {
  FASTGAN_DISPATCH(run_backward_weight)(x, grad_out, out, dtype, shape, outputs, options, grad_weight, threads);
}

}  // namespace fastgan
