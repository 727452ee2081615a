#pragma once

#include "common/types.h"

namespace fastgan {

struct InstanceNormOptions {
  const float* weight;  // C floats, weight_stride apart from image to image (0: one for all); null for 1
  const float* bias;    // the same; null for 0
  Index weight_stride, bias_stride;
  Activation activation;
  float negative_slope;
  float eps;
  const float* identity_scale = nullptr;  // N floats: this share of x itself is added, without activation; null for 0
};

// out = activation((x - mean) * rstd * weight + bias) + residual over each plane; out and residual have x's dtype.
// Writes mean and rstd = 1 / sqrt(var + eps), float32 (N, C). The variance survives a large mean.
void instance_norm_forward(const Tensor& x, const Shape& shape, const InstanceNormOptions& options,
                           const Tensor& residual, const Tensor& out, float* mean, float* rstd, int threads);

// Only mean and rstd, as above.
void instance_norm_moments(const Tensor& x, const Shape& shape, float eps, float* mean, float* rstd, int threads);

// out = (x - mean) * rstd * weight + bias, with given moments.
void instance_norm_apply(const Tensor& x, const Shape& shape, const InstanceNormOptions& options, const float* mean,
                         const float* rstd, const Tensor& out, int threads);

// grad_x (data null: not needed), and grad_weight, grad_bias (N, C) float32 (null: not needed). The residual's gradient
// is grad_out itself.
void instance_norm_backward(const Tensor& x, const Shape& shape, const InstanceNormOptions& options, const float* mean,
                            const float* rstd, const Tensor& grad_out, const Tensor& grad_x, float* grad_weight,
                            float* grad_bias, int threads);

#ifdef FASTGAN_CUDA
Index instance_norm_workspace(const Shape& shape);
void instance_norm_forward_cuda(const Tensor& x, const Shape& shape, const InstanceNormOptions& options,
                                const Tensor& residual, const Tensor& out, float* mean, float* rstd, void* workspace,
                                void* stream);
void instance_norm_backward_cuda(const Tensor& x, const Shape& shape, const InstanceNormOptions& options,
                                 const float* mean, const float* rstd, const Tensor& grad_out, const Tensor& grad_x,
                                 float* grad_weight, float* grad_bias, void* workspace, void* stream);
#endif

}  // namespace fastgan
