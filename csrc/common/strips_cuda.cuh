// Memory-bound kernels divide every plane into strips of pixels. Neighboring threads process neighboring elements:
// pixels, or channels where those lie side by side (channels_last).
#pragma once

#include <cmath>
#include <initializer_list>
#include <type_traits>

#include "common/cuda_launch.cuh"

namespace fastgan::cuda {

constexpr int kStripThreads = 256;
constexpr Index kTargetBlocks = 2048;  // some three times what the largest GPUs hold at once

// The element type where packs of 16 bytes cannot be moved, or tensors differ in dtype: read at every access.
struct Unpacked {};

template <typename T>
constexpr int kPackSize = 16 / sizeof(T);
template <>
constexpr int kPackSize<Unpacked> = 1;

// Loads that a thread has in flight at once.
template <typename T>
constexpr int kLoadsInFlight = std::is_same_v<T, Unpacked> ? 16 : 32 / kPackSize<T>;

// A tensor as planes of pixels, with the strides between them.
struct PixelView {
  void* data;
  Dtype dtype;
  Index n, c, pixel, row;  // strides
  Index width;             // 0 where the rows follow one another as their pixels do

  __device__ Index offset(Index image, Index channel, Index p) const {
    const Index base = image * n + channel * c;
    return width == 0 ? base + p * pixel : base + p / width * row + p % width * pixel;
  }
};

inline PixelView pixel_view(const Tensor& tensor, const Shape& shape) {
  const auto [n, c, h, w] = tensor.stride;
  const bool one_row = shape[2] == 1, one_column = shape[3] == 1;
  const Index pixel = one_column ? (one_row ? 1 : h) : w;
  const bool even = one_row || one_column || h == w * shape[3];
  return {tensor.data, tensor.dtype, shape[0] == 1 ? 0 : n, shape[1] == 1 ? 0 : c, pixel, h, even ? 0 : shape[3]};
}

template <typename T>
__device__ __forceinline__ void load_values(const PixelView& view, Index offset, float* to) {
  if constexpr (std::is_same_v<T, Unpacked>) {
    if (view.dtype == Dtype::kFloat32) {
      *to = static_cast<const float*>(view.data)[offset];
    } else if (view.dtype == Dtype::kBFloat16) {
      *to = to_float(static_cast<const __nv_bfloat16*>(view.data)[offset]);
    } else {
      *to = to_float(static_cast<const __half*>(view.data)[offset]);
    }
  } else {
    load_pack<kPackSize<T>>(static_cast<const T*>(view.data) + offset, to);
  }
}

template <typename T>
__device__ __forceinline__ void store_values(const PixelView& view, Index offset, const float* from) {
  if constexpr (std::is_same_v<T, Unpacked>) {
    if (view.dtype == Dtype::kFloat32) {
      static_cast<float*>(view.data)[offset] = *from;
    } else if (view.dtype == Dtype::kBFloat16) {
      static_cast<__nv_bfloat16*>(view.data)[offset] = from_float<__nv_bfloat16>(*from);
    } else {
      static_cast<__half*>(view.data)[offset] = from_float<__half>(*from);
    }
  } else {
    store_pack<kPackSize<T>>(from, static_cast<T*>(view.data) + offset);
  }
}

struct Layout {
  bool channels_last;
  bool packed;
  Dtype dtype;
};

// The first tensor decides the memory format. Tensors without data are ignored.
inline Layout make_layout(std::initializer_list<Tensor> tensors, const Shape& shape) {
  const Tensor& first = *tensors.begin();
  const PixelView x = pixel_view(first, shape);
  const bool channels = x.c == 1 && !(x.pixel == 1 && x.width == 0);
  const Index pack = first.dtype == Dtype::kFloat32 ? kPackSize<float> : kPackSize<__half>;
  bool packs = (channels ? shape[1] : shape[2] * shape[3]) % pack == 0;
  for (const Tensor& tensor : tensors) {
    if (tensor.data == nullptr) continue;
    const PixelView f = pixel_view(tensor, shape);
    const Index near = channels ? f.c : f.pixel, far = channels ? f.pixel : f.c;
    packs = packs && tensor.dtype == first.dtype && near == 1 && f.n % pack == 0 && far % pack == 0 &&
            (f.width == 0 || (channels && f.row % pack == 0)) && reinterpret_cast<std::uintptr_t>(f.data) % 16 == 0;
  }
  return {channels, packs, first.dtype};
}

// function(TypeTag<T>{}, std::bool_constant<channels>{}), T is Unpacked where packs cannot be moved.
template <typename Function>
void dispatch_layout(const Layout& layout, Function&& function) {
  const auto with_type = [&](auto tag) {
    if (layout.channels_last) {
      function(tag, std::true_type{});
    } else {
      function(tag, std::false_type{});
    }
  };
  if (layout.packed) {
    dispatch_dtype(layout.dtype, with_type);
  } else {
    with_type(TypeTag<Unpacked>{});
  }
}

struct Strips {
  Index images, channels, pixels;
  Index tiles;  // groups of channels that a block processes together
  Index count;  // strips of a plane
  Index size;   // pixels of a strip
  int lanes;    // threads over channels; the others lie over pixels
  int threads;

