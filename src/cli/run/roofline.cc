// crumb roofline: predicted speed, and what bounds it.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/command.h"
#include "cli/run/engine.h"
#include "formats/checkpoint.h"
#include "formats/synthetic.h"
#include "io/atomic_output.h"
#include "runtime/roofline.h"
#include "runtime/thread_pool.h"

namespace crumb::cli {
namespace {

using nlohmann::ordered_json;

struct RooflineOptions {
  std::string what, plot, kv_cache = "f16";
  int bits = 0, threads = 0;
  std::optional<int> head_bits;
  std::int64_t group = 64, context = 64, prompt = 512;
  double bandwidth = 0, gops = 0, flops = 0;
  bool json = false;
};

runtime::RooflineModel read_model(const RooflineOptions& options) {
  runtime::RooflineModel model;
  if (std::filesystem::exists(options.what)) {
    const auto checkpoint = formats::Checkpoint::open(options.what);
    model.config = checkpoint->config();
    model.spec = checkpoint->packed_spec();
    model.float_bytes = size_bytes(checkpoint->float_dtype(model::kEmbeddingName));
    model.head_bits =
        options.head_bits.value_or(runtime::default_head_bits(*checkpoint, runtime::Accuracy::kInt8));
  } else {
    const auto shapes = formats::synthetic_shapes();
    if (std::find(shapes.begin(), shapes.end(), options.what) == shapes.end())
      fail(ErrorKind::kNotFound, "cli.roofline", options.what,
           ": is no model that is there, and no shape; expected a path or ", join(shapes, ", "));
    model.config = formats::synthetic_config(options.what);
    model.spec = quant::AffineSpec{2, options.group, quant::Grid::kAsym};
    model.head_bits = options.head_bits.value_or(options.bits == 16 ? 0 : 8);
  }
  if (options.bits == 16)
    model.spec.reset();
  else if (options.bits != 0)
    model.spec = quant::AffineSpec{options.bits, options.group, quant::Grid::kAsym};
  model.kv_format = kernels::parse_kv_format(options.kv_cache);
  return model;
}

ordered_json parts_json(const std::vector<runtime::RooflinePart>& parts) {
  ordered_json rows = ordered_json::array();
  for (const runtime::RooflinePart& p : parts)
    rows.push_back({{"part", p.name},
                    {"bytes", p.bytes},
                    {"ops", p.ops},
                    {"microseconds", p.seconds * 1e6},
                    {"bound", p.bound}});
  return rows;
}

std::string table(const std::vector<runtime::RooflinePart>& parts) {
  std::string text = "  part                    bytes         GOP          us  bound by";
  for (const runtime::RooflinePart& p : parts) {
    std::string name = p.name;
    name.resize(16, ' ');
    text += cat("\n  ", name, align_right(human_bytes(p.bytes), 13), align_right(fixed(p.ops / 1e9, 3), 12),
                align_right(fixed(p.seconds * 1e6, 1), 12), "  ", p.bound);
  }
  return text;
}

int roofline(const RooflineOptions& options) {
  const runtime::RooflineModel model = read_model(options);
  runtime::MachineRates given;
  given.threads = options.threads > 0 ? options.threads : runtime::usable_processors();
  given.read_gbps = options.bandwidth;
  given.f32_gflops = given.dense_decode_gflops = options.flops;
  given.int8_decode_gops = given.int8_prompt_gops = options.gops;
  const runtime::MachineRates rates = runtime::measure_machine(model, given);
  const runtime::RooflinePrediction p = runtime::predict(model, rates, options.context, options.prompt);
  const std::string scheme = model.spec ? quant::scheme_name(*model.spec) : cat("f", 8 * model.float_bytes);
  if (!options.plot.empty())
    io::write_text_atomically(
        options.plot, runtime::roofline_svg(
                          model, rates, p, cat(options.what, ", ", scheme, ", ", rates.threads, " threads")));
  if (options.json) {
    print_json({{"model", options.what},
                {"scheme", scheme},
                {"threads", rates.threads},
                {"context", options.context},
                {"prompt", options.prompt},
                {"machine",
                 {{"read_gbps", rates.read_gbps},
                  {"linear_share", rates.linear_share},
                  {"head_share", rates.head_share},
                  {"int8_decode_gops", rates.int8_decode_gops},
                  {"int8_prompt_gops", rates.int8_prompt_gops},
                  {"dense_decode_gflops", rates.dense_decode_gflops},
                  {"f32_gflops", rates.f32_gflops},
                  {"synchronization_us", rates.synchronization_us}}},
                {"decode_tokens_per_second", p.decode_tokens_per_second},
                {"decode_bound", p.decode_bound},
                {"decode_parts", parts_json(p.decode)},
                {"prompt_tokens_per_second", p.prompt_tokens_per_second},
                {"prompt_bound", p.prompt_bound},
                {"prompt_parts", parts_json(p.prompt)}});
    return 0;
  }
  print_line(
      cat(options.what, " at ", scheme, ", ", rates.threads, " threads: reading ", fixed(rates.read_gbps, 1),
          " GB/s (products ", fixed(rates.linear_share, 2), " of it, the head ", fixed(rates.head_share, 2),
          "), int8 ", fixed(rates.int8_decode_gops, 0), " GOP/s for one row, ",
          fixed(rates.int8_prompt_gops, 0), " for many, f32 ", fixed(rates.dense_decode_gflops, 0), " and ",
          fixed(rates.f32_gflops, 0), " GFLOP/s, a loop ", fixed(rates.synchronization_us, 1), " us\ndecode ",
          fixed(p.decode_tokens_per_second, 1), " tokens/s at ", options.context, " tokens of context; ",
          p.decode_bound, "\n", table(p.decode), "\nprompt ", fixed(p.prompt_tokens_per_second, 1),
          " tokens/s, ", options.prompt, " tokens; ", p.prompt_bound, "\n", table(p.prompt)));
  return 0;
}

}  // namespace

void add_roofline(CLI::App& app, Action& action) {
  auto options = std::make_shared<RooflineOptions>();
  CLI::App* command = app.add_subcommand("roofline", "predicted tokens/s and what bounds each part");
  command
      ->add_option("model", options->what,
                   cat("a model, or a shape: ", join(formats::synthetic_shapes(), ", ")))
      ->required();
  command
      ->add_option(
          "--bits", options->bits,
          "of the block linears: 2, 3, 4, 8, or 16 for floats; default: the model's own, 2 for a shape")
      ->check(CLI::IsMember({2, 3, 4, 8, 16}));
  command->add_option("--group", options->group, "weights that share a scale; -1: whole rows")
      ->check(CLI::Range(-1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--head-bits", options->head_bits,
                   "embedding and head at 8, 6 or 4 bits; 0: floats; default: as crumb run")
      ->check(CLI::IsMember({0, 8, 6, 4}));
  command->add_option("--kv-cache", options->kv_cache, "f32, f16, int8 or int4")
      ->check(CLI::IsMember({"f32", "f16", "int8", "int4"}))
      ->capture_default_str();
  command->add_option("--context", options->context, "tokens before the decoded one")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command->add_option("--prompt", options->prompt, "tokens of the prompt")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--bandwidth", options->bandwidth,
                   "read bandwidth of all threads in GB/s; default: measured here")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--gops", options->gops,
                   "int8 operations in 1e9 a second, of one row and of many; default: both measured here")
      ->check(CLI::PositiveNumber);
  command->add_option("--flops", options->flops, "f32 operations in 1e9 a second; default: measured here")
      ->check(CLI::PositiveNumber);
  add_thread_option(*command, options->threads);
  command->add_option("--plot", options->plot, "write the picture as SVG");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, &action] { action = [options] { return roofline(*options); }; });
}

}  // namespace crumb::cli
