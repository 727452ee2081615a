#pragma once

#include "common/types.h"

namespace fastgan {

struct BiasActOptions {
  const float* bias;  // C floats; null for 0
  Activation activation;
  float negative_slope;
  float gain;
  float clamp;  // below 0: none
};

// out = clamp(activation(x + bias) * gain, -clamp, clamp), in x's dtype; computed in float32.
void bias_act_forward(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& out,
                      int threads);

// grad_x (data null: not needed) in its own dtype and grad_bias (C) float32 (null: not needed). From the clamp's
// limit on the gradient is 0; relu's and leaky relu's gradient at 0 is that of the negative side, as torch has it.
void bias_act_backward(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& grad_out,
                       const Tensor& grad_x, float* grad_bias, int threads);

#ifdef FASTGAN_CUDA
Index bias_act_workspace(const Shape& shape);
void bias_act_forward_cuda(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& out,
                           void* stream);
void bias_act_backward_cuda(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& grad_out,
                            const Tensor& grad_x, float* grad_bias, void* workspace, void* stream);
#endif

}  // namespace fastgan
