#include "instance_norm.h"

#include <omp.h>

#include <cstddef>
#include <type_traits>

#define FASTGAN_BODY "instance_norm_cpu.inc"
#include "each_level.h"

namespace fastgan {

void instance_norm_forward(const Tensor& x, const Shape& shape, const InstanceNormOptions& options,
                           const Tensor& residual, const Tensor& out, float* mean, float* rstd, int threads) {
  const Tensor none;
  const Tensor* operands[] = {&x, &residual, &none, &out};
  FASTGAN_DISPATCH(instance_norm)(operands, shape, options, mean, rstd, nullptr, nullptr, false, threads);
}

void instance_norm_backward(const Tensor& x, const Shape& shape, const InstanceNormOptions& options, const float* mean,
                            const float* rstd, const Tensor& grad_out, const Tensor& grad_x, float* grad_weight,
                            float* grad_bias, int threads) {
  if (grad_x.data == nullptr && grad_weight == nullptr && grad_bias == nullptr) return;
  const Tensor none;
  const Tensor* operands[] = {&x, &none, &grad_out, &grad_x};
  FASTGAN_DISPATCH(instance_norm)
  (operands, shape, options, const_cast<float*>(mean), const_cast<float*>(rstd), grad_weight, grad_bias, true, threads);
}

}  // namespace fastgan
