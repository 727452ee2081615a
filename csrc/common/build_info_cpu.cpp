#include "common/build_info.h"

#ifndef FASTGAN_VERSION
#define FASTGAN_VERSION ""
#endif
#ifndef FASTGAN_COMMIT
#define FASTGAN_COMMIT ""
#endif
#ifndef FASTGAN_CUDA_ARCHS
#define FASTGAN_CUDA_ARCHS ""
#endif
#ifndef FASTGAN_CUDA_VERSION
#define FASTGAN_CUDA_VERSION ""
#endif

#ifdef __clang__
#define FASTGAN_COMPILER "clang " __clang_version__
#else
#define FASTGAN_COMPILER "gcc " __VERSION__
#endif

namespace fastgan {

const BuildInfo& build_info() {
  static const BuildInfo info{FASTGAN_VERSION, FASTGAN_COMMIT, FASTGAN_COMPILER, FASTGAN_CUDA_ARCHS,
                              FASTGAN_CUDA_VERSION};
  return info;
}

}  // namespace fastgan
