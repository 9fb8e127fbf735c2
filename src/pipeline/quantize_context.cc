#include "pipeline/quantize_context.h"

#include <omp.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_info.h"
#include "formats/hf_output.h"
#include "io/json.h"
#include "nn/host_memory.h"
#include "pipeline/job.h"
#include "pipeline/load_model.h"
#include "pipeline/memory_plan.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path relative = fs::weakly_canonical(path).lexically_relative(fs::weakly_canonical(folder));
  return !relative.empty() && *relative.begin() != "..";
}

void check_length(const model::ModelConfig& config, const char* field, std::int64_t tokens) {
  const std::int64_t longest = config.max_position_embeddings;
  if (longest > 0 && tokens > longest) {
    fail(ErrorKind::kInvalidArgument, "pipeline.quantize", field, ": ", tokens,
         " tokens; the model's context is ", longest, "; lower it");
  }
}

}  // namespace

bool QuantizeContext::needs_calibration() const {
  return recipe.reads_activations();
}

fs::path run_directory_of(const QuantizeRequest& request) {
  if (!request.run_dir.empty()) return request.run_dir;
  return fs::absolute(request.output).lexically_normal().string() + ".run";
}

void remove_abandoned_output(const fs::path& output) {
  const std::string prefix = cat(".", output.filename().string(), ".crumb-tmp-");
  std::error_code error;
  for (fs::directory_iterator entry(output.parent_path(), error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.rfind(prefix, 0) != 0) continue;
    const long pid = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
    std::error_code ignored;
    if (pid > 0 && ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH)
      fs::remove_all(entry->path(), ignored);
  }
}

QuantizeContext open_context(QuantizeRequest request) {
  QuantizeContext c;
  c.request = std::move(request);
  c.recipe = c.request.recipe;
  if (c.request.calib_spec.empty()) c.request.calib_spec = c.recipe.calibration.corpus;
  if (c.request.output.empty())
    fail(ErrorKind::kInvalidArgument, "pipeline.quantize", "no output: want a directory; give -o OUT");
  recipe::check_recipe(c.recipe);
  nn::set_threads(c.request.threads > 0 ? c.request.threads : c.recipe.performance.threads);
  nn::use_host_memory(true);
  c.device = nn::resolve_device(c.request.device);
  const auto compute = [&](recipe::Precision precision) {
    return nn::Compute{nn::resolve_precision(recipe::to_string(precision), c.device), c.device.is_cpu()};
  };
  c.block_compute = compute(c.recipe.block_ap.precision);
  c.e2e_compute = compute(c.recipe.e2e_qp.precision);
  c.eval_compute = {nn::Precision::kF32, c.device.is_cpu()};
  c.checkpoint = formats::Checkpoint::open(c.request.model);
  const model::ModelConfig& config = c.checkpoint->config();
  for (const model::LinearRole role : model::linear_roles(config)) {
    quant::check_spec(c.recipe.weights.stored_spec(), model::linear_shape(config, role).k,
                      model::hf_name(role));
  }
  check_structure(c.recipe, config);
  c.output = fs::absolute(c.request.output).lexically_normal();
  const fs::path& output = c.output;
  if (fs::exists(output) && fs::equivalent(output, fs::path(c.request.model))) {
    fail(ErrorKind::kInvalidArgument, "pipeline.quantize", output.string(),
         ": is the model itself; want another directory; give another -o");
  }
  c.run_dir = run_directory_of(c.request);
  if (lies_in(c.run_dir, output)) {
    fail(ErrorKind::kInvalidArgument, "pipeline.quantize", c.run_dir.string(),
         ": the run directory lies in the output; want a folder of its own; give another "
         "--run-dir");
  }
  check_length(config, "calibration.tokens", c.needs_calibration() ? c.recipe.calibration.tokens : 0);
  check_length(config, "e2e_qp.tokens", c.recipe.has(recipe::Stage::kE2eQp) ? c.recipe.e2e_qp.tokens : 0);
  check_length(config, "--eval-context", c.request.eval_spec.empty() ? 0 : c.request.eval_context);
  c.job = describe_job(c.request, *c.checkpoint, c.device.str(), omp_get_max_threads());
  if (fs::exists(output) && !fs::exists(output / "crumb_report.json") &&
      !(fs::is_directory(output) && fs::is_empty(output))) {
    fail(ErrorKind::kInvalidArgument, "pipeline.quantize", output.string(),
         ": exists and is not a result of crumb; want a new directory; give another -o, or move it away");
  }
  std::error_code error;
  fs::create_directories(output.parent_path(), error);
  if (error || ::access(output.parent_path().c_str(), W_OK) != 0) {
    fail(ErrorKind::kIo, "pipeline.quantize", output.parent_path().string(),
         ": no output can be made there; want a writable folder; give another -o");
  }
  c.tokenizer = open_tokenizer(c.request.model);
  if (c.tokenizer == nullptr) log::warn("the model has no tokenizer; only token files can be read");

  const MemoryPlan plan = plan_memory(config, c.recipe);
  const std::int64_t available = available_bytes();
  c.ram_limit = c.recipe.performance.activation_ram_limit_bytes > 0
                    ? c.recipe.performance.activation_ram_limit_bytes
                    : available / 8;
  const std::int64_t peak = plan.peak_memory(c.ram_limit);
  log::info("memory plan: about ", human_bytes(static_cast<double>(peak)), " of ",
            human_bytes(static_cast<double>(available)), " available");
  if (c.device.is_cpu() && peak > available) {
    fail(ErrorKind::kOutOfMemory, "pipeline.quantize", c.request.model, ": needs about ",
         human_bytes(static_cast<double>(peak)), "; ", human_bytes(static_cast<double>(available)),
         " are available; lower block_ap.batch or calibration.tokens, or set "
         "performance.activation_ram_limit_bytes so that streams go to disk");
  }
  c.report = {{"report_version", kReportVersion},
              {"model", c.request.model},
              {"model_holds", c.checkpoint->describe()},
              {"scheme", quant::scheme_name(c.recipe.weights.spec())},
              {"recipe", recipe::to_json(c.recipe)},
              {"device", c.device.str()},
              {"threads", omp_get_max_threads()},
              {"precision",
               {{"block_ap", nn::to_string(c.block_compute.precision)},
                {"e2e_qp", nn::to_string(c.e2e_compute.precision)}}},
              {"job", c.job}};
  c.parameters = model::count_parameters(config).total();
  c.packed_bytes = formats::hf_gptq_tensor_bytes(*c.checkpoint, c.recipe.weights.stored_spec());
  return c;
}

std::optional<ordered_json> finished_report(const QuantizeContext& c) {
  const fs::path file = fs::path(c.request.output) / "crumb_report.json";
  if (c.request.mode == ResumeMode::kRestart || !fs::exists(file)) return std::nullopt;
  ordered_json found = io::parse_ordered_json(io::read_text_file(file), file.string());
  if (found.value("job", ordered_json()) == c.job) {
    log::info(c.request.output, ": holds the result of this job already; give --restart to make it again");
    // The process may have ended between the output's rename and the end of the run.
    remove_abandoned_output(c.output);
    if (fs::exists(c.run_dir / "run.json") &&
        io::parse_ordered_json(io::read_text_file(c.run_dir / "run.json"), c.run_dir.string()) == c.job) {
      RunDirectory(c.run_dir, c.job, ResumeMode::kAuto).remove();
    }
    return found;
  }
  if (!fs::exists(c.run_dir / "run.json"))
    log::info(c.request.output,
              ": holds the result of another job and will be replaced when this one is done");
  return std::nullopt;
}

}  // namespace crumb::pipeline
