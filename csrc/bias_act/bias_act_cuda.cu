#include "bias_act/bias_act.h"

#include "common/strips_cuda.cuh"

namespace fastgan {
namespace {

using namespace cuda;

struct Job {
  const float* bias;
  ActivationFunction activation;
  float gain, clamp;
};

Job make_job(const BiasActOptions& options) {
  return {options.bias, make_activation(options.activation, options.negative_slope), options.gain, options.clamp};
}

template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kStripThreads)
    bias_act_fwd_kernel(PixelView x, PixelView out, Strips strips, Job job) {
  constexpr int kPack = kPackSize<T>, kBiases = kChannelsLast ? kPack : 1;
  const ThreadRange<T, kChannelsLast> range(strips);
  float bias[kBiases] = {};
  if (job.bias != nullptr && range.channel < strips.channels) {
#pragma unroll
    for (int i = 0; i < kBiases; ++i) bias[i] = job.bias[range.channel + i];
  }
#pragma unroll 2
  for (Index p = range.pixel; p < range.end; p += range.step) {
    float value[kPack];
    load_values<T>(x, x.offset(range.image, range.channel, p), value);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      float y = job.activation(value[i] + bias[kChannelsLast ? i : 0]) * job.gain;
      if (job.clamp >= 0) y = y > job.clamp ? job.clamp : y < -job.clamp ? -job.clamp : y;
      value[i] = y;
    }
    store_values<T>(out, out.offset(range.image, range.channel, p), value);
  }
}

// Writes grad_x where it has data, and to partials, unless null, the sums of each strip.
template <typename T, bool kChannelsLast>
__global__ void __launch_bounds__(kStripThreads)
    bias_act_bwd_kernel(PixelView x, PixelView grad_out, PixelView grad_x, Strips strips, Job job, float* partials) {
  constexpr int kPack = kPackSize<T>, kBiases = kChannelsLast ? kPack : 1;
  FASTGAN_SHARED(float, scratch, kBiases * kStripThreads / 2);
  const ThreadRange<T, kChannelsLast> range(strips);
  float bias[kBiases] = {}, sum[kBiases] = {};
  if (job.bias != nullptr && range.channel < strips.channels) {
#pragma unroll
    for (int i = 0; i < kBiases; ++i) bias[i] = job.bias[range.channel + i];
  }
#pragma unroll 2
  for (Index p = range.pixel; p < range.end; p += range.step) {
    float value[kPack], grad[kPack];
    load_values<T>(x, x.offset(range.image, range.channel, p), value);
    load_values<T>(grad_out, grad_out.offset(range.image, range.channel, p), grad);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float z = value[i] + bias[kChannelsLast ? i : 0];
      float g = job.activation.backward(z, grad[i]) * job.gain;
      if (job.clamp >= 0) {
        const float y = job.activation(z) * job.gain;
        if (y >= job.clamp || y <= -job.clamp) g = 0;
      }
      grad[i] = g;
      sum[kChannelsLast ? i : 0] += g;
    }
    if (grad_x.data != nullptr) store_values<T>(grad_x, grad_x.offset(range.image, range.channel, p), grad);
  }
  if (partials == nullptr) return;
  reduce_rows(sum, scratch, strips.lanes, Add<kBiases>{});
  if (!range.writes(strips)) return;
#pragma unroll
  for (int i = 0; i < kBiases; ++i) partials[range.partial(strips) + i] = sum[i];
}

}  // namespace

Index bias_act_workspace(const Shape& shape) {
  return shape[0] * shape[1] * max_strips(shape) * static_cast<Index>(sizeof(float));
}

void bias_act_forward_cuda(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& out,
                           void* stream) {
  const Layout layout = make_layout({x, out}, shape);
  dispatch_layout(layout, [&](auto tag, auto channels) {
    using T = typename decltype(tag)::Type;
    const Strips strips = make_strips<T>(shape, layout.channels_last);
    FASTGAN_LAUNCH((bias_act_fwd_kernel<T, decltype(channels)::value>), dim3(strips.blocks()),
                   dim3(static_cast<unsigned>(strips.threads)), 0, stream, pixel_view(x, shape), pixel_view(out, shape),
                   strips, make_job(options));
  });
}

void bias_act_backward_cuda(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& grad_out,
                            const Tensor& grad_x, float* grad_bias, void* workspace, void* stream) {
  if (grad_x.data == nullptr && grad_bias == nullptr) return;
  const Layout layout = make_layout({x, grad_out, grad_x}, shape);
  float* const partials = grad_bias == nullptr ? nullptr : static_cast<float*>(workspace);
  dispatch_layout(layout, [&](auto tag, auto channels) {
    using T = typename decltype(tag)::Type;
    const Strips strips = make_strips<T>(shape, layout.channels_last);
    FASTGAN_LAUNCH((bias_act_bwd_kernel<T, decltype(channels)::value>), dim3(strips.blocks()),
                   dim3(static_cast<unsigned>(strips.threads)), 0, stream, pixel_view(x, shape),
                   pixel_view(grad_out, shape), pixel_view(grad_x, shape), strips, make_job(options), partials);
    if (grad_bias != nullptr) sum_strips<1>(partials, 1, shape[0] * strips.count, shape[1], grad_bias, nullptr, stream);
  });
}

}  // namespace fastgan
