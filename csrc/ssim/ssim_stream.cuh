// SSIM of a window size known to the compiler. A block walks down a strip of a plane; a thread owns an input column
// and keeps, in registers, the K - 1 unfinished vertical sums of the four moments of s = x + y and d = x - y (the CPU
// kernel tells why four do). A new row costs one multiply-add for each, which also moves it one place on. Finished rows
// are blurred horizontally through shared memory, where a thread reads a run of columns once for several outputs. With
// K = 11, 88 of the forward pass's 134 instructions a pixel (sm_90) are the blurs' own; of the backward pass's 285,
// 176.
#pragma once

#include "common/cuda_launch.cuh"
#include "ssim/ssim.h"

namespace fastgan::cuda {

// Two blocks fit a multiprocessor: 128 registers a thread, and 168 with twice as many vertical sums.
constexpr int kForwardThreads = 256, kBackwardThreads = 192;
constexpr int kMeanRows = 8;  // of a strip, sampled for the shift

struct SsimConstants {
  float c1, c2, half_sample;  // half_sample: n / (n - 1) / 2 for a sample covariance, otherwise 1/2
};

template <int K>
struct Taps {
  float value[K];
};

// How a plane is cut: rows x cols outputs for a block.
struct SsimPlan {
  int channels, height, width, out_h, out_w;
  int cols, col_blocks, rows, strips;
};

struct SsimBlock {
  int channel, image, row, col;
};

// Channels are innermost: with channels_last they share their cache lines.
__device__ __forceinline__ SsimBlock block_position(const SsimPlan& plan) {
  int b = static_cast<int>(blockIdx.x);
  SsimBlock block;
  block.channel = b % plan.channels;
  b /= plan.channels;
  block.col = b % plan.col_blocks * plan.cols;
  b /= plan.col_blocks;
  block.row = b % plan.strips * plan.rows;
  block.image = b / plan.strips;
  return block;
}

// The SSIM of one window, from its moments.
struct SsimPoint {
  float mu_x, mu_y, luminance, luminance_scale, structure, structure_scale;  // scale: 1 / denominator

  __device__ __forceinline__ SsimPoint(float s, float d, float ss, float dd, float2 mean, const SsimConstants& c) {
    const float var_s = ss - s * s, var_d = dd - d * d;
    mu_x = fmaf(0.5f, s + d, mean.x);
    mu_y = fmaf(0.5f, s - d, mean.y);
    // Two quotients rather than one of products, which would overflow where the range of the data is large.
    luminance_scale = fast_reciprocal(fmaf(mu_x, mu_x, fmaf(mu_y, mu_y, c.c1)));
    luminance = fmaf(2 * mu_x, mu_y, c.c1) * luminance_scale;
    structure_scale = fast_reciprocal(fmaf(c.half_sample, var_s + var_d, c.c2));
    structure = fmaf(c.half_sample, var_s - var_d, c.c2) * structure_scale;
  }

  // The derivatives of luminance * structure times scale for the four moments.
  __device__ __forceinline__ void derive(float s, float d, float scale, const SsimConstants& c, float* moments) const {
    const float grad_variance = scale * luminance * structure_scale * c.half_sample;
    const float grad_mean = scale * structure * luminance_scale;
    moments[2] = grad_variance * (1 - structure);
    moments[3] = -grad_variance * (1 + structure);
    moments[0] = fmaf(grad_mean * (mu_x + mu_y), 1 - luminance, -2 * s * moments[2]);
    moments[1] = fmaf(grad_mean * (mu_y - mu_x), 1 + luminance, -2 * d * moments[3]);
  }
};

// The unfinished vertical sums of one column.
template <int K>
struct Column {
  float sums[4][K - 1];

  __device__ __forceinline__ Column() {
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int k = 0; k < K - 1; ++k) sums[m][k] = 0;
    }
  }

  // Adds a row and returns the sums that it completes.
  __device__ __forceinline__ void push(const float* row, const Taps<K>& taps, float* completed) {
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      completed[m] = fmaf(taps.value[K - 1], row[m], sums[m][0]);
#pragma unroll
      for (int k = 0; k < K - 2; ++k) sums[m][k] = fmaf(taps.value[K - 2 - k], row[m], sums[m][k + 1]);
      sums[m][K - 2] = taps.value[0] * row[m];
    }
  }
};

