#include "image_convert/image_convert.h"

#include <cstddef>
#include <cstring>

#define FASTGAN_WITHOUT_BF16
#define FASTGAN_BODY "image_convert/image_convert_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {
namespace {

constexpr Index kMinParallelValues = 32768;  // values that one thread converts before a second one has woken up

Index clamp_corner(const Index* corners, Index image, Index max_corner) {
  if (corners == nullptr) return 0;
  const Index corner = corners[image];
  return corner < 0 ? 0 : corner > max_corner ? max_corner : corner;
}

}  // namespace

void from_pixels_forward(const Tensor& x, const Shape& picture, const Crop& crop, const Tensor& out, const Shape& shape,
                         bool channels_last, int threads) {
  const Index images = shape[0], channels = shape[1], height = shape[2], width = shape[3];
  const bool is_float32 = out.dtype == Dtype::kFloat32;
  const auto convert =
      is_float32 ? FASTGAN_DISPATCH(normalize_row<float>) : FASTGAN_DISPATCH(normalize_row<std::uint16_t>);
  const Index values = channels * width;
  const bool parallel = threads > 1 && images * height * values >= kMinParallelValues;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
  for (Index row = 0; row < images * height; ++row) {
    const Index n = row / height, y = row % height;
    const Index top = clamp_corner(crop.top, n, picture[1] - height),
                left = clamp_corner(crop.left, n, picture[2] - width);
    const bool mirrored = crop.flip == nullptr ? crop.mirrored : crop.flip[n] != 0;
    const Index column = mirrored ? left + width - 1 : left;
    const std::uint8_t* first =
        static_cast<const std::uint8_t*>(x.data) + n * x.stride[0] + (top + y) * x.stride[1] + column * x.stride[2];
    const Index plane = channels_last ? 0 : height * width;
    const Index at = channels_last ? row * values : (n * channels * height + y) * width;
    const Index step = mirrored ? -x.stride[2] : x.stride[2];
    convert(first, step, x.stride[3], channels, width, static_cast<char*>(out.data) + at * (is_float32 ? 4 : 2), plane);
  }
}

void to_pixels_forward(const Tensor& x, const Shape& shape, std::uint8_t* out, int threads) {
  const Index images = shape[0], channels = shape[1], height = shape[2], width = shape[3];
  const bool is_float32 = x.dtype == Dtype::kFloat32;
  const auto convert =
      is_float32 ? FASTGAN_DISPATCH(quantize_row<float>) : FASTGAN_DISPATCH(quantize_row<std::uint16_t>);
  const bool parallel = threads > 1 && images * height * channels * width >= kMinParallelValues;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
  for (Index row = 0; row < images * height; ++row) {
    const Index offset = row / height * x.stride[0] + row % height * x.stride[2];
    convert(static_cast<const char*>(x.data) + offset * (is_float32 ? 4 : 2), x.stride[3], x.stride[1], channels, width,
            out + row * channels * width);
  }
}

}  // namespace fastgan
