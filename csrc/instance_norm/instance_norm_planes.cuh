// Part of instance_norm_cuda.cu: planes that are held in registers, each by a group of threads. Neither Unpacked nor
// tanh: the loops are unrolled, and nvcc took minutes with them.

// Calls function(round, p): packs of the plane, neighboring threads side by side. A thread holds kValues values.
template <typename T, int kGroup, int kValues, typename Function>
__device__ __forceinline__ void each_pack(Index pixels, Function&& function) {
  constexpr int kPack = kPackSize<T>;
#pragma unroll
  for (int r = 0; r < kValues / kPack; ++r) {
    const Index p = static_cast<Index>(r * kGroup + static_cast<int>(threadIdx.x) % kGroup) * kPack;
    if (p < pixels) function(r * kPack, p);
  }
}

template <int kGroup>
__device__ __forceinline__ float group_sum(float value, float* scratch) {
  if constexpr (kGroup == kWarp) {
    return warp_sum(value);
  } else {
    return block_sum(value, scratch);
  }
}

constexpr int plane_threads(int group) { return group < 128 ? 128 : group; }

template <typename T, int kGroup, int kValues>
__global__ void __launch_bounds__(plane_threads(kGroup))
    instance_norm_plane_fwd_kernel(PixelView x, PixelView residual, PixelView out, Index planes, Index channels,
                                   Index pixels, Job job, float* mean, float* rstd) {
  constexpr int kPack = kPackSize<T>;
  FASTGAN_SHARED(float, scratch, kWarp);
  const Index plane = static_cast<Index>(blockIdx.x) * (blockDim.x / kGroup) + threadIdx.x / kGroup;
  if (plane >= planes) return;
  const Index image = plane / channels, channel = plane % channels;
  float value[kValues], sum = 0, squares = 0;
  each_pack<T, kGroup, kValues>(pixels,
                                [&](int at, Index p) { load_values<T>(x, x.offset(image, channel, p), value + at); });
  each_pack<T, kGroup, kValues>(pixels, [&](int at, Index) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum += value[at + i];
  });
  const float center = group_sum<kGroup>(sum, scratch) / static_cast<float>(pixels);
  each_pack<T, kGroup, kValues>(pixels, [&](int at, Index) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) squares += (value[at + i] - center) * (value[at + i] - center);
  });
  const float variance = group_sum<kGroup>(squares, scratch) / static_cast<float>(pixels);
  const Affine affine(job, image, channel, center, 1.0f / sqrtf(variance + job.eps));
  each_pack<T, kGroup, kValues>(pixels, [&](int at, Index p) {
    float added[kPack] = {};
    if (residual.data != nullptr) load_values<T>(residual, residual.offset(image, channel, p), added);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      added[i] += job.activation.linear(affine.scaled(affine.normal(value[at + i])));
    }
    store_values<T>(out, out.offset(image, channel, p), added);
  });
  if (threadIdx.x % kGroup != 0) return;
  mean[plane] = affine.mean;
  rstd[plane] = affine.rstd;
}

