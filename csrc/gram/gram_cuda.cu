#include "gram/gram.h"

#include <mma.h>

#include "common/strips_cuda.cuh"

namespace fastgan {
namespace {

using namespace cuda;
namespace wmma = nvcuda::wmma;

#include "gram/gram_tiles.cuh"

constexpr Index kTargetBlocks = 1024;   // blocks, some for every multiprocessor
constexpr Index kMinSplitPixels = 256;  // of a block
constexpr int kFinishThreads = 256, kFinishParts = kTile * kTile / kFinishThreads;

// The upper triangle of tiles, and the pixels over which each is summed by blocks of their own.
struct TilePlan {
  Index images, side, tiles, size, splits;  // side: tiles of a row; size: pixels of a split
};

TilePlan make_plan(const Shape& shape) {
  const Index side = ceil_div(shape[1], kTile), tiles = side * (side + 1) / 2, pixels = shape[2] * shape[3];
  const Index splits = max(min(ceil_div(kTargetBlocks, shape[0] * tiles), pixels / kMinSplitPixels), Index(1));
  const Index size = ceil_div(ceil_div(pixels, splits), 32) * 32;
  return {shape[0], side, tiles, size, ceil_div(pixels, size)};
}

__device__ __forceinline__ void tile_position(Index tile, Index side, Index& row, Index& col) {
  for (row = 0; tile >= side - row; ++row) tile -= side - row;
  col = row + tile;
}

// Partial sums of each tile, (image, split, tile, 64, 64).
template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kThreads, kBlocks) gram_fwd_kernel(Operand x, TilePlan plan, float* partials) {
  FASTGAN_SHARED(AlignedFloats, shared, kSharedFloats<T> / 8);
  const Index block = blockIdx.x, tile = block % plan.tiles, split = block / plan.tiles % plan.splits;
  const int row = static_cast<int>(threadIdx.x) / 8, col = static_cast<int>(threadIdx.x) % 8;
  Index tile_row, tile_col;
  tile_position(tile, plan.side, tile_row, tile_col);
  x.image = block / plan.tiles / plan.splits;
  float sum[8][8] = {};
  multiply_tiles<T, T, !kChannelsLast, !kChannelsLast>(x, tile_row * kTile, x, tile_col * kTile, tile_row == tile_col,
                                                       split * plan.size, min((split + 1) * plan.size, x.depth_size),
                                                       reinterpret_cast<float*>(shared), row, col, sum);
  float* const to = partials + block * (kTile * kTile);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < 8; j += 4) {
      store_pack<4>(sum[i] + j, to + element_index(row, i) * kTile + element_index(col, j));
    }
  }
}

// Adds the splits in order and mirrors the tiles: out = sum * scale - target. squares, unless null: sums of each block.
__global__ void __launch_bounds__(kFinishThreads)
    gram_finish_kernel(const float* partials, TilePlan plan, Index channels, float scale, const float* target,
                       Index target_stride, float* out, float* squares) {
  FASTGAN_SHARED(float, scratch, kWarp);
  const Index block = blockIdx.x, part = block % kFinishParts, tile = block / kFinishParts % plan.tiles;
  const Index image = block / kFinishParts / plan.tiles;
  const int element = static_cast<int>(part) * kFinishThreads + static_cast<int>(threadIdx.x);
  Index tile_row, tile_col;
  tile_position(tile, plan.side, tile_row, tile_col);
  const Index row = tile_row * kTile + element / kTile, col = tile_col * kTile + element % kTile;
  float square = 0;
  if (row <= col && col < channels) {
    const float* const from = partials + (image * plan.splits * plan.tiles + tile) * (kTile * kTile) + element;
    float sum = 0;
#pragma unroll 8
    for (Index s = 0; s < plan.splits; ++s) sum += from[s * plan.tiles * (kTile * kTile)];
    float upper = sum * scale, lower = upper;
    if (target != nullptr) {
      upper -= target[image * target_stride + row * channels + col];
      lower -= target[image * target_stride + col * channels + row];
    }
    float* const to = out + image * channels * channels;
    to[row * channels + col] = upper;
    to[col * channels + row] = lower;
    square = row == col ? upper * upper : upper * upper + lower * lower;
  }
  if (squares == nullptr) return;
  square = block_sum(square, scratch);
  if (threadIdx.x == 0) squares[blockIdx.x] = square;
}

