#include "bias_act.h"

#include <omp.h>

#include <cstddef>
#include <type_traits>

#include "pages.h"

#define FASTGAN_BODY "bias_act_cpu.inc"
#include "each_level.h"

namespace fastgan {

void bias_act_forward(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& out,
                      int threads) {
  if (shape[0] * shape[1] * shape[2] * shape[3] == 0) return;
  const Tensor none;
  const Tensor* operands[] = {&x, &none, &out};
  advise_huge_pages(out, shape);
  FASTGAN_DISPATCH(bias_act)(operands, shape, options, nullptr, threads);
}

void bias_act_backward(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& grad_out,
                       const Tensor& grad_x, float* grad_bias, int threads) {
  if (shape[0] * shape[1] * shape[2] * shape[3] == 0) {
    for (Index c = 0; grad_bias != nullptr && c < shape[1]; ++c) grad_bias[c] = 0;
    return;
  }
  if (grad_x.data == nullptr && grad_bias == nullptr) return;
  const Tensor* operands[] = {&x, &grad_out, &grad_x};
  advise_huge_pages(grad_x, shape);
  FASTGAN_DISPATCH(bias_act)(operands, shape, options, grad_bias, threads);
}

}  // namespace fastgan
