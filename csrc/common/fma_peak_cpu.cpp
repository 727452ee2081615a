#include "common/fma_peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "common/types.h"

namespace fastgan {
namespace {

constexpr int kChains = 12;  // more than latency times throughput, fewer than registers

}  // namespace
}  // namespace fastgan

#define FASTGAN_WITHOUT_BF16
#define FASTGAN_BODY "common/fma_peak_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {

int vector_lanes() { return FASTGAN_DISPATCH(lanes)(); }

double fma_loop(int threads, double milliseconds) {
  using Clock = std::chrono::steady_clock;
  const auto run = FASTGAN_DISPATCH(run_fma_chains);
  const Index lanes = FASTGAN_DISPATCH(lanes)();
  constexpr Index kRounds = 200000;
  const double operations = 2.0 * double(kChains * lanes * kRounds * threads);
  double best = 0;
  volatile float sink = 0;
  const auto end = Clock::now() + std::chrono::duration<double, std::milli>(milliseconds);
  do {
    const auto start = Clock::now();
    float total = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : total)
    for (int t = 0; t < threads; ++t) total += run(kRounds, float(t));
    sink = sink + total;
    best = std::max(best, operations / std::chrono::duration<double, std::nano>(Clock::now() - start).count());
  } while (Clock::now() < end);
  return best;
}

}  // namespace fastgan
