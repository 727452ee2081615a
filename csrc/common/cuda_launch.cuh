// Helpers shared by the CUDA kernels. These also compile with a plain C++ compiler against tests/helpers/cuda_emulator,
// which has its own definitions of the macros below; hence no <<<>>>, no `extern __shared__` and no inline assembly
// outside this file without a branch on __CUDACC__.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "common/types.h"

#ifdef __CUDACC__

// Launches, and throws if the launch itself fails. A kernel with several template arguments goes in parentheses.
#define FASTGAN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                       \
  do {                                                                                       \
    ::fastgan::cuda::allow_shared(kernel, shared_bytes, #kernel);                            \
    (kernel)<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__); \
    ::fastgan::cuda::check(cudaGetLastError(), #kernel);                                     \
  } while (false)

// `type name[count]` in static shared memory.
#define FASTGAN_SHARED(type, name, count) __shared__ __align__(16) type name[count]

// `type* name`: the launch's dynamic shared memory.
#define FASTGAN_DYNAMIC_SHARED(type, name)                        \
  extern __shared__ __align__(16) unsigned char fastgan_shared[]; \
  type* const name = reinterpret_cast<type*>(fastgan_shared)

#endif  // __CUDACC__

namespace fastgan::cuda {

constexpr int kWarp = 32;
constexpr unsigned kFullMask = 0xffffffffu;
constexpr int kDefaultShared = 48 << 10;  // a block gets more only when asked

#ifdef __CUDACC__
inline void check(cudaError_t error, const char* kernel) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
}

template <typename Kernel>
void allow_shared(Kernel kernel, size_t bytes, const char* name) {
  if (bytes <= kDefaultShared) return;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        name);
}
#endif

__host__ __device__ constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

template <typename T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__device__ __forceinline__ __half from_float<__half>(float value) {
  return __float2half_rn(value);
}

// Elements that lie side by side, moved by one instruction; the address is a multiple of their size.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T value[kCount];
};

template <int kCount, typename T>
__device__ __forceinline__ void load_pack(const T* from, float* to) {
  const Pack<T, kCount> pack = *reinterpret_cast<const Pack<T, kCount>*>(from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = to_float(pack.value[i]);
}

template <int kCount, typename T>
__device__ __forceinline__ void store_pack(const float* from, T* to) {
  Pack<T, kCount> pack;
#pragma unroll
  for (int i = 0; i < kCount; ++i) pack.value[i] = from_float<T>(from[i]);
  *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
}

// A Tensor as a kernel's parameter.
template <typename T>
struct View {
  T* data;
  Index n, c, h, w;  // strides

  __host__ __device__ T* plane(Index image, Index channel) const { return data + image * n + channel * c; }
  __host__ __device__ T* at(Index image, Index channel, Index row, Index col) const {
    return plane(image, channel) + row * h + col * w;
  }
};

template <typename T>
View<T> view(const Tensor& tensor) {
  const Shape& stride = tensor.stride;
  return {static_cast<T*>(tensor.data), stride[0], stride[1], stride[2], stride[3]};
}

// Whether every row starts on a multiple of kCount elements and its elements lie side by side.
template <typename T>
bool rows_in_packs(const Tensor& tensor, int count) {
  const Shape& stride = tensor.stride;
  return stride[3] == 1 && stride[0] % count == 0 && stride[1] % count == 0 && stride[2] % count == 0 &&
         reinterpret_cast<std::uintptr_t>(tensor.data) % (sizeof(T) * count) == 0;
}

// 1 / value to 1 ulp; subnormal values give infinity. __fdividef takes three instructions more, to save these.
__device__ __forceinline__ float fast_reciprocal(float value) {
#ifdef __CUDACC__
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return 1 / value;
#endif
}

template <typename T>
struct TypeTag {
  using Type = T;
};

// function(TypeTag<float>{}) or that of another element type:
//   dispatch_dtype(x.dtype, [&](auto tag) { using T = typename decltype(tag)::Type; ... });
template <typename Function>
void dispatch_dtype(Dtype dtype, Function&& function) {
  switch (dtype) {
    case Dtype::kFloat32:
      return function(TypeTag<float>{});
    case Dtype::kBFloat16:
      return function(TypeTag<__nv_bfloat16>{});
    case Dtype::kFloat16:
      return function(TypeTag<__half>{});
    case Dtype::kUInt8:
      break;
  }
  throw std::invalid_argument("the kernels take float32, bfloat16 and float16");
}

// The sum over a warp, in every lane; all 32 take part. Always in the same order.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int lane = kWarp / 2; lane > 0; lane /= 2) value += __shfl_xor_sync(kFullMask, value, lane);
  return value;
}

// The sum over a one-dimensional block of whole warps, in every thread. scratch: shared memory for one T a warp.
// Begins and ends with a barrier, so that scratch may be used again.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  const int warps = static_cast<int>(blockDim.x) / kWarp, thread = static_cast<int>(threadIdx.x);
  value = warp_sum(value);
  __syncthreads();
  if (thread % kWarp == 0) scratch[thread / kWarp] = value;
  __syncthreads();
  T sum = scratch[0];
  for (int w = 1; w < warps; ++w) sum += scratch[w];
  __syncthreads();
  return sum;
}

}  // namespace fastgan::cuda
