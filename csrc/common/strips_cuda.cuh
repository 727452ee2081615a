// Kernels bound by memory cut every plane into strips of pixels. Neighbouring threads take neighbouring elements: of
// pixels, or of channels where those lie side by side (channels_last).
#pragma once

#include <cmath>
#include <initializer_list>
#include <type_traits>

#include "common/cuda_launch.cuh"

namespace fastgan::cuda {

constexpr int kStripThreads = 256;
constexpr Index kEnoughBlocks = 2048;  // some three times what the largest GPUs hold at once

// The element type where packs of 16 bytes can't be moved, or tensors differ in type: looked up at every access.
struct Any {};

template <typename T>
constexpr int kPackOf = 16 / sizeof(T);
template <>
constexpr int kPackOf<Any> = 1;

// Loads that a thread has under way at once.
template <typename T>
constexpr int kRounds = std::is_same_v<T, Any> ? 16 : 32 / kPackOf<T>;

struct Field {
  void* data;
  Dtype dtype;
  Index n, c, pixel, row;  // strides
  Index width;             // 0 where the rows follow one another as their pixels do

  __device__ Index offset(Index image, Index channel, Index p) const {
    const Index place = image * n + channel * c;
    return width == 0 ? place + p * pixel : place + p / width * row + p % width * pixel;
  }
};

inline Field field(const Tensor& tensor, const Shape& shape) {
  const auto [n, c, h, w] = tensor.stride;
  const bool one_row = shape[2] == 1, one_column = shape[3] == 1;
  const Index pixel = one_column ? (one_row ? 1 : h) : w;
  const bool even = one_row || one_column || h == w * shape[3];
  return {tensor.data, tensor.dtype, shape[0] == 1 ? 0 : n, shape[1] == 1 ? 0 : c, pixel, h, even ? 0 : shape[3]};
}

template <typename T>
__device__ __forceinline__ void load_values(const Field& field, Index offset, float* to) {
  if constexpr (std::is_same_v<T, Any>) {
    if (field.dtype == Dtype::kFloat32) {
      *to = static_cast<const float*>(field.data)[offset];
    } else if (field.dtype == Dtype::kBFloat16) {
      *to = to_float(static_cast<const __nv_bfloat16*>(field.data)[offset]);
    } else {
      *to = to_float(static_cast<const __half*>(field.data)[offset]);
    }
  } else {
    load_pack<kPackOf<T>>(static_cast<const T*>(field.data) + offset, to);
  }
}

template <typename T>
__device__ __forceinline__ void store_values(const Field& field, Index offset, const float* from) {
  if constexpr (std::is_same_v<T, Any>) {
    if (field.dtype == Dtype::kFloat32) {
      static_cast<float*>(field.data)[offset] = *from;
    } else if (field.dtype == Dtype::kBFloat16) {
      static_cast<__nv_bfloat16*>(field.data)[offset] = from_float<__nv_bfloat16>(*from);
    } else {
      static_cast<__half*>(field.data)[offset] = from_float<__half>(*from);
    }
  } else {
    store_pack<kPackOf<T>>(from, static_cast<T*>(field.data) + offset);
  }
}

struct Layout {
  bool channels;  // side by side
  bool packs;
  Dtype dtype;
};

// The first tensor says which way threads lie. Tensors without data don't count.
inline Layout layout(std::initializer_list<Tensor> tensors, const Shape& shape) {
  const Tensor& first = *tensors.begin();
  const Field x = field(first, shape);
  const bool channels = x.c == 1 && !(x.pixel == 1 && x.width == 0);
  const Index pack = first.dtype == Dtype::kFloat32 ? kPackOf<float> : kPackOf<__half>;
  bool packs = (channels ? shape[1] : shape[2] * shape[3]) % pack == 0;
  for (const Tensor& tensor : tensors) {
    if (tensor.data == nullptr) continue;
    const Field f = field(tensor, shape);
    const Index near = channels ? f.c : f.pixel, far = channels ? f.pixel : f.c;
    packs = packs && tensor.dtype == first.dtype && near == 1 && f.n % pack == 0 && far % pack == 0 &&
            (f.width == 0 || (channels && f.row % pack == 0)) && reinterpret_cast<std::uintptr_t>(f.data) % 16 == 0;
  }
  return {channels, packs, first.dtype};
}

// function(TypeTag<T>{}, std::bool_constant<channels>{}), T being Any where packs don't go.
template <typename Function>
void dispatch_layout(const Layout& layout, Function&& function) {
  const auto with_type = [&](auto tag) {
    if (layout.channels) {
      function(tag, std::true_type{});
    } else {
      function(tag, std::false_type{});
    }
  };
  if (layout.packs) {
    dispatch_dtype(layout.dtype, with_type);
  } else {
    with_type(TypeTag<Any>{});
  }
}

struct Strips {
  Index images, channels, pixels;
  Index tiles;  // groups of channels that a block takes together
  Index count;  // strips of a plane
  Index size;   // pixels of a strip
  int lanes;    // threads over channels; the others lie over pixels
  int threads;

