// A plane that lies together and fits the registers of its threads is read once. Everything else takes three kernels:
// the moments (or sums) of strips, their merge, the output.
#include "instance_norm/instance_norm.h"

#include "common/strips_cuda.cuh"

namespace fastgan {
namespace {

using namespace cuda;

struct Job {
  const float *weight, *bias;
  Index weight_stride, bias_stride;
  ActivationFunction activation;
  float eps;
};

Job make_job(const InstanceNormOptions& options) {
  return {options.weight,
          options.bias,
          options.weight_stride,
          options.bias_stride,
          make_activation(options.activation, options.negative_slope),
          options.eps};
}

// The mean, scale and affine parameters of a channel of an image.
struct Affine {
  float mean, rstd, weight, bias;

  __device__ Affine() : mean(0), rstd(0), weight(1), bias(0) {}
  __device__ Affine(const Job& job, Index image, Index channel, float mean, float rstd)
      : mean(mean),
        rstd(rstd),
        weight(job.weight == nullptr ? 1.0f : job.weight[image * job.weight_stride + channel]),
        bias(job.bias == nullptr ? 0.0f : job.bias[image * job.bias_stride + channel]) {}

  // Forward and backward round alike, so that they agree on which side of the activation's corner a pixel lies.
  __device__ __forceinline__ float normal(float x) const { return (x - mean) * rstd; }
  __device__ __forceinline__ float scaled(float normal) const { return fmaf(normal, weight, bias); }
};

// mean, sum of squared distances from it, count (Chan, Golub and LeVeque 1979), of kCount channels with one count.
template <int kCount>
struct MergeMoments {
  __device__ void operator()(float (&value)[2 * kCount + 1], const float (&other)[2 * kCount + 1]) const {
    const float count = value[2 * kCount], total = count + other[2 * kCount];
    const float part = total > 0 ? other[2 * kCount] / total : 0.0f;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float step = other[i] - value[i];
      value[i] = fmaf(step, part, value[i]);
      value[kCount + i] += other[kCount + i] + step * step * count * part;
    }
    value[2 * kCount] = total;
  }
};

template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kStripThreads)
    instance_norm_moments_kernel(PixelView x, Strips strips, float* partials) {
  constexpr int kPack = kPackSize<T>, kCount = kChannelsLast ? kPack : 1, kLoads = kLoadsInFlight<T>;
  FASTGAN_SHARED(float, scratch, (2 * kCount + 1) * kStripThreads / 2);
  const ThreadRange<T, kChannelsLast> range(strips);
  const MergeMoments<kCount> merge;
  float moments[2 * kCount + 1] = {};
  for (Index first = range.pixel; first < range.end; first += kLoads * range.step) {
    float value[kLoads][kPack], batch[2 * kCount + 1] = {};
#pragma unroll
    for (int r = 0; r < kLoads; ++r) {
      const Index p = first + r * range.step;
      if (p < range.end) {
        load_values<T>(x, x.offset(range.image, range.channel, p), value[r]);
        batch[2 * kCount] += kPack / kCount;
      }
    }
#pragma unroll
    for (int r = 0; r < kLoads; ++r) {
      if (first + r * range.step < range.end) {
#pragma unroll
        for (int i = 0; i < kPack; ++i) batch[kChannelsLast ? i : 0] += value[r][i];
      }
    }
    const float inverse = 1.0f / batch[2 * kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) batch[i] *= inverse;
#pragma unroll
    for (int r = 0; r < kLoads; ++r) {
      if (first + r * range.step < range.end) {
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
          const float distance = value[r][i] - batch[kChannelsLast ? i : 0];
          batch[kCount + (kChannelsLast ? i : 0)] += distance * distance;
        }
      }
    }
    merge(moments, batch);
  }
  reduce_rows(moments, scratch, strips.lanes, merge);
  if (!range.writes(strips)) return;
  float* const partial = partials + 2 * range.partial(strips);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    partial[2 * i] = moments[i];
    partial[2 * i + 1] = moments[kCount + i];
  }
}

