#include "bias_act/bias_act.h"

#include "common/strips_cuda.cuh"

namespace fastgan {
namespace {

using namespace cuda;

struct Job {
  const float* bias;
  Curve curve;
  float gain, clamp;
};

Job job(const BiasActOptions& options) {
  return {options.bias, curve(options.activation, options.negative_slope), options.gain, options.clamp};
}

template <typename T, bool kChannels>
__global__ void __launch_bounds__(kStripThreads) bias_act_fwd_kernel(Field x, Field out, Strips strips, Job job) {
  constexpr int kPack = kPackOf<T>, kBiases = kChannels ? kPack : 1;
  const Place<T, kChannels> place(strips);
  float bias[kBiases] = {};
  if (job.bias != nullptr && place.channel < strips.channels) {
#pragma unroll
    for (int i = 0; i < kBiases; ++i) bias[i] = job.bias[place.channel + i];
  }
#pragma unroll 2
  for (Index p = place.pixel; p < place.end; p += place.step) {
    float value[kPack];
    load_values<T>(x, x.offset(place.image, place.channel, p), value);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      float y = job.curve(value[i] + bias[kChannels ? i : 0]) * job.gain;
      if (job.clamp >= 0) y = y > job.clamp ? job.clamp : y < -job.clamp ? -job.clamp : y;
      value[i] = y;
    }
    store_values<T>(out, out.offset(place.image, place.channel, p), value);
  }
}

// Writes grad_x where it has data, and to partials, unless null, the sums of each strip.
template <typename T, bool kChannels>
__global__ void __launch_bounds__(kStripThreads)
    bias_act_bwd_kernel(Field x, Field grad_out, Field grad_x, Strips strips, Job job, float* partials) {
  constexpr int kPack = kPackOf<T>, kBiases = kChannels ? kPack : 1;
  FASTGAN_SHARED(float, scratch, kBiases * kStripThreads / 2);
  const Place<T, kChannels> place(strips);
  float bias[kBiases] = {}, sum[kBiases] = {};
  if (job.bias != nullptr && place.channel < strips.channels) {
#pragma unroll
    for (int i = 0; i < kBiases; ++i) bias[i] = job.bias[place.channel + i];
  }
#pragma unroll 2
  for (Index p = place.pixel; p < place.end; p += place.step) {
    float value[kPack], grad[kPack];
    load_values<T>(x, x.offset(place.image, place.channel, p), value);
    load_values<T>(grad_out, grad_out.offset(place.image, place.channel, p), grad);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float z = value[i] + bias[kChannels ? i : 0];
      float g = job.curve.backward(z, grad[i]) * job.gain;
      if (job.clamp >= 0) {
        const float y = job.curve(z) * job.gain;
        if (y >= job.clamp || y <= -job.clamp) g = 0;
      }
      grad[i] = g;
      sum[kChannels ? i : 0] += g;
    }
    if (grad_x.data != nullptr) store_values<T>(grad_x, grad_x.offset(place.image, place.channel, p), grad);
  }
  if (partials == nullptr) return;
  reduce_rows(sum, scratch, strips.lanes, Add<kBiases>{});
  if (!place.writes(strips)) return;
#pragma unroll
  for (int i = 0; i < kBiases; ++i) partials[place.partial(strips) + i] = sum[i];
}

}  // namespace

Index bias_act_workspace(const Shape& shape) {
  return shape[0] * shape[1] * most_strips(shape) * static_cast<Index>(sizeof(float));
}

void bias_act_forward_cuda(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& out,
                           void* stream) {
  const Layout way = layout({x, out}, shape);
  dispatch_layout(way, [&](auto tag, auto channels) {
    using T = typename decltype(tag)::Type;
    const Strips cut = strips<T>(shape, way.channels);
    FASTGAN_LAUNCH((bias_act_fwd_kernel<T, decltype(channels)::value>), dim3(cut.blocks()),
                   dim3(static_cast<unsigned>(cut.threads)), 0, stream, field(x, shape), field(out, shape), cut,
                   job(options));
  });
}

void bias_act_backward_cuda(const Tensor& x, const Shape& shape, const BiasActOptions& options, const Tensor& grad_out,
                            const Tensor& grad_x, float* grad_bias, void* workspace, void* stream) {
  if (grad_x.data == nullptr && grad_bias == nullptr) return;
  const Layout way = layout({x, grad_out, grad_x}, shape);
  float* const partials = grad_bias == nullptr ? nullptr : static_cast<float*>(workspace);
  dispatch_layout(way, [&](auto tag, auto channels) {
    using T = typename decltype(tag)::Type;
    const Strips cut = strips<T>(shape, way.channels);
    FASTGAN_LAUNCH((bias_act_bwd_kernel<T, decltype(channels)::value>), dim3(cut.blocks()),
                   dim3(static_cast<unsigned>(cut.threads)), 0, stream, field(x, shape), field(grad_out, shape),
                   field(grad_x, shape), cut, job(options), partials);
    if (grad_bias != nullptr) sum_strips<1>(partials, 1, shape[0] * cut.count, shape[1], grad_bias, nullptr, stream);
  });
}

}  // namespace fastgan
