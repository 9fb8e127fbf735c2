// crumb bench kernels: the low-bit products beside the read bandwidth of the same seconds.
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/run/bench.h"
#include "cli/run/engine.h"
#include "kernels/lowbit_speed.h"

namespace crumb::cli {
namespace {

using nlohmann::ordered_json;

struct KernelOptions {
  kernels::LowbitSpeedOptions speed;
  std::vector<std::string> shapes, isas;
  std::int64_t megabytes = 512;
  bool exact = false, json = false;
};

std::pair<std::int64_t, std::int64_t> parse_shape(const std::string& text) {
  const std::size_t x = text.find('x');
  std::int64_t n = 0, k = 0;
  const auto whole = [](std::string_view digits, std::int64_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() && value > 0 && value <= (1 << 24);
  };
  const std::string_view view(text);
  if (x == std::string::npos || !whole(view.substr(0, x), n) || !whole(view.substr(x + 1), k))
    fail(ErrorKind::kInvalidArgument, "cli.bench", "--shape is '", text,
         "'; expected NxK, for example 4096x4096");
  return {n, k};
}

kernels::Isa parse_isa(const std::string& text) {
  std::vector<std::string> known;
  for (const auto& variant : kernels::lowbit_variants()) {
    if (text == to_string(variant.isa)) {
      if (!kernels::usable(variant.isa))
        fail(ErrorKind::kUnsupported, "cli.bench", "--isa ", text, ": this machine has ",
             kernels::machine_isas());
      return variant.isa;
    }
    known.emplace_back(to_string(variant.isa));
  }
  fail(ErrorKind::kInvalidArgument, "cli.bench", "--isa is '", text, "'; expected ", join(known, ", "));
}

int bench_kernels(KernelOptions& options) {
  kernels::LowbitSpeedOptions& speed = options.speed;
  if (!options.shapes.empty()) speed.shapes.clear();
  for (const std::string& text : options.shapes) speed.shapes.push_back(parse_shape(text));
  for (const std::string& text : options.isas) speed.isas.push_back(parse_isa(text));
  speed.mode = options.exact ? kernels::LowbitMode::kExact : kernels::LowbitMode::kInt8;
  speed.weight_bytes = options.megabytes << 20;
  ordered_json rows = ordered_json::array();
  if (!options.json)
    print_line(" bits       shape     m          isa     GB/s  of reading   fraction      GOP/s         us");
  kernels::measure_lowbit(speed, [&](const kernels::LowbitSpeed& r) {
    const std::string shape = cat(r.n, "x", r.k), isa(to_string(r.isa));
    if (!options.json) {
      print_line(cat(align_right(cat(r.bits), 5), align_right(shape, 12), align_right(cat(r.m), 6),
                     align_right(isa, 13), align_right(fixed(r.gbps, 2), 9),
                     align_right(fixed(r.read_gbps, 2), 12),
                     align_right(fixed(r.fraction_of_bandwidth, 3), 11), align_right(fixed(r.gops, 1), 11),
                     align_right(fixed(r.microseconds, 1), 11)));
      return;
    }
    rows.push_back({{"bits", r.bits},
                    {"shape", shape},
                    {"m", r.m},
                    {"isa", isa},
                    {"microseconds", r.microseconds},
                    {"gbps", r.gbps},
                    {"read_gbps", r.read_gbps},
                    {"fraction_of_bandwidth", r.fraction_of_bandwidth},
                    {"gops", r.gops},
                    {"prepare_microseconds", r.prepare_microseconds}});
  });
  if (options.json)
    print_json({{"group_size", speed.group_size},
                {"threads", speed.threads},
                {"mode", to_string(speed.mode)},
                {"weight_bytes", speed.weight_bytes},
                {"rows", rows}});
  return 0;
}

}  // namespace

void add_bench_kernels(CLI::App& bench, Action& action) {
  auto options = std::make_shared<KernelOptions>();
  kernels::LowbitSpeedOptions& speed = options->speed;
  CLI::App* command = bench.add_subcommand(
      "kernels", "the products with 2-, 3-, 4-, 6- and 8-bit weights, against the read bandwidth");
  command->add_option("--bits", speed.bits, "of 2,3,4,6,8")
      ->delimiter(',')
      ->check(CLI::IsMember({2, 3, 4, 6, 8}))
      ->capture_default_str();
  command->add_option("--shape", options->shapes, "NxK, several by commas; default: 4096x4096,11008x4096")
      ->delimiter(',');
  command->add_option("--m", speed.m, "rows of activations")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--group", speed.group_size, "group size; -1: whole rows")
      ->check(CLI::Range(-1, 1 << 20))
      ->capture_default_str();
  command->add_option("--isa", options->isas, "instruction sets; default: every usable one but ref")
      ->delimiter(',');
  command
      ->add_option("--megabytes", options->megabytes, "of distinct weights a case: several last-level caches")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--rounds", speed.rounds, "rounds, of which the median is given")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_thread_option(*command, speed.threads);
  command->add_flag("--exact", options->exact, "activations in f32 instead of int8");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, &action] { action = [options] { return bench_kernels(*options); }; });
}

}  // namespace crumb::cli
