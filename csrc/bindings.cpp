// The Python bindings of the kernels. A tensor is passed as (pointer, dtype code, strides...), any other array as a
// pointer. Callers keep the memory alive and check shapes; nothing here knows torch, so one build serves every version.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <new>

#include "bias_act/bias_act.h"
#include "common/buffer_pool.h"
#include "common/build_info.h"
#include "common/fma_peak.h"
#include "common/isa.h"
#include "conv2d/conv2d.h"
#include "dlpack.h"
#include "fuse/fuse.h"
#include "gram/gram.h"
#include "image_convert/image_convert.h"
#include "instance_norm/instance_norm.h"
#include "max_pool/max_pool.h"
#include "optim_step/optim_step.h"
#include "psnr/psnr.h"
#include "ssim/ssim.h"

namespace py = pybind11;

namespace pybind11::detail {

template <>
struct type_caster<fastgan::Tensor> {
  PYBIND11_TYPE_CASTER(fastgan::Tensor, const_name("tuple[int, int, int, int, int, int] | None"));

  bool load(handle source, bool) {
    if (source.is_none()) return true;
    if (!isinstance<tuple>(source) || len(source) != 6) return false;
    const auto items = reinterpret_borrow<tuple>(source);
    make_caster<std::uintptr_t> data;
    make_caster<int> dtype;
    if (!data.load(items[0], false) || !dtype.load(items[1], false)) return false;
    value.data = reinterpret_cast<void*>(cast_op<std::uintptr_t>(data));
    value.dtype = static_cast<fastgan::Dtype>(cast_op<int>(dtype));
    for (int d = 0; d < 4; ++d) {
      make_caster<fastgan::Index> stride;
      if (!stride.load(items[2 + d], false)) return false;
      value.stride[d] = cast_op<fastgan::Index>(stride);
    }
    return true;
  }
};

}  // namespace pybind11::detail

