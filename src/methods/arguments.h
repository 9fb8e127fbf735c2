// What the methods that take one linear at a time ask of their arguments, with the same words.
#pragma once
#include <string_view>

#include "nn/torch.h"
#include "quant/spec.h"

namespace crumb::methods {

/// Throws InvalidArgument unless `w` is a [N, K] f32 matrix with at least one row whose K the groups of
/// `spec` divide; Numerics, with the first place, unless all its values are finite. `where` is the caller's
/// "methods.function".
void check_weight(const at::Tensor& w, const quant::AffineSpec& spec, std::string_view where);

/// Throws InvalidArgument unless `x` is [M, k] f32, M >= 1; Numerics unless finite. `name` is the word for it
/// ("inputs").
void check_matrix(const at::Tensor& x, std::int64_t k, std::string_view name, std::string_view where);

/// Throws InvalidArgument unless `gram` is [k, k] f32 or f64; Numerics unless its diagonal is finite and not
/// negative.
void check_gram(const at::Tensor& gram, std::int64_t k, std::string_view where);

/// Throws InvalidArgument unless `v` is [k] f32; Numerics unless finite and at least `least`.
void check_channels(const at::Tensor& v, std::int64_t k, double least, std::string_view name,
                    std::string_view where);

}  // namespace crumb::methods
