#pragma once

#include <cstddef>

namespace fastgan {

// Memory for large outputs. A released buffer is kept for the next output of about its size: the operating system takes
// as long to hand out fresh pages (6 to 38 ms for 33 MB on the machine of docs/performance) as a kernel to fill
// them. Threads may call all of these at once.

// At least `bytes` long, 2 MiB-aligned and on huge pages where it is that large; the content is arbitrary. Null if
// there is no memory.
void* acquire_buffer(std::size_t bytes);

void release_buffer(void* buffer);

// Keeps at most `bytes` idle; the rest goes back to the operating system, the longest idle first.
void set_idle_limit(std::size_t bytes);

struct BufferBytes {
  std::size_t idle, used;
};

BufferBytes buffer_bytes();

}  // namespace fastgan
