#pragma once

namespace fastgan {

// Facts about this build, from macros that setup.py defines; empty where they are not known.
struct BuildInfo {
  const char* version;
  const char* commit;
  const char* compiler;
  const char* cuda_archs;  // separated by spaces
  const char* cuda_version;
};

const BuildInfo& build_info();

}  // namespace fastgan