  unsigned blocks() const { return static_cast<unsigned>(images * tiles * count); }
};

inline Strips make_strips(const Shape& shape, bool channels, int pack, int rounds) {
  const Index pixels = shape[2] * shape[3];
  Strips s{shape[0], shape[1], pixels, shape[1], 1, 0, 1, kStripThreads};
  const Index pixels_per_thread = channels ? 1 : pack;  // pixels that a thread processes at once
  if (channels) {
    while (s.lanes < kWarp && s.lanes * pack < shape[1]) s.lanes *= 2;
    s.tiles = ceil_div(shape[1], s.lanes * pack);
  }
  while (s.threads > kWarp && s.threads / 2 / s.lanes * pixels_per_thread >= pixels) s.threads /= 2;
  s.size = s.threads / s.lanes * pixels_per_thread * rounds;
  const Index blocks = s.images * s.tiles * ceil_div(pixels, s.size);
  if (channels && blocks > kTargetBlocks) s.size *= blocks / kTargetBlocks;
  s.count = ceil_div(pixels, s.size);
  return s;
}

template <typename T>
Strips make_strips(const Shape& shape, bool channels) {
  return make_strips(shape, channels, kPackSize<T>, kLoadsInFlight<T>);
}

// The largest number of strips of a plane of this shape, over all layouts and dtypes.
inline Index max_strips(const Shape& shape) {
  Index max_count = 0;
  for (const bool channels : {false, true}) {
    for (const Index count : {make_strips<float>(shape, channels).count, make_strips<__half>(shape, channels).count,
                              make_strips<Unpacked>(shape, channels).count}) {
      max_count = count > max_count ? count : max_count;
    }
  }
  return max_count;
}

// The elements of a thread: kPackSize<T> channels or pixels from (channel, pixel) on, then again every `step` pixels.
template <typename T, bool kChannelsLast>
struct ThreadRange {
  Index image, channel, strip, pixel, end, step;

  __device__ explicit ThreadRange(const Strips& s) {
    const Index block = blockIdx.x;
    const int thread = static_cast<int>(threadIdx.x), rows = static_cast<int>(blockDim.x) / s.lanes;
    strip = block % s.count;
    image = block / s.count / s.tiles;
    const Index tile = block / s.count % s.tiles;
    channel = kChannelsLast ? (tile * s.lanes + thread % s.lanes) * kPackSize<T> : tile;
    const Index pixels_per_thread = kChannelsLast ? 1 : kPackSize<T>;
    pixel = strip * s.size + thread / s.lanes * pixels_per_thread;
    end = channel < s.channels ? min((strip + 1) * s.size, s.pixels) : 0;
    step = rows * pixels_per_thread;
  }

