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

// The windows of a plane.
struct WindowPlan {
  Index rows, cols, height, width;

  __host__ __device__ Index count() const { return rows * cols; }
  __host__ __device__ Index largest() const { return ceil_div(height, rows) * ceil_div(width, cols); }
  __host__ __device__ Index top(Index i) const { return i * height / rows; }
  __host__ __device__ Index left(Index j) const { return j * width / cols; }
  __host__ __device__ Index pixels(Index window) const {
    const Index i = window / cols, j = window % cols;
    return (top(i + 1) - top(i)) * (left(j + 1) - left(j));
  }

  // The offset of a window's first pixel; makes the view that of the window.
  template <bool kWindows>
  __device__ __forceinline__ Index enter(Index window, PixelView& view) const {
    if constexpr (kWindows) {
      const Index i = window / cols, j = window % cols;
      view.width = left(j + 1) - left(j);
      return top(i) * view.row + left(j) * view.pixel;
    }
    return 0;
  }
};

WindowPlan make_windows(const Shape& shape, const GramWindows& windows) {
  return {windows.rows, windows.cols, shape[2], shape[3]};
}

// The upper triangle of tiles, and the pixels over which each is summed by blocks of their own.
struct TilePlan {
  Index images, side, tiles, size, splits;  // side: tiles of a row; size: pixels of a split
};

TilePlan make_plan(const Shape& shape, const WindowPlan& windows) {
  const Index side = ceil_div(shape[1], kTile), tiles = side * (side + 1) / 2, pixels = windows.largest();
  const Index sums = shape[0] * windows.count() * tiles;
  const Index splits = max(min(ceil_div(kTargetBlocks, sums), pixels / kMinSplitPixels), Index(1));
  const Index size = ceil_div(ceil_div(pixels, splits), 32) * 32;
  return {shape[0], side, tiles, size, ceil_div(pixels, size)};
}

__device__ __forceinline__ void tile_position(Index tile, Index side, Index& row, Index& col) {
  for (row = 0; tile >= side - row; ++row) tile -= side - row;
  col = row + tile;
}

// Partial sums of each tile, (image, window, split, tile, 64, 64).
template <typename T, bool kChannelsLast, bool kWindows>
__global__ void __launch_bounds__(kThreads, kBlocks)
    gram_fwd_kernel(Operand x, TilePlan plan, WindowPlan windows, float* partials) {
  FASTGAN_SHARED(AlignedFloats, shared, kSharedFloats<T> / 8);
  const Index block = blockIdx.x, tile = block % plan.tiles, split = block / plan.tiles % plan.splits;
  const int row = static_cast<int>(threadIdx.x) / 8, col = static_cast<int>(threadIdx.x) % 8;
  Index tile_row, tile_col;
  tile_position(tile, plan.side, tile_row, tile_col);
  x.image = block / plan.tiles / plan.splits;
  if constexpr (kWindows) {
    const Index window = x.image % windows.count();
    x.image /= windows.count();
    x.depth_size = windows.pixels(window);
    x.origin = windows.enter<kWindows>(window, x.view);
  }
  float sum[8][8] = {};
  multiply_tiles<T, T, !kChannelsLast, !kChannelsLast, kWindows, kWindows>(
      x, tile_row * kTile, x, tile_col * kTile, tile_row == tile_col, split * plan.size,
      min((split + 1) * plan.size, x.depth_size), reinterpret_cast<float*>(shared), row, col, sum);
  float* const to = partials + block * (kTile * kTile);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < 8; j += 4) {
      store_pack<4>(sum[i] + j, to + element_index(row, i) * kTile + element_index(col, j));
    }
  }
}

// The part of an image's loss, and of its differences, that is the windows'.
struct Blend {
  float window_weight;

  // What a window's difference is multiplied by, beside 1 - window_weight for the whole plane's.
  __device__ float share(Index windows, float area) const {
    return window_weight / (static_cast<float>(windows) * area);
  }
};

// Where an element of the lower triangle is, the rows one after the other.
__device__ __forceinline__ Index packed_at(Index row, Index col) { return row * (row + 1) / 2 + col; }

