#include "psnr/psnr.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace fastgan {
namespace {

constexpr Index kChunk = 16384;  // elements of a task: large against its start, small against an image
constexpr Index kRow = 1024;     // elements worked on at a time: stays in L1

struct Dim {
  Index size, x, y, z;  // elements; strides of two inputs and an output
};

// The three dimensions of an image, outermost first by stride, runs that are dense in all tensors joined.
std::array<Dim, 3> merged_dims(const Tensor& x, const Tensor& y, const Tensor& z, const Shape& shape) {
  std::array<Dim, 3> lines;
  for (int d = 0; d < 3; ++d) lines[d] = {shape[d + 1], x.stride[d + 1], y.stride[d + 1], z.stride[d + 1]};
  for (Dim& line : lines) {
    if (line.size == 1) line.x = line.y = line.z = std::numeric_limits<Index>::max() / 8;
  }
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Dim& a, const Dim& b) { return a.x + a.y + a.z > b.x + b.y + b.z; });
  for (int d = 1; d >= 0; --d) {
    Dim& outer = lines[d];
    Dim& inner = lines[2];
    if (outer.size == 1 ||
        (outer.x == inner.x * inner.size && outer.y == inner.y * inner.size && outer.z == inner.z * inner.size)) {
      inner.size *= outer.size;
      outer.size = 1;
    } else {
      break;
    }
  }
  for (Dim& line : lines) {
    if (line.size == 1) line.x = line.y = line.z = 0;
  }
  return lines;
}

// Calls run(image, task, x, y, z, size) with the offsets of every run of up to kRow elements. A task's runs come in
// order from one thread; tasks do not depend on the thread count.
struct RunIterator {
  Tensor x, y, z;
  Shape shape;
  Dim outer, middle, inner;
  Index chunks, units, units_per_task, tasks;

  RunIterator(const Tensor& x, const Tensor& y, const Tensor& z, const Shape& shape) : x(x), y(y), z(z), shape(shape) {
    const auto lines = merged_dims(x, y, z, shape);
    outer = lines[0], middle = lines[1], inner = lines[2];
    chunks = (inner.size + kChunk - 1) / kChunk;
    units = outer.size * middle.size * chunks;
    units_per_task = std::max<Index>(1, kChunk / inner.size);
    tasks = (units + units_per_task - 1) / units_per_task;
  }

  template <typename Run>
  void for_each_run(int threads, const Run& run) const {
#pragma omp parallel for schedule(static) num_threads(threads) if (shape[0] * tasks > 1)
    for (Index t = 0; t < shape[0] * tasks; ++t) {
      const Index image = t / tasks, first = t % tasks * units_per_task;
      for (Index u = first; u < std::min(first + units_per_task, units); ++u) {
        const Index line = u / chunks, start = u % chunks * kChunk, end = std::min(start + kChunk, inner.size);
        const Index o = line / middle.size, m = line % middle.size;
        for (Index at = start; at < end; at += kRow) {
          run(image, t, image * x.stride[0] + o * outer.x + m * middle.x + at * inner.x,
              image * y.stride[0] + o * outer.y + m * middle.y + at * inner.y,
              image * z.stride[0] + o * outer.z + m * middle.z + at * inner.z, std::min(kRow, end - at));
        }
      }
    }
  }
};

}  // namespace
}  // namespace fastgan

#define FASTGAN_WITHOUT_BF16
#define FASTGAN_BODY "psnr/psnr_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {

void psnr_forward(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, float* out, int threads) {
  const RunIterator iterator(x, y, x, shape);
  std::vector<double> sums(shape[0] * iterator.tasks);
  const auto error = FASTGAN_DISPATCH(squared_error);
  iterator.for_each_run(threads, [&](Index, Index task, Index x_at, Index y_at, Index, Index size) {
    sums[task] += error(x, x_at, iterator.inner.x, y, y_at, iterator.inner.y, size);
  });
  const double pixels = double(shape[1]) * double(shape[2]) * double(shape[3]);
  for (Index n = 0; n < shape[0]; ++n) {
    double sum = 0;
    for (Index t = 0; t < iterator.tasks; ++t) sum += sums[n * iterator.tasks + t];
    out[n] = float(20 * std::log10(data_range) - 10 * std::log10(sum / pixels));
  }
}

void psnr_backward(const Tensor& x, const Tensor& y, const Shape& shape, double data_range, const float* psnr,
                   const float* grad_out, const Tensor& grad_x, const Tensor& grad_y, int threads) {
  const double pixels = double(shape[1]) * double(shape[2]) * double(shape[3]);
  std::vector<float> factors(shape[0]);
  for (Index n = 0; n < shape[0]; ++n) {
    const double error = data_range * data_range * pixels * std::pow(10.0, -double(psnr[n]) / 10);
    factors[n] = std::isinf(psnr[n]) ? 0.0f : float(-20 / std::log(10.0) * double(grad_out[n]) / error);
  }
  const auto write = FASTGAN_DISPATCH(scaled_difference);
  const auto write_gradient = [&](const Tensor& grad, float sign) {
    if (grad.data == nullptr) return;
    const RunIterator iterator(x, y, grad, shape);
    iterator.for_each_run(threads, [&](Index image, Index, Index x_at, Index y_at, Index at, Index size) {
      write(x, x_at, iterator.inner.x, y, y_at, iterator.inner.y, sign * factors[image], grad, at, iterator.inner.z,
            size);
    });
  };
  write_gradient(grad_x, 1);
  write_gradient(grad_y, -1);
}

}  // namespace fastgan