__global__ void __launch_bounds__(kWarp* kMergeRows)
    instance_norm_merge_kernel(const float* partials, Strips strips, float eps, float* mean, float* rstd) {
  FASTGAN_SHARED(float, scratch, 3 * kWarp * kMergeRows);
  const Index tiles = ceil_div(strips.channels, kWarp);
  const Index image = blockIdx.x / tiles, channel = blockIdx.x % tiles * kWarp + threadIdx.x;
  const MergeMoments<1> merge;
  float moments[3] = {};
  if (channel < strips.channels) {
#pragma unroll 4
    for (Index s = threadIdx.y; s < strips.count; s += kMergeRows) {
      const float* const partial = partials + 2 * ((image * strips.count + s) * strips.channels + channel);
      merge(moments, {partial[0], partial[1], static_cast<float>(min(strips.size, strips.pixels - s * strips.size))});
    }
  }
  for (int i = 0; i < 3; ++i) scratch[(i * kMergeRows + threadIdx.y) * kWarp + threadIdx.x] = moments[i];
  __syncthreads();
  if (threadIdx.y != 0 || channel >= strips.channels) return;
  for (int row = 1; row < kMergeRows; ++row) {
    float other[3];
    for (int i = 0; i < 3; ++i) other[i] = scratch[(i * kMergeRows + row) * kWarp + threadIdx.x];
    merge(moments, other);
  }
  mean[image * strips.channels + channel] = moments[0];
  rstd[image * strips.channels + channel] = 1.0f / sqrtf(moments[1] / static_cast<float>(strips.pixels) + eps);
}

template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kStripThreads)
    instance_norm_apply_kernel(PixelView x, PixelView residual, PixelView out, Strips strips, Job job,
                               const float* mean, const float* rstd) {
  constexpr int kPack = kPackSize<T>, kCount = kChannelsLast ? kPack : 1;
  const ThreadRange<T, kChannelsLast> range(strips);
  Affine affine[kCount];
  if (range.channel < strips.channels) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Index plane = range.image * strips.channels + range.channel + i;
      affine[i] = Affine(job, range.image, range.channel + i, mean[plane], rstd[plane]);
    }
  }
  for (Index p = range.pixel; p < range.end; p += range.step) {
    float value[kPack], added[kPack] = {};
    load_values<T>(x, x.offset(range.image, range.channel, p), value);
    if (residual.data != nullptr) load_values<T>(residual, residual.offset(range.image, range.channel, p), added);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const Affine& a = affine[kChannelsLast ? i : 0];
      value[i] = job.activation(a.scaled(a.normal(value[i]))) + added[i];
    }
    store_values<T>(out, out.offset(range.image, range.channel, p), value);
  }
}

// Sums of g and g * normal over each strip, g the gradient before the activation.
template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kStripThreads)
    instance_norm_sums_kernel(PixelView x, PixelView grad_out, Strips strips, Job job, const float* mean,
                              const float* rstd, float* partials) {
  constexpr int kPack = kPackSize<T>, kCount = kChannelsLast ? kPack : 1;
  FASTGAN_SHARED(float, scratch, 2 * kCount * kStripThreads / 2);
  const ThreadRange<T, kChannelsLast> range(strips);
  Affine affine[kCount];
  float sum[2 * kCount] = {};
  if (range.channel < strips.channels) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Index plane = range.image * strips.channels + range.channel + i;
      affine[i] = Affine(job, range.image, range.channel + i, mean[plane], rstd[plane]);
    }
  }
#pragma unroll 2
  for (Index p = range.pixel; p < range.end; p += range.step) {
    float value[kPack], grad[kPack];
    load_values<T>(x, x.offset(range.image, range.channel, p), value);
    load_values<T>(grad_out, grad_out.offset(range.image, range.channel, p), grad);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const int c = kChannelsLast ? i : 0;
      const float normal = affine[c].normal(value[i]);
      const float g = job.activation.backward(affine[c].scaled(normal), grad[i]);
      sum[2 * c] += g;
      sum[2 * c + 1] = fmaf(g, normal, sum[2 * c + 1]);
    }
  }
  reduce_rows(sum, scratch, strips.lanes, Add<2 * kCount>{});
  if (!range.writes(strips)) return;
#pragma unroll
  for (int i = 0; i < 2 * kCount; ++i) partials[2 * range.partial(strips) + i] = sum[i];
}

template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kStripThreads)
    instance_norm_apply_bwd_kernel(PixelView x, PixelView grad_out, PixelView grad_x, Strips strips, Job job,
                                   const float* mean, const float* rstd, const float* grad_bias,
                                   const float* grad_weight) {
  constexpr int kPack = kPackSize<T>, kCount = kChannelsLast ? kPack : 1;
  const ThreadRange<T, kChannelsLast> range(strips);
  Affine affine[kCount];
  float mean_g[kCount] = {}, mean_gn[kCount] = {};
  if (range.channel < strips.channels) {
    const float inverse = 1.0f / static_cast<float>(strips.pixels);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Index plane = range.image * strips.channels + range.channel + i;
      affine[i] = Affine(job, range.image, range.channel + i, mean[plane], rstd[plane]);
      mean_g[i] = grad_bias[plane] * inverse;
      mean_gn[i] = grad_weight[plane] * inverse;
    }
  }
  for (Index p = range.pixel; p < range.end; p += range.step) {
    float value[kPack], grad[kPack];
    load_values<T>(x, x.offset(range.image, range.channel, p), value);
    load_values<T>(grad_out, grad_out.offset(range.image, range.channel, p), grad);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const int c = kChannelsLast ? i : 0;
      const float normal = affine[c].normal(value[i]);
      const float g = job.activation.backward(affine[c].scaled(normal), grad[i]);
      value[i] = affine[c].weight * affine[c].rstd * (g - mean_g[c] - normal * mean_gn[c]);
    }
    store_values<T>(grad_x, grad_x.offset(range.image, range.channel, p), value);
  }
}