__device__ __forceinline__ void compute_moments(float x, float y, float* moments) {
  const float s = x + y, d = x - y;
  moments[0] = s;
  moments[1] = d;
  moments[2] = s * s;
  moments[3] = d * d;
}

// Blurs kCount neighboring columns of one row; from is aligned to 16 bytes.
template <int K, int kCount>
__device__ __forceinline__ void blur_row(const float* from, const Taps<K>& taps, float* to) {
  constexpr int kInputs = (kCount + K - 1 + 3) / 4 * 4;
  float in[kInputs];
#pragma unroll
  for (int i = 0; i < kInputs; i += 4) load_pack<4>(from + i, in + i);
#pragma unroll
  for (int c = 0; c < kCount; ++c) {
    to[c] = taps.value[0] * in[c];
#pragma unroll
    for (int k = 1; k < K; ++k) to[c] = fmaf(taps.value[k], in[c + k], to[c]);
  }
}

// One column of both images; rows and columns outside repeat the last inside.
template <typename T>
struct Source {
  const T *x, *y;
  Index x_stride, y_stride;
  int height;
  bool strides_fit_int;  // strides are of 32 bits: an address is then one instruction

  __device__ __forceinline__ Source(const View<const T>& x_view, const View<const T>& y_view, const SsimPlan& plan,
                                    const SsimBlock& block, int col)
      : x_stride(x_view.h), y_stride(y_view.h), height(plan.height) {
    col = min(max(col, 0), plan.width - 1);
    x = x_view.at(block.image, block.channel, 0, col);
    y = y_view.at(block.image, block.channel, 0, col);
    constexpr Index kMaxStride = 0x7fffffff / sizeof(T);
    strides_fit_int =
        x_stride >= -kMaxStride && x_stride <= kMaxStride && y_stride >= -kMaxStride && y_stride <= kMaxStride;
  }

  __device__ __forceinline__ void load(int row, T& x_value, T& y_value) const {
    row = min(row, height - 1);
    x_value = x[row * x_stride];
    y_value = y[row * y_stride];
  }

  template <int kRows>
  __device__ __forceinline__ void load(int row, T (&x_values)[kRows], T (&y_values)[kRows]) const {
    if (strides_fit_int && row + kRows <= height) {
      const int x_bytes = static_cast<int>(x_stride * Index{sizeof(T)});
      const int y_bytes = static_cast<int>(y_stride * Index{sizeof(T)});
      const char* x_row = reinterpret_cast<const char*>(x) + static_cast<Index>(row) * x_bytes;
      const char* y_row = reinterpret_cast<const char*>(y) + static_cast<Index>(row) * y_bytes;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        x_values[r] = *reinterpret_cast<const T*>(x_row + static_cast<Index>(r) * x_bytes);
        y_values[r] = *reinterpret_cast<const T*>(y_row + static_cast<Index>(r) * y_bytes);
      }
    } else {
#pragma unroll
      for (int r = 0; r < kRows; ++r) load(row + r, x_values[r], y_values[r]);
    }
  }

  // Values near the means of the strip: variances do not change under a shift, but squares of a large mean cost
  // digits.
  __device__ __forceinline__ float2 approximate_mean(int row, int rows, float* scratch) const {
    float2 sum = make_float2(0, 0);
#pragma unroll
    for (int r = 0; r < kMeanRows; ++r) {
      T x_value, y_value;
      load(row + r * rows / kMeanRows, x_value, y_value);
      sum.x += to_float(x_value);
      sum.y += to_float(y_value);
    }
    const float scale = 1.0f / static_cast<float>(kMeanRows * static_cast<int>(blockDim.x));
    sum.x = block_sum(sum.x, scratch) * scale;
    sum.y = block_sum(sum.y, scratch) * scale;
    return sum;
  }
};

