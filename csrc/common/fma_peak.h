#pragma once

namespace fastgan {

// GFLOP/s of a loop of independent multiply-adds in registers, the best of several tries in `milliseconds` or so.
double fma_loop(int threads, double milliseconds);

// Floats of a vector, as the code of the level in use was compiled.
int vector_lanes();

}  // namespace fastgan
