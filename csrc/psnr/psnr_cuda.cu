// PSNR is memory-bound: dense runs of all tensors are joined, so that most images are one run, and elements move
// sixteen bytes at a time where they can.
#include "psnr/psnr.h"

#include <algorithm>
#include <cmath>

#include "common/cuda_launch.cuh"

namespace fastgan {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr Index kMinBlockElements = kThreads * 16;  // of a block
constexpr Index kMaxBlocks = 2112;                  // of all images: several for each multiprocessor of the largest GPU
constexpr int kTensors = 4;                         // x, y and their gradients

// The dimensions of an image, innermost first; strides of a tensor that is left out are 0.
struct SortedDims {
  std::array<Index, 3> size;
  std::array<std::array<Index, kTensors>, 3> stride;
};

struct DenseRuns {
  Index inner, middle, count;  // sizes; count: elements of an image
  Index stride[3][kTensors];   // of inner, middle and outer

  // Element i of an image, as an offset into each tensor.
  __device__ __forceinline__ void locate(Index i, Index* offsets) const {
    Index along = i, line = 0;
    if (count != inner) {
      // 64-bit division costs several times as much.
      if (count <= 0xffffffffll) {
        line = static_cast<unsigned>(i) / static_cast<unsigned>(inner);
      } else {
        line = i / inner;
      }
      along = i - line * inner;
    }
    const Index outer = middle == 1 ? line : line / middle, between = line - outer * middle;
#pragma unroll
    for (int t = 0; t < kTensors; ++t) {
      offsets[t] = along * stride[0][t] + between * stride[1][t] + outer * stride[2][t];
    }
  }
};

SortedDims sort_dims(const std::array<const Tensor*, kTensors>& tensors, const Shape& shape) {
  SortedDims dims_by_stride;
  std::array<int, 3> dims{3, 2, 1};
  const auto total = [&](int d) {
    Index sum = 0;
    for (const Tensor* tensor : tensors) sum += tensor->data ? tensor->stride[d] : 0;
    return sum;
  };
  std::stable_sort(dims.begin(), dims.end(), [&](int a, int b) {
    if ((shape[a] == 1) != (shape[b] == 1)) return shape[b] == 1;
    return total(a) < total(b);
  });
  for (int i = 0; i < 3; ++i) {
    dims_by_stride.size[i] = shape[dims[i]];
    for (int t = 0; t < kTensors; ++t) dims_by_stride.stride[i][t] = tensors[t]->data ? tensors[t]->stride[dims[i]] : 0;
  }
  return dims_by_stride;
}

// Joins each dimension to the one inside it where all tensors are dense there.
DenseRuns merge_dims(SortedDims dims_by_stride) {
  int last = 0;
  for (int i = 1; i < 3; ++i) {
    bool dense = true;
    for (int t = 0; t < kTensors; ++t) {
      dense &= dims_by_stride.stride[i][t] == dims_by_stride.stride[last][t] * dims_by_stride.size[last];
    }
    if (dims_by_stride.size[i] == 1 || dense) {
      dims_by_stride.size[last] *= dims_by_stride.size[i];
      continue;
    }
    ++last;
    dims_by_stride.size[last] = dims_by_stride.size[i];
    dims_by_stride.stride[last] = dims_by_stride.stride[i];
  }
  DenseRuns runs{};
  runs.inner = dims_by_stride.size[0];
  runs.middle = last > 0 ? dims_by_stride.size[1] : 1;
  runs.count = dims_by_stride.size[0] * runs.middle * (last > 1 ? dims_by_stride.size[2] : 1);
  // Without a third dimension, lines are counted by the second.
  const bool two = last < 2;
  if (two) runs.middle = 1;
  for (int t = 0; t < kTensors; ++t) {
    runs.stride[0][t] = dims_by_stride.stride[0][t];
    runs.stride[1][t] = two ? 0 : dims_by_stride.stride[1][t];
    runs.stride[2][t] = two ? (last > 0 ? dims_by_stride.stride[1][t] : 0) : dims_by_stride.stride[2][t];
  }
  return runs;
}

template <typename T>
bool packable(const DenseRuns& runs, const std::array<const Tensor*, kTensors>& tensors, int pack) {
  bool fits = runs.inner % pack == 0;
  for (int t = 0; t < kTensors; ++t) {
    if (!tensors[t]->data) continue;
    fits &= runs.stride[0][t] == 1 && runs.stride[1][t] % pack == 0 && runs.stride[2][t] % pack == 0;
    fits &= tensors[t]->stride[0] % pack == 0;
    fits &= reinterpret_cast<std::uintptr_t>(tensors[t]->data) % (pack * sizeof(T)) == 0;
  }
  return fits;
}

Index blocks_per_image(const Shape& shape) {
  const Index count = shape[1] * shape[2] * shape[3];
  return std::clamp<Index>(kMaxBlocks / shape[0], 1, ceil_div(count, kMinBlockElements));
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    squared_error(View<const T> x, View<const T> y, DenseRuns runs, Index blocks, double* sums) {
  FASTGAN_SHARED(double, scratch, kThreads / kWarp);
  const Index image = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const T* x_image = x.plane(image, 0);
  const T* y_image = y.plane(image, 0);
  double sum = 0;
#pragma unroll 4
  for (Index i = (block * kThreads + threadIdx.x) * kPack; i < runs.count; i += blocks * kThreads * kPack) {
    Index offsets[kTensors];
    runs.locate(i, offsets);
    float a[kPack], b[kPack], part = 0;
    load_pack<kPack>(x_image + offsets[0], a);
    load_pack<kPack>(y_image + offsets[1], b);
#pragma unroll
    for (int j = 0; j < kPack; ++j) part = fmaf(a[j] - b[j], a[j] - b[j], part);
    sum += static_cast<double>(part);
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void psnr_of_sums(const double* sums, Index blocks, double count, double data_range, float* out) {
  FASTGAN_SHARED(double, scratch, kThreads / kWarp);
  double sum = 0;
  for (Index i = threadIdx.x; i < blocks; i += kThreads) sum += sums[blockIdx.x * blocks + i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<float>(20 * log10(data_range) - 10 * log10(sum / count));
}

template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads)
    gradients(View<const T> x, View<const T> y, View<T> grad_x, View<T> grad_y, DenseRuns runs, Index blocks,
              double data_range, double count, const float* psnr, const float* grad_out) {
  const Index image = blockIdx.x / blocks, block = blockIdx.x % blocks;
  // The mean square is 10^((20 log10(range) - psnr) / 10). Identical images have an infinite PSNR.
  const double decibel = psnr[image];
  float factor = 0;
  if (!(decibel > 1e30)) {
    const double square = data_range * data_range * pow(10.0, -decibel / 10) * count;
    factor = static_cast<float>(-20 / (log(10.0) * square) * grad_out[image]);
  }
#pragma unroll 2
  for (Index i = (block * kThreads + threadIdx.x) * kPack; i < runs.count; i += blocks * kThreads * kPack) {
    Index offsets[kTensors];
    runs.locate(i, offsets);
    float a[kPack], b[kPack];
    load_pack<kPack>(x.plane(image, 0) + offsets[0], a);
    load_pack<kPack>(y.plane(image, 0) + offsets[1], b);
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      a[j] = factor * (a[j] - b[j]);
      b[j] = -a[j];
    }
    if (grad_x.data) store_pack<kPack>(a, grad_x.plane(image, 0) + offsets[2]);
    if (grad_y.data) store_pack<kPack>(b, grad_y.plane(image, 0) + offsets[3]);
  }
}

// function(TypeTag, elements of a pack, runs)
template <typename Function>
void dispatch(const std::array<const Tensor*, kTensors>& tensors, const Shape& shape, Function&& function) {
  for (const Tensor* tensor : tensors) {
    if (tensor->data && tensor->dtype != tensors[0]->dtype) {
      throw std::invalid_argument("psnr on a GPU takes images and gradients of one dtype");
    }
  }
  const DenseRuns runs = merge_dims(sort_dims(tensors, shape));
  dispatch_dtype(tensors[0]->dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    constexpr int kPack = 16 / sizeof(T);
    if (packable<T>(runs, tensors, kPack)) {
      function(tag, std::integral_constant<int, kPack>{}, runs);
    } else {
      function(tag, std::integral_constant<int, 1>{}, runs);
    }
  });
}

double elements(const Shape& shape) { return double(shape[1]) * double(shape[2]) * double(shape[3]); }

}  // namespace
}  // namespace cuda

