#include "interface.h"

#include "emulator.h"
#include "psnr/psnr.h"
#include "ssim/ssim.h"

extern "C" {

void reverse_thread_order(bool reversed) { emulator::machine().reversed = reversed; }

const char* ssim_forward(const Tensor* x, const Tensor* y, const Shape* shape, double data_range, Index gaussian,
                         Index window_size, double sigma, float* out) {
  return catch_errors([&] {
    const fastgan::SsimOptions options{data_range, gaussian != 0, static_cast<int>(window_size), sigma};
    const Workspace workspace(fastgan::ssim_workspace(*shape, options, false));
    fastgan::ssim_forward_cuda(*x, *y, *shape, options, out, workspace.get(), nullptr);
  });
}

const char* ssim_backward(const Tensor* x, const Tensor* y, const Shape* shape, double data_range, Index gaussian,
                          Index window_size, double sigma, const float* grad_out, const Tensor* grad_x,
                          const Tensor* grad_y) {
  return catch_errors([&] {
    const fastgan::SsimOptions options{data_range, gaussian != 0, static_cast<int>(window_size), sigma};
    const Workspace workspace(fastgan::ssim_workspace(*shape, options, true));
    fastgan::ssim_backward_cuda(*x, *y, *shape, options, grad_out, *grad_x, *grad_y, workspace.get(), nullptr);
  });
}

const char* psnr_forward(const Tensor* x, const Tensor* y, const Shape* shape, double data_range, float* out) {
  return catch_errors([&] {
    const Workspace workspace(fastgan::psnr_workspace(*shape));
    fastgan::psnr_forward_cuda(*x, *y, *shape, data_range, out, workspace.get(), nullptr);
  });
}

const char* psnr_backward(const Tensor* x, const Tensor* y, const Shape* shape, double data_range, const float* psnr,
                          const float* grad_out, const Tensor* grad_x, const Tensor* grad_y) {
  return catch_errors(
      [&] { fastgan::psnr_backward_cuda(*x, *y, *shape, data_range, psnr, grad_out, *grad_x, *grad_y, nullptr); });
}

}  // extern "C"
