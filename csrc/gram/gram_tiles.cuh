// Part of gram_cuda.cu: products of 64 x 64 tiles through shared memory. float32 goes by FMA, an 8 x 8 block a thread;
// bfloat16 and float16 by the tensor cores in TF32, which holds both without rounding.

constexpr int kTile = 64, kThreads = 64;
constexpr int kPitch = kTile + 4;  // of tiles in shared memory

template <typename T>
constexpr bool kUsesTensorCores = std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __half>;
template <typename T>
constexpr int kDepth = kUsesTensorCores<T> ? 32 : 16;  // products summed between two barriers
constexpr int kBlocks = 6;                             // on a multiprocessor: 168 registers a thread
template <typename T>
constexpr int kSharedFloats = 2 * kDepth<T> * kPitch;  // and the tensor cores' sums, of kTile rows

struct alignas(32) AlignedFloats {  // the alignment that wmma requires
  float value[8];
};

// A matrix, of which a block reads kTile rows or columns and sums over a depth: features or, with the depth contiguous,
// any matrix.
struct Operand {
  PixelView view;
  Index image;
  bool depth_is_pixels;
  Index side_size, depth_size;
  Index origin;  // offset of the first pixel

  __device__ Index offset(Index side, Index depth) const {
    return origin + (depth_is_pixels ? view.offset(image, side, depth) : view.offset(image, depth, side));
  }
};

// A walk along one direction of an operand, `advance` elements at a time.
template <bool kWindows>
struct Walk {
  Index step;

  __device__ __forceinline__ Walk(const Operand& operand, bool pixels, Index, int advance)
      : step(advance * (pixels ? operand.view.pixel : operand.view.c)) {}

  __device__ __forceinline__ Index next() const { return step; }
};

// The same over the gaps between the rows of a window.
template <>
struct Walk<true> {
  Index step, gap;      // of one advance; more where a row ends
  int at, width, rest;  // place in the row, its length, and what an advance goes beyond whole rows

  __device__ __forceinline__ Walk(const Operand& operand, bool pixels, Index first, int advance)
      : step(advance * (pixels ? operand.view.pixel : operand.view.c)), gap(0), at(0), width(1), rest(0) {
    if (!pixels) return;
    width = static_cast<int>(operand.view.width);
    at = static_cast<int>(first % width);
    rest = advance % width;
    gap = operand.view.row - width * operand.view.pixel;
    step += advance / width * gap;
  }

  __device__ __forceinline__ Index next() {
    at += rest;
    const bool ends = at >= width;
    at -= ends ? width : 0;
    return step + (ends ? gap : 0);
  }
};

// Copies a tile of a matrix to shared memory, four elements at a time through registers.
template <typename T, int kSteps, bool kDepthContiguous, bool kWindows>
struct TileLoader {
  static constexpr int kPacks = kSteps / 4, kStride = kDepthContiguous ? kTile / kPacks : kThreads / (kTile / 4);
  const T* from;
  Walk<kWindows> packs, steps;  // from pack to pack; where those lie along the side, from depth to depth
  Index sides, depth_left;      // of the operand, from this thread's first element on
  int side, depth;
  Pack<T, 4> pack[kPacks];

  __device__ __forceinline__ TileLoader(const Operand& operand, Index first_side, Index first_depth, Index end)
      : packs(operand, operand.depth_is_pixels != kDepthContiguous,
              kDepthContiguous ? first_side + side_of_thread() : first_depth + depth_of_thread(), kStride),
        steps(operand, operand.depth_is_pixels, first_depth + depth_of_thread(), kSteps),
        side(side_of_thread()),
        depth(depth_of_thread()) {
    PixelView view = operand.view;
    if constexpr (!kWindows) view.width = 0;  // and no division
    const Operand evenly{view, operand.image, operand.depth_is_pixels, 0, 0, operand.origin};
    from = static_cast<const T*>(view.data) + evenly.offset(first_side + side, first_depth + depth);
    sides = operand.side_size - first_side - side;
    depth_left = end - first_depth - depth;
  }

  __device__ static __forceinline__ int side_of_thread() {
    const int thread = static_cast<int>(threadIdx.x);
    return kDepthContiguous ? thread / kPacks : thread % (kTile / 4) * 4;
  }
  __device__ static __forceinline__ int depth_of_thread() {
    const int thread = static_cast<int>(threadIdx.x);
    return kDepthContiguous ? thread % kPacks * 4 : thread / (kTile / 4);
  }

  __device__ __forceinline__ void load() {
    Walk<kWindows> walk = packs;
    const T* source = from;
#pragma unroll
    for (int s = 0; s < kPacks; ++s) {
      const bool inside =
          (kDepthContiguous ? s * kStride : 0) < sides && (kDepthContiguous ? 0 : s * kStride) < depth_left;
      if (inside) {
        pack[s] = *reinterpret_cast<const Pack<T, 4>*>(source);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) pack[s].value[i] = from_float<T>(0.0f);
      }
      source += walk.next();
    }
    if constexpr (kDepthContiguous) {
      from += steps.next();
    } else {  // the packs have walked the depths to the next
      from = source;
      packs = walk;
    }
    depth_left -= kSteps;
  }

  __device__ __forceinline__ void store(float* tile) const {
#pragma unroll
    for (int s = 0; s < kPacks; ++s) {
      float value[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) value[i] = to_float(pack[s].value[i]);
      if constexpr (kDepthContiguous) {
#pragma unroll
        for (int i = 0; i < 4; ++i) tile[(depth + i) * kPitch + side + s * kStride] = value[i];
      } else {
        store_pack<4>(value, tile + (depth + s * kStride) * kPitch + side);
      }
    }
  }
};

