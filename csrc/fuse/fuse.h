#pragma once

#include "common/types.h"

namespace fastgan {

enum class FuseMode : int { kAdditive = 0, kConvex = 1, kAdain = 2 };

struct FuseOptions {
  const float* alpha;  // N floats; null for `number` in every image
  double number;
  FuseMode mode;
};

// A tensor and its own sizes: AdaIN's style has planes of any size.
struct SizedTensor {
  Tensor tensor;
  Shape shape;
};

// out has the content's sizes and a dtype of its own. additive: content + alpha * style; convex: alpha * content +
// (1 - alpha) * style; AdaIN: (1 - alpha) * content + alpha * (sigma_s * (content - mu_c) / sigma_c + mu_s), sigma the
// root of the biased variance plus 1e-5, which writes `moments`, (4, N, C): the mean and 1 / sigma of the content, then
// of the style.
void fuse_forward(const SizedTensor& content, const SizedTensor& style, const FuseOptions& options, const Tensor& out,
                  float* moments, int threads);

// grad_content, grad_style (data null: not needed) and grad_alpha (N; null: not needed). Additive and convex read
// content and style for grad_alpha alone, additive not even the content; AdaIN reads the style for grad_style alone.
void fuse_backward(const Tensor& grad_out, const SizedTensor& content, const SizedTensor& style,
                   const FuseOptions& options, const float* moments, const Tensor& grad_content,
                   const Tensor& grad_style, float* grad_alpha, int threads);

}  // namespace fastgan
