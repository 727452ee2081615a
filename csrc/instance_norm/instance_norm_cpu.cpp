#include "instance_norm/instance_norm.h"

#include <omp.h>

#include <cstddef>
#include <type_traits>

namespace fastgan {
enum class NormPass { kMoments, kApply, kForward, kBackward };
}

#define FASTGAN_BODY "instance_norm/instance_norm_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {

void instance_norm_moments(const Tensor& x, const Shape& shape, float eps, float* mean, float* rstd, int threads) {
  const Tensor none;
  const Tensor* operands[] = {&x, &none, &none, &none};
  const InstanceNormOptions options{nullptr, nullptr, 0, 0, Activation::kNone, 1, eps};
  FASTGAN_DISPATCH(instance_norm)
  (operands, shape, options, mean, rstd, nullptr, nullptr, NormPass::kMoments, threads);
}

void instance_norm_apply(const Tensor& x, const Shape& shape, const InstanceNormOptions& options, const float* mean,
                         const float* rstd, const Tensor& out, int threads) {
  const Tensor none;
  const Tensor* operands[] = {&x, &none, &none, &out};
  FASTGAN_DISPATCH(instance_norm)
  (operands, shape, options, const_cast<float*>(mean), const_cast<float*>(rstd), nullptr, nullptr, NormPass::kApply,
   threads);
}

void instance_norm_forward(const Tensor& x, const Shape& shape, const InstanceNormOptions& options,
                           const Tensor& residual, const Tensor& out, float* mean, float* rstd, int threads) {
  const Tensor none;
  const Tensor* operands[] = {&x, &residual, &none, &out};
  FASTGAN_DISPATCH(instance_norm)
  (operands, shape, options, mean, rstd, nullptr, nullptr, NormPass::kForward, threads);
}

void instance_norm_backward(const Tensor& x, const Shape& shape, const InstanceNormOptions& options, const float* mean,
                            const float* rstd, const Tensor& grad_out, const Tensor& grad_x, float* grad_weight,
                            float* grad_bias, int threads) {
  if (grad_x.data == nullptr && grad_weight == nullptr && grad_bias == nullptr) return;
  const Tensor none;
  const Tensor* operands[] = {&x, &none, &grad_out, &grad_x};
  FASTGAN_DISPATCH(instance_norm)
  (operands, shape, options, const_cast<float*>(mean), const_cast<float*>(rstd), grad_weight, grad_bias,
   NormPass::kBackward, threads);
}

}  // namespace fastgan
