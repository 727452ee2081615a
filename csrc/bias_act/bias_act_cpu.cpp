#include "bias_act/bias_act.h"

#include <omp.h>

#include <cstddef>
#include <type_traits>

#define FASTGAN_BODY "bias_act/bias_act_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {

void bias_act_forward(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& out,
                      int threads) {
  const Tensor none;
  const Tensor* operands[] = {&x, &none, &out};
  FASTGAN_DISPATCH(bias_act)(operands, shape, options, nullptr, threads);
}

void bias_act_backward(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& grad_out,
                       const Tensor& grad_x, float* grad_bias, int threads) {
  if (grad_x.data == nullptr && grad_bias == nullptr) return;
  const Tensor* operands[] = {&x, &grad_out, &grad_x};
  FASTGAN_DISPATCH(bias_act)(operands, shape, options, grad_bias, threads);
}

}  // namespace fastgan
