// SSIM with s = x + y and d = x - y: var(s) - var(d) = 4 cov(x, y) and var(s) + var(d) = 2 (var x + var y), so four
// blurred moments (s, d, s^2, d^2) do instead of five. Each input row is blurred along the row once and kept in a ring
// of window_size rows, over which every output row is then blurred.
#include "ssim.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace fastgan {
namespace {

constexpr Index kTile = 256;           // output columns of a task: the ring of an 11-row window stays near L1
constexpr Index kLanes = 16;           // rows are padded to whole vectors, so that loops have no tail
constexpr Index kPitch = kTile + 16;   // of a buffered row; at 256, the ring's rows all fell into one set of L1
constexpr Index kSlot = 4 * kPitch;    // of the ring: one row of each moment
constexpr Index kMinRows = 32;         // of a task: the window's first rows are computed again by each
constexpr Index kMeanRows = 8;         // rows sampled for the shift, which only has to be near the mean

struct Job {
  Images x, y;
  Shape shape;
  Index window, out_h, out_w;
  std::vector<float> taps;  // twice, so that any rotation is a contiguous run
  float sample, c1, c2;
};

struct Tile {
  Index image, channel, row, rows, col, cols;
};

// Working rows of one thread, each on a cache line of its own: a vector across two lines loads at half speed.
struct Scratch {
  std::vector<float> memory;
  float *plus, *minus, *ring, *sums, *map;

  explicit Scratch(Index window) {
    const Index input = (kTile + window + 2 * kLanes) / kLanes * kLanes;
    memory.resize(2 * input + window * kSlot + kSlot + kPitch + kLanes);
    const auto misplaced = reinterpret_cast<std::uintptr_t>(memory.data()) / sizeof(float) % kLanes;
    plus = memory.data() + (kLanes - misplaced) % kLanes;
    minus = plus + input;
    ring = minus + input;
    sums = ring + window * kSlot;
    map = sums + kSlot;
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
  std::vector<float> taps(2 * size);
  for (int i = 0; i < 2 * size; ++i) taps[i] = float(weights[i % size] / total);
  return taps;
}

// A value near the mean of a plane. Variances do not change under a shift, but squares of a large mean eat their digits.
FASTGAN_INLINE float near_mean(const Images& images, const Shape& shape, Index image, Index channel) {
  const Index step = std::max<Index>(1, shape[2] / kMeanRows);
  const float* plane = images.data + image * images.stride[0] + channel * images.stride[1];
  double sum = 0;
  Index rows = 0;
  for (Index r = step / 2; r < shape[2]; r += step, ++rows) {
    const float* row = plane + r * images.stride[2];
    for (Index c = 0; c < shape[3]; ++c) sum += row[c * images.stride[3]];
  }
  return float(sum / double(rows * shape[3]));
}

template <Index kStride>
FASTGAN_INLINE void load(const float* __restrict x, Index x_stride, float x_mean, const float* __restrict y,
                         Index y_stride, float y_mean, Index size, float* __restrict plus, float* __restrict minus) {
  if (kStride > 0) x_stride = y_stride = kStride;
  for (Index c = 0; c < size; ++c) {
    const float a = x[c * x_stride] - x_mean, b = y[c * y_stride] - y_mean;
    plus[c] = a + b;
    minus[c] = a - b;
  }
}

// Blurs one row of s, d, s^2 and d^2 into a slot of the ring.
template <Index kWindow>
FASTGAN_INLINE void blur_row(const float* __restrict plus, const float* __restrict minus, const float* __restrict taps,
                             Index window, Index size, float* __restrict out) {
  if constexpr (kWindow > 0) {
    for (Index c = 0; c < size; ++c) {
      float s = 0, d = 0, ss = 0, dd = 0;
#pragma GCC unroll 16
      for (Index k = 0; k < kWindow; ++k) {
        const float a = taps[k] * plus[c + k], b = taps[k] * minus[c + k];
        s += a;
        d += b;
        ss += a * plus[c + k];
        dd += b * minus[c + k];
      }
      out[c] = s;
      out[kPitch + c] = d;
      out[2 * kPitch + c] = ss;
      out[3 * kPitch + c] = dd;
    }
  } else {
    for (Index m = 0; m < 4; ++m) std::fill_n(out + m * kPitch, size, 0.0f);
    for (Index k = 0; k < window; ++k) {
      for (Index c = 0; c < size; ++c) {
        const float a = taps[k] * plus[c + k], b = taps[k] * minus[c + k];
        out[c] += a;
        out[kPitch + c] += b;
        out[2 * kPitch + c] += a * plus[c + k];
        out[3 * kPitch + c] += b * minus[c + k];
      }
    }
  }
}

// Blurs the ring down its rows; taps are rotated to the order in which the rows lie there.
template <Index kWindow>
FASTGAN_INLINE void blur_ring(const float* __restrict ring, const float* __restrict taps, Index window, Index size,
                              float* __restrict out) {
  for (Index m = 0; m < 4; ++m) {
    const float* rows = ring + m * kPitch;
    float* sums = out + m * kPitch;
    if constexpr (kWindow > 0) {
      for (Index c = 0; c < size; ++c) {
        float sum = 0;
#pragma GCC unroll 16
        for (Index k = 0; k < kWindow; ++k) sum += taps[k] * rows[k * kSlot + c];
        sums[c] = sum;
      }
    } else {
      std::fill_n(sums, size, 0.0f);
      for (Index k = 0; k < window; ++k) {
        for (Index c = 0; c < size; ++c) sums[c] += taps[k] * rows[k * kSlot + c];
      }
    }
  }
}

FASTGAN_INLINE double sum_map(const float* __restrict sums, const Job& job, float x_mean, float y_mean, Index cols,
                              Index size, float* __restrict map) {
  const float sample = job.sample, c1 = job.c1, c2 = job.c2;
  for (Index c = 0; c < size; ++c) {
    const float s = sums[c], d = sums[kPitch + c];
    const float var_s = (sums[2 * kPitch + c] - s * s) * sample, var_d = (sums[3 * kPitch + c] - d * d) * sample;
    const float mu_x = (s + d) * 0.5f + x_mean, mu_y = (s - d) * 0.5f + y_mean;
    const float structure = ((var_s - var_d) * 0.5f + c2) / ((var_s + var_d) * 0.5f + c2);
    map[c] = structure * ((2 * mu_x * mu_y + c1) / (mu_x * mu_x + mu_y * mu_y + c1));
  }
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index c = 0; c < cols; ++c) sum += double(map[c]);
  return sum;
}

template <Index kWindow>
FASTGAN_INLINE void run_tile(const Job& job, const Tile& tile, Scratch& scratch, double* row_sums) {
  const Index window = kWindow > 0 ? kWindow : job.window;
  const Index size = (tile.cols + kLanes - 1) / kLanes * kLanes;
  const Images &x = job.x, &y = job.y;
  const float x_mean = near_mean(x, job.shape, tile.image, tile.channel);
  const float y_mean = near_mean(y, job.shape, tile.image, tile.channel);
  const Index x_base = tile.image * x.stride[0] + tile.channel * x.stride[1] + tile.col * x.stride[3];
  const Index y_base = tile.image * y.stride[0] + tile.channel * y.stride[1] + tile.col * y.stride[3];
  const Index inputs = tile.cols + window - 1;
  float *plus = scratch.plus, *minus = scratch.minus, *ring = scratch.ring;
  for (Index r = tile.row; r < tile.row + tile.rows + window - 1; ++r) {
    const float* x_row = x.data + x_base + r * x.stride[2];
    const float* y_row = y.data + y_base + r * y.stride[2];
    if (x.stride[3] == 1 && y.stride[3] == 1) {
      load<1>(x_row, 1, x_mean, y_row, 1, y_mean, inputs, plus, minus);
    } else if (x.stride[3] == 3 && y.stride[3] == 3) {
      load<3>(x_row, 3, x_mean, y_row, 3, y_mean, inputs, plus, minus);
    } else {
      load<0>(x_row, x.stride[3], x_mean, y_row, y.stride[3], y_mean, inputs, plus, minus);
    }
    blur_row<kWindow>(plus, minus, job.taps.data(), window, size, ring + r % window * kSlot);
    const Index out_row = r - window + 1;
    if (out_row < tile.row) continue;
    // Row q of the ring holds input row i = q (mod window), whose tap is i - out_row.
    const float* rotated = job.taps.data() + (window - out_row % window);
    blur_ring<kWindow>(ring, rotated, window, size, scratch.sums);
    row_sums[out_row] = sum_map(scratch.sums, job, x_mean, y_mean, tile.cols, size, scratch.map);
  }
}

FASTGAN_CLONES void run_tile_11(const Job& job, const Tile& tile, Scratch& scratch, double* row_sums) {
  run_tile<11>(job, tile, scratch, row_sums);
}

FASTGAN_CLONES void run_tile_7(const Job& job, const Tile& tile, Scratch& scratch, double* row_sums) {
  run_tile<7>(job, tile, scratch, row_sums);
}

FASTGAN_CLONES void run_tile_any(const Job& job, const Tile& tile, Scratch& scratch, double* row_sums) {
  run_tile<0>(job, tile, scratch, row_sums);
}

}  // namespace