  // Whether the thread writes the result of reduce_rows.
  __device__ bool writes(const Strips& s) const {
    return static_cast<int>(threadIdx.x) < s.lanes && channel < s.channels;
  }
  // Offset of a partial result; they lie as (image, strip, channel).
  __device__ Index partial(const Strips& s) const { return (image * s.count + strip) * s.channels + channel; }
};

// Merges the values of the threads over the same channels, in a fixed order, into those below `lanes`.
// scratch: kCount * kStripThreads / 2 floats.
template <int kCount, typename Merge>
__device__ __forceinline__ void reduce_rows(float (&value)[kCount], float* scratch, int lanes, Merge merge) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int half = static_cast<int>(blockDim.x) / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (thread >= half && thread < 2 * half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) scratch[i * (kStripThreads / 2) + thread - half] = value[i];
    }
    __syncthreads();
    if (thread < half) {
      float other[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) other[i] = scratch[i * (kStripThreads / 2) + thread];
      merge(value, other);
    }
  }
}

template <int kCount>
struct Add {
  __device__ void operator()(float (&value)[kCount], const float (&other)[kCount]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) value[i] += other[i];
  }
};

constexpr int kMergeRows = 16;

// Sums of partial results (groups, items, channels, kCount) over items: to out0 and out1 (groups, channels).
template <int kCount>
__global__ void __launch_bounds__(kWarp* kMergeRows)
    sum_strips_kernel(const float* partials, Index items, Index channels, float* out0, float* out1) {
  FASTGAN_SHARED(float, scratch, kCount * kWarp * kMergeRows);
  const Index tiles = ceil_div(channels, kWarp);
  const Index group = blockIdx.x / tiles, channel = blockIdx.x % tiles * kWarp + threadIdx.x;
  float sum[kCount] = {};
  if (channel < channels) {
#pragma unroll 4
    for (Index item = threadIdx.y; item < items; item += kMergeRows) {
      const float* partial = partials + ((group * items + item) * channels + channel) * kCount;
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum[k] += partial[k];
    }
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) scratch[(k * kMergeRows + threadIdx.y) * kWarp + threadIdx.x] = sum[k];
  __syncthreads();
  if (threadIdx.y != 0 || channel >= channels) return;
  for (int k = 0; k < kCount; ++k) {
    float total = 0;
    for (int row = 0; row < kMergeRows; ++row) total += scratch[(k * kMergeRows + row) * kWarp + threadIdx.x];
    (k == 0 ? out0 : out1)[group * channels + channel] = total;
  }
}

template <int kCount>
void sum_strips(const float* partials, Index groups, Index items, Index channels, float* out0, float* out1,
                void* stream) {
  FASTGAN_LAUNCH((sum_strips_kernel<kCount>), dim3(static_cast<unsigned>(groups * ceil_div(channels, kWarp))),
                 dim3(kWarp, kMergeRows), 0, stream, partials, items, channels, out0, out1);
}

// Activations other than tanh, without branches: max(floor, z) with another slope below 0.
struct PiecewiseLinear {
  float floor, slope, gradient;  // gradient: at and below 0

  __device__ __forceinline__ float operator()(float z) const {
    z = z < floor ? floor : z;
    return z < 0 ? z * slope : z;
  }

  // grad times the derivative at z.
  __device__ __forceinline__ float backward(float z, float grad) const {
    return z > 0 ? grad : gradient == 0 ? 0.0f : grad * gradient;
  }
};

struct ActivationFunction {
  bool tanh;
  PiecewiseLinear linear;

  __device__ __forceinline__ float operator()(float z) const { return tanh ? tanhf(z) : linear(z); }

  __device__ __forceinline__ float backward(float z, float grad) const {
    if (!tanh) return linear.backward(z, grad);
    const float y = tanhf(z);
    return grad * (1 - y * y);
  }
};

inline ActivationFunction make_activation(Activation activation, float negative_slope) {
  switch (activation) {
    case Activation::kRelu:
      return {false, {0, 1, 0}};
    case Activation::kLeakyRelu:
      return {false, {-INFINITY, negative_slope, negative_slope}};
    case Activation::kTanh:
      return {true, {0, 1, 1}};
    default:
      return {false, {-INFINITY, 1, 1}};
  }
}

}  // namespace fastgan::cuda
