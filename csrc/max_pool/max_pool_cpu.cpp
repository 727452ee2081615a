#include "max_pool/max_pool.h"

#include <cstring>

#define FASTGAN_BODY "max_pool/max_pool_cpu.inc"
#define FASTGAN_WITHOUT_BF16
#include "common/isa_dispatch.h"

namespace fastgan {

void max_pool_forward(const void* x, Dtype dtype, const Shape& shape, void* out, int threads) {
  FASTGAN_DISPATCH(run_forward)(x, dtype, shape, out, threads);
}

void max_pool_backward(const void* x, const void* out, const void* grad_out, Dtype dtype, const Shape& shape,
                       void* grad_x, int threads) {
  FASTGAN_DISPATCH(run_backward)(x, out, grad_out, dtype, shape, grad_x, threads);
}

}  // namespace fastgan