#include "instance_norm/instance_norm_planes.cuh"

}  // namespace

Index instance_norm_workspace(const Shape& shape) {
  return 2 * shape[0] * shape[1] * (max_strips(shape) + 1) * static_cast<Index>(sizeof(float));
}

void instance_norm_forward_cuda(const Tensor& x, const Shape& shape, const InstanceNormOptions& options,
                                const Tensor& residual, const Tensor& out, float* mean, float* rstd, void* workspace,
                                void* stream) {
  const Layout layout = make_layout({x, residual, out}, shape);
  const PixelView fx = pixel_view(x, shape), fr = pixel_view(residual, shape), fo = pixel_view(out, shape);
  const Job job = make_job(options);
  float* const partials = static_cast<float*>(workspace);
  dispatch_layout(layout, [&](auto tag, auto channels) {
    using T = typename decltype(tag)::Type;
    constexpr bool kChannelsLast = decltype(channels)::value;
    if constexpr (!kChannelsLast && !std::is_same_v<T, Unpacked>) {
      if (planes_forward<T>(fx, fr, fo, shape, job, mean, rstd, stream)) return;
    }
    const Strips strips = make_strips<T>(shape, kChannelsLast);
    const dim3 grid(strips.blocks()), block(static_cast<unsigned>(strips.threads));
    FASTGAN_LAUNCH((instance_norm_moments_kernel<T, kChannelsLast>), grid, block, 0, stream, fx, strips, partials);
    FASTGAN_LAUNCH(instance_norm_merge_kernel, dim3(static_cast<unsigned>(shape[0] * ceil_div(shape[1], kWarp))),
                   dim3(kWarp, kMergeRows), 0, stream, partials, strips, job.eps, mean, rstd);
    FASTGAN_LAUNCH((instance_norm_apply_kernel<T, kChannelsLast>), grid, block, 0, stream, fx, fr, fo, strips, job,
                   mean, rstd);
  });
}

void instance_norm_backward_cuda(const Tensor& x, const Shape& shape, const InstanceNormOptions& options,
                                 const float* mean, const float* rstd, const Tensor& grad_out, const Tensor& grad_x,
                                 float* grad_weight, float* grad_bias, void* workspace, void* stream) {
  if (grad_x.data == nullptr && grad_weight == nullptr && grad_bias == nullptr) return;
  const Layout layout = make_layout({x, grad_out, grad_x}, shape);
  const PixelView fx = pixel_view(x, shape), fg = pixel_view(grad_out, shape), fo = pixel_view(grad_x, shape);
  const Job job = make_job(options);
  float* const sums = static_cast<float*>(workspace);
  float* const partials = sums + 2 * shape[0] * shape[1];
  dispatch_layout(layout, [&](auto tag, auto channels) {
    using T = typename decltype(tag)::Type;
    constexpr bool kChannelsLast = decltype(channels)::value;
    if constexpr (!kChannelsLast && !std::is_same_v<T, Unpacked>) {
      if (planes_backward<T>(fx, fg, fo, shape, job, mean, rstd, grad_weight, grad_bias, stream)) return;
    }
    const Strips strips = make_strips<T>(shape, kChannelsLast);
    const dim3 grid(strips.blocks()), block(static_cast<unsigned>(strips.threads));
    float* const sum_g = grad_bias == nullptr ? sums : grad_bias;
    float* const sum_gn = grad_weight == nullptr ? sums + shape[0] * shape[1] : grad_weight;
    FASTGAN_LAUNCH((instance_norm_sums_kernel<T, kChannelsLast>), grid, block, 0, stream, fx, fg, strips, job, mean,
                   rstd, partials);
    sum_strips<2>(partials, shape[0], strips.count, shape[1], sum_g, sum_gn, stream);
    if (grad_x.data == nullptr) return;
    FASTGAN_LAUNCH((instance_norm_apply_bwd_kernel<T, kChannelsLast>), grid, block, 0, stream, fx, fg, fo, strips, job,
                   mean, rstd, sum_g, sum_gn);
  });
}

}  // namespace fastgan
