// Types shared by the kernels, which know neither torch nor Python: raw pointers, sizes, strides, a thread count or a
// stream.
#pragma once

#include <array>
#include <cstdint>

namespace fastgan {

using Index = std::int64_t;
using Shape = std::array<Index, 4>;  // N, C, H, W

enum class Dtype : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kUInt8 = 3 };

// A four-dimensional tensor of any strides (in elements; 0 where expanded). data is null where an argument is left out.
struct Tensor {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  Shape stride{};
};

enum class Activation : int { kNone = 0, kRelu = 1, kLeakyRelu = 2, kTanh = 3 };

}  // namespace fastgan
