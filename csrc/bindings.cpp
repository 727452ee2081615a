// The Python face of the kernels: pointers as integers, strides in elements. Callers keep the memory alive and check
// shapes; nothing here knows torch, so one build serves every version of it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>

#include "kernels/psnr.h"
#include "kernels/ssim.h"

#ifndef FASTGAN_VERSION
#define FASTGAN_VERSION ""
#endif
#ifndef FASTGAN_COMMIT
#define FASTGAN_COMMIT ""
#endif

namespace py = pybind11;
using fastgan::Images;
using fastgan::Shape;

namespace {

using Pointer = std::uintptr_t;

void ssim_forward(Pointer x, Shape x_stride, Pointer y, Shape y_stride, Shape shape, double data_range, bool gaussian,
                  int window_size, double sigma, Pointer out, int threads) {
  fastgan::ssim_forward(Images{reinterpret_cast<const float*>(x), x_stride},
                        Images{reinterpret_cast<const float*>(y), y_stride}, shape,
                        {data_range, gaussian, window_size, sigma}, reinterpret_cast<float*>(out), threads);
}

void psnr_forward(Pointer x, Shape x_stride, Pointer y, Shape y_stride, Shape shape, double data_range, Pointer out,
                  int threads) {
  fastgan::psnr_forward(Images{reinterpret_cast<const float*>(x), x_stride},
                        Images{reinterpret_cast<const float*>(y), y_stride}, shape, data_range,
                        reinterpret_cast<float*>(out), threads);
}

py::dict build_info() {
  py::dict info;
  info["version"] = FASTGAN_VERSION;
  info["commit"] = FASTGAN_COMMIT;
#ifdef __clang__
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["openmp"] = _OPENMP;
  info["cpu_targets"] = FASTGAN_CLONES_NAME;
  info["cuda_archs"] = py::list();
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of fastgan; use fastgan.ops.";
  m.def("ssim_forward", &ssim_forward, py::call_guard<py::gil_scoped_release>());
  m.def("psnr_forward", &psnr_forward, py::call_guard<py::gil_scoped_release>());
  m.def("build_info", &build_info);
}
