#include "optim_step/optim_step.h"

#include <algorithm>
#include <cstring>

namespace fastgan {
namespace {

constexpr Index kChunk = 16384;  // elements of a task: large against its start
constexpr Index kRow = 1024;     // elements worked on at a time: six such rows stay in L1

}  // namespace
}  // namespace fastgan

#define FASTGAN_WITHOUT_BF16
#define FASTGAN_BODY "optim_step/optim_step_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {

void optim_step_forward(const OptimStepMemory& memory, const OptimStepOptions& options, int threads) {
  const auto run = FASTGAN_DISPATCH(step_rows);
  const Index tasks = (memory.size + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tasks > 1)
  for (Index t = 0; t < tasks; ++t) {
    run(memory, options, t * kChunk, std::min((t + 1) * kChunk, memory.size));
  }
}

bool all_finite(const void* grad, Dtype dtype, Index size, float inverse_scale, int threads) {
  const auto run = FASTGAN_DISPATCH(finite_rows);
  const Index tasks = (size + kChunk - 1) / kChunk;
  int good = 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tasks > 1) reduction(&& : good)
  for (Index t = 0; t < tasks; ++t) {
    good = run(grad, dtype, inverse_scale, t * kChunk, std::min((t + 1) * kChunk, size)) && good;
  }
  return good != 0;
}

}  // namespace fastgan
