#include "methods/gptq/gptq.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/parallel_for.h"
#include "methods/arguments.h"
#include "quant/affine.h"

namespace crumb::methods::gptq {

using at::Tensor;

namespace {

constexpr const char* kWhere = "methods.gptq";

struct Factor {
  Tensor upper;  // [K, K] f64 on the CPU; H^-1 = upper^T upper
  double damping;
};

// H: dead diagonals replaced already. With J the reversal of the order, J H J = L L^T gives H = R R^T for the
// upper triangular R = J L J, so H^-1 = R^-T R^-1 and U = R^-1.
Factor factor(Tensor h, double damping) {
  const double mean = h.diagonal().mean().item<double>();
  for (double tried = damping;; tried = std::max(10 * tried, 1e-4)) {
    Tensor reversed = h.flip({0, 1});
    reversed.diagonal().add_(tried * mean);
    auto [lower, info] = at::linalg_cholesky_ex(reversed);
    if (info.item<int>() == 0 && at::isfinite(lower.diagonal()).all().item<bool>()) {
      const Tensor identity = at::eye(h.size(0), h.options());
      h = reversed = Tensor();
      lower = lower.flip({0, 1});  // R
      return {at::linalg_solve_triangular(lower, identity, /*upper=*/true).to(at::kCPU).contiguous(), tried};
    }
    if (tried >= 1) {
      fail(ErrorKind::kNumerics, kWhere, "Hessian ", shape_string(h.sizes()),
           ": not positive definite even with a damping of ", tried,
           " times its mean diagonal; expected 2 X^T X of finite inputs; collect it again");
    }
  }
}

// Columns in the order of processing, and back.
struct Order {
  std::vector<std::int64_t> column;  // column[i]: the original column that comes i-th
};

Order order_of(const Tensor& diagonal, bool act_order) {
  Order order;
  order.column.resize(static_cast<std::size_t>(diagonal.size(0)));
  for (std::size_t i = 0; i < order.column.size(); ++i) order.column[i] = static_cast<std::int64_t>(i);
  if (act_order) {
    const double* d = diagonal.const_data_ptr<double>();
    std::stable_sort(order.column.begin(), order.column.end(),
                     [&](std::int64_t a, std::int64_t b) { return d[a] > d[b]; });
  }
  return order;
}

// Where blocks begin, K last. A group never continues behind the block in which it begins unless it begins
// the block: its scale must see updated weights, and columns behind the block are updated when the block
// ends.
std::vector<std::int64_t> block_starts(std::int64_t k, std::int64_t block_size, std::int64_t group,
                                       bool own_groups) {
  std::vector<std::int64_t> starts = {0};
  while (starts.back() < k) {
    const std::int64_t begin = starts.back();
    std::int64_t end = std::min(begin + block_size, k);
    if (own_groups && end < k) {
      const std::int64_t last_group = end / group * group;  // the group that the end would cut
      if (last_group > begin && last_group < end) end = last_group;
    }
    starts.push_back(end);
  }
  return starts;
}

struct Job {
  const Options& options;
  std::int64_t n, k, group, groups;
  Order order;
  std::vector<float> energy;        // [K] diagonal of H, in the order of processing
  Tensor w;                         // [N, K] f64, columns in the order of processing; updated
  Tensor upper;                     // [K, K] f64
  std::vector<GroupScale> scales;   // [N, K/G]
  std::vector<std::uint8_t> codes;  // [N, K], original order

  bool own_groups() const { return !options.static_groups; }
  std::int64_t group_of(std::int64_t i) const {  // of the i-th column
    return (options.static_groups ? order.column[static_cast<std::size_t>(i)] : i) / group;
  }

  // The scale of the group whose columns are w[0 .. G); `first` is the place of its first column in `energy`.
  template <class Number>
  GroupScale scale_of(const Number* weights, const float* energies, std::vector<float>& buffer) const {
    buffer.assign(weights, weights + group);
    return find_group_scale(buffer, {energies, static_cast<std::size_t>(group)}, options.spec, options.range,
                            options.scale_f16, options.parity);
  }

  // Columns [begin, end) of some rows; errors [N, end - begin].
  void rows_of_block(std::int64_t row_begin, std::int64_t row_end, std::int64_t begin, std::int64_t end,
                     double* weights, const double* factors, double* errors) {
    const std::int64_t width = end - begin;
    std::vector<float> buffer;
    for (std::int64_t row = row_begin; row < row_end; ++row) {
      double* const r = weights + row * k;
      GroupScale* const s = scales.data() + row * groups;
      if (own_groups() && options.parity) {
        for (std::int64_t i = begin; i < end; ++i) {
          if (i % group == 0) s[i / group] = scale_of(r + i, energy.data() + i, buffer);
        }
      }
      for (std::int64_t i = begin; i < end; ++i) {
        if (own_groups() && !options.parity && i % group == 0) {
          s[i / group] = scale_of(r + i, energy.data() + i, buffer);
        }
        const GroupScale& g = s[group_of(i)];
        const std::int32_t code =
            quant::quantize_one(static_cast<float>(r[i]), g.scale, g.zero_point, options.spec.max_code());
        codes[static_cast<std::size_t>(row * k + order.column[static_cast<std::size_t>(i)])] =
            static_cast<std::uint8_t>(code);
        const double w_hat = (static_cast<float>(code) - g.zero_point) * g.scale;
        const double* const u = factors + (i - begin) * width - begin;  // u[j]: U_ij
        const double error = (r[i] - w_hat) / u[i];
        errors[row * width + i - begin] = error;
        for (std::int64_t j = i + 1; j < end; ++j) r[j] -= error * u[j];
      }
    }
  }

