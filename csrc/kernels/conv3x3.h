// 3x3 convolutions of stride 1 in the transform domain (Winograd 1980; Lavin and Gray 2016), optionally of an input
// enlarged twice by repeating pixels: fewer products than outputs x inputs x 9, the same function.
#pragma once

#include "common.h"

namespace fastgan {

enum class Padding : int { kZeros = 0, kReflect = 1 };

struct Conv3x3Options {
  Padding padding;
  bool upsample;
  const float* bias;  // (outputs,); null for 0
  Activation activation;
  float negative_slope;
};

// All images are channels_last and dense, (N, H, W, C), float32 or bfloat16, of one dtype in a call. The weight is
// float32 (outputs, inputs, 3, 3), contiguous. `shape` is of x: N, inputs, H, W.

// out: (N, H, W, outputs), or twice as high and wide with `upsample`.
void conv3x3_forward(const void* x, Dtype dtype, const Shape& shape, const float* weight, Index outputs,
                     const Conv3x3Options& options, void* out, int threads);

// The gradient of x from that of the output. Where `out` is given, what the forward gave, the gradient is first pulled
// back through the activation. With reflection and no upsampling H and W must be even.
void conv3x3_backward_input(const void* grad_out, const void* out, Dtype dtype, const Shape& shape,
                            const float* weight, Index outputs, const Conv3x3Options& options, void* grad_x,
                            int threads);

// The gradient of the weight, (outputs, inputs, 3, 3).
void conv3x3_backward_weight(const void* x, const void* grad_out, const void* out, Dtype dtype, const Shape& shape,
                             Index outputs, const Conv3x3Options& options, float* grad_weight, int threads);

}  // namespace fastgan
