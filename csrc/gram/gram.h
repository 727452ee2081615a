#pragma once

#include "common/types.h"

namespace fastgan {

// Writes F F^T * scale, F (C, H*W) the features of each image, to out (N, C, C): both triangles, equal to the bit.
// Sums are float32; bfloat16 products are exact. The result does not depend on the thread count.
void gram_forward(const Tensor& x, const Shape& shape, float scale, float* out, int threads);

// Writes M F to grad_x; matrix (N, C, C), contiguous. (The gradient of gram_forward: M = scale * (dG + dG^T).)
void gram_backward(const Tensor& x, const Shape& shape, const float* matrix, const Tensor& grad_x, int threads);

// Style loss: with difference = F F^T / (C H W) - target, writes difference (N, C, C) and its mean square to out[N].
// target is C x C floats, target_stride apart from image to image (0: one for all).
void gram_style_loss_forward(const Tensor& x, const Shape& shape, const float* target, Index target_stride,
                             float* difference, float* out, int threads);

// Writes the gradient of sum(grad_out * loss) for x: 2 grad_out / (C^2 * C H W) * (D + D^T) F.
void gram_style_loss_backward(const Tensor& x, const Shape& shape, const float* difference, const float* grad_out,
                              const Tensor& grad_x, int threads);

#ifdef FASTGAN_CUDA
Index gram_workspace(const Shape& shape);
void gram_forward_cuda(const Tensor& x, const Shape& shape, float scale, float* out, void* workspace, void* stream);
void gram_backward_cuda(const Tensor& x, const Shape& shape, const float* matrix, const Tensor& grad_x, void* stream);
void gram_style_loss_forward_cuda(const Tensor& x, const Shape& shape, const float* target, Index target_stride,
                                  float* difference, float* out, void* workspace, void* stream);
// The workspace has room for N * C * C floats.
void gram_style_loss_backward_cuda(const Tensor& x, const Shape& shape, const float* difference, const float* grad_out,
                                   const Tensor& grad_x, void* workspace, void* stream);
#endif

}  // namespace fastgan