// Writes the sum of each block's SSIM map.
template <typename T, int K>
__global__ void __launch_bounds__(kForwardThreads, 2)
    ssim_forward_stream(View<const T> x, View<const T> y, SsimPlan plan, Taps<K> taps, SsimConstants constants,
                        double* sums) {
  constexpr int kRows = 8, kRun = 8;  // a step's rows, and the columns that a thread blurs of one of them
  constexpr int kPitch = kForwardThreads + 4;  // the vectors of two rows then fill all banks
  FASTGAN_SHARED(float, rows, 4 * kRows * kPitch + kRun);
  FASTGAN_SHARED(double, scratch, kForwardThreads / kWarp);
  const SsimBlock block = block_position(plan);
  const int thread = static_cast<int>(threadIdx.x);
  const int height = min(plan.rows, plan.out_h - block.row), width = min(plan.cols, plan.out_w - block.col);
  const Source<T> source(x, y, plan, block, block.col + min(thread, width + K - 2));
  const float2 mean = source.approximate_mean(block.row, height + K - 1, reinterpret_cast<float*>(scratch));

  // Neighboring lanes take two rows in turn, which the pitch puts into different banks.
  const int groups = (width + kRun - 1) / kRun;
  const int row = (thread & 1) + thread / 2 / groups * 2, col = thread / 2 % groups * kRun;

  Column<K> column;
  float moments[4], completed[4];
  T x_next[kRows], y_next[kRows];
  for (int r = 0; r < K - 1; ++r) {
    source.load(block.row + r, x_next[0], y_next[0]);
    compute_moments(to_float(x_next[0]) - mean.x, to_float(y_next[0]) - mean.y, moments);
    column.push(moments, taps, completed);
  }
  source.load(block.row + K - 1, x_next, y_next);

  double sum = 0;
  for (int top = 0; top < height; top += kRows) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      compute_moments(to_float(x_next[r]) - mean.x, to_float(y_next[r]) - mean.y, moments);
      column.push(moments, taps, completed);
#pragma unroll
      for (int m = 0; m < 4; ++m) rows[(m * kRows + r) * kPitch + thread] = completed[m];
    }
    // In flight while the others are blurred.
    source.load(block.row + top + kRows + K - 1, x_next, y_next);
    __syncthreads();
    if (row < min(kRows, height - top)) {
      float blurred[4][kRun];
#pragma unroll
      for (int m = 0; m < 4; ++m) blur_row<K, kRun>(rows + (m * kRows + row) * kPitch + col, taps, blurred[m]);
      float part = 0;
#pragma unroll
      for (int c = 0; c < kRun; ++c) {
        const SsimPoint point(blurred[0][c], blurred[1][c], blurred[2][c], blurred[3][c], mean, constants);
        if (col + c < width) part = fmaf(point.luminance, point.structure, part);
      }
      sum += static_cast<double>(part);
    }
    __syncthreads();
  }
  sum = block_sum(sum, scratch);
  if (thread == 0) sums[blockIdx.x] = sum;
}

// Four neighboring gradients of each image, from the blurred derivatives.
template <typename T>
struct GradientWriter {
  View<const T> x, y;
  View<T> grad_x, grad_y;
  bool packed;  // all four may be moved four at a time

  __device__ __forceinline__ void write(const SsimBlock& block, int row, int col, int count, float2 mean,
                                        const float (*blurred)[4]) const {
    const T* x_from = x.at(block.image, block.channel, row, col);
    const T* y_from = y.at(block.image, block.channel, row, col);
    T* x_to = grad_x.data ? grad_x.at(block.image, block.channel, row, col) : nullptr;
    T* y_to = grad_y.data ? grad_y.at(block.image, block.channel, row, col) : nullptr;
    const bool whole = packed && count >= 4;
    float x_in[4] = {}, y_in[4] = {}, x_out[4], y_out[4];
    if (whole) {
      load_pack<4>(x_from, x_in);
      load_pack<4>(y_from, y_in);
    } else {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (c < count) {
          x_in[c] = to_float(x_from[c * x.w]);
          y_in[c] = to_float(y_from[c * y.w]);
        }
      }
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float a = x_in[c] - mean.x, b = y_in[c] - mean.y;
      const float grad_s = fmaf(2 * (a + b), blurred[2][c], blurred[0][c]);
      const float grad_d = fmaf(2 * (a - b), blurred[3][c], blurred[1][c]);
      x_out[c] = grad_s + grad_d;
      y_out[c] = grad_s - grad_d;
    }
    if (whole) {
      if (x_to) store_pack<4>(x_out, x_to);
      if (y_to) store_pack<4>(y_out, y_to);
      return;
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      if (x_to && c < count) x_to[c * grad_x.w] = from_float<T>(x_out[c]);
      if (y_to && c < count) y_to[c * grad_y.w] = from_float<T>(y_out[c]);
    }
  }
};

