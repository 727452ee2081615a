#include "common/isa.h"

#include <atomic>
#include <stdexcept>

#include "common/isa_dispatch.h"

namespace fastgan {
namespace {

std::vector<Level> find_levels() {
  std::vector<Level> found{Level::kBaseline};
#ifdef FASTGAN_X86_LEVELS
  __builtin_cpu_init();
  // All that isa_dispatch.h compiles for: a virtual machine may hide any part of it.
  if (!__builtin_cpu_supports("x86-64-v3")) return found;
  found.push_back(Level::kAvx2);
  if (!__builtin_cpu_supports("x86-64-v4")) return found;
  found.push_back(Level::kAvx512);
  if (__builtin_cpu_supports("avx512bf16")) found.push_back(Level::kAvx512Bf16);
#endif
  return found;
}

std::atomic<Level>& chosen() {
  static std::atomic<Level> value{levels().back()};
  return value;
}

}  // namespace

const std::vector<Level>& levels() {
  static const std::vector<Level> found = find_levels();
  return found;
}

Level level() { return chosen().load(std::memory_order_relaxed); }

const char* name(Level level) {
  switch (level) {
    case Level::kAvx2:
      return "avx2";
    case Level::kAvx512:
      return "avx512";
    case Level::kAvx512Bf16:
      return "avx512_bf16";
    default:
      return "baseline";
  }
}

void set_level(const std::string& wanted) {
  std::string allowed;
  for (const Level candidate : levels()) {
    if (wanted == name(candidate)) {
      chosen() = candidate;
      return;
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(name(candidate));
  }
  if (!wanted.empty()) throw std::invalid_argument("this processor runs " + allowed + ", not '" + wanted + "'");
  chosen() = levels().back();
}

}  // namespace fastgan
