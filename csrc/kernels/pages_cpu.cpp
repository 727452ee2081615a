#include "pages.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastgan {

void advise_huge_pages(void* data, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kHuge = std::uintptr_t{2} << 20;
  if (data == nullptr || bytes < 2 * kHuge) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kHuge - 1) / kHuge * kHuge;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kHuge * kHuge;
  if (begin < end) static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
#else
  static_cast<void>(data);
  static_cast<void>(bytes);
#endif
}

void advise_huge_pages(const Tensor& tensor, const Shape& shape) {
  Index span = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) return;
    span += (shape[i] - 1) * tensor.stride[i];
  }
  advise_huge_pages(tensor.data, std::size_t(span) * (tensor.dtype == Dtype::kFloat32 ? 4 : 2));
}

}  // namespace fastgan