__global__ void __launch_bounds__(kFinishThreads)
    gram_mean_kernel(const float* squares, Index count, float scale, float* out) {
  FASTGAN_SHARED(float, scratch, kWarp);
  float sum = 0;
  for (Index i = threadIdx.x; i < count; i += kFinishThreads) sum += squares[blockIdx.x * count + i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = sum * scale;
}

// grad_x = M F: a tile of channels and pixels a block.
template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kThreads, kBlocks)
    gram_bwd_kernel(Operand matrix, Operand x, Index tiles, Index pixel_tiles, PixelView grad_x) {
  FASTGAN_SHARED(AlignedFloats, shared, kSharedFloats<T> / 8);
  using First = std::conditional_t<std::is_same_v<T, Unpacked>, Unpacked, float>;
  const Index block = blockIdx.x, image = block / tiles / pixel_tiles;
  const int near = static_cast<int>(threadIdx.x) % 8, far = static_cast<int>(threadIdx.x) / 8;
  const int row = kChannelsLast ? near : far, col = kChannelsLast ? far : near;
  const Index first_channel = block % tiles * kTile, first_pixel = block / tiles % pixel_tiles * kTile;
  const Index channels = x.depth_size, pixels = x.side_size;
  matrix.image = x.image = image;
  float sum[8][8] = {};
  multiply_tiles<T, First, true, kChannelsLast>(matrix, first_channel, x, first_pixel, false, 0, channels,
                                                reinterpret_cast<float*>(shared), row, col, sum);
  if constexpr (!std::is_same_v<T, Unpacked>) {
    T* const to = static_cast<T*>(grad_x.data);
#pragma unroll
    for (int k = 0; k < 16; ++k) {  // a pack of four channels, or of four pixels
      const int i = kChannelsLast ? k / 8 * 4 : k / 2, j = kChannelsLast ? k % 8 : k % 2 * 4;
      const Index channel = first_channel + element_index(row, i), p = first_pixel + element_index(col, j);
      float value[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        value[e] = kChannelsLast ? sum[i + e * kChannelsLast][j] : sum[i][j + e * !kChannelsLast];
      }
      if (channel < channels && p < pixels) store_pack<4>(value, to + grad_x.offset(image, channel, p));
    }
  } else {
#pragma unroll
    for (int k = 0; k < 64; ++k) {
      const Index channel = first_channel + element_index(row, k / 8), p = first_pixel + element_index(col, k % 8);
      if (channel < channels && p < pixels) {
        store_values<Unpacked>(grad_x, grad_x.offset(image, channel, p), &sum[k / 8][k % 8]);
      }
    }
  }
}

// M = scale * grad_out * (D + D^T), in tiles of 32 x 32.
__global__ void __launch_bounds__(kWarp * 8)
    gram_matrix_kernel(const float* difference, const float* grad_out, float scale, Index channels, float* matrix) {
  using Row = float[kWarp + 1];
  FASTGAN_SHARED(Row, mirrored, kWarp);
  const Index tiles = ceil_div(channels, kWarp), image = blockIdx.x / tiles / tiles;
  const Index row = blockIdx.x / tiles % tiles * kWarp, col = blockIdx.x % tiles * kWarp;
  const Index base = image * channels * channels;
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += 8) {
    if (col + y < channels && row + x < channels) mirrored[y][x] = difference[base + (col + y) * channels + row + x];
  }
  __syncthreads();
  const float factor = scale * grad_out[image];
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += 8) {
    const Index at = base + (row + y) * channels + col + x;
    if (row + y < channels && col + x < channels) matrix[at] = factor * (difference[at] + mirrored[x][y]);
  }
}

// The layout for reading features: packs need pixels that are evenly spaced.
Layout feature_layout(std::initializer_list<Tensor> tensors, const Shape& shape) {
  Layout layout = make_layout(tensors, shape);
  for (const Tensor& tensor : tensors) layout.packed = layout.packed && pixel_view(tensor, shape).width == 0;
  return layout;
}

Index partial_floats(const TilePlan& c) { return c.images * c.splits * c.tiles * kTile * kTile; }

