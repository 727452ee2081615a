// The instruction sets that every CPU kernel is compiled for, and the one that calls get.
#pragma once

#include <string>
#include <vector>

namespace fastgan {

enum class IsaLevel : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3 };

// What this build has and this processor can run, lowest first.
const std::vector<IsaLevel>& isa_levels();

// The highest of them, unless another was asked for.
IsaLevel isa_level();

const char* isa_level_name(IsaLevel level);

// Raises std::invalid_argument, naming what there is, for a level that cannot run here. An empty name: the highest.
void set_isa_level(const std::string& name);

}  // namespace fastgan
