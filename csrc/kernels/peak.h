#pragma once

namespace fastgan {

// GFLOP/s of a loop of independent multiply-adds in registers, the best of several tries in `milliseconds` or so.
double fma_loop(int threads, double milliseconds);

}  // namespace fastgan
