// Windows of 11 and 7, the usual ones, go to ssim_stream.cuh; any other through generic kernels and the workspace.
#include "ssim/ssim.h"

#include <algorithm>
#include <cmath>

#include "ssim/ssim_stream.cuh"

namespace fastgan {
namespace cuda {
namespace {

constexpr Index kConcurrentBlocks = 264;  // blocks that the largest GPU runs at a time
constexpr Index kChunkBytes = 64 << 20;   // of maps that the generic kernels keep at a time
constexpr int kThreads = 256;

bool has_stream_kernel(const SsimOptions& options) { return options.window_size == 11 || options.window_size == 7; }

Index round_up(Index value, Index step) { return ceil_div(value, step) * step; }

SsimPlan make_plan(const Shape& shape, int window, bool backward) {
  const int halo = window - 1;
  const Index height = backward ? shape[2] : shape[2] - halo, width = backward ? shape[3] : shape[3] - halo;
  const Index max_cols = backward ? kBackwardThreads - 2 * halo : kForwardThreads - halo;
  const Index balanced_cols = ceil_div(width, ceil_div(width, max_cols));
  const Index cols = backward ? round_up(balanced_cols, 4) : balanced_cols;
  const Index col_blocks = ceil_div(width, cols), across = shape[0] * shape[1] * col_blocks;
  // Short strips fill the machine, long ones read fewer rows twice: the rows that it walks one after the other decide.
  Index rows = 8, min_cost = 0;
  for (Index candidate = 8; candidate < height + 8; candidate += 8) {
    const Index waves = ceil_div(across * ceil_div(height, candidate), kConcurrentBlocks);
    const Index cost = waves * (candidate + (backward ? halo : halo / 2));
    if (min_cost == 0 || cost < min_cost) {
      min_cost = cost;
      rows = candidate;
    }
  }
  return {int(shape[1]), int(shape[2]),   int(shape[3]), int(shape[2]) - halo,       int(shape[3]) - halo,
          int(cols),     int(col_blocks), int(rows),     int(ceil_div(height, rows))};
}

unsigned block_count(const SsimPlan& plan, Index images) {
  return static_cast<unsigned>(images * plan.channels * plan.col_blocks * plan.strips);
}

SsimConstants make_constants(const SsimOptions& options) {
  const double area = double(options.window_size) * double(options.window_size);
  const double c1 = 0.01 * options.data_range, c2 = 0.03 * options.data_range;
  return {float(c1 * c1), float(c2 * c2), float(options.gaussian ? 0.5 : 0.5 * area / (area - 1))};
}

template <int K>
Taps<K> make_taps(const SsimOptions& options) {
  double weights[K], total = 0;
  for (int k = 0; k < K; ++k) {
    const double offset = k - K / 2;
    weights[k] = options.gaussian ? std::exp(-offset * offset / (2 * options.sigma * options.sigma)) : 1.0;
    total += weights[k];
  }
  Taps<K> taps;
  for (int k = 0; k < K; ++k) taps.value[k] = float(weights[k] / total);
  return taps;
}

void check_dtypes(const Tensor& x, const Tensor& y, const Tensor& grad_x, const Tensor& grad_y) {
  if (y.dtype != x.dtype || (grad_x.data && grad_x.dtype != x.dtype) || (grad_y.data && grad_y.dtype != x.dtype)) {
    throw std::invalid_argument("ssim on a GPU takes images and gradients of one dtype");
  }
}

template <typename T>
GradientWriter<T> make_writer(const Tensor& x, const Tensor& y, const Tensor& grad_x, const Tensor& grad_y) {
  const auto packed = [](const Tensor& tensor) { return !tensor.data || rows_in_packs<T>(tensor, 4); };
  return {view<const T>(x), view<const T>(y), view<T>(grad_x), view<T>(grad_y),
          packed(x) && packed(y) && packed(grad_x) && packed(grad_y)};
}

// The mean of each image's block sums, added up in one order.
__global__ void mean_of_sums(const double* sums, Index per_image, double count, float* out) {
  FASTGAN_SHARED(double, scratch, kThreads / kWarp);
  double sum = 0;
  for (Index i = threadIdx.x; i < per_image; i += kThreads) sum += sums[blockIdx.x * per_image + i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<float>(sum / count);
}

void reduce(const double* sums, Index per_image, const Shape& shape, int window, float* out, void* stream) {
  const double count = double(shape[1]) * double(shape[2] - window + 1) * double(shape[3] - window + 1);
  FASTGAN_LAUNCH(mean_of_sums, static_cast<unsigned>(shape[0]), kThreads, 0, stream, sums, per_image, count, out);
}

template <int K>
void stream_forward(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options, float* out,
                    void* workspace, void* stream) {
  const SsimPlan plan = make_plan(shape, K, false);
  const unsigned blocks = block_count(plan, shape[0]);
  const unsigned threads =
      static_cast<unsigned>(round_up(std::max<Index>(plan.cols + K - 1, round_up(plan.cols, 8)), kWarp));
  double* sums = static_cast<double*>(workspace);
  dispatch_dtype(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    FASTGAN_LAUNCH((ssim_forward_stream<T, K>), blocks, threads, 0, stream, view<const T>(x), view<const T>(y), plan,
                   make_taps<K>(options), make_constants(options), sums);
  });
  reduce(sums, blocks / shape[0], shape, K, out, stream);
}

float gradient_scale(const Shape& shape, int window) {
  return float(1 / (double(shape[1]) * double(shape[2] - window + 1) * double(shape[3] - window + 1)));
}

template <int K>
void stream_backward(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options,
                     const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, void* stream) {
  const SsimPlan plan = make_plan(shape, K, true);
  const unsigned threads = static_cast<unsigned>(round_up(plan.cols + 2 * (K - 1), kWarp));
  dispatch_dtype(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    FASTGAN_LAUNCH((ssim_backward_stream<T, K>), block_count(plan, shape[0]), threads, 0, stream,
                   make_writer<T>(x, y, grad_x, grad_y), plan, make_taps<K>(options), make_constants(options), grad_out,
                   gradient_scale(shape, K));
  });
}

// The generic kernels: a thread computes one value of a plane; blockIdx.y counts the planes of a chunk. Maps hold the
// four moments, or their derivatives, one whole map after the other.
struct Planes {
  int channels, height, width, out_h, out_w, window;
  Index first;
  const float* taps;
  const float2* means;
  __device__ int image() const { return static_cast<int>((first + blockIdx.y) / channels); }
  __device__ int channel() const { return static_cast<int>((first + blockIdx.y) % channels); }
  __device__ float2 mean() const { return means[first + blockIdx.y]; }
};

__device__ Index pixel() { return static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x; }

__global__ void write_taps(int window, bool gaussian, double sigma, float* taps) {
  FASTGAN_SHARED(double, scratch, kThreads / kWarp);
  const auto weight = [&](int k) {
    const double offset = k - window / 2;
    return gaussian ? exp(-offset * offset / (2 * sigma * sigma)) : 1.0;
  };
  double total = 0;
  for (int k = threadIdx.x; k < window; k += kThreads) total += weight(k);
  total = block_sum(total, scratch);
  for (int k = threadIdx.x; k < window; k += kThreads) taps[k] = static_cast<float>(weight(k) / total);
}

template <typename T>
__global__ void write_means(View<const T> x, View<const T> y, int channels, int height, int width, float2* means) {
  FASTGAN_SHARED(float, scratch, kThreads / kWarp);
  const int image = static_cast<int>(blockIdx.x) / channels, channel = static_cast<int>(blockIdx.x) % channels;
  float2 sum = make_float2(0, 0);
  for (int r = 0; r < kMeanRows; ++r) {
    const Index row = static_cast<Index>(r) * height / kMeanRows;
    for (int col = threadIdx.x; col < width; col += kThreads) {
      sum.x += to_float(*x.at(image, channel, row, col));
      sum.y += to_float(*y.at(image, channel, row, col));
    }
  }
  const float scale = 1.0f / (static_cast<float>(kMeanRows) * static_cast<float>(width));
  sum.x = block_sum(sum.x, scratch) * scale;
  sum.y = block_sum(sum.y, scratch) * scale;
  if (threadIdx.x == 0) means[blockIdx.x] = sum;
}

template <typename T>
__global__ void blur_down(View<const T> x, View<const T> y, Planes planes, float* blurred) {
  const Index i = pixel(), size = static_cast<Index>(planes.out_h) * planes.width;
  if (i >= size) return;
  const int row = static_cast<int>(i / planes.width), col = static_cast<int>(i % planes.width);
  const T* x_from = x.at(planes.image(), planes.channel(), row, col);
  const T* y_from = y.at(planes.image(), planes.channel(), row, col);
  const float2 mean = planes.mean();
  float sums[4] = {}, moments[4];
  for (int k = 0; k < planes.window; ++k) {
    compute_moments(to_float(x_from[k * x.h]) - mean.x, to_float(y_from[k * y.h]) - mean.y, moments);
    for (int m = 0; m < 4; ++m) sums[m] = fmaf(planes.taps[k], moments[m], sums[m]);
  }
  for (int m = 0; m < 4; ++m) blurred[(blockIdx.y * Index{4} + m) * size + i] = sums[m];
}

// Blurs along the rows, and writes the block's sum of the SSIM map or, where derivatives are given, these instead.
__global__ void blur_across(Planes planes, SsimConstants constants, const float* blurred, double* sums,
                            float* derivatives, const float* grad_out, float scale) {
  FASTGAN_SHARED(double, scratch, kThreads / kWarp);
  const Index i = pixel(), size = static_cast<Index>(planes.out_h) * planes.out_w;
  const float2 mean = planes.mean();
  float value = 0;
  if (i < size) {
    const Index row = i / planes.out_w, col = i % planes.out_w;
    float moments[4] = {};
    for (int m = 0; m < 4; ++m) {
      const float* from = blurred + ((blockIdx.y * Index{4} + m) * planes.out_h + row) * planes.width + col;
      for (int k = 0; k < planes.window; ++k) moments[m] = fmaf(planes.taps[k], from[k], moments[m]);
    }
    const SsimPoint point(moments[0], moments[1], moments[2], moments[3], mean, constants);
    value = point.luminance * point.structure;
    if (derivatives) {
      point.derive(moments[0], moments[1], scale * grad_out[planes.image()], constants, moments);
      for (int m = 0; m < 4; ++m) derivatives[(blockIdx.y * Index{4} + m) * size + i] = moments[m];
    }
  }
  if (derivatives) return;
  const double sum = block_sum(static_cast<double>(value), scratch);
  if (threadIdx.x == 0) sums[(planes.first + blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

__global__ void blur_down_backward(Planes planes, const float* derivatives, float* spread) {
  const Index i = pixel(), size = static_cast<Index>(planes.height) * planes.out_w;
  if (i >= size) return;
  const int row = static_cast<int>(i / planes.out_w), col = static_cast<int>(i % planes.out_w);
  for (int m = 0; m < 4; ++m) {
    const float* from = derivatives + (blockIdx.y * Index{4} + m) * planes.out_h * planes.out_w + col;
    float sum = 0;
    for (int k = max(0, row - planes.out_h + 1); k < min(planes.window, row + 1); ++k) {
      sum = fmaf(planes.taps[k], from[static_cast<Index>(row - k) * planes.out_w], sum);
    }
    spread[(blockIdx.y * Index{4} + m) * size + i] = sum;
  }
}

template <typename T>
__global__ void blur_across_backward(GradientWriter<T> writer, Planes planes, const float* spread) {
  const Index i = pixel();
  if (i >= static_cast<Index>(planes.height) * planes.width) return;
  const int row = static_cast<int>(i / planes.width), col = static_cast<int>(i % planes.width);
  float sums[4][4] = {};
  for (int m = 0; m < 4; ++m) {
    const float* from = spread + ((blockIdx.y * Index{4} + m) * planes.height + row) * planes.out_w;
    for (int k = max(0, col - planes.out_w + 1); k < min(planes.window, col + 1); ++k) {
      sums[m][0] = fmaf(planes.taps[k], from[col - k], sums[m][0]);
    }
  }
  const SsimBlock plane{planes.channel(), planes.image(), 0, 0};
  writer.write(plane, row, col, 1, planes.mean(), sums);
}

// Offsets in the workspace of the generic kernels.
struct WorkspaceLayout {
  Index planes, chunk, out_h, out_w, sum_blocks;  // chunk: planes at a time
  Index sums, means, taps, blurred, derivatives, bytes;

  WorkspaceLayout(const Shape& shape, int window, bool backward)
      : planes(shape[0] * shape[1]), out_h(shape[2] - window + 1), out_w(shape[3] - window + 1) {
    sum_blocks = ceil_div(out_h * out_w, kThreads);
    const Index blurred_size = 16 * std::max(out_h * shape[3], backward ? shape[2] * out_w : 0);
    const Index derivatives_size = backward ? 16 * out_h * out_w : 0;
    chunk = std::clamp<Index>(kChunkBytes / (blurred_size + derivatives_size), 1, std::min<Index>(planes, 65535));
    sums = 0;
    means = round_up(sums + (backward ? 0 : planes * sum_blocks * 8), 16);
    taps = round_up(means + planes * 8, 16);
    blurred = round_up(taps + window * 4, 16);
    derivatives = blurred + chunk * blurred_size;
    bytes = derivatives + chunk * derivatives_size;
  }
};

// out: the forward pass; otherwise the gradients.
void run_generic(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options, float* out,
                 const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, void* workspace, void* stream) {
  const bool backward = out == nullptr;
  const WorkspaceLayout layout(shape, options.window_size, backward);
  char* base = static_cast<char*>(workspace);
  double* sums = reinterpret_cast<double*>(base + layout.sums);
  float2* means = reinterpret_cast<float2*>(base + layout.means);
  float* taps = reinterpret_cast<float*>(base + layout.taps);
  float* blurred = reinterpret_cast<float*>(base + layout.blurred);
  float* derivatives = backward ? reinterpret_cast<float*>(base + layout.derivatives) : nullptr;
  const int height = int(shape[2]), width = int(shape[3]), channels = int(shape[1]);
  const int window = options.window_size;
  const auto grid = [&](Index size, Index count) {
    return dim3(static_cast<unsigned>(ceil_div(size, kThreads)), static_cast<unsigned>(count));
  };
  FASTGAN_LAUNCH(write_taps, 1, kThreads, 0, stream, window, options.gaussian, options.sigma, taps);
  dispatch_dtype(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    FASTGAN_LAUNCH(write_means<T>, static_cast<unsigned>(layout.planes), kThreads, 0, stream, view<const T>(x),
                   view<const T>(y), channels, height, width, means);
    for (Index first = 0; first < layout.planes; first += layout.chunk) {
      const Planes planes{channels, height, width, int(layout.out_h), int(layout.out_w), window, first, taps, means};
      const Index count = std::min(layout.chunk, layout.planes - first);
      FASTGAN_LAUNCH(blur_down<T>, grid(layout.out_h * width, count), kThreads, 0, stream, view<const T>(x),
                     view<const T>(y), planes, blurred);
      FASTGAN_LAUNCH(blur_across, grid(layout.out_h * layout.out_w, count), kThreads, 0, stream, planes,
                     make_constants(options), blurred, sums, derivatives, grad_out, gradient_scale(shape, window));
      if (!backward) continue;
      FASTGAN_LAUNCH(blur_down_backward, grid(height * layout.out_w, count), kThreads, 0, stream, planes, derivatives,
                     blurred);
      FASTGAN_LAUNCH(blur_across_backward<T>, grid(Index{height} * width, count), kThreads, 0, stream,
                     make_writer<T>(x, y, grad_x, grad_y), planes, blurred);
    }
  });
  if (!backward) reduce(sums, shape[1] * layout.sum_blocks, shape, window, out, stream);
}

}  // namespace
}  // namespace cuda

Index ssim_workspace(const Shape& shape, const SsimOptions& options, bool backward) {
  if (!cuda::has_stream_kernel(options)) return cuda::WorkspaceLayout(shape, options.window_size, backward).bytes;
  if (backward) return 0;
  return 8 * Index(cuda::block_count(cuda::make_plan(shape, options.window_size, false), shape[0]));
}

void ssim_forward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options, float* out,
                       void* workspace, void* stream) {
  cuda::check_dtypes(x, y, {}, {});
  if (options.window_size == 11) {
    cuda::stream_forward<11>(x, y, shape, options, out, workspace, stream);
  } else if (options.window_size == 7) {
    cuda::stream_forward<7>(x, y, shape, options, out, workspace, stream);
  } else {
    cuda::run_generic(x, y, shape, options, out, nullptr, {}, {}, workspace, stream);
  }
}

void ssim_backward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options,
                        const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, void* workspace,
                        void* stream) {
  cuda::check_dtypes(x, y, grad_x, grad_y);
  if (options.window_size == 11) {
    cuda::stream_backward<11>(x, y, shape, options, grad_out, grad_x, grad_y, stream);
  } else if (options.window_size == 7) {
    cuda::stream_backward<7>(x, y, shape, options, grad_out, grad_x, grad_y, stream);
  } else {
    cuda::run_generic(x, y, shape, options, nullptr, grad_out, grad_x, grad_y, workspace, stream);
  }
}

}  // namespace fastgan