void forward(const Tensor& x, const Shape& shape, float scale, const float* target, Index target_stride, float* out,
             float* loss, void* workspace, void* stream) {
  const TilePlan c = make_plan(shape);
  const Operand features{pixel_view(x, shape), 0, true, shape[1], shape[2] * shape[3]};
  float* const partials = static_cast<float*>(workspace);
  float* const squares = loss == nullptr ? nullptr : partials + partial_floats(c);
  dispatch_layout(feature_layout({x}, shape), [&](auto tag, auto channels) {
    using T = typename decltype(tag)::Type;
    FASTGAN_LAUNCH((gram_fwd_kernel<T, decltype(channels)::value>),
                   dim3(static_cast<unsigned>(c.images * c.splits * c.tiles)), dim3(kThreads), 0, stream, features, c,
                   partials);
  });
  FASTGAN_LAUNCH(gram_finish_kernel, dim3(static_cast<unsigned>(c.images * c.tiles * kFinishParts)),
                 dim3(kFinishThreads), 0, stream, partials, c, shape[1], scale, target, target_stride, out, squares);
  if (loss == nullptr) return;
  FASTGAN_LAUNCH(gram_mean_kernel, dim3(static_cast<unsigned>(c.images)), dim3(kFinishThreads), 0, stream, squares,
                 c.tiles * kFinishParts, static_cast<float>(1.0 / (double(shape[1]) * double(shape[1]))), loss);
}

double elements(const Shape& shape) { return double(shape[1]) * double(shape[2]) * double(shape[3]); }

}  // namespace

Index gram_workspace(const Shape& shape) {
  const TilePlan c = make_plan(shape);
  return max(partial_floats(c) + c.images * c.tiles * kFinishParts, shape[0] * shape[1] * shape[1]) *
         static_cast<Index>(sizeof(float));
}

void gram_forward_cuda(const Tensor& x, const Shape& shape, float scale, float* out, void* workspace, void* stream) {
  forward(x, shape, scale, nullptr, 0, out, nullptr, workspace, stream);
}

void gram_backward_cuda(const Tensor& x, const Shape& shape, const float* matrix, const Tensor& grad_x, void* stream) {
  const Index channels = shape[1], pixels = shape[2] * shape[3];
  const Index tiles = ceil_div(channels, kTile), pixel_tiles = ceil_div(pixels, kTile);
  Layout layout = feature_layout({x, grad_x}, shape);
  layout.packed = layout.packed && channels % 4 == 0 && reinterpret_cast<std::uintptr_t>(matrix) % 16 == 0;
  const PixelView rows{const_cast<float*>(matrix), Dtype::kFloat32, channels * channels, channels, 1, 0, 0};
  const Operand left{rows, 0, true, channels, channels};
  const Operand right{pixel_view(x, shape), 0, false, pixels, channels};
  dispatch_layout(layout, [&](auto tag, auto side_by_side) {
    using T = typename decltype(tag)::Type;
    FASTGAN_LAUNCH((gram_bwd_kernel<T, decltype(side_by_side)::value>),
                   dim3(static_cast<unsigned>(tiles * pixel_tiles * shape[0])), dim3(kThreads), 0, stream, left, right,
                   tiles, pixel_tiles, pixel_view(grad_x, shape));
  });
}

void gram_style_loss_forward_cuda(const Tensor& x, const Shape& shape, const float* target, Index target_stride,
                                  float* difference, float* out, void* workspace, void* stream) {
  forward(x, shape, static_cast<float>(1 / elements(shape)), target, target_stride, difference, out, workspace, stream);
}

void gram_style_loss_backward_cuda(const Tensor& x, const Shape& shape, const float* difference, const float* grad_out,
                                   const Tensor& grad_x, void* workspace, void* stream) {
  const Index tiles = ceil_div(shape[1], kWarp);
  const double scale = 2 / (double(shape[1]) * double(shape[1]) * elements(shape));
  float* const matrix = static_cast<float*>(workspace);
  FASTGAN_LAUNCH(gram_matrix_kernel, dim3(static_cast<unsigned>(shape[0] * tiles * tiles)), dim3(kWarp, 8), 0, stream,
                 difference, grad_out, static_cast<float>(scale), shape[1], matrix);
  gram_backward_cuda(x, shape, matrix, grad_x, stream);
}

}  // namespace fastgan
