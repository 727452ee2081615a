// Gram matrices and their gradient: products of panels packed into cache, of which only those that touch the upper
// triangle are formed. Pixels are divided into as many sums as the shape says, added up in one order. The plane's
// windows are read where they lie; the plane's own sum is that of its windows.
#include "gram/gram.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/scratch.h"

namespace fastgan {
namespace {

constexpr Index kMinTasks = 32;           // at least, where the shape allows: for balance among threads
constexpr Index kMinPixels = 256;         // of a sum: fewer, and adding up the sums shows
constexpr Index kMaxSumFloats = 1 << 22;  // that sums may take, where it is not one image's or one to a thread
constexpr Index kBlockFloats = 1 << 16;   // of the pixels packed at a time, going backward: a share of L2

constexpr Index kNontemporalBytes = 1 << 24;  // a gradient so large leaves the caches before anyone reads it

// Partial sums of an image; independent of the thread count.
Index count_splits(Index images, Index pixels, Index size) {
  images = std::max<Index>(images, 1);
  const Index splits = std::min((kMinTasks + images - 1) / images, kMaxSumFloats / (images * size));
  return std::clamp<Index>(splits, 1, std::max<Index>(1, pixels / kMinPixels));
}

// Images whose sums are made before they are finished: so many that threads have work, and few enough for the heap to
// keep their memory, for fresh pages cost as much time as the sums.
Index group_size(Index images, Index sums, Index size, int threads) {
  const Index most = std::max<Index>(kMaxSumFloats / (sums * size), (2 * threads + sums - 1) / sums);
  return std::clamp<Index>(most, 1, std::max<Index>(images, 1));
}

}  // namespace
}  // namespace fastgan

#define FASTGAN_BODY "gram/gram_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {

void gram_forward(const Tensor& x, const Shape& shape, float scale, float* out, int threads) {
  FASTGAN_DISPATCH(run_forward)(x, shape, scale, {}, out, threads);
}

void gram_backward(const Tensor& x, const Shape& shape, const float* matrix, const Tensor& grad_x, int threads) {
  FASTGAN_DISPATCH(run_backward)(x, shape, {}, matrix, nullptr, 1, grad_x, threads);
}

void gram_style_loss_forward(const Tensor& x, const Shape& shape, const StyleLoss& loss, float* difference,
                             int threads) {
  const double features = double(shape[1]) * double(shape[2]) * double(shape[3]);
  FASTGAN_DISPATCH(run_forward)(x, shape, 1 / features, loss, difference, threads);
}

void gram_style_loss_backward(const Tensor& x, const Shape& shape, const GramWindows& windows, const float* difference,
                              const float* grad_out, const Tensor& grad_x, int threads) {
  const double channels = double(shape[1]), features = channels * double(shape[2]) * double(shape[3]);
  const double factor = 4 / (channels * channels * features);
  FASTGAN_DISPATCH(run_backward)(x, shape, windows, difference, grad_out, factor, grad_x, threads);
}

}  // namespace fastgan
