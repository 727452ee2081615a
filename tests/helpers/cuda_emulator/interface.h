// What the C interfaces to the emulated kernels share.
#pragma once

#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "common/types.h"

using fastgan::Index;
using fastgan::Shape;
using fastgan::Tensor;

// Null, or what went wrong.
template <typename Function>
const char* catch_errors(Function&& function) {
  static std::string message;
  try {
    function();
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
  return nullptr;
}

// Exactly as many bytes as were asked for; as floats, NaN.
struct Workspace {
  std::unique_ptr<char[]> memory;
  explicit Workspace(Index bytes) : memory(new char[bytes]) { std::memset(memory.get(), 0xff, bytes); }
  void* get() const { return memory.get(); }
};
