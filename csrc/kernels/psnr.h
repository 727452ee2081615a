#pragma once

#include "common.h"

namespace fastgan {

// Writes the PSNR of each image in dB to out[N]. The result does not depend on the thread count.
void psnr_forward(const Images& x, const Images& y, const Shape& shape, double data_range, float* out, int threads);

}  // namespace fastgan