// Adds the splits in order. Without a target: out = sum * scale, the tiles mirrored. With one: its distance, and the
// lower triangle of the difference from the mean of the target and its mirror image; of several windows, that of each
// together with the whole plane's. squares: of the windows and of the whole plane, sums of each block.
__global__ void __launch_bounds__(kFinishThreads)
    gram_finish_kernel(const float* partials, TilePlan plan, WindowPlan windows, Blend blend, Index channels,
                       float scale, const float* target, Index target_stride, float* out, float* squares) {
  FASTGAN_SHARED(float, scratch, kWarp);
  const Index block = blockIdx.x, part = block % kFinishParts, tile = block / kFinishParts % plan.tiles;
  const Index image = block / kFinishParts / plan.tiles, count = windows.count(), area = channels * channels;
  const int element = static_cast<int>(part) * kFinishThreads + static_cast<int>(threadIdx.x);
  Index tile_row, tile_col;
  tile_position(tile, plan.side, tile_row, tile_col);
  const Index row = tile_row * kTile + element / kTile, col = tile_col * kTile + element % kTile;
  float square = 0, whole_square = 0;
  if (row <= col && col < channels) {
    const Index at = row * channels + col, mirrored = col * channels + row;
    const Index packed = packed_at(col, row), triangle = packed_at(channels, 0);
    const float* const goal = target == nullptr ? nullptr : target + image * target_stride;
    const float upper_goal = goal == nullptr ? 0.0f : goal[at], lower_goal = goal == nullptr ? 0.0f : goal[mirrored];
    const float mean_goal = 0.5f * (upper_goal + lower_goal),
                plane = static_cast<float>(windows.height * windows.width);
    const auto squared = [&](float value) {
      const float upper = value - upper_goal, lower = value - lower_goal;
      return row == col ? upper * upper : upper * upper + lower * lower;
    };
    float whole = 0;
    for (Index k = 0; k < count; ++k) {
      const float* const from =
          partials + ((image * count + k) * plan.splits * plan.tiles + tile) * (kTile * kTile) + element;
      float sum = 0;
#pragma unroll 8
      for (Index s = 0; s < plan.splits; ++s) sum += from[s * plan.tiles * (kTile * kTile)];
      whole += sum;
      const float value = sum * (count == 1 ? scale : scale * (plane / static_cast<float>(windows.pixels(k))));
      if (goal == nullptr) {
        out[image * area + at] = out[image * area + mirrored] = value;
      } else {
        out[(image * count + k) * triangle + packed] = value - mean_goal;
        square += squared(value);
      }
    }
    if (count > 1) {
      const float value = whole * scale;
      whole_square = squared(value);
      for (Index k = 0; k < count; ++k) {
        float* const to = out + (image * count + k) * triangle + packed;
        const float share = blend.share(count, static_cast<float>(windows.pixels(k)) / plane);
        *to = (1 - blend.window_weight) * (value - mean_goal) + share * *to;
      }
    }
  }
  if (squares == nullptr) return;
  square = block_sum(square, scratch);
  whole_square = block_sum(whole_square, scratch);
  if (threadIdx.x != 0) return;
  squares[2 * block] = square;
  squares[2 * block + 1] = count == 1 ? square : whole_square;
}

// The loss of each image, and the whole plane's, from sums of squares (image, count, 2); scale: 1 over their number.
__global__ void __launch_bounds__(kFinishThreads) gram_mean_kernel(const float* squares, Index count, Index windows,
                                                                   Blend blend, float scale, float* out, float* whole) {
  FASTGAN_SHARED(float, scratch, kWarp);
  float window_sum = 0, whole_sum = 0;
  for (Index i = threadIdx.x; i < count; i += kFinishThreads) {
    window_sum += squares[2 * (blockIdx.x * count + i)];
    whole_sum += squares[2 * (blockIdx.x * count + i) + 1];
  }
  window_sum = block_sum(window_sum, scratch);
  whole_sum = block_sum(whole_sum, scratch);
  if (threadIdx.x != 0) return;
  const float mean = window_sum * scale / static_cast<float>(windows);
  whole[blockIdx.x] = whole_sum * scale;
  out[blockIdx.x] = windows == 1 ? mean : (1 - blend.window_weight) * whole_sum * scale + blend.window_weight * mean;
}

