// SSIM with s = x + y and d = x - y: var(s) - var(d) = 4 cov(x, y) and var(s) + var(d) = 2 (var x + var y), so four
// blurred moments (s, d, s^2, d^2) do instead of five. Each input row is blurred along the row once and kept in a ring
// of rows, over which output rows are then blurred two at a time. The gradient blurs the derivatives of the map by
// these moments back, in a second ring behind the first, in the same pass as the value: what it starts from is then a
// factor of the whole image, and nothing is computed twice.
#include "ssim/ssim.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

namespace fastgan {
namespace {

constexpr Index kTile = 128;        // columns of a task: the ring of an 11-row window stays in 32 KB of L1
constexpr Index kMaxLanes = 16;     // floats of the widest vector: rows are padded to whole ones, so loops have no tail
constexpr Index kMinRows = 32;      // of a task: the window's first rows are computed again by each
constexpr Index kMeanRows = 8;      // rows sampled for the shift, which only has to be near the mean
constexpr Index kPrefetchRows = 4;  // rows prefetched before they are read
constexpr float kC1 = 1e-4f, kC2 = 9e-4f;  // (0.01 R)^2 and (0.03 R)^2 in units of the data range R

struct Job {
  Tensor x, y;
  Shape shape;
  Index window, out_h, out_w;
  std::vector<float> taps;
  float sample;  // to sample covariances
  float unit;    // 1 / data_range
  Tensor grad_x, grad_y;
  float grad_unit;
};

struct Tile {
  Index image, channel, row, rows, col, cols;
};

Index padded(Index size) { return (size + kMaxLanes - 1) / kMaxLanes * kMaxLanes; }

struct Ring {
  float* memory;
  Index rows, pitch, size;  // size: floats of a slot
  float* slot(Index row) const { return memory + (row + rows) % rows * size; }
};

// Working rows of one thread, each on a cache line of its own: a vector across two lines loads at half speed.
struct Scratch {
  std::vector<float> memory;
  float *x, *y, *plus, *minus, *maps, *sums;
  Index maps_pitch;
  Ring moments, blurred;

  Scratch(Index window, bool gradient) {
    // A row of the map has window - 1 columns more than the tile of pixels behind it.
    const Index cols = padded(kTile + (gradient ? window - 1 : 0));
    const Index input = padded(cols + window) + kMaxLanes;
    const Index pitch = cols + (cols % 64 == 0 ? kMaxLanes : 0);  // rows of one set of L1 would push each other out
    const Index slot = 4 * pitch, ring = (window + 1) * slot;
    maps_pitch = input;
    memory.resize(4 * input + (gradient ? 4 * maps_pitch + ring : 0) + 2 * slot + ring + kMaxLanes);
    const auto misalignment = reinterpret_cast<std::uintptr_t>(memory.data()) / sizeof(float) % kMaxLanes;
    float* next = memory.data() + (kMaxLanes - misalignment) % kMaxLanes;
    const auto carve = [&next](Index size) { return std::exchange(next, next + size); };
    x = carve(input);
    y = carve(input);
    plus = carve(input);
    minus = carve(input);
    sums = carve(2 * slot);
    moments = {carve(ring), window + 1, pitch, slot};
    maps = gradient ? carve(4 * maps_pitch) : nullptr;
    blurred = {gradient ? carve(ring) : nullptr, window + 1, pitch, slot};
  }
  Scratch(Scratch&&) = default;
};

std::vector<float> make_taps(const SsimOptions& options) {
  const int size = options.window_size;
  std::vector<double> weights(size, 1.0);
  double total = 0;
  for (int i = 0; i < size; ++i) {
    const double offset = i - size / 2;
    if (options.gaussian) weights[i] = std::exp(-offset * offset / (2 * options.sigma * options.sigma));
    total += weights[i];
  }
  std::vector<float> taps(size);
  for (int i = 0; i < size; ++i) taps[i] = float(weights[i] / total);
  return taps;
}

Job make_job(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options) {
  Job job;
  job.x = x;
  job.y = y;
  job.shape = shape;
  job.window = options.window_size;
  job.out_h = shape[2] - job.window + 1;
  job.out_w = shape[3] - job.window + 1;
  job.taps = make_taps(options);
  const double area = double(job.window) * double(job.window);
  job.sample = float(options.gaussian ? 1.0 : area / (area - 1));
  job.unit = float(1 / options.data_range);
  return job;
}

}  // namespace
}  // namespace fastgan

#define FASTGAN_WITHOUT_BF16
#define FASTGAN_BODY "ssim/ssim_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {
namespace {

// Every tile of (height, width) in every plane; strips of rows where there are too few planes for the threads.
template <typename Run>
void for_each_tile(const Job& job, Index height, Index width, bool gradient, int threads, const Run& run) {
  const Index count = job.shape[0] * job.shape[1];
  const Index columns = (width + kTile - 1) / kTile;
  const Index target_strips = (4 * Index(threads) + count * columns - 1) / (count * columns);
  const Index strips = std::clamp<Index>(target_strips, 1, std::max<Index>(1, height / kMinRows));
  const Index rows = (height + strips - 1) / strips;
  std::vector<Scratch> scratch;
  for (int t = 0; t < threads; ++t) scratch.emplace_back(job.window, gradient);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (Index t = 0; t < count * columns * strips; ++t) {
    const Index plane = t / (columns * strips), column = t / strips % columns;
    const Index row = t % strips * rows, col = column * kTile;
    const Tile tile{plane / job.shape[1],        plane % job.shape[1], row, std::min(rows, height - row), col,
                    std::min(kTile, width - col)};
    if (tile.rows > 0) run(tile, plane * columns + column, scratch[omp_get_thread_num()]);
  }
}

}  // namespace

void ssim_forward(const Tensor& x, const Tensor& y, const Shape& shape, const SsimOptions& options, float* out,
                  const Tensor& grad_x, const Tensor& grad_y, int threads) {
  // y alone is x alone with the two exchanged.
  const bool swapped = grad_x.data == nullptr && grad_y.data != nullptr;
  Job job = swapped ? make_job(y, x, shape, options) : make_job(x, y, shape, options);
  job.grad_x = swapped ? grad_y : grad_x;
  job.grad_y = swapped ? Tensor{} : grad_y;
  const bool gradient = job.grad_x.data != nullptr;
  const double map_size = double(shape[1]) * double(job.out_h) * double(job.out_w);
  job.grad_unit = float(double(job.unit) / map_size);

  const Index height = gradient ? shape[2] : job.out_h, width = gradient ? shape[3] : job.out_w;
  const Index columns = (width + kTile - 1) / kTile;
  // A sum for every row of a tile, added up in one order: neither strips nor threads change the result.
  std::vector<double> row_sums(shape[0] * shape[1] * columns * job.out_h);
  const auto tile = FASTGAN_DISPATCH(ssim_tile);
  for_each_tile(job, height, width, gradient, threads, [&](const Tile& at, Index number, Scratch& scratch) {
    tile(job, at, scratch, row_sums.data() + number * job.out_h);
  });

  const Index per_image = shape[1] * columns * job.out_h;
  for (Index n = 0; n < shape[0]; ++n) {
    double sum = 0;
    for (Index i = 0; i < per_image; ++i) sum += row_sums[n * per_image + i];
    out[n] = float(sum / map_size);
  }
}

}  // namespace fastgan
