// 2x2 max-pool of channels_last images: (N, H, W, C) to (N, H / 2, W / 2, C), rounded down, dense, one dtype.
#pragma once

#include "common/types.h"

namespace fastgan {

void max_pool_forward(const void* x, Dtype dtype, const Shape& shape, void* out, int threads);

// The gradient goes to the first of a window's largest values, found again from x and `out`: no indices are stored.
void max_pool_backward(const void* x, const void* out, const void* grad_out, Dtype dtype, const Shape& shape,
                       void* grad_x, int threads);

}  // namespace fastgan
