#include "psnr.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fastgan {
namespace {

constexpr Index kChunk = 16384;  // elements of a task: large against its start, small against an image

struct Line {
  Index size, x, y;  // elements, strides
};

// Squared differences of one run of elements.
FASTGAN_CLONES double squared_error(const float* x, Index x_stride, const float* y, Index y_stride, Index size) {
  double sum = 0;
  if (x_stride == 1 && y_stride == 1) {
#pragma omp simd reduction(+ : sum)
    for (Index i = 0; i < size; ++i) {
      const double d = double(x[i]) - double(y[i]);
      sum += d * d;
    }
  } else {
    for (Index i = 0; i < size; ++i) {
      const double d = double(x[i * x_stride]) - double(y[i * y_stride]);
      sum += d * d;
    }
  }
  return sum;
}

// The three dimensions of an image, outermost first by stride, runs that are dense in both images joined.
std::array<Line, 3> order(const Images& x, const Images& y, const Shape& shape) {
  std::array<Line, 3> lines;
  for (int d = 0; d < 3; ++d) lines[d] = {shape[d + 1], x.stride[d + 1], y.stride[d + 1]};
  for (Line& line : lines) {
    if (line.size == 1) line.x = line.y = std::numeric_limits<Index>::max() / 4;
  }
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.x + a.y > b.x + b.y; });
  for (int d = 1; d >= 0; --d) {
    Line& outer = lines[d];
    Line& inner = lines[2];
    if (outer.size == 1 || (outer.x == inner.x * inner.size && outer.y == inner.y * inner.size)) {
      inner.size *= outer.size;
      outer.size = 1;
    } else {
      break;
    }
  }
  for (Line& line : lines) {
    if (line.size == 1) line.x = line.y = 0;
  }
  return lines;
}

}  // namespace

void psnr_forward(const Images& x, const Images& y, const Shape& shape, double data_range, float* out, int threads) {
  const auto [outer, middle, inner] = order(x, y, shape);
  const Index chunks = (inner.size + kChunk - 1) / kChunk;
  const Index units = outer.size * middle.size * chunks;
  const Index units_per_task = std::max<Index>(1, kChunk / inner.size);
  const Index tasks = (units + units_per_task - 1) / units_per_task;
  std::vector<double> sums(shape[0] * tasks);

#pragma omp parallel for schedule(static) num_threads(threads)
  for (Index t = 0; t < shape[0] * tasks; ++t) {
    const Index image = t / tasks;
    const Index first = t % tasks * units_per_task;
    double sum = 0;
    for (Index u = first; u < std::min(first + units_per_task, units); ++u) {
      const Index line = u / chunks, start = u % chunks * kChunk;
      const Index o = line / middle.size, m = line % middle.size;
      sum += squared_error(x.data + image * x.stride[0] + o * outer.x + m * middle.x + start * inner.x, inner.x,
                           y.data + image * y.stride[0] + o * outer.y + m * middle.y + start * inner.y, inner.y,
                           std::min(kChunk, inner.size - start));
    }
    sums[t] = sum;
  }

  const double pixels = double(shape[1]) * double(shape[2]) * double(shape[3]);
  for (Index n = 0; n < shape[0]; ++n) {
    double sum = 0;
    for (Index t = 0; t < tasks; ++t) sum += sums[n * tasks + t];
    out[n] = float(20 * std::log10(data_range) - 10 * std::log10(sum / pixels));
  }
}

}  // namespace fastgan
