// Times the kernels of a training step, every usable variant of each, on one thread and on all.
//
//   train_kernels_bench [--hidden 576] [--ffn 1536] [--heads 9] [--kv-heads 3] [--tokens 1024] [--batch 2]
//   [--vocab 49152] [--repeats 9] [--only NAME]
//
// Each line: median wall time of the repeats, their spread (slowest over fastest), the least processor time
// of all threads together, and bytes or operations a second of wall time and, on one thread, of processor
// time: on a machine shared with others only the latter says something. Buffers are as large as the step's
// and are not cleared between repeats, as in training.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <omp.h>

#include "base/rng.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/fake_quant.h"
#include "kernels/gemm_bf16.h"
#include "kernels/logits.h"
#include "kernels/mse.h"
#include "kernels/packed.h"
#include "kernels/registry.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/sgemm.h"
#include "kernels/swiglu.h"

namespace {

using namespace crumb::kernels;

struct Sizes {
  std::int64_t hidden = 576, ffn = 1536, heads = 9, kv_heads = 3, tokens = 1024, batch = 2, vocab = 49152,
               repeats = 9;
  std::string only;
  std::int64_t rows() const { return batch * tokens; }
  std::int64_t head_dim() const { return hidden / heads; }
};

std::vector<float> random_floats(std::int64_t count, std::uint64_t seed, float deviation = 1) {
  crumb::SplitMix64 rng(seed);
  std::vector<float> x(static_cast<std::size_t>(count));
  for (float& value : x) value = deviation * static_cast<float>((rng.uniform() + rng.uniform() - 1.0) * 2.45);
  return x;
}

struct Timing {
  double median_ms, spread, cpu_ms;
};

double cpu_now_ms() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

Timing time_of(std::int64_t repeats, const std::function<void()>& body) {
  body();
  std::vector<double> ms;
  double cpu = 1e300;
  for (std::int64_t i = 0; i < repeats; ++i) {
    const double cpu_start = cpu_now_ms();
    const auto start = std::chrono::steady_clock::now();
    body();
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    cpu = std::min(cpu, cpu_now_ms() - cpu_start);
  }
  std::sort(ms.begin(), ms.end());
  return {ms[ms.size() / 2], ms.back() / ms.front(), cpu};
}

/// Runs `body` under every instruction set of `isas` that the machine has, on one thread and on all. `work`
/// is bytes or operations.
void report(const Sizes& s, const std::string& name, std::initializer_list<Isa> isas, double work,
            const char* unit, const std::function<void()>& body) {
  if (!s.only.empty() && name.find(s.only) == std::string::npos) return;
  const int all = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (const Isa isa : isas) {
    if (!machine_has(isa)) {
      std::printf("%-28s %-12s skipped: this machine lacks it\n", name.c_str(),
                  std::string(to_string(isa)).c_str());
      continue;
    }
    set_isa_limit(isa);
    for (int threads = 1; threads <= all; threads = threads == all ? all + 1 : all) {
      omp_set_num_threads(threads);
      const Timing t = time_of(s.repeats, body);
      std::printf("%-26s %-11s %2d threads %9.3f ms  spread %5.2f  cpu %9.3f ms  %7.1f", name.c_str(),
                  std::string(to_string(isa)).c_str(), threads, t.median_ms, t.spread, t.cpu_ms,
                  work / t.median_ms / 1e6);
      if (threads == 1) std::printf(" (cpu %.1f)", work / t.cpu_ms / 1e6);
      std::printf(" %s\n", unit);
    }
  }
  std::fflush(stdout);
}

constexpr std::initializer_list<Isa> kVector = {Isa::kAvx2, Isa::kAvx512};

void bench_weights(const Sizes& s) {
  const std::int64_t n = s.ffn, k = s.hidden, group = 64, weights = n * k;
  const auto w = random_floats(weights, 1, 0.02f), scale = random_floats(weights / group, 2),
             grad = random_floats(weights, 3);
  std::vector<float> scales(scale.size(), 0.02f), zeros(scale.size(), 1.0f), out(w.size()), ds(scale.size()),
      dz(scale.size());
  const FakeQuantArgs args =
      fake_quant_args(w.data(), scales.data(), zeros.data(), n, k, {2, group, crumb::quant::Grid::kAsym});
  const double bytes = static_cast<double>(weights) * 4;
  report(s, "fake_quant", kVector, 2 * bytes, "GB/s", [&] { fake_quant(args, out.data()); });
  report(s, "fake_quant_backward", kVector, 3 * bytes, "GB/s",
         [&] { fake_quant_backward(args, grad.data(), out.data(), ds.data(), dz.data()); });
  const std::vector<std::uint32_t> words(static_cast<std::size_t>(weights / 16), 0xE4E4E4E4u);
  const std::vector<std::uint8_t> zero_points(scale.size(), 1);
  const PackedArgs packed = packed_args(words.data(), zero_points.data(), scales.data(), n, k,
                                        {2, group, crumb::quant::Grid::kAsym});
  report(s, "dequantize_packed w2", kVector, bytes * 17 / 16, "GB/s",
         [&] { dequantize_packed(packed, out.data()); });
  report(s, "packed_scale_gradient w2", kVector, bytes * 17 / 16, "GB/s",
         [&] { packed_scale_gradient(packed, grad.data(), ds.data()); });
  auto param = w, m = random_floats(weights, 5, 1e-3f), v = std::vector<float>(w.size(), 1e-6f);
  report(s, "adamw_step", kVector, 7 * bytes, "GB/s",
         [&] { adamw_step(param.data(), grad.data(), m.data(), v.data(), weights, 10, {1e-6}); });
  report(s, "sum_of_squares", kVector, bytes, "GB/s", [&] { sum_of_squares(grad.data(), weights); });
}

void bench_activations(const Sizes& s) {
  const std::int64_t m = s.rows(), h = s.hidden, f = s.ffn;
  const auto x = random_floats(m * f, 1), y = random_floats(m * f, 2), g = random_floats(m * f, 3),
             weight = random_floats(f, 4);
  std::vector<float> a(x.size()), b(x.size()), rstd(static_cast<std::size_t>(m)),
      grad_weight(static_cast<std::size_t>(h));
  const double bytes = static_cast<double>(m * h) * 4, wide = static_cast<double>(m * f) * 4;
  report(s, "rms_norm", kVector, 2 * bytes, "GB/s",
         [&] { rms_norm(x.data(), weight.data(), 1e-5f, m, h, a.data(), rstd.data()); });
  report(s, "rms_norm_backward", kVector, 3 * bytes, "GB/s", [&] {
    rms_norm_backward(x.data(), weight.data(), rstd.data(), g.data(), m, h, a.data(), grad_weight.data());
  });
  const auto table = random_floats(s.tokens * s.head_dim() / 2, 5);
  report(s, "rope", kVector, 2 * bytes, "GB/s", [&] {
    rope({x.data(), table.data(), table.data(), a.data(), s.batch, s.tokens, s.heads, s.head_dim(),
          s.head_dim(), h, h});
  });
  report(s, "swiglu", kVector, 3 * wide, "GB/s", [&] { swiglu(x.data(), y.data(), m * f, a.data()); });
  report(s, "swiglu_backward", kVector, 5 * wide, "GB/s",
         [&] { swiglu_backward(x.data(), y.data(), g.data(), m * f, a.data(), b.data()); });
  report(s, "mse_loss", kVector, 3 * bytes, "GB/s",
         [&] { mse_loss(x.data(), y.data(), m, h, 1, a.data(), nullptr, nullptr); });
}

void bench_logits(const Sizes& s) {
  const std::int64_t rows = 64;
  const auto x = random_floats(rows * s.vocab, 1), t = random_floats(rows * s.vocab, 2);
  auto work = x;
  const std::vector<std::int64_t> targets(static_cast<std::size_t>(rows), 5);
  const double bytes = static_cast<double>(rows * s.vocab) * 4;
  report(s, "cross_entropy_rows", kVector, 4 * bytes, "GB/s",
         [&] { cross_entropy_rows(work.data(), targets.data(), rows, s.vocab, 1, true, nullptr); });
  report(s, "kl_rows", kVector, 7 * bytes, "GB/s",
         [&] { kl_rows(work.data(), t.data(), rows, s.vocab, 1, true, nullptr); });
}

void bench_attention(const Sizes& s) {
  const std::int64_t d = s.head_dim(), width = s.heads * d, kv_width = s.kv_heads * d, rows = s.rows();
  auto q = random_floats(rows * width, 1), k = random_floats(rows * kv_width, 2),
       v = random_floats(rows * kv_width, 3), go = random_floats(rows * width, 4);
  std::vector<float> o(q.size()), dq(q.size()), dk(k.size()), dv(v.size()),
      lse(static_cast<std::size_t>(rows * s.heads));
  const AttentionShape shape{s.batch,
                             s.tokens,
                             s.heads,
                             s.kv_heads,
                             d,
                             0,
                             static_cast<float>(1 / std::sqrt(static_cast<double>(d)))};
  const auto in = [&](const std::vector<float>& x, std::int64_t w) {
    return HeadsView<const float>{x.data(), w, s.tokens * w};
  };
  const auto out = [&](std::vector<float>& x, std::int64_t w) {
    return HeadsView<float>{x.data(), w, s.tokens * w};
  };
  // Useful operations: the triangle.
  const double product = static_cast<double>(s.batch * s.heads) * static_cast<double>(s.tokens) *
                         static_cast<double>(s.tokens) * static_cast<double>(d);
  report(s, "causal_attention", kVector, 2 * product, "GFLOP/s", [&] {
    causal_attention(shape, in(q, width), in(k, kv_width), in(v, kv_width), out(o, width), lse.data());
  });
  report(s, "causal_attention_backward", kVector, 5 * product, "GFLOP/s", [&] {
    causal_attention_backward(shape, in(q, width), in(k, kv_width), in(v, kv_width), in(o, width), lse.data(),
                              in(go, width), out(dq, width), out(dk, kv_width), out(dv, kv_width));
  });
}

void bench_products(const Sizes& s) {
  const std::int64_t m = s.rows(), n = s.ffn, k = s.hidden;
  const auto x = random_floats(m * k, 1), w = random_floats(n * k, 2), dy = random_floats(m * n, 3);
  std::vector<float> y(static_cast<std::size_t>(m * n)), dx(x.size()), dw(w.size());
  const double work = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  report(s, "sgemm y = x w^T", kVector, work, "GFLOP/s", [&] {
    sgemm({false, true, m, n, k, x.data(), k, w.data(), k, y.data(), n, false});
  });
  report(s, "sgemm dx = dy w", kVector, work, "GFLOP/s", [&] {
    sgemm({false, false, m, k, n, dy.data(), n, w.data(), k, dx.data(), k, false});
  });
  report(s, "sgemm dw = dy^T x", kVector, work, "GFLOP/s", [&] {
    sgemm({true, false, n, k, m, dy.data(), n, x.data(), k, dw.data(), k, false});
  });
  const std::initializer_list<Isa> half = {Isa::kAvx512Bf16, Isa::kAmx};
  report(s, "gemm_bf16 y = x w^T", half, work, "GFLOP/s", [&] {
    gemm_bf16({m, n, k, {x.data(), nullptr, k, false}, {w.data(), nullptr, k, true}, y.data(), n, false});
  });
  report(s, "gemm_bf16 dx = dy w", half, work, "GFLOP/s", [&] {
    gemm_bf16({m, k, n, {dy.data(), nullptr, n, false}, {w.data(), nullptr, k, false}, dx.data(), k, false});
  });
  report(s, "gemm_bf16 dw = dy^T x", half, work, "GFLOP/s", [&] {
    gemm_bf16({n, k, m, {dy.data(), nullptr, n, true}, {x.data(), nullptr, k, false}, dw.data(), k, false});
  });
}

}  // namespace

int main(int argc, char** argv) {
  Sizes s;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const char* value = argv[i + 1];
    if (flag == "--only") s.only = value;
    if (flag == "--hidden") s.hidden = std::atoll(value);
    if (flag == "--ffn") s.ffn = std::atoll(value);
    if (flag == "--heads") s.heads = std::atoll(value);
    if (flag == "--kv-heads") s.kv_heads = std::atoll(value);
    if (flag == "--tokens") s.tokens = std::atoll(value);
    if (flag == "--batch") s.batch = std::atoll(value);
    if (flag == "--vocab") s.vocab = std::atoll(value);
    if (flag == "--repeats") s.repeats = std::atoll(value);
  }
  std::printf("hidden %lld ffn %lld heads %lld/%lld tokens %lld x %lld; machine: %s; compiler %s\n",
              static_cast<long long>(s.hidden), static_cast<long long>(s.ffn),
              static_cast<long long>(s.heads), static_cast<long long>(s.kv_heads),
              static_cast<long long>(s.batch), static_cast<long long>(s.tokens), machine_isas().c_str(),
              __VERSION__);
  bench_products(s);
  bench_attention(s);
  bench_weights(s);
  bench_activations(s);
  bench_logits(s);
}