  // Scales of neighbors in the original order, from weights that nothing has updated.
  void find_static_scales(const Tensor& original, const Tensor& diagonal) {
    const Tensor energies = diagonal.to(at::kFloat).contiguous();
    const float* weights = original.const_data_ptr<float>();
    const float* e = energies.const_data_ptr<float>();
    parallel_for(n, 1, [&](std::int64_t row_begin, std::int64_t row_end) {
      std::vector<float> buffer;
      for (std::int64_t i = row_begin * groups; i < row_end * groups; ++i) {
        scales[static_cast<std::size_t>(i)] = scale_of(weights + i * group, e + i % groups * group, buffer);
      }
    });
  }

  double run() {
    double sum = 0;
    const auto starts = block_starts(k, options.block_size, group, own_groups() && !options.parity);
    for (std::size_t b = 0; b + 1 < starts.size(); ++b) {
      throw_if_interrupted(kWhere);
      const std::int64_t begin = starts[b], end = starts[b + 1];
      const Tensor rows = upper.narrow(0, begin, end - begin);
      const Tensor within = rows.narrow(1, begin, end - begin).contiguous();
      Tensor errors = at::empty({n, end - begin}, at::kDouble);
      double* const weights = w.mutable_data_ptr<double>();
      double* const e = errors.mutable_data_ptr<double>();
      const double* const factors = within.const_data_ptr<double>();
      parallel_for(n, 1, [&](std::int64_t row_begin, std::int64_t row_end) {
        rows_of_block(row_begin, row_end, begin, end, weights, factors, e);
      });
      if (end < k) {
        Tensor rest = w.narrow(1, end, k - end);
        rest.addmm_(errors, rows.narrow(1, end, k - end), 1, -1);
      }
      sum += errors.square().sum().item<double>();
    }
    return sum;
  }
};

}  // namespace

Result quantize(const Tensor& w, const Tensor& hessian, const Options& options) {
  const at::NoGradGuard no_grad;
  check_weight(w, options.spec, kWhere);
  const std::int64_t n = w.size(0), k = w.size(1);
  check_gram(hessian, k, kWhere);
  if (options.block_size < 1 || !(options.damping >= 0)) {
    fail(ErrorKind::kInvalidArgument, kWhere, "options: block_size ", options.block_size, ", damping ",
         options.damping, "; expected at least 1 and at least 0");
  }

  Tensor h = hessian.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  const Tensor dead = h.diagonal() == 0;
  const double live = h.diagonal().sum().item<double>();  // dead ones add nothing
  const auto live_count = static_cast<double>(k) - dead.sum().item<double>();
  h.diagonal().masked_fill_(dead, options.parity || live == 0 ? 1.0 : live / live_count);
  Tensor original = w.to(at::kCPU, at::kFloat, false, /*copy=*/true).contiguous();
  original.masked_fill_(dead.to(at::kCPU).unsqueeze(0), 0.0);
  const Tensor diagonal = h.diagonal().to(at::kCPU).contiguous();

  Job job{options,
          n,
          k,
          options.spec.group_of(k),
          options.spec.groups(k),
          order_of(diagonal, options.act_order),
          {},
          {},
          {},
          {},
          {}};
  const Tensor columns = at::tensor(job.order.column);
  if (options.act_order) {
    h = h.index_select(0, columns.to(h.device())).index_select(1, columns.to(h.device()));
  }
  Factor factored = factor(std::move(h), options.damping);
  job.upper = std::move(factored.upper);
  job.w = original.index_select(1, columns).to(at::kDouble).contiguous();
  const Tensor energy = diagonal.index_select(0, columns).to(at::kFloat).contiguous();
  job.energy.assign(energy.const_data_ptr<float>(), energy.const_data_ptr<float>() + k);
  job.scales.resize(static_cast<std::size_t>(n * job.groups));
  job.codes.resize(static_cast<std::size_t>(n * k));
  if (options.static_groups) job.find_static_scales(original, diagonal);

  Result result;
  result.error = job.run();
  result.damping = factored.damping;
  result.linear = {n, k, options.spec, std::move(job.codes), {}, {}};
  for (const GroupScale& g : job.scales) {
    result.linear.scales.push_back(g.scale);
    result.linear.zero_points.push_back(static_cast<std::uint8_t>(g.zero_point));
  }
  if (options.act_order && !options.static_groups && job.groups > 1) {
    result.g_idx.resize(static_cast<std::size_t>(k));
    for (std::int64_t i = 0; i < k; ++i) {
      result.g_idx[static_cast<std::size_t>(job.order.column[static_cast<std::size_t>(i)])] =
          static_cast<std::int32_t>(i / job.group);
    }
  }
  quant::check_quantized_linear(result.linear, kWhere);
  return result;
}

}  // namespace crumb::methods::gptq