Index psnr_workspace(const Shape& shape) { return 8 * shape[0] * cuda::blocks_per_image(shape); }

void psnr_forward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, float* out,
                       void* workspace, void* stream) {
  const Index blocks = cuda::blocks_per_image(shape);
  double* sums = static_cast<double*>(workspace);
  const Tensor none;
  cuda::dispatch({&x, &y, &none, &none}, shape, [&](auto tag, auto pack, const cuda::DenseRuns& runs) {
    using T = typename decltype(tag)::Type;
    constexpr int kPack = decltype(pack)::value;
    FASTGAN_LAUNCH((cuda::squared_error<T, kPack>), static_cast<unsigned>(shape[0] * blocks), cuda::kThreads, 0, stream,
                   cuda::view<const T>(x), cuda::view<const T>(y), runs, blocks, sums);
  });
  FASTGAN_LAUNCH(cuda::psnr_of_sums, static_cast<unsigned>(shape[0]), cuda::kThreads, 0, stream, sums, blocks,
                 cuda::elements(shape), data_range, out);
}

void psnr_backward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, const float* psnr,
                        const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, void* stream) {
  const Index blocks = cuda::blocks_per_image(shape);
  cuda::dispatch({&x, &y, &grad_x, &grad_y}, shape, [&](auto tag, auto pack, const cuda::DenseRuns& runs) {
    using T = typename decltype(tag)::Type;
    constexpr int kPack = decltype(pack)::value;
    FASTGAN_LAUNCH((cuda::gradients<T, kPack>), static_cast<unsigned>(shape[0] * blocks), cuda::kThreads, 0, stream,
                   cuda::view<const T>(x), cuda::view<const T>(y), cuda::view<T>(grad_x), cuda::view<T>(grad_y), runs,
                   blocks, data_range, cuda::elements(shape), psnr, grad_out);
  });
}

}  // namespace fastgan
