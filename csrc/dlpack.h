// Tensors passed to torch by DLPack, whose layout is stable (the part of its header, version 0.x, that is used): the
// build needs no torch, and the memory comes from the buffer pool.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "common/buffer_pool.h"
#include "common/types.h"

namespace dlpack {

struct Device {
  std::int32_t type, id;
};

struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dimensions;
  DataType dtype;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

constexpr std::int32_t kCpu = 1;
constexpr std::uint8_t kUInt = 1, kFloat = 2, kBFloat = 4;

}  // namespace dlpack

namespace fastgan {

inline dlpack::DataType data_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return {dlpack::kFloat, 32, 1};
    case Dtype::kBFloat16:
      return {dlpack::kBFloat, 16, 1};
    case Dtype::kFloat16:
      return {dlpack::kFloat, 16, 1};
    case Dtype::kUInt8:
      return {dlpack::kUInt, 8, 1};
  }
  throw std::invalid_argument("unknown dtype");
}

struct OwnedTensor {
  dlpack::ManagedTensor managed;
  Shape shape, stride;
};

// Allocates a dense CPU tensor of these sizes and strides, not initialized; null if there is no memory.
inline dlpack::ManagedTensor* new_tensor(const Shape& shape, const Shape& stride, Dtype dtype) {
  const dlpack::DataType type = data_type(dtype);
  Index elements = 1;
  for (int d = 0; d < 4; ++d) elements += (shape[d] - 1) * stride[d];
  void* const data = acquire_buffer(std::size_t(elements) * (type.bits / 8));
  if (data == nullptr) return nullptr;
  auto* const owned = new OwnedTensor{{}, shape, stride};
  dlpack::Tensor& tensor = owned->managed.tensor;
  tensor.data = data;
  tensor.device = {dlpack::kCpu, 0};
  tensor.dimensions = 4;
  tensor.dtype = type;
  tensor.shape = owned->shape.data();
  tensor.strides = owned->stride.data();
  owned->managed.context = owned;
  owned->managed.deleter = [](dlpack::ManagedTensor* managed) {
    release_buffer(managed->tensor.data);
    delete static_cast<OwnedTensor*>(managed->context);
  };
  return &owned->managed;
}

}  // namespace fastgan
