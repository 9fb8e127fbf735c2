// crumb bench synthesize: a packed model of random weights.
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/run/bench.h"
#include "formats/synthetic.h"
#include "io/atomic_output.h"

namespace crumb::cli {
namespace {

struct SynthesizeOptions {
  std::string shape, output;
  std::int64_t blocks = 0;
  quant::AffineSpec spec;
  quant::ActivationScheme activations;
  std::uint64_t seed = 1;
  bool asymmetric = false, json = false;
};

int synthesize(SynthesizeOptions& options) {
  options.activations.symmetric = !options.asymmetric;
  quant::check_activation_scheme(options.activations, "--act-bits, --kv-bits");
  model::ModelConfig config = formats::synthetic_config(options.shape);
  if (options.blocks > 0) config.num_hidden_layers = options.blocks;
  while (options.output.size() > 1 && options.output.back() == '/') options.output.pop_back();
  if (std::filesystem::exists(options.output) &&
      (!std::filesystem::is_directory(options.output) || !std::filesystem::is_empty(options.output)))
    fail(ErrorKind::kInvalidArgument, "cli.bench", options.output,
         ": is there already; give the name of a new directory");
  io::AtomicDirectory folder(options.output);
  const formats::HfOutputReport report = formats::write_synthetic(
      config, options.spec, options.seed, folder.path(),
      options.activations.rounds() ? std::optional(options.activations) : std::nullopt);
  folder.commit();
  const std::int64_t parameters = model::count_parameters(config).total();
  if (options.json) {
    print_json({{"shape", options.shape},
                {"output", options.output},
                {"scheme", quant::scheme_name(options.spec)},
                {"parameters", parameters},
                {"file_bytes", report.file_bytes},
                {"bits_per_linear_weight", report.bits_per_linear_weight}});
  } else {
    print_line(cat(options.output, ": ", options.shape, " at ", quant::scheme_name(options.spec), ", ",
                   fixed(static_cast<double>(parameters) / 1e9, 2), "e9 parameters, ",
                   human_bytes(static_cast<double>(report.file_bytes)), " of random weights"));
  }
  return 0;
}

}  // namespace

void add_bench_synthesize(CLI::App& bench, Action& action) {
  auto options = std::make_shared<SynthesizeOptions>();
  CLI::App* command =
      bench.add_subcommand("synthesize", "write a packed model of random weights, for measuring speed only");
  command->add_option("--shape", options->shape, cat("of ", join(formats::synthetic_shapes(), ", ")))
      ->required()
      ->check(CLI::IsMember(formats::synthetic_shapes()));
  command->add_option("--bits", options->spec.bits, "2, 3, 4 or 8")
      ->check(CLI::IsMember({2, 3, 4, 8}))
      ->capture_default_str();
  command->add_option("--group", options->spec.group_size, "weights that share a scale; -1: whole rows")
      ->check(CLI::Range(-1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--act-bits", options->activations.bits,
                   "rounding of activations to record, per token: 2 to 8; 16: none")
      ->capture_default_str();
  command->add_option("--kv-bits", options->activations.kv_bits, "the same of keys and values")
      ->capture_default_str();
  command->add_flag("--act-asymmetric", options->asymmetric, "with zero points");
  command->add_option("--blocks", options->blocks, "only so many decoder blocks; 0: all of the shape")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "the same seed gives the same bytes")->capture_default_str();
  command->add_option("-o,--output", options->output, "directory to write")->required();
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, &action] { action = [options] { return synthesize(*options); }; });
}

}  // namespace crumb::cli
