#include "common/isa.h"

#include <atomic>
#include <stdexcept>

#include "common/isa_dispatch.h"

namespace fastgan {
namespace {

std::vector<IsaLevel> find_isa_levels() {
  std::vector<IsaLevel> supported{IsaLevel::kBaseline};
#ifdef FASTGAN_X86_ISA_LEVELS
  __builtin_cpu_init();
  // All that isa_dispatch.h compiles for: a virtual machine may hide any part of it.
  if (!__builtin_cpu_supports("x86-64-v3")) return supported;
  supported.push_back(IsaLevel::kAvx2);
  if (!__builtin_cpu_supports("x86-64-v4")) return supported;
  supported.push_back(IsaLevel::kAvx512);
  if (__builtin_cpu_supports("avx512bf16")) supported.push_back(IsaLevel::kAvx512Bf16);
#endif
  return supported;
}

std::atomic<IsaLevel>& active_level() {
  static std::atomic<IsaLevel> value{isa_levels().back()};
  return value;
}

}  // namespace

const std::vector<IsaLevel>& isa_levels() {
  static const std::vector<IsaLevel> supported = find_isa_levels();
  return supported;
}

IsaLevel isa_level() { return active_level().load(std::memory_order_relaxed); }

const char* isa_level_name(IsaLevel level) {
  switch (level) {
    case IsaLevel::kAvx2:
      return "avx2";
    case IsaLevel::kAvx512:
      return "avx512";
    case IsaLevel::kAvx512Bf16:
      return "avx512_bf16";
    default:
      return "baseline";
  }
}

void set_isa_level(const std::string& requested) {
  std::string allowed;
  for (const IsaLevel candidate : isa_levels()) {
    if (requested == isa_level_name(candidate)) {
      active_level() = candidate;
      return;
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(isa_level_name(candidate));
  }
  if (!requested.empty()) throw std::invalid_argument("this processor runs " + allowed + ", not '" + requested + "'");
  active_level() = isa_levels().back();
}

}  // namespace fastgan