  unsigned blocks() const { return static_cast<unsigned>(images * tiles * count); }
};

inline Strips strips(const Shape& shape, bool channels, int pack, int rounds) {
  const Index pixels = shape[2] * shape[3];
  Strips s{shape[0], shape[1], pixels, shape[1], 1, 0, 1, kStripThreads};
  const Index over = channels ? 1 : pack;  // pixels that a thread takes at once
  if (channels) {
    while (s.lanes < kWarp && s.lanes * pack < shape[1]) s.lanes *= 2;
    s.tiles = ceil_div(shape[1], s.lanes * pack);
  }
  while (s.threads > kWarp && s.threads / 2 / s.lanes * over >= pixels) s.threads /= 2;
  s.size = s.threads / s.lanes * over * rounds;
  const Index blocks = s.images * s.tiles * ceil_div(pixels, s.size);
  if (channels && blocks > kEnoughBlocks) s.size *= blocks / kEnoughBlocks;
  s.count = ceil_div(pixels, s.size);
  return s;
}

template <typename T>
Strips strips(const Shape& shape, bool channels) {
  return strips(shape, channels, kPackOf<T>, kRounds<T>);
}

// The most strips that a plane of this shape has, whatever the layout and type.
inline Index most_strips(const Shape& shape) {
  Index most = 0;
  for (const bool channels : {false, true}) {
    for (const Index count : {strips<float>(shape, channels).count, strips<__half>(shape, channels).count,
                              strips<Any>(shape, channels).count}) {
      most = count > most ? count : most;
    }
  }
  return most;
}

// What a thread takes: kPackOf<T> channels or pixels from (channel, pixel) on, and so on every `step` pixels.
template <typename T, bool kChannels>
struct Place {
  Index image, channel, strip, pixel, end, step;

  __device__ explicit Place(const Strips& s) {
    const Index block = blockIdx.x;
    const int thread = static_cast<int>(threadIdx.x), rows = static_cast<int>(blockDim.x) / s.lanes;
    strip = block % s.count;
    image = block / s.count / s.tiles;
    const Index tile = block / s.count % s.tiles;
    channel = kChannels ? (tile * s.lanes + thread % s.lanes) * kPackOf<T> : tile;
    const Index over = kChannels ? 1 : kPackOf<T>;
    pixel = strip * s.size + thread / s.lanes * over;
    end = channel < s.channels ? min((strip + 1) * s.size, s.pixels) : 0;
    step = rows * over;
  }

  // Whether the thread writes what reduce_rows gave it.
  __device__ bool writes(const Strips& s) const {
    return static_cast<int>(threadIdx.x) < s.lanes && channel < s.channels;
  }
  // Of partial results, which lie as (image, strip, channel).
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

// Activations but tanh, without branches: max(floor, z) with another slope below 0.
struct Corner {
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

struct Curve {
  bool tanh;
  Corner corner;

  __device__ __forceinline__ float operator()(float z) const { return tanh ? tanhf(z) : corner(z); }

  __device__ __forceinline__ float backward(float z, float grad) const {
    if (!tanh) return corner.backward(z, grad);
    const float y = tanhf(z);
    return grad * (1 - y * y);
  }
};

inline Curve curve(Activation activation, float negative_slope) {
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