void ssim_forward(const Images& x, const Images& y, const Shape& shape, const SsimOptions& options, float* out,
                  int threads) {
  const Index window = options.window_size;
  const double area = double(window) * double(window);
  const double c1 = 0.01 * options.data_range, c2 = 0.03 * options.data_range;
  const Job job{x, y, shape, window, shape[2] - window + 1, shape[3] - window + 1, make_taps(options),
                float(options.gaussian ? 1.0 : area / (area - 1)), float(c1 * c1), float(c2 * c2)};
  const auto run = window == 11 ? run_tile_11 : window == 7 ? run_tile_7 : run_tile_any;

  const Index planes = shape[0] * shape[1];
  const Index columns = (job.out_w + kTile - 1) / kTile;
  const Index wanted = (4 * Index(threads) + planes * columns - 1) / (planes * columns);
  const Index strips = std::clamp<Index>(wanted, 1, std::max<Index>(1, job.out_h / kMinRows));
  const Index rows = (job.out_h + strips - 1) / strips;
  // A sum for every row of a tile, added up in one order: neither strips nor threads change the result.
  std::vector<double> row_sums(planes * columns * job.out_h);
  std::vector<Scratch> scratch;
  for (int t = 0; t < threads; ++t) scratch.emplace_back(window);

#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (Index t = 0; t < planes * columns * strips; ++t) {
    const Index plane = t / (columns * strips), column = t / strips % columns;
    const Index row = t % strips * rows, col = column * kTile;
    const Tile tile{plane / shape[1], plane % shape[1], row, std::min(rows, job.out_h - row),
                    col, std::min(kTile, job.out_w - col)};
    run(job, tile, scratch[omp_get_thread_num()], row_sums.data() + (plane * columns + column) * job.out_h);
  }

  const Index per_image = shape[1] * columns * job.out_h;
  for (Index n = 0; n < shape[0]; ++n) {
    double sum = 0;
    for (Index i = 0; i < per_image; ++i) sum += row_sums[n * per_image + i];
    out[n] = float(sum / (double(shape[1]) * double(job.out_h) * double(job.out_w)));
  }
}

}  // namespace fastgan
