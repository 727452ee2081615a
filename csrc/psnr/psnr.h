#pragma once

#include "common/types.h"

namespace fastgan {

// Writes the PSNR of each image in dB to out[N]. The result does not depend on the thread count.
void psnr_forward(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, float* out, int threads);

// Writes the gradients of sum(grad_out * psnr) for x, y or both (data null: not needed), given psnr_forward's out.
// Identical images, whose PSNR is infinite, get 0.
void psnr_backward(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, const float* psnr,
                   const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, int threads);

#ifdef FASTGAN_CUDA
Index psnr_workspace(const Shape& shape);
void psnr_forward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, float* out,
                       void* workspace, void* stream);
void psnr_backward_cuda(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, const float* psnr,
                        const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, void* stream);
#endif

}  // namespace fastgan