// grad_x = M F, M of each image's window: a tile of channels and pixels a block.
template <typename T, bool kChannelsLast, bool kWindows>
__global__ void __launch_bounds__(kThreads, kBlocks)
    gram_bwd_kernel(Operand matrix, Operand x, Index tiles, Index pixel_tiles, WindowPlan windows, PixelView grad_x) {
  FASTGAN_SHARED(AlignedFloats, shared, kSharedFloats<T> / 8);
  using First = std::conditional_t<std::is_same_v<T, Unpacked>, Unpacked, float>;
  const Index block = blockIdx.x, index = block / tiles / pixel_tiles;
  const int near = static_cast<int>(threadIdx.x) % 8, far = static_cast<int>(threadIdx.x) / 8;
  const int row = kChannelsLast ? near : far, col = kChannelsLast ? far : near;
  const Index first_channel = block % tiles * kTile, first_pixel = block / tiles % pixel_tiles * kTile;
  const Index channels = x.depth_size;
  Index image = index, origin = 0;
  if constexpr (kWindows) {
    const Index window = index % windows.count();
    image /= windows.count();
    x.side_size = windows.pixels(window);
    if (first_pixel >= x.side_size) return;
    x.origin = windows.enter<kWindows>(window, x.view);
    origin = windows.enter<kWindows>(window, grad_x);
  }
  const Index pixels = x.side_size;
  matrix.image = index;
  x.image = image;
  float sum[8][8] = {};
  multiply_tiles<T, First, true, kChannelsLast, false, kWindows>(
      matrix, first_channel, x, first_pixel, false, 0, channels, reinterpret_cast<float*>(shared), row, col, sum);
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
      if (channel < channels && p < pixels) store_pack<4>(value, to + origin + grad_x.offset(image, channel, p));
    }
  } else {
#pragma unroll
    for (int k = 0; k < 64; ++k) {
      const Index channel = first_channel + element_index(row, k / 8), p = first_pixel + element_index(col, k % 8);
      if (channel < channels && p < pixels) {
        store_values<Unpacked>(grad_x, origin + grad_x.offset(image, channel, p), &sum[k / 8][k % 8]);
      }
    }
  }
}

// M = scale * grad_out * D, of D's lower triangle, in tiles of 32 x 32.
__global__ void __launch_bounds__(kWarp * 8)
    gram_matrix_kernel(const float* difference, const float* grad_out, float scale, Index channels, Index windows,
                       float* matrix) {
  using Row = float[kWarp + 1];
  FASTGAN_SHARED(Row, lower, kWarp);
  const Index tiles = ceil_div(channels, kWarp), index = blockIdx.x / tiles / tiles;
  const Index row = blockIdx.x / tiles % tiles * kWarp, col = blockIdx.x % tiles * kWarp;
  const float* const from = difference + index * packed_at(channels, 0);
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += 8) {
    const Index r = max(row, col) + y, c = min(row, col) + x;
    if (r < channels && c <= r) lower[y][x] = from[packed_at(r, c)];
  }
  __syncthreads();
  const float factor = scale * grad_out[index / windows];
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += 8) {
    if (row + y >= channels || col + x >= channels) continue;
    const bool mirrored = row < col || (row == col && y < x);
    matrix[(index * channels + row + y) * channels + col + x] = factor * (mirrored ? lower[x][y] : lower[y][x]);
  }
}

// The layout for reading features: packs of four need pixels that are evenly spaced, within rows of a window.
Layout feature_layout(std::initializer_list<Tensor> tensors, const Shape& shape, const WindowPlan& windows) {
  Layout layout = make_layout(tensors, shape);
  for (const Tensor& tensor : tensors) {
    const PixelView view = pixel_view(tensor, shape);
    if (windows.count() == 1 || !layout.channels_last) layout.packed = layout.packed && view.width == 0;
    if (windows.count() > 1) layout.packed = layout.packed && (shape[2] == 1 || view.row % 4 == 0);
  }
  for (Index j = 0; j <= windows.cols && windows.count() > 1 && !layout.channels_last; ++j) {
    layout.packed = layout.packed && windows.left(j) % 4 == 0;
  }
  return layout;
}

// function(TypeTag<T>{}, channels_last, windows).
template <typename Function>
void dispatch_windows(const Layout& layout, const WindowPlan& windows, Function&& function) {
  dispatch_layout(layout, [&](auto tag, auto channels_last) {
    if (windows.count() == 1) {
      function(tag, channels_last, std::false_type{});
    } else {
      function(tag, channels_last, std::true_type{});
    }
  });
}

Index partial_floats(const TilePlan& c, const WindowPlan& windows) {
  return c.images * windows.count() * c.splits * c.tiles * kTile * kTile;
}

