#include "fuse/fuse.h"

#include <omp.h>

#include <cstddef>
#include <type_traits>
#include <vector>

#include "instance_norm/instance_norm.h"

#define FASTGAN_BODY "fuse/fuse_cpu.inc"
#include "common/isa_dispatch.h"

namespace fastgan {

namespace {

constexpr float kEps = 1e-5f;

// AdaIN as an instance norm of the content: its parameters, and the share of the content that is added.
struct AdainParameters {
  Index channels, planes;
  const float *mean_c, *rstd_c, *mean_s, *rstd_s;
  std::vector<double> alpha;
  std::vector<float> weight, bias, identity_scale;

  AdainParameters(const Shape& shape, const FuseOptions& options, const float* moments)
      : channels(shape[1]),
        planes(shape[0] * shape[1]),
        mean_c(moments),
        rstd_c(moments + planes),
        mean_s(moments + 2 * planes),
        rstd_s(moments + 3 * planes) {
    for (Index n = 0; n < shape[0]; ++n) {
      alpha.push_back(options.alpha == nullptr ? options.number : options.alpha[n]);
      identity_scale.push_back(float(1 - alpha.back()));
    }
    for (Index i = 0; i < planes; ++i) {
      weight.push_back(float(alpha[i / channels] / rstd_s[i]));
      bias.push_back(float(alpha[i / channels] * mean_s[i]));
    }
  }

  InstanceNormOptions options() const {
    return {weight.data(), bias.data(), channels, channels, Activation::kNone, 1, kEps, identity_scale.data()};
  }
};

}  // namespace

void fuse_forward(const SizedTensor& content, const SizedTensor& style, const FuseOptions& options, const Tensor& out,
                  float* moments, int threads) {
  const Tensor none;
  if (options.mode != FuseMode::kAdain) {
    const Tensor* operands[] = {&content.tensor, &content.tensor, &style.tensor, &none, &out, &none};
    FASTGAN_DISPATCH(fuse)(operands, content.shape, options, false, nullptr, threads);
    return;
  }
  const Index planes = content.shape[0] * content.shape[1];
  instance_norm_moments(style.tensor, style.shape, kEps, moments + 2 * planes, moments + 3 * planes, threads);
  const AdainParameters parameters(content.shape, options, moments);
  instance_norm_forward(content.tensor, content.shape, parameters.options(), none, out, moments, moments + planes,
                        threads);
}

void fuse_backward(const Tensor& grad_out, const SizedTensor& content, const SizedTensor& style,
                   const FuseOptions& options, const float* moments, const Tensor& grad_content,
                   const Tensor& grad_style, float* grad_alpha, int threads) {
  if (grad_content.data == nullptr && grad_style.data == nullptr && grad_alpha == nullptr) return;
  if (options.mode != FuseMode::kAdain) {
    // A gradient that is written decides the order of the loops, not one that may be expanded.
    const Tensor& leader = grad_content.data != nullptr ? grad_content
                           : grad_style.data != nullptr ? grad_style
                                                        : style.tensor;
    const Tensor* operands[] = {&leader, &content.tensor, &style.tensor, &grad_out, &grad_content, &grad_style};
    FASTGAN_DISPATCH(fuse)(operands, content.shape, options, true, grad_alpha, threads);
    return;
  }
  AdainParameters parameters(content.shape, options, moments);
  std::vector<float> grad_weight(parameters.planes), grad_bias(parameters.planes);
  instance_norm_backward(content.tensor, content.shape, parameters.options(), parameters.mean_c, parameters.rstd_c,
                         grad_out, grad_content, grad_weight.data(), grad_bias.data(), threads);
  for (Index n = 0; grad_alpha != nullptr && n < content.shape[0]; ++n) {
    double sum = 0;
    for (Index i = n * parameters.channels; i < (n + 1) * parameters.channels; ++i) {
      sum += grad_weight[i] * (1 / double(parameters.rstd_s[i]) - 1 / double(parameters.rstd_c[i]));
      sum += grad_bias[i] * (double(parameters.mean_s[i]) - double(parameters.mean_c[i]));
    }
    grad_alpha[n] = float(sum);
  }
  if (grad_style.data == nullptr) return;
  const double pixels = double(style.shape[2] * style.shape[3]);
  for (Index i = 0; i < parameters.planes; ++i) {
    parameters.weight[i] = float(parameters.alpha[i / parameters.channels] * grad_weight[i] / pixels);
    parameters.bias[i] = float(parameters.alpha[i / parameters.channels] * grad_bias[i] / pixels);
  }
  instance_norm_apply(style.tensor, style.shape, parameters.options(), parameters.mean_s, parameters.rstd_s, grad_style,
                      threads);
}

}  // namespace fastgan
