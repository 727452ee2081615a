// The instruction sets that every CPU kernel is compiled for, and the active one.
#pragma once

#include <string>
#include <vector>

namespace fastgan {

enum class IsaLevel : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3 };

// The levels that this build has and this processor can run, lowest first.
const std::vector<IsaLevel>& isa_levels();

// The active level: the highest of them, unless another was set.
IsaLevel isa_level();

const char* isa_level_name(IsaLevel level);

// Throws std::invalid_argument, naming the levels there are, for one that cannot run here. An empty name: the highest.
void set_isa_level(const std::string& name);

}  // namespace fastgan
