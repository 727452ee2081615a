// Working memory of a call.
#pragma once

#include <cstdint>
#include <memory>

#include "common/types.h"

namespace fastgan {

// Floats on a cache line's boundary, left as they come: clearing them would touch pages that are not used.
struct Scratch {
  std::unique_ptr<float[]> memory;
  float* data;

  explicit Scratch(Index size) : memory(new float[size + 16]) {
    const auto misalignment = reinterpret_cast<std::uintptr_t>(memory.get()) / sizeof(float) % 16;
    data = memory.get() + (16 - misalignment) % 16;
  }
};

}  // namespace fastgan