template <typename T, int kGroup, int kValues>
__global__ void __launch_bounds__(plane_threads(kGroup))
    instance_norm_plane_bwd_kernel(PixelView x, PixelView grad_out, PixelView grad_x, Index planes, Index channels,
                                   Index pixels, Job job, const float* mean, const float* rstd, float* grad_weight,
                                   float* grad_bias) {
  constexpr int kPack = kPackSize<T>;
  FASTGAN_SHARED(float, scratch, kWarp);
  const Index plane = static_cast<Index>(blockIdx.x) * (blockDim.x / kGroup) + threadIdx.x / kGroup;
  if (plane >= planes) return;
  const Index image = plane / channels, channel = plane % channels;
  const Affine affine(job, image, channel, mean[plane], rstd[plane]);
  float normal[kValues], g[kValues], sum_g = 0, sum_gn = 0;
  each_pack<T, kGroup, kValues>(pixels, [&](int at, Index p) {
    load_values<T>(x, x.offset(image, channel, p), normal + at);
    load_values<T>(grad_out, grad_out.offset(image, channel, p), g + at);
  });
  each_pack<T, kGroup, kValues>(pixels, [&](int at, Index) {
#pragma unroll
    for (int i = at; i < at + kPack; ++i) {
      normal[i] = affine.normal(normal[i]);
      g[i] = job.activation.linear.backward(affine.scaled(normal[i]), g[i]);
      sum_g += g[i];
      sum_gn = fmaf(g[i], normal[i], sum_gn);
    }
  });
  sum_g = group_sum<kGroup>(sum_g, scratch);
  sum_gn = group_sum<kGroup>(sum_gn, scratch);
  if (grad_x.data != nullptr) {
    const float inverse = 1.0f / static_cast<float>(pixels), scale = affine.weight * affine.rstd;
    each_pack<T, kGroup, kValues>(pixels, [&](int at, Index p) {
      float result[kPack];
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        result[i] = scale * (g[at + i] - sum_g * inverse - normal[at + i] * (sum_gn * inverse));
      }
      store_values<T>(grad_x, grad_x.offset(image, channel, p), result);
    });
  }
  if (threadIdx.x % kGroup != 0) return;
  if (grad_weight != nullptr) grad_weight[plane] = sum_gn;
  if (grad_bias != nullptr) grad_bias[plane] = sum_g;
}

template <int kThreads, int kValuesPerThread>
struct Group {
  static constexpr int kGroup = kThreads, kValues = kValuesPerThread;
};

// function(Group) for planes of that many pixels; false where no group holds them.
template <typename Function>
bool dispatch_group(Index pixels, Function&& function) {
  if (pixels <= 32 * 16) {
    function(Group<32, 16>{});
  } else if (pixels <= 128 * 32) {
    function(Group<128, 32>{});
  } else if (pixels <= 512 * 32) {
    function(Group<512, 32>{});
  } else {
    return false;
  }
  return true;
}

template <typename T>
bool planes_forward(const PixelView& x, const PixelView& residual, const PixelView& out, const Shape& shape,
                    const Job& job, float* mean, float* rstd, void* stream) {
  const Index planes = shape[0] * shape[1], pixels = shape[2] * shape[3];
  if (job.activation.tanh) return false;
  return dispatch_group(pixels, [&](auto group) {
    constexpr int kGroup = decltype(group)::kGroup, kValues = decltype(group)::kValues;
    constexpr int kThreads = plane_threads(kGroup);
    FASTGAN_LAUNCH((instance_norm_plane_fwd_kernel<T, kGroup, kValues>),
                   dim3(static_cast<unsigned>(ceil_div(planes, kThreads / kGroup))), dim3(kThreads), 0, stream, x,
                   residual, out, planes, shape[1], pixels, job, mean, rstd);
  });
}

template <typename T>
bool planes_backward(const PixelView& x, const PixelView& grad_out, const PixelView& grad_x, const Shape& shape,
                     const Job& job, const float* mean, const float* rstd, float* grad_weight, float* grad_bias,
                     void* stream) {
  const Index planes = shape[0] * shape[1], pixels = shape[2] * shape[3];
  if (job.activation.tanh) return false;
  return dispatch_group(pixels, [&](auto group) {
    constexpr int kGroup = decltype(group)::kGroup, kValues = decltype(group)::kValues;
    constexpr int kThreads = plane_threads(kGroup);
    FASTGAN_LAUNCH((instance_norm_plane_bwd_kernel<T, kGroup, kValues>),
                   dim3(static_cast<unsigned>(ceil_div(planes, kThreads / kGroup))), dim3(kThreads), 0, stream, x,
                   grad_out, grad_x, planes, shape[1], pixels, job, mean, rstd, grad_weight, grad_bias);
  });
}
