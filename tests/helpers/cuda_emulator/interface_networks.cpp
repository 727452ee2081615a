#include "bias_act/bias_act.h"
#include "gram/gram.h"
#include "instance_norm/instance_norm.h"
#include "interface.h"

extern "C" {

const char* gram_forward(const Tensor* x, const Shape* shape, double scale, float* out) {
  return catch_errors([&] {
    const Workspace workspace(fastgan::gram_workspace(*shape, {}));
    fastgan::gram_forward_cuda(*x, *shape, static_cast<float>(scale), out, workspace.get(), nullptr);
  });
}

const char* gram_backward(const Tensor* x, const Shape* shape, const float* matrix, const Tensor* grad_x) {
  return catch_errors([&] { fastgan::gram_backward_cuda(*x, *shape, matrix, *grad_x, nullptr); });
}

const char* gram_style_loss_forward(const Tensor* x, const Shape* shape, const float* target, Index target_stride,
                                    Index rows, Index cols, double window_weight, float* difference, float* out,
                                    float* whole) {
  return catch_errors([&] {
    const fastgan::StyleLoss loss{target, target_stride, {rows, cols}, window_weight, out, whole};
    const Workspace workspace(fastgan::gram_workspace(*shape, loss.windows));
    fastgan::gram_style_loss_forward_cuda(*x, *shape, loss, difference, workspace.get(), nullptr);
  });
}

const char* gram_style_loss_backward(const Tensor* x, const Shape* shape, Index rows, Index cols,
                                     const float* difference, const float* grad_out, const Tensor* grad_x) {
  return catch_errors([&] {
    const Workspace workspace((*shape)[0] * rows * cols * (*shape)[1] * (*shape)[1] * Index(sizeof(float)));
    fastgan::gram_style_loss_backward_cuda(*x, *shape, {rows, cols}, difference, grad_out, *grad_x, workspace.get(),
                                           nullptr);
  });
}

const char* instance_norm_forward(const Tensor* x, const Shape* shape, const float* weight, Index weight_stride,
                                  const float* bias, Index bias_stride, Index activation, double slope, double eps,
                                  const Tensor* residual, const Tensor* out, float* mean, float* rstd) {
  return catch_errors([&] {
    const Workspace workspace(fastgan::instance_norm_workspace(*shape));
    const fastgan::InstanceNormOptions options{
        weight, bias, weight_stride, bias_stride, fastgan::Activation(activation), float(slope), float(eps)};
    fastgan::instance_norm_forward_cuda(*x, *shape, options, *residual, *out, mean, rstd, workspace.get(), nullptr);
  });
}

const char* instance_norm_backward(const Tensor* x, const Shape* shape, const float* weight, Index weight_stride,
                                   const float* bias, Index bias_stride, Index activation, double slope, double eps,
                                   const float* mean, const float* rstd, const Tensor* grad_out, const Tensor* grad_x,
                                   float* grad_weight, float* grad_bias) {
  return catch_errors([&] {
    const Workspace workspace(fastgan::instance_norm_workspace(*shape));
    const fastgan::InstanceNormOptions options{
        weight, bias, weight_stride, bias_stride, fastgan::Activation(activation), float(slope), float(eps)};
    fastgan::instance_norm_backward_cuda(*x, *shape, options, mean, rstd, *grad_out, *grad_x, grad_weight, grad_bias,
                                         workspace.get(), nullptr);
  });
}

const char* bias_act_forward(const Tensor* x, const Shape* shape, const float* bias, Index activation, double slope,
                             double gain, double clamp, const Tensor* out) {
  return catch_errors([&] {
    const fastgan::BiasActOptions options{bias, fastgan::Activation(activation), float(slope), float(gain),
                                          float(clamp)};
    fastgan::bias_act_forward_cuda(*x, *shape, options, *out, nullptr);
  });
}

const char* bias_act_backward(const Tensor* x, const Shape* shape, const float* bias, Index activation, double slope,
                              double gain, double clamp, const Tensor* grad_out, const Tensor* grad_x,
                              float* grad_bias) {
  return catch_errors([&] {
    const Workspace workspace(fastgan::bias_act_workspace(*shape));
    const fastgan::BiasActOptions options{bias, fastgan::Activation(activation), float(slope), float(gain),
                                          float(clamp)};
    fastgan::bias_act_backward_cuda(*x, *shape, options, *grad_out, *grad_x, grad_bias, workspace.get(), nullptr);
  });
}

}  // extern "C"
