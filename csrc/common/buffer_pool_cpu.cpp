#include "common/buffer_pool.h"

#include <sys/mman.h>

#include <cstdint>
#include <list>
#include <mutex>
#include <unordered_map>

namespace fastgan {

namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20, kSmallUnitBytes = std::size_t{64} << 10;

struct Buffer {
  void* data;
  std::size_t bytes;
};

struct Pool {
  std::mutex mutex;
  std::list<Buffer> idle;  // the longest idle first
  std::unordered_map<void*, std::size_t> used;
  std::size_t idle_bytes = 0, used_bytes = 0, limit = std::size_t{512} << 20;
};

// Never destroyed: tensors may outlive everything else in the process.
Pool& pool() {
  static Pool* const it = new Pool;
  return *it;
}

std::size_t rounded_size(std::size_t bytes) {
  const std::size_t unit = bytes >= 2 * kHugePageBytes ? kHugePageBytes : kSmallUnitBytes;
  return (bytes + unit - 1) / unit * unit;
}

void* map_pages(std::size_t bytes) {
  void* const mapped =
      mmap(nullptr, bytes + kHugePageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped);
  const auto aligned = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  if (aligned > begin) munmap(mapped, aligned - begin);
  const std::uintptr_t end = aligned + bytes, mapped_end = begin + bytes + kHugePageBytes;
  if (mapped_end > end) munmap(reinterpret_cast<void*>(end), mapped_end - end);
  void* const data = reinterpret_cast<void*>(aligned);
#ifdef MADV_HUGEPAGE
  if (bytes >= 2 * kHugePageBytes) static_cast<void>(madvise(data, bytes, MADV_HUGEPAGE));
#endif
  return data;
}

void trim_idle(Pool& p, std::size_t limit) {
  while (p.idle_bytes > limit) {
    const Buffer oldest = p.idle.front();
    p.idle.pop_front();
    p.idle_bytes -= oldest.bytes;
    munmap(oldest.data, oldest.bytes);
  }
}

}  // namespace

void* acquire_buffer(std::size_t bytes) {
  bytes = rounded_size(bytes);
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  // The best fit and, of equals, the one released last: some of it may still be in a cache.
  auto best_fit = p.idle.end();
  for (auto it = p.idle.begin(); it != p.idle.end(); ++it) {
    const bool fits = it->bytes >= bytes && it->bytes - bytes <= bytes / 4;
    if (fits && (best_fit == p.idle.end() || it->bytes <= best_fit->bytes)) best_fit = it;
  }
  Buffer taken{nullptr, bytes};
  if (best_fit != p.idle.end()) {
    taken = *best_fit;
    p.idle_bytes -= taken.bytes;
    p.idle.erase(best_fit);
  } else {
    taken.data = map_pages(bytes);
    if (taken.data == nullptr) {
      trim_idle(p, 0);
      taken.data = map_pages(bytes);
    }
    if (taken.data == nullptr) return nullptr;
  }
  p.used.emplace(taken.data, taken.bytes);
  p.used_bytes += taken.bytes;
  return taken.data;
}

void release_buffer(void* buffer) {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  const auto entry = p.used.find(buffer);
  if (entry == p.used.end()) return;
  p.idle.push_back({entry->first, entry->second});
  p.idle_bytes += entry->second;
  p.used_bytes -= entry->second;
  p.used.erase(entry);
  trim_idle(p, p.limit);
}

void set_idle_limit(std::size_t bytes) {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  p.limit = bytes;
  trim_idle(p, bytes);
}

BufferBytes buffer_bytes() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  return {p.idle_bytes, p.used_bytes};
}

}  // namespace fastgan
