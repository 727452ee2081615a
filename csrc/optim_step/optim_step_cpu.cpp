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

void optim_step_forward(const OptimStepTensors& tensors, const OptimStepOptions& options, int threads) {
  const auto run = FASTGAN_DISPATCH(step_rows);
  const Index tasks = (tensors.size + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tasks > 1)
  for (Index t = 0; t < tasks; ++t) {
    run(tensors, options, t * kChunk, std::min((t + 1) * kChunk, tensors.size));
  }
}

bool all_finite(const void* grad, Dtype dtype, Index size, float inverse_scale, int threads) {
  const auto run = FASTGAN_DISPATCH(all_finite_rows);
  const Index tasks = (size + kChunk - 1) / kChunk;
  int finite = 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && tasks > 1) reduction(&& : finite)
  for (Index t = 0; t < tasks; ++t) {
    finite = run(grad, dtype, inverse_scale, t * kChunk, std::min((t + 1) * kChunk, size)) && finite;
  }
  return finite != 0;
}

}  // namespace fastgan
