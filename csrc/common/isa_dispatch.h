// Compiles one body for every instruction set:
//
//   #define FASTGAN_BODY "ssim/ssim_cpu.inc"
//   #include "common/isa_dispatch.h"
//   ... FASTGAN_DISPATCH(run_tile)(job, tile);   // fastgan::<level>::run_tile of the active level
//
// The body is included in namespace fastgan::<level> and includes nothing itself: std headers are compiled for the
// baseline, so that none of their inline functions can reach a processor that lacks its instructions. kLanes is the
// number of floats in a vector. With FASTGAN_WITHOUT_BF16, a body that has no use for bf16 instructions is compiled
// once less. Parallel regions may be in the body or outside.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define FASTGAN_X86_ISA_LEVELS
#include <immintrin.h>
#endif

#include "common/isa.h"

#ifndef FASTGAN_DISPATCH
#ifdef FASTGAN_X86_ISA_LEVELS
#define FASTGAN_DISPATCH(function)                                                               \
  (::fastgan::isa_level() == ::fastgan::IsaLevel::kAvx512Bf16 ? ::fastgan::avx512_bf16::function \
   : ::fastgan::isa_level() == ::fastgan::IsaLevel::kAvx512   ? ::fastgan::avx512::function      \
   : ::fastgan::isa_level() == ::fastgan::IsaLevel::kAvx2     ? ::fastgan::avx2::function        \
                                                              : ::fastgan::baseline::function)
#else
#define FASTGAN_DISPATCH(function) ::fastgan::baseline::function
#endif
#endif

#ifdef FASTGAN_BODY

#define FASTGAN_ISA_LEVEL 0
namespace fastgan::baseline {
constexpr int kLanes = 4;
#include FASTGAN_BODY
}  // namespace fastgan::baseline
#undef FASTGAN_ISA_LEVEL

#ifdef FASTGAN_X86_ISA_LEVELS

#pragma GCC push_options
#pragma GCC target("avx,avx2,fma,f16c,bmi,bmi2,lzcnt,movbe")
#define FASTGAN_ISA_LEVEL 1
namespace fastgan::avx2 {
constexpr int kLanes = 8;
#include FASTGAN_BODY
}  // namespace fastgan::avx2
#undef FASTGAN_ISA_LEVEL

#pragma GCC target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,prefer-vector-width=512")
#define FASTGAN_ISA_LEVEL 2
namespace fastgan::avx512 {
constexpr int kLanes = 16;
#include FASTGAN_BODY
}  // namespace fastgan::avx512
#undef FASTGAN_ISA_LEVEL

#ifndef FASTGAN_WITHOUT_BF16
#pragma GCC target("avx512bf16")
#define FASTGAN_ISA_LEVEL 3
namespace fastgan::avx512_bf16 {
constexpr int kLanes = 16;
#include FASTGAN_BODY
}  // namespace fastgan::avx512_bf16
#undef FASTGAN_ISA_LEVEL
#else
namespace fastgan {
namespace avx512_bf16 = avx512;
}
#endif
#pragma GCC pop_options

#endif  // FASTGAN_X86_ISA_LEVELS
#undef FASTGAN_BODY
#endif  // FASTGAN_BODY