void forward(const Tensor& x, const Shape& shape, float scale, const StyleLoss& loss, float* out, void* workspace,
             void* stream) {
  const WindowPlan windows = make_windows(shape, loss.windows);
  const TilePlan c = make_plan(shape, windows);
  const Operand features{pixel_view(x, shape), 0, true, shape[1], shape[2] * shape[3], 0};
  const Blend blend{static_cast<float>(loss.window_weight)};
  float* const partials = static_cast<float*>(workspace);
  float* const squares = loss.out == nullptr ? nullptr : partials + partial_floats(c, windows);
  dispatch_windows(feature_layout({x}, shape, windows), windows, [&](auto tag, auto channels, auto windowed) {
    using T = typename decltype(tag)::Type;
    FASTGAN_LAUNCH((gram_fwd_kernel<T, decltype(channels)::value, decltype(windowed)::value>),
                   dim3(static_cast<unsigned>(c.images * windows.count() * c.splits * c.tiles)), dim3(kThreads), 0,
                   stream, features, c, windows, partials);
  });
  FASTGAN_LAUNCH(gram_finish_kernel, dim3(static_cast<unsigned>(c.images * c.tiles * kFinishParts)),
                 dim3(kFinishThreads), 0, stream, partials, c, windows, blend, shape[1], scale, loss.target,
                 loss.target_stride, out, squares);
  if (loss.out == nullptr) return;
  FASTGAN_LAUNCH(gram_mean_kernel, dim3(static_cast<unsigned>(c.images)), dim3(kFinishThreads), 0, stream, squares,
                 c.tiles * kFinishParts, windows.count(), blend,
                 static_cast<float>(1.0 / (double(shape[1]) * double(shape[1]))), loss.out, loss.whole);
}

// Writes M F to grad_x; matrix (N, windows, C, C).
void multiply_by_matrix(const Tensor& x, const Shape& shape, const GramWindows& grid, const float* matrix,
                        const Tensor& grad_x, void* stream) {
  const WindowPlan windows = make_windows(shape, grid);
  const Index channels = shape[1], pixels = windows.largest();
  const Index tiles = ceil_div(channels, kTile), pixel_tiles = ceil_div(pixels, kTile);
  Layout layout = feature_layout({x, grad_x}, shape, windows);
  layout.packed = layout.packed && channels % 4 == 0 && reinterpret_cast<std::uintptr_t>(matrix) % 16 == 0;
  const PixelView rows{const_cast<float*>(matrix), Dtype::kFloat32, channels * channels, channels, 1, 0, 0};
  const Operand left{rows, 0, true, channels, channels, 0};
  const Operand right{pixel_view(x, shape), 0, false, pixels, channels, 0};
  dispatch_windows(layout, windows, [&](auto tag, auto side_by_side, auto windowed) {
    using T = typename decltype(tag)::Type;
    FASTGAN_LAUNCH((gram_bwd_kernel<T, decltype(side_by_side)::value, decltype(windowed)::value>),
                   dim3(static_cast<unsigned>(tiles * pixel_tiles * shape[0] * windows.count())), dim3(kThreads), 0,
                   stream, left, right, tiles, pixel_tiles, windows, pixel_view(grad_x, shape));
  });
}

double elements(const Shape& shape) { return double(shape[1]) * double(shape[2]) * double(shape[3]); }

}  // namespace

Index gram_workspace(const Shape& shape, const GramWindows& grid) {
  const WindowPlan windows = make_windows(shape, grid);
  const TilePlan c = make_plan(shape, windows);
  return (partial_floats(c, windows) + 2 * c.images * c.tiles * kFinishParts) * static_cast<Index>(sizeof(float));
}

void gram_forward_cuda(const Tensor& x, const Shape& shape, float scale, float* out, void* workspace, void* stream) {
  forward(x, shape, scale, {}, out, workspace, stream);
}

void gram_backward_cuda(const Tensor& x, const Shape& shape, const float* matrix, const Tensor& grad_x, void* stream) {
  multiply_by_matrix(x, shape, {}, matrix, grad_x, stream);
}

void gram_style_loss_forward_cuda(const Tensor& x, const Shape& shape, const StyleLoss& loss, float* difference,
                                  void* workspace, void* stream) {
  forward(x, shape, static_cast<float>(1 / elements(shape)), loss, difference, workspace, stream);
}

void gram_style_loss_backward_cuda(const Tensor& x, const Shape& shape, const GramWindows& windows,
                                   const float* difference, const float* grad_out, const Tensor& grad_x,
                                   void* workspace, void* stream) {
  const Index tiles = ceil_div(shape[1], kWarp), count = windows.count();
  const double scale = 4 / (double(shape[1]) * double(shape[1]) * elements(shape));
  float* const matrix = static_cast<float*>(workspace);
  FASTGAN_LAUNCH(gram_matrix_kernel, dim3(static_cast<unsigned>(shape[0] * count * tiles * tiles)), dim3(kWarp, 8), 0,
                 stream, difference, grad_out, static_cast<float>(scale), shape[1], count, matrix);
  multiply_by_matrix(x, shape, windows, matrix, grad_x, stream);
}

}  // namespace fastgan
