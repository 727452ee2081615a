#pragma once

#include "common.h"

namespace fastgan {

struct SsimOptions {
  double data_range;
  bool gaussian;  // population covariance; otherwise uniform with sample covariance
  int window_size;
  double sigma;
};

// Writes the SSIM of each image, averaged over channels and the valid area, to out[N].
// window_size is odd and at most H and W. The result does not depend on the thread count.
void ssim_forward(const Images& x, const Images& y, const Shape& shape, const SsimOptions& options, float* out,
                  int threads);

}  // namespace fastgan