namespace {

using namespace fastgan;
using Pointer = std::uintptr_t;

template <typename T = float>
T* at(Pointer pointer) {
  return reinterpret_cast<T*>(pointer);
}

SsimOptions ssim_options(double data_range, bool gaussian, int window_size, double sigma) {
  return {data_range, gaussian, window_size, sigma};
}

InstanceNormOptions norm_options(Pointer weight, Index weight_stride, Pointer bias, Index bias_stride, int activation,
                                 float negative_slope, float eps) {
  return {at(weight), at(bias), weight_stride, bias_stride, static_cast<Activation>(activation), negative_slope, eps};
}

BiasActOptions bias_options(Pointer bias, int activation, float negative_slope, float gain, float clamp) {
  return {at(bias), static_cast<Activation>(activation), negative_slope, gain, clamp};
}

Conv2dOptions conv_options(int kernel, int stride, int padding, bool upsample, Pointer bias, int activation,
                           float negative_slope) {
  return {kernel,        stride, static_cast<Padding>(padding), upsample, at(bias), static_cast<Activation>(activation),
          negative_slope};
}

py::capsule empty(Shape shape, Shape stride, int dtype) {
  dlpack::ManagedTensor* const tensor = new_tensor(shape, stride, static_cast<Dtype>(dtype));
  if (tensor == nullptr) throw std::bad_alloc();
  return py::capsule(tensor, "dltensor", [](PyObject* capsule) {
    // A capsule that was consumed is named "used_dltensor" and belongs to its consumer.
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;
    auto* const unused = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    unused->deleter(unused);
  });
}

py::dict build_info_dict() {
  const BuildInfo& build = build_info();
  py::dict info;
  info["version"] = build.version;
  info["commit"] = build.commit;
  info["compiler"] = build.compiler;
  info["openmp"] = _OPENMP;
  py::list supported;
  for (const IsaLevel level : isa_levels()) supported.append(isa_level_name(level));
  info["cpu_levels"] = supported;
  info["cpu_level"] = isa_level_name(isa_level());
  info["cuda_archs"] = py::str(build.cuda_archs).attr("split")();
  info["cuda_version"] = build.cuda_version;
  return info;
}

void bind_cpu(py::module_& m) {
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  m.def(
      "ssim_forward",
      [](Tensor x, Tensor y, Shape shape, double data_range, bool gaussian, int window_size, double sigma, Pointer out,
         Tensor grad_x, Tensor grad_y, int threads) {
        ssim_forward(x, y, shape, ssim_options(data_range, gaussian, window_size, sigma), at(out), grad_x, grad_y,
                     threads);
      },
      Unlocked());
  m.def(
      "psnr_forward",
      [](Tensor x, Tensor y, Shape shape, double data_range, Pointer out, int threads) {
        psnr_forward(x, y, shape, data_range, at(out), threads);
      },
      Unlocked());
  m.def(
      "psnr_backward",
      [](Tensor x, Tensor y, Shape shape, double data_range, Pointer psnr, Pointer grad_out, Tensor grad_x,
         Tensor grad_y,
         int threads) { psnr_backward(x, y, shape, data_range, at(psnr), at(grad_out), grad_x, grad_y, threads); },
      Unlocked());
  m.def(
      "gram_forward",
      [](Tensor x, Shape shape, float scale, Pointer out, int threads) {
        gram_forward(x, shape, scale, at(out), threads);
      },
      Unlocked());
  m.def(
      "gram_backward",
      [](Tensor x, Shape shape, Pointer matrix, Tensor grad_x, int threads) {
        gram_backward(x, shape, at(matrix), grad_x, threads);
      },
      Unlocked());
  m.def(
      "gram_style_loss_forward",
      [](Tensor x, Shape shape, Pointer target, Index target_stride, Index rows, Index cols, double window_weight,
         Pointer difference, Pointer out, Pointer whole, int threads) {
        const StyleLoss loss{at(target), target_stride, {rows, cols}, window_weight, at(out), at(whole)};
        gram_style_loss_forward(x, shape, loss, at(difference), threads);
      },
      Unlocked());
  m.def(
      "gram_style_loss_backward",
      [](Tensor x, Shape shape, Index rows, Index cols, Pointer difference, Pointer grad_out, Tensor grad_x,
         int threads) {
        gram_style_loss_backward(x, shape, {rows, cols}, at(difference), at(grad_out), grad_x, threads);
      },
      Unlocked());
  m.def(
      "instance_norm_forward",
      [](Tensor x, Shape shape, Pointer weight, Index weight_stride, Pointer bias, Index bias_stride, int activation,
         float negative_slope, float eps, Tensor residual, Tensor out, Pointer mean, Pointer rstd, int threads) {
        instance_norm_forward(x, shape,
                              norm_options(weight, weight_stride, bias, bias_stride, activation, negative_slope, eps),
                              residual, out, at(mean), at(rstd), threads);
      },
      Unlocked());
  m.def(
      "instance_norm_backward",
      [](Tensor x, Shape shape, Pointer weight, Index weight_stride, Pointer bias, Index bias_stride, int activation,
         float negative_slope, float eps, Pointer mean, Pointer rstd, Tensor grad_out, Tensor grad_x,
         Pointer grad_weight, Pointer grad_bias, int threads) {
        instance_norm_backward(x, shape,
                               norm_options(weight, weight_stride, bias, bias_stride, activation, negative_slope, eps),
                               at(mean), at(rstd), grad_out, grad_x, at(grad_weight), at(grad_bias), threads);
      },
      Unlocked());
  m.def(
      "bias_act_forward",
      [](Tensor x, Shape shape, Pointer bias, int activation, float negative_slope, float gain, float clamp, Tensor out,
         int threads) {
        bias_act_forward(x, shape, bias_options(bias, activation, negative_slope, gain, clamp), out, threads);
      },
      Unlocked());
  m.def(
      "bias_act_backward",
      [](Tensor x, Shape shape, Pointer bias, int activation, float negative_slope, float gain, float clamp,
         Tensor grad_out, Tensor grad_x, Pointer grad_bias, int threads) {
        bias_act_backward(x, shape, bias_options(bias, activation, negative_slope, gain, clamp), grad_out, grad_x,
                          at(grad_bias), threads);
      },
      Unlocked());
  m.def("conv2d_serves", [](int dtype) { return conv2d_serves(static_cast<Dtype>(dtype)); });
  m.def(
      "conv2d_forward",
      [](Pointer x, int dtype, Shape shape, Pointer weight, Index outputs, int kernel, int stride, int padding,
         bool upsample, Pointer bias, int activation, float negative_slope, Pointer out, int threads) {
        conv2d_forward(at<void>(x), static_cast<Dtype>(dtype), shape, at(weight), outputs,
                       conv_options(kernel, stride, padding, upsample, bias, activation, negative_slope), at<void>(out),
                       threads);
      },
      Unlocked());
  m.def(
      "conv2d_backward_input",
      [](Pointer grad, Pointer out, int dtype, Shape shape, Pointer weight, Index outputs, int kernel, int stride,
         int padding, bool upsample, int activation, float negative_slope, Pointer grad_x, int threads) {
        conv2d_backward_input(at<void>(grad), at<void>(out), static_cast<Dtype>(dtype), shape, at(weight), outputs,
                              conv_options(kernel, stride, padding, upsample, 0, activation, negative_slope),
                              at<void>(grad_x), threads);
      },
      Unlocked());
  m.def(
      "conv2d_backward_weight",
      [](Pointer x, Pointer grad, Pointer out, int dtype, Shape shape, Index outputs, int kernel, int stride,
         int padding, bool upsample, int activation, float negative_slope, Pointer grad_weight, int threads) {
        conv2d_backward_weight(at<void>(x), at<void>(grad), at<void>(out), static_cast<Dtype>(dtype), shape, outputs,
                               conv_options(kernel, stride, padding, upsample, 0, activation, negative_slope),
                               at(grad_weight), threads);
      },
      Unlocked());
  m.def(
      "max_pool_forward",
      [](Pointer x, int dtype, Shape shape, Pointer out, int threads) {
        max_pool_forward(at<void>(x), static_cast<Dtype>(dtype), shape, at<void>(out), threads);
      },
      Unlocked());
  m.def(
      "max_pool_backward",
      [](Pointer x, Pointer out, Pointer grad, int dtype, Shape shape, Pointer grad_x, int threads) {
        max_pool_backward(at<void>(x), at<void>(out), at<void>(grad), static_cast<Dtype>(dtype), shape,
                          at<void>(grad_x), threads);
      },
      Unlocked());
  m.def(
      "from_pixels_forward",
      [](Tensor x, Shape picture, Pointer top, Pointer left, Pointer flip, bool mirrored, Tensor out, Shape shape,
         bool channels_last, int threads) {
        const Crop crop{at<Index>(top), at<Index>(left), at<std::uint8_t>(flip), mirrored};
        from_pixels_forward(x, picture, crop, out, shape, channels_last, threads);
      },
      Unlocked());
  m.def(
      "to_pixels_forward",
      [](Tensor x, Shape shape, Pointer out, int threads) {
        to_pixels_forward(x, shape, at<std::uint8_t>(out), threads);
      },
      Unlocked());
  m.def(
      "optim_step_forward",
      [](Pointer param, Pointer grad, int grad_dtype, Pointer state1, Pointer state2, Pointer ema, Index size, int kind,
         float inverse_scale, float weight1, float momentum, float beta2, float weight2, float eps, float step_scale,
         float bias_correction2_sqrt, float clip, float ema_weight, int threads) {
        const OptimStepTensors tensors{
            at(param), at<void>(grad), static_cast<Dtype>(grad_dtype), at(state1), at(state2), at(ema), size};
        const OptimStepOptions options{
            static_cast<OptimKind>(kind), inverse_scale, weight1,   momentum, beta2, weight2, eps, step_scale,
            bias_correction2_sqrt,        clip,          ema_weight};
        optim_step_forward(tensors, options, threads);
      },
      Unlocked());
  m.def(
      "check_finite_forward",
      [](Pointer grad, int dtype, Index size, float inverse_scale, Pointer found_inf, int threads) {
        if (!all_finite(at<void>(grad), static_cast<Dtype>(dtype), size, inverse_scale, threads)) *at(found_inf) = 1;
      },
      Unlocked());
  m.def(
      "fuse_forward",
      [](Tensor content, Shape shape, Tensor style, Shape style_shape, Pointer alpha, double number, int mode,
         Tensor out, Pointer moments, int threads) {
        fuse_forward({content, shape}, {style, style_shape}, {at(alpha), number, static_cast<FuseMode>(mode)}, out,
                     at(moments), threads);
      },
      Unlocked());
  m.def(
      "fuse_backward",
      [](Tensor grad_out, Tensor content, Shape shape, Tensor style, Shape style_shape, Pointer alpha, double number,
         int mode, Pointer moments, Tensor grad_content, Tensor grad_style, Pointer grad_alpha, int threads) {
        fuse_backward(grad_out, {content, shape}, {style, style_shape},
                      {at(alpha), number, static_cast<FuseMode>(mode)}, at(moments), grad_content, grad_style,
                      at(grad_alpha), threads);
      },
      Unlocked());
  m.def("empty", &empty, "Allocates a tensor, as a DLPack capsule; the memory is reused once the tensor is gone.");
  m.def("set_idle_limit", &set_idle_limit, Unlocked());
  m.def("buffer_bytes", [] {
    const BufferBytes bytes = buffer_bytes();
    return py::dict(py::arg("idle") = bytes.idle, py::arg("used") = bytes.used);
  });
  m.def("vector_lanes", &vector_lanes);
  m.def("fma_loop", &fma_loop, Unlocked(), py::arg("threads"), py::arg("milliseconds"));
}

#ifdef FASTGAN_CUDA
void bind_cuda(py::module_& m) {
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  m.def("ssim_workspace",
        [](Shape shape, double data_range, bool gaussian, int window_size, double sigma, bool backward) {
          return ssim_workspace(shape, ssim_options(data_range, gaussian, window_size, sigma), backward);
        });
  m.def("psnr_workspace", &psnr_workspace);
  m.def("gram_workspace",
        [](Shape shape, Index rows, Index cols) { return gram_workspace(shape, GramWindows{rows, cols}); });
  m.def("instance_norm_workspace", &instance_norm_workspace);
  m.def("bias_act_workspace", &bias_act_workspace);
  m.def(
      "ssim_forward_cuda",
      [](Tensor x, Tensor y, Shape shape, double data_range, bool gaussian, int window_size, double sigma, Pointer out,
         Pointer workspace, Pointer stream) {
        ssim_forward_cuda(x, y, shape, ssim_options(data_range, gaussian, window_size, sigma), at(out),
                          at<void>(workspace), at<void>(stream));
      },
      Unlocked());
  m.def(
      "ssim_backward_cuda",
      [](Tensor x, Tensor y, Shape shape, double data_range, bool gaussian, int window_size, double sigma,
         Pointer grad_out, Tensor grad_x, Tensor grad_y, Pointer workspace, Pointer stream) {
        ssim_backward_cuda(x, y, shape, ssim_options(data_range, gaussian, window_size, sigma), at(grad_out), grad_x,
                           grad_y, at<void>(workspace), at<void>(stream));
      },
      Unlocked());
  m.def(
      "psnr_forward_cuda",
      [](Tensor x, Tensor y, Shape shape, double data_range, Pointer out, Pointer workspace, Pointer stream) {
        psnr_forward_cuda(x, y, shape, data_range, at(out), at<void>(workspace), at<void>(stream));
      },
      Unlocked());
  m.def(
      "psnr_backward_cuda",
      [](Tensor x, Tensor y, Shape shape, double data_range, Pointer psnr, Pointer grad_out, Tensor grad_x,
         Tensor grad_y, Pointer stream) {
        psnr_backward_cuda(x, y, shape, data_range, at(psnr), at(grad_out), grad_x, grad_y, at<void>(stream));
      },
      Unlocked());
  m.def(
      "gram_forward_cuda",
      [](Tensor x, Shape shape, float scale, Pointer out, Pointer workspace, Pointer stream) {
        gram_forward_cuda(x, shape, scale, at(out), at<void>(workspace), at<void>(stream));
      },
      Unlocked());
  m.def(
      "gram_backward_cuda",
      [](Tensor x, Shape shape, Pointer matrix, Tensor grad_x, Pointer stream) {
        gram_backward_cuda(x, shape, at(matrix), grad_x, at<void>(stream));
      },
      Unlocked());
  m.def(
      "gram_style_loss_forward_cuda",
      [](Tensor x, Shape shape, Pointer target, Index target_stride, Index rows, Index cols, double window_weight,
         Pointer difference, Pointer out, Pointer whole, Pointer workspace, Pointer stream) {
        const StyleLoss loss{at(target), target_stride, {rows, cols}, window_weight, at(out), at(whole)};
        gram_style_loss_forward_cuda(x, shape, loss, at(difference), at<void>(workspace), at<void>(stream));
      },
      Unlocked());
  m.def(
      "gram_style_loss_backward_cuda",
      [](Tensor x, Shape shape, Index rows, Index cols, Pointer difference, Pointer grad_out, Tensor grad_x,
         Pointer workspace, Pointer stream) {
        gram_style_loss_backward_cuda(x, shape, {rows, cols}, at(difference), at(grad_out), grad_x, at<void>(workspace),
                                      at<void>(stream));
      },
      Unlocked());
  m.def(
      "instance_norm_forward_cuda",
      [](Tensor x, Shape shape, Pointer weight, Index weight_stride, Pointer bias, Index bias_stride, int activation,
         float negative_slope, float eps, Tensor residual, Tensor out, Pointer mean, Pointer rstd, Pointer workspace,
         Pointer stream) {
        instance_norm_forward_cuda(
            x, shape, norm_options(weight, weight_stride, bias, bias_stride, activation, negative_slope, eps), residual,
            out, at(mean), at(rstd), at<void>(workspace), at<void>(stream));
      },
      Unlocked());
  m.def(
      "instance_norm_backward_cuda",
      [](Tensor x, Shape shape, Pointer weight, Index weight_stride, Pointer bias, Index bias_stride, int activation,
         float negative_slope, float eps, Pointer mean, Pointer rstd, Tensor grad_out, Tensor grad_x,
         Pointer grad_weight, Pointer grad_bias, Pointer workspace, Pointer stream) {
        instance_norm_backward_cuda(
            x, shape, norm_options(weight, weight_stride, bias, bias_stride, activation, negative_slope, eps), at(mean),
            at(rstd), grad_out, grad_x, at(grad_weight), at(grad_bias), at<void>(workspace), at<void>(stream));
      },
      Unlocked());
  m.def(
      "bias_act_forward_cuda",
      [](Tensor x, Shape shape, Pointer bias, int activation, float negative_slope, float gain, float clamp, Tensor out,
         Pointer stream) {
        bias_act_forward_cuda(x, shape, bias_options(bias, activation, negative_slope, gain, clamp), out,
                              at<void>(stream));
      },
      Unlocked());
  m.def(
      "bias_act_backward_cuda",
      [](Tensor x, Shape shape, Pointer bias, int activation, float negative_slope, float gain, float clamp,
         Tensor grad_out, Tensor grad_x, Pointer grad_bias, Pointer workspace, Pointer stream) {
        bias_act_backward_cuda(x, shape, bias_options(bias, activation, negative_slope, gain, clamp), grad_out, grad_x,
                               at(grad_bias), at<void>(workspace), at<void>(stream));
      },
      Unlocked());
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of fastgan; use fastgan.ops.";
  m.def("build_info", &build_info_dict);
  m.def("set_level", &set_isa_level);
  bind_cpu(m);
#ifdef FASTGAN_CUDA
  bind_cuda(m);
#endif
}
