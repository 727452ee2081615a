#pragma once

#include "common/types.h"

namespace fastgan {

// Windows of a plane, rows x cols of them: window (i, j) has the rows from floor(i * H / rows) to floor((i + 1) * H /
// rows) and the columns likewise.
struct GramWindows {
  Index rows = 1, cols = 1;

  Index count() const { return rows * cols; }
};

// The loss of an image: the mean square of G - target, G = F F^T / (C H W). With several windows it is
// (1 - window_weight) times that of the whole plane plus window_weight times the mean of those of the windows.
struct StyleLoss {
  const float* target = nullptr;  // C x C floats
  Index target_stride = 0;        // from image to image; 0: one for all
  GramWindows windows{};
  double window_weight = 1;
  float* out = nullptr;    // N
  float* whole = nullptr;  // N: the part of the whole plane
};

// Writes F F^T * scale, F (C, H*W) the features of each image, to out (N, C, C): both triangles, equal to the bit.
// Sums are float32; bfloat16 products are exact. The result does not depend on the thread count.
void gram_forward(const Tensor& x, const Shape& shape, float scale, float* out, int threads);

// Writes M F to grad_x; matrix (N, C, C), contiguous and symmetric. (The gradient of gram_forward: M = scale * (dG +
// dG^T).)
void gram_backward(const Tensor& x, const Shape& shape, const float* matrix, const Tensor& grad_x, int threads);

// Style loss. difference (N, windows, C (C + 1) / 2) is what the gradient needs, lower triangles of symmetric matrices,
// row by row: G - (target + its transpose) / 2; of several windows (1 - window_weight) times that, plus window_weight /
// (windows * a) times the window's own, a the window's share of the plane.
void gram_style_loss_forward(const Tensor& x, const Shape& shape, const StyleLoss& loss, float* difference,
                             int threads);

// Writes the gradient of sum(grad_out * loss) for x: 4 grad_out / (C^2 * C H W) * D F in each window.
void gram_style_loss_backward(const Tensor& x, const Shape& shape, const GramWindows& windows, const float* difference,
                              const float* grad_out, const Tensor& grad_x, int threads);

#ifdef FASTGAN_CUDA
Index gram_workspace(const Shape& shape, const GramWindows& windows);
void gram_forward_cuda(const Tensor& x, const Shape& shape, float scale, float* out, void* workspace, void* stream);
void gram_backward_cuda(const Tensor& x, const Shape& shape, const float* matrix, const Tensor& grad_x, void* stream);
void gram_style_loss_forward_cuda(const Tensor& x, const Shape& shape, const StyleLoss& loss, float* difference,
                                  void* workspace, void* stream);
// The workspace has room for N * windows * C * C floats.
void gram_style_loss_backward_cuda(const Tensor& x, const Shape& shape, const GramWindows& windows,
                                   const float* difference, const float* grad_out, const Tensor& grad_x,
                                   void* workspace, void* stream);
#endif

}  // namespace fastgan
