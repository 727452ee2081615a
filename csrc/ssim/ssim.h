#pragma once

#include "common/types.h"

namespace fastgan {

struct SsimOptions {
  double data_range;
  bool gaussian;  // population covariance; otherwise uniform with sample covariance
  int window_size;
  double sigma;
};

// Writes the SSIM of each image, averaged over channels and the valid area, to out[N], and in the same pass its
// gradients by x, y or both (data null: not needed; any strides without overlap). window_size is odd and at most H and
// W. Nothing depends on the thread count.
void ssim_forward(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options, float* out,
                  const Tensor& grad_x, const Tensor& grad_y, int threads);

#ifdef FASTGAN_CUDA
// On a GPU: device pointers; the workspace holds at least as many bytes as its function says, aligned to 16.
Index ssim_workspace(const Shape& shape, const SsimOptions& options, bool backward);
void ssim_forward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options, float* out,
                       void* workspace, void* stream);
void ssim_backward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options,
                        const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, void* workspace,
                        void* stream);
#endif

}  // namespace fastgan