// Any strides and type, element by element and straight to shared memory.
template <int kSteps, bool kDepthContiguous, bool kWindows>
struct TileLoader<Unpacked, kSteps, kDepthContiguous, kWindows> {
  const Operand& operand;
  Index side, depth, end;

  __device__ __forceinline__ TileLoader(const Operand& operand, Index side, Index depth, Index end)
      : operand(operand), side(side), depth(depth - kSteps), end(end) {}

  __device__ __forceinline__ void load() { depth += kSteps; }

  __device__ __forceinline__ void store(float* tile) const {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kSteps; i += kThreads) {
      const int s = kDepthContiguous ? i / kSteps : i % kTile, d = kDepthContiguous ? i % kSteps : i / kTile;
      float value = 0;
      if (side + s < operand.side_size && depth + d < end) {
        load_values<Unpacked>(operand.view, operand.offset(side + s, depth + d), &value);
      }
      tile[d * kPitch + s] = value;
    }
  }
};

// Row and column in the tile of element (i, j) of a thread's block: two groups of four, for packs without conflicts.
__device__ __forceinline__ int element_index(int group, int i) { return i / 4 * (kTile / 2) + group * 4 + i % 4; }

template <int kSteps>
__device__ __forceinline__ void multiply(const float* a, const float* b, int row, int col, float (&sum)[8][8]) {
#pragma unroll
  for (int d = 0; d < kSteps; ++d) {
    float left[8], right[8];
#pragma unroll
    for (int half = 0; half < 8; half += 4) {
      load_pack<4>(a + d * kPitch + element_index(row, half), left + half);
      load_pack<4>(b + d * kPitch + element_index(col, half), right + half);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
    }
  }
}

// The sums of a block by tensor cores: a warp takes 32 rows.
struct TensorCoreSums {
  wmma::fragment<wmma::accumulator, 16, 16, 8, float> sum[2][4];

  __device__ __forceinline__ TensorCoreSums() {
#pragma unroll
    for (int i = 0; i < 8; ++i) wmma::fill_fragment(sum[i / 4][i % 4], 0.0f);
  }

  // kFitsTf32: TF32 holds `a` exactly; otherwise it is split into two such numbers, the second the error of the first.
  template <int kSteps, bool kFitsTf32>
  __device__ __forceinline__ void multiply(const float* a, const float* b) {
    const int first = static_cast<int>(threadIdx.x) / kWarp * (kTile / 2);
#pragma unroll
    for (int d = 0; d < kSteps; d += 8) {
      wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> right[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) wmma::load_matrix_sync(right[j], b + d * kPitch + 16 * j, kPitch);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::col_major> left, error;
        wmma::load_matrix_sync(left, a + d * kPitch + first + 16 * i, kPitch);
        if constexpr (!kFitsTf32) {
#pragma unroll
          for (int e = 0; e < left.num_elements; ++e) {
            const float exact = left.x[e];
            left.x[e] = wmma::__float_to_tf32(exact);
            error.x[e] = wmma::__float_to_tf32(exact - left.x[e]);
          }
#pragma unroll
          for (int j = 0; j < 4; ++j) wmma::mma_sync(sum[i][j], error, right[j], sum[i][j]);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) wmma::mma_sync(sum[i][j], left, right[j], sum[i][j]);
      }
    }
  }

  // Stores to the same elements as the FMA version.
  __device__ __forceinline__ void store_elements(float* shared, int row, int col, float (&to)[8][8]) const {
    const int first = static_cast<int>(threadIdx.x) / kWarp * (kTile / 2);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      wmma::store_matrix_sync(shared + (first + i / 4 * 16) * kPitch + i % 4 * 16, sum[i / 4][i % 4], kPitch,
                              wmma::mem_row_major);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; j += 4) {
        load_pack<4>(shared + element_index(row, i) * kPitch + element_index(col, j), to[i] + j);
      }
    }
  }
};

// sum += a tile of first * second^T over depths from `depth` to `end`. `same`: the operands and sides are one.
// kFirstWindows, kSecondWindows: pixels may be those of a window.
template <typename T, typename First, bool kFirstDepthContiguous, bool kSecondDepthContiguous, bool kFirstWindows,
          bool kSecondWindows>
__device__ __forceinline__ void multiply_tiles(const Operand& first, Index first_side, const Operand& second,
                                               Index second_side, bool same, Index depth, Index end, float* shared,
                                               int row, int col, float (&sum)[8][8]) {
  constexpr bool kFitsTf32 = !std::is_same_v<First, float>;
  constexpr int kSteps = kFitsTf32 ? kDepth<T> : 16;  // float32 stages fill the registers sooner
  TileLoader<First, kSteps, kFirstDepthContiguous, kFirstWindows> left(first, first_side, depth, end);
  TileLoader<T, kSteps, kSecondDepthContiguous, kSecondWindows> right(second, second_side, depth, end);
  std::conditional_t<kUsesTensorCores<T>, TensorCoreSums, Unpacked> tensor_core_sums;
  float* const a = shared;
  float* const b = same ? a : shared + kSteps * kPitch;
  left.load();
  if (!same) right.load();
  for (; depth < end; depth += kSteps) {
    __syncthreads();
    left.store(a);
    if (!same) right.store(b);
    __syncthreads();
    if (depth + kSteps < end) {  // under way during the multiplications
      left.load();
      if (!same) right.load();
    }
    if constexpr (kUsesTensorCores<T>) {
      tensor_core_sums.template multiply<kSteps, kFitsTf32>(a, b);
    } else {
      multiply<kSteps>(a, b, row, col, sum);
    }
  }
  if constexpr (kUsesTensorCores<T>) tensor_core_sums.store_elements(shared, row, col, sum);
}
