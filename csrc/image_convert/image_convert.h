#pragma once

#include "common/types.h"

namespace fastgan {

// The crop of each image and whether it is mirrored; null for the top left corner and for no flip. Corners outside the
// picture are clamped to the nearest that fit.
struct Crop {
  const Index* top;
  const Index* left;
  const std::uint8_t* flip;
  bool mirrored;  // where there is no flip: all of them
};

// out = x / 127.5 - 1, of bytes (N, H, W, C) whose strides x has in that order; out (N, C, h, w) is dense, float32 or
// bfloat16, in the order of channels_last or of NCHW.
void from_pixels_forward(const Tensor& x, const Shape& picture, const Crop& crop, const Tensor& out, const Shape& shape,
                         bool channels_last, int threads);

// out = (x + 1) * 127.5, ties to even, within 0..255 and 0 for NaN; out is dense bytes (N, H, W, C).
void to_pixels_forward(const Tensor& x, const Shape& shape, std::uint8_t* out, int threads);

}  // namespace fastgan