// The gradients of rows x cols pixels for a block: moments as in the forward pass, their derivatives, and these blurred
// in the same way. As input row r comes in, the derivatives and then the gradients of row r - (K - 1) follow.
template <typename T, int K>
__global__ void __launch_bounds__(kBackwardThreads, 2)
    ssim_backward_stream(GradientWriter<T> writer, SsimPlan plan, Taps<K> taps, SsimConstants constants,
                         const float* grad_out, float scale) {
  constexpr int kRows = 4, kRun = 4, kHalo = K - 1, kPitch = kBackwardThreads + 4;
  FASTGAN_SHARED(float, rows, 4 * kRows * kPitch + kRun);
  FASTGAN_SHARED(float, maps, 4 * kRows * kPitch + kRun);
  const SsimBlock block = block_position(plan);
  const int thread = static_cast<int>(threadIdx.x);
  const int height = min(plan.rows, plan.height - block.row), width = min(plan.cols, plan.width - block.col);
  const int first = max(block.row - kHalo, 0);  // row of derivatives
  const Source<T> source(writer.x, writer.y, plan, block, block.col - kHalo + min(thread, width + 2 * kHalo - 1));
  const float2 mean = source.approximate_mean(block.row, height, maps);
  scale *= grad_out[block.image];

  const int map_groups = (width + kHalo + kRun - 1) / kRun;
  const int map_row = thread / map_groups, map_col = thread % map_groups * kRun;
  const int groups = (width + kRun - 1) / kRun;
  const int row = thread / groups, col = thread % groups * kRun;

  Column<K> column, map_column;
  float moments[4], completed[4];
  T x_next[kRows], y_next[kRows];
  for (int r = 0; r < kHalo; ++r) {
    source.load(first + r, x_next[0], y_next[0]);
    compute_moments(to_float(x_next[0]) - mean.x, to_float(y_next[0]) - mean.y, moments);
    column.push(moments, taps, completed);
  }
  source.load(first + kHalo, x_next, y_next);

  for (int top = first; top < block.row + height; top += kRows) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      compute_moments(to_float(x_next[r]) - mean.x, to_float(y_next[r]) - mean.y, moments);
      column.push(moments, taps, completed);
#pragma unroll
      for (int m = 0; m < 4; ++m) rows[(m * kRows + r) * kPitch + thread] = completed[m];
    }
    source.load(top + kRows + kHalo, x_next, y_next);
    __syncthreads();
    if (map_row < kRows) {
      float blurred[4][kRun];
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        blur_row<K, kRun>(rows + (m * kRows + map_row) * kPitch + map_col, taps, blurred[m]);
      }
      const int left = block.col - kHalo + map_col;
#pragma unroll
      for (int c = 0; c < kRun; ++c) {
        const SsimPoint point(blurred[0][c], blurred[1][c], blurred[2][c], blurred[3][c], mean, constants);
        point.derive(blurred[0][c], blurred[1][c], scale, constants, moments);
        const bool inside = top + map_row < plan.out_h && left + c >= 0 && left + c < plan.out_w;
#pragma unroll
        for (int m = 0; m < 4; ++m) blurred[m][c] = inside ? moments[m] : 0;
      }
#pragma unroll
      for (int m = 0; m < 4; ++m) store_pack<4>(blurred[m], maps + (m * kRows + map_row) * kPitch + map_col);
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int m = 0; m < 4; ++m) moments[m] = maps[(m * kRows + r) * kPitch + thread];
      map_column.push(moments, taps, completed);
#pragma unroll
      for (int m = 0; m < 4; ++m) maps[(m * kRows + r) * kPitch + thread] = completed[m];
    }
    __syncthreads();
    if (row < kRows && top + row >= block.row && top + row < block.row + height) {
      float blurred[4][kRun];
#pragma unroll
      for (int m = 0; m < 4; ++m) blur_row<K, kRun>(maps + (m * kRows + row) * kPitch + col, taps, blurred[m]);
      writer.write(block, top + row, block.col + col, width - col, mean, blurred);
    }
  }
}

}  // namespace fastgan::cuda
