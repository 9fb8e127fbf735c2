#include "methods/arguments.h"

#include "base/error.h"

namespace crumb::methods {

using at::Tensor;

namespace {

void check_finite(const Tensor& x, std::string_view name, std::string_view where) {
  if (at::isfinite(x).all().item<bool>()) return;
  const Tensor place = at::isfinite(x).logical_not().nonzero()[0];
  std::vector<std::int64_t> index;
  for (std::int64_t i = 0; i < place.numel(); ++i) index.push_back(place[i].item<std::int64_t>());
  fail(ErrorKind::kNumerics, where, name, ": value at ", shape_string(index), " of ", shape_string(x.sizes()),
       " is not finite; expected finite numbers; check the checkpoint and the activations that came before");
}

}  // namespace

void check_weight(const Tensor& w, const quant::AffineSpec& spec, std::string_view where) {
  if (w.dim() != 2 || w.scalar_type() != at::kFloat || w.numel() == 0) {
    fail(ErrorKind::kInvalidArgument, where, "weight: ", shape_string(w.sizes()), " of ",
         c10::toString(w.scalar_type()), "; expected [N, K] of Float; convert it first");
  }
  quant::check_grid(spec, w.size(1), where);
  check_finite(w, "weight", where);
}

void check_matrix(const Tensor& x, std::int64_t k, std::string_view name, std::string_view where) {
  if (x.dim() != 2 || x.scalar_type() != at::kFloat || x.numel() == 0 || x.size(1) != k) {
    fail(ErrorKind::kInvalidArgument, where, name, ": ", shape_string(x.sizes()), " of ",
         c10::toString(x.scalar_type()), "; expected [M, ", k,
         "] of Float with M >= 1; reshape or convert it first");
  }
  check_finite(x, name, where);
}

void check_gram(const Tensor& gram, std::int64_t k, std::string_view where) {
  if (gram.dim() != 2 || gram.size(0) != k || gram.size(1) != k ||
      (gram.scalar_type() != at::kFloat && gram.scalar_type() != at::kDouble)) {
    fail(ErrorKind::kInvalidArgument, where, "Gram matrix: ", shape_string(gram.sizes()), " of ",
         c10::toString(gram.scalar_type()), "; expected [", k, ", ", k,
         "] of Float or Double; collect it from this linear's inputs");
  }
  const Tensor diagonal = gram.diagonal();
  check_finite(diagonal, "Gram matrix's diagonal", where);
  if ((diagonal < 0).any().item<bool>()) {
    fail(ErrorKind::kNumerics, where, "Gram matrix: its diagonal has ", diagonal.min().item<double>(),
         "; expected sums of squares, which are not negative; collect it again");
  }
}

void check_channels(const Tensor& v, std::int64_t k, double least, std::string_view name,
                    std::string_view where) {
  if (v.dim() != 1 || v.size(0) != k || v.scalar_type() != at::kFloat) {
    fail(ErrorKind::kInvalidArgument, where, name, ": ", shape_string(v.sizes()), " of ",
         c10::toString(v.scalar_type()), "; expected [", k, "] of Float, one number for each input channel");
  }
  check_finite(v, name, where);
  if (v.min().item<double>() < least) {
    fail(ErrorKind::kNumerics, where, name, ": the smallest is ", v.min().item<double>(),
         "; expected at least ", least, "; collect it again");
  }
}

}  // namespace crumb::methods
