// Convolutions in the transform domain (Winograd 1980; Lavin and Gray 2016): the same function by fewer products, 4 for
// the 9 of a 3x3 one, 9 for 16 of a 4x4 one and, where the input is first enlarged twice by repeating pixels, 2.25
// for 9.
#pragma once

#include "common/types.h"

namespace fastgan {

enum class Padding : int { kZeros = 0, kReflect = 1 };

// Padding by (kernel - 1) / 2. 3x3 has stride 1 and may enlarge; 4x4 has stride 1 or 2 and zeros around. To three
// outputs (without activation) and from three inputs any odd kernel has stride 1; the first have no gradient of the
// input, the second none of the weight, and one of the input for zero padding only.
struct Conv2dOptions {
  int kernel, stride;
  Padding padding;
  bool upsample;
  const float* bias;  // (outputs,); null for 0
  Activation activation;
  float negative_slope;
};

// All images are channels_last and dense, (N, H, W, C), float32 or bfloat16, of one dtype in a call, with multiples of
// 16 channels. The weight is float32 (outputs, inputs, kernel, kernel), contiguous. `shape` is of x: N, inputs, H, W.

// Length of one side of the output.
inline Index output_size(Index size, const Conv2dOptions& options) {
  return options.upsample ? 2 * size : (size + (options.kernel - 1) / 2 * 2 - options.kernel) / options.stride + 1;
}

// Whether this processor, at the chosen level, has kernels for a dtype; those below raise std::invalid_argument else.
bool conv2d_serves(Dtype dtype);

void conv2d_forward(const void* x, Dtype dtype, const Shape& shape, const float* weight, Index outputs,
                    const Conv2dOptions& options, void* out, int threads);

// The gradient of x from that of the output. Where `out` is given, the output of the forward pass, the gradient is
// first propagated through the activation. With reflection and without enlargement H and W must be even.
void conv2d_backward_input(const void* grad_out, const void* out, Dtype dtype, const Shape& shape, const float* weight,
                           Index outputs, const Conv2dOptions& options, void* grad_x, int threads);

// The gradient of the weight, (outputs, inputs, kernel, kernel).
void conv2d_backward_weight(const void* x, const void* grad_out, const void* out, Dtype dtype, const Shape& shape,
                            Index outputs, const Conv2dOptions& options, float* grad_weight, int threads);

}  // namespace fastgan
