#pragma once

#include <cstddef>

#include "common.h"

namespace fastgan {

// Asks for huge pages under a range that is about to be written for the first time: a fault each 2 MiB, not each 4 KiB.
// Does nothing for small ranges, and nothing is promised.
void advise_huge_pages(void* data, std::size_t bytes);

// The same for the memory that a tensor spans.
void advise_huge_pages(const Tensor& tensor, const Shape& shape);

}  // namespace fastgan
