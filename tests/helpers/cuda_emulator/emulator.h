// Runs CUDA kernels on the CPU, to test their logic: every thread of a block is a fiber, which runs on until a barrier.
// Where a lane or a thread is missing at a barrier, where shared memory is read before it is written (it begins as NaN)
// and, under -fsanitize=address, where it is overrun, the real machine would be undefined and this one says so.
// Blocks run one after the other, their threads upwards or, as a second opinion on missing barriers, downwards.
#pragma once

#include <ucontext.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace emulator {

constexpr int kWarpSize = 32;
constexpr std::size_t kStack = 256 << 10;
constexpr std::size_t kStaticShared = 48 << 10;
constexpr std::size_t kMaxShared = 99 << 10;  // of a block, on the smallest of the architectures

enum class State { kReady, kAtWarpBarrier, kAtBlockBarrier, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  State state;
  uint3 index;
  alignas(16) std::array<char, 64> slot;  // what the lane shows to its warp
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
#endif
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::map<const void*, std::unique_ptr<char[]>> shared;  // by the place that declares it
  std::size_t static_bytes = 0, dynamic_bytes = 0;
  ucontext_t scheduler;
  Fiber* current = nullptr;
  int threads = 0, number = 0;  // number: of the current thread
  bool reversed = false;
  std::function<void()> body;
  std::exception_ptr error;
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_size = 0;
#endif
};

inline Machine& machine() {
  static Machine instance;
  return instance;
}

// Back to the scheduler, in the given state.
inline void switch_to_scheduler(State state) {
  Machine& m = machine();
  Fiber& fiber = *m.current;
  fiber.state = state;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(state == State::kDone ? nullptr : &fiber.fake_stack, m.stack_bottom, m.stack_size);
#endif
  swapcontext(&fiber.context, &m.scheduler);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &m.stack_bottom, &m.stack_size);
#endif
}

inline void run_thread() {
  Machine& m = machine();
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &m.stack_bottom, &m.stack_size);
#endif
  try {
    m.body();
  } catch (...) {
    m.error = std::current_exception();
  }
  switch_to_scheduler(State::kDone);
}

inline void resume(int number) {
  Machine& m = machine();
  m.number = number;
  m.current = m.fibers[number].get();
  threadIdx = m.current->index;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&m.fake_stack, m.current->stack.get(), kStack);
#endif
  swapcontext(&m.scheduler, &m.current->context);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(m.fake_stack, nullptr, nullptr);
#endif
  if (m.error) std::rethrow_exception(m.error);
}

// The state of all threads from first to last, none of which is ready; raises where they differ.
inline State common_state(int first, int last, const char* which) {
  Machine& m = machine();
  for (int t = first + 1; t < last; ++t) {
    if (m.fibers[t]->state != m.fibers[first]->state) {
      throw std::logic_error("the threads of a " + std::string(which) + " part at a barrier: " + std::to_string(first) +
                             " and " + std::to_string(t));
    }
  }
  return m.fibers[first]->state;
}

inline void run_warp(int first) {
  Machine& m = machine();
  const int last = std::min(first + kWarpSize, m.threads);
  do {
    for (int i = first; i < last; ++i) m.fibers[i]->state = State::kReady;
    for (int i = first; i < last; ++i) resume(m.reversed ? last - 1 - (i - first) : i);
  } while (common_state(first, last, "warp") == State::kAtWarpBarrier);
}

inline void run_block() {
  Machine& m = machine();
  m.shared.clear();
  m.static_bytes = 0;
  for (int t = 0; t < m.threads; ++t) {
    Fiber& fiber = *m.fibers[t];
    const unsigned rest = t / blockDim.x;
    fiber.index = {t % blockDim.x, rest % blockDim.y, rest / blockDim.y};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_thread, 0);
  }
  const int last = (m.threads - 1) / kWarpSize * kWarpSize;
  do {
    for (int w = 0; w <= last; w += kWarpSize) run_warp(m.reversed ? last - w : w);
  } while (common_state(0, m.threads, "block") == State::kAtBlockBarrier);
}

inline void launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, std::function<void()> body) {
  Machine& m = machine();
  const std::size_t threads = std::size_t(block.x) * block.y * block.z;
  if (threads < 1 || threads > 1024 || block.z > 64 || grid.x < 1 || grid.x > 0x7fffffffu || grid.y < 1 ||
      grid.y > 65535 || grid.z < 1 || grid.z > 65535 || shared_bytes > kMaxShared) {
    throw std::runtime_error(std::string(name) + ": invalid configuration argument");
  }
  blockDim = block;
  gridDim = grid;
  m.threads = static_cast<int>(threads);
  m.dynamic_bytes = shared_bytes;
  m.body = std::move(body);
  m.error = nullptr;
  while (m.fibers.size() < threads) m.fibers.push_back(std::make_unique<Fiber>());
  try {
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z) {
      for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block();
      }
    }
  } catch (const std::exception& error) {
    throw std::runtime_error(std::string(name) + ": " + error.what());
  }
}

// Shared memory of the block: the same for every thread that asks from the same place.
inline void* shared(const void* key, std::size_t bytes, bool dynamic) {
  Machine& m = machine();
  std::unique_ptr<char[]>& memory = m.shared[key];
  if (!memory) {
    if (!dynamic) m.static_bytes += bytes;
    if (m.static_bytes > kStaticShared || m.static_bytes + m.dynamic_bytes > kMaxShared) {
      throw std::logic_error("too much shared memory");
    }
    memory.reset(new char[bytes]);
    std::memset(memory.get(), 0xff, bytes);
  }
  return memory.get();
}

inline void* dynamic_shared() {
  static const char key = 0;
  return shared(&key, machine().dynamic_bytes, true);
}

// What every lane of the warp passes (T of at most 64 bytes); a lane that is not there: an error on use.
template <typename T, typename Function>
auto exchange(const T& value, Function&& read) {
  Machine& m = machine();
  static_assert(sizeof(T) <= sizeof(Fiber::slot));
  std::memcpy(m.current->slot.data(), &value, sizeof(T));
  switch_to_scheduler(State::kAtWarpBarrier);
  const int first = m.number / kWarpSize * kWarpSize;
  const auto result = read([&](int lane) {
    if (lane < 0 || lane >= kWarpSize || first + lane >= m.threads) throw std::logic_error("no such lane");
    T other;
    std::memcpy(&other, m.fibers[first + lane]->slot.data(), sizeof(T));
    return other;
  });
  switch_to_scheduler(State::kAtWarpBarrier);
  return result;
}

inline int lane() { return machine().number % kWarpSize; }

inline void check_mask(unsigned mask) {
  if (mask != 0xffffffffu) throw std::logic_error("only whole warps are emulated");
}

}  // namespace emulator
