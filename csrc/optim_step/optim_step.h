#pragma once

#include "common/types.h"

namespace fastgan {

enum class OptimKind : int { kAdam = 0, kRmsprop = 1, kSgd = 2 };

// Flat and dense. state1, state2: Adam's two moments; RMSprop's mean square and momentum; SGD's momentum; null where
// there is none. ema: null for none.
struct OptimStepTensors {
  float* param;
  const void* grad;
  Dtype grad_dtype;
  float* state1;
  float* state2;
  float* ema;
  Index size;
};

struct OptimStepOptions {
  OptimKind kind;
  float inverse_scale;   // factor of the gradient
  float weight1;         // Adam: 1 - beta1
  float momentum;        // RMSprop and SGD
  float beta2, weight2;  // weight2 is 1 - beta2, rounded once
  float eps;
  float step_scale;             // -lr; for Adam divided by the bias correction of the first moment
  float bias_correction2_sqrt;  // for Adam: square root of the bias correction of the second moment
  float clip;                   // below 0: none
  float ema_weight;
};

// One update in place, the rules of torch.optim; then the clip, then ema += ema_weight (param - ema).
void optim_step_forward(const OptimStepTensors& tensors, const OptimStepOptions& options, int threads);

// Whether grad * inverse_scale is finite throughout.
bool all_finite(const void* grad, Dtype dtype, Index size, float inverse_scale, int threads);

}  // namespace fastgan
