#include "pipeline/quantize_model.h"

#include <omp.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/memory_info.h"
#include "eval/perplexity.h"
#include "formats/hf_output.h"
#include "io/atomic_output.h"
#include "io/json.h"
#include "methods/efficientqat/block_ap.h"
#include "methods/efficientqat/e2e_qp.h"
#include "methods/initialize.h"
#include "nn/host_memory.h"
#include "nn/torch_language_model.h"
#include "pipeline/block_state.h"
#include "pipeline/e2e_checkpoint.h"
#include "pipeline/job.h"
#include "pipeline/load_model.h"
#include "pipeline/memory_plan.h"
#include "pipeline/metrics.h"
#include "pipeline/model_card.h"
#include "pipeline/report.h"
#include "pipeline/run_data.h"
#include "pipeline/streams.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;
namespace fs = std::filesystem;
namespace efficientqat = methods::efficientqat;

namespace {

constexpr int kAttempts = 3;                    // a block whose loss is not finite is tried again with halved learning rates
constexpr double kCheckpointSeconds = 30;       // between E2E-QP checkpoints

calib::StoreDtype store_dtype(recipe::StoreDtype dtype) {
  return dtype == recipe::StoreDtype::kF32 ? calib::StoreDtype::kF32 : calib::StoreDtype::kBf16;
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path relative = fs::weakly_canonical(path).lexically_relative(fs::weakly_canonical(folder));
  return !relative.empty() && *relative.begin() != "..";
}

// A process that was killed while it wrote left its half output under a temporary name.
void remove_abandoned_output(const fs::path& output) {
  const std::string prefix = cat(".", output.filename().string(), ".crumb-tmp-");
  std::error_code error;
  for (fs::directory_iterator entry(output.parent_path(), error); !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.rfind(prefix, 0) != 0) continue;
    const long pid = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
    std::error_code ignored;
    if (pid > 0 && ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) fs::remove_all(entry->path(), ignored);
  }
}

bool all_finite(nn::DecoderBlock& block) {
  bool finite = true;
  const auto check = [&](const at::Tensor& tensor) { finite = finite && at::isfinite(tensor).all().item<bool>(); };
  for (const model::LinearRole role : model::kLinearRoles) {
    const nn::QuantLinear& linear = block.linear(role);
    check(linear.weight);
    check(linear.scale);
    check(linear.zero_point);
  }
  for (auto& [name, norm] : block.norms()) check(*norm);
  return finite;
}

// The run of one request. Its functions stand in the order in which they are called.
class Run {
 public:
  explicit Run(QuantizeRequest request) : request_(std::move(request)), recipe_(request_.recipe) {}

  ordered_json execute() {
    open();
    if (auto done = finished_report()) return *done;
    Meter total;
    RunDirectory run(run_dir_, job_, request_.mode);
    run_ = &run;
    metrics_.emplace(run.path() / "metrics.jsonl");
    if (run.resumed()) log::info("going on with the run in ", run.path().string());
    prepare_data();
    evaluate_stage("fp", [&] { return load_causal_lm(*checkpoint_, eval_compute_, device_, Residency::kAuto); });
    evaluate_stage("rtn", [&] { return rounded_to_nearest(); });
    quantize_blocks();
    if (recipe_.block_ap.enabled) evaluate_stage("block_ap", [&] { return packed_model(); });
    train_end_to_end();
    write_output(total);
    finish();
    return report_;
  }

 private:
  void open() {
    if (request_.calib_spec.empty()) request_.calib_spec = recipe_.calibration.corpus;
    if (request_.output.empty()) fail(ErrorKind::kInvalidArgument, "pipeline.quantize", "no output: want a directory; give -o OUT");
    recipe::check_recipe(recipe_);
    nn::set_threads(request_.threads > 0 ? request_.threads : recipe_.performance.threads);
    nn::use_host_memory(true);
    device_ = nn::resolve_device(request_.device);
    const auto compute = [&](recipe::Precision precision) {
      return nn::Compute{nn::resolve_precision(recipe::to_string(precision), device_), device_.is_cpu()};
    };
    block_compute_ = compute(recipe_.block_ap.precision);
    e2e_compute_ = compute(recipe_.e2e_qp.precision);
    eval_compute_ = {nn::Precision::kF32, device_.is_cpu()};
    checkpoint_ = formats::Checkpoint::open(request_.model);
    const model::ModelConfig& config = checkpoint_->config();
    for (const model::LinearRole role : model::kLinearRoles) {
      quant::check_spec(recipe_.weights.spec(), model::linear_shape(config, role).k, model::hf_name(role));
    }
    output_ = fs::absolute(request_.output).lexically_normal();
    const fs::path& output = output_;
    if (fs::exists(output) && fs::equivalent(output, fs::path(request_.model))) {
      fail(ErrorKind::kInvalidArgument, "pipeline.quantize", output.string(), ": is the model itself; want another directory; give another -o");
    }
    run_dir_ = request_.run_dir.empty() ? fs::path(output.string() + ".run") : fs::path(request_.run_dir);
    if (lies_in(run_dir_, output)) {
      fail(ErrorKind::kInvalidArgument, "pipeline.quantize", run_dir_.string(), ": the run directory lies in the output; want a folder of its own; give another "
           "--run-dir");
    }
    check_length("calibration.tokens", needs_calibration() ? recipe_.calibration.tokens : 0);
    check_length("e2e_qp.tokens", recipe_.e2e_qp.enabled ? recipe_.e2e_qp.tokens : 0);
    check_length("--eval-context", request_.eval_spec.empty() ? 0 : request_.eval_context);
    job_ = describe_job(request_, *checkpoint_, device_.str(), omp_get_max_threads());
    if (fs::exists(output) && !fs::exists(output / "crumb_report.json") && !(fs::is_directory(output) && fs::is_empty(output))) {
      fail(ErrorKind::kInvalidArgument, "pipeline.quantize", output.string(),
           ": exists and is not a result of crumb; want a new directory; give another -o, or move it away");
    }
    std::error_code error;
    fs::create_directories(output.parent_path(), error);
    if (error || ::access(output.parent_path().c_str(), W_OK) != 0) {
      fail(ErrorKind::kIo, "pipeline.quantize", output.parent_path().string(), ": no output can be made there; want a writable folder; give another -o");
    }
    tokenizer_ = open_tokenizer(request_.model);
    if (tokenizer_ == nullptr) log::warn("the model has no tokenizer; only token files can be read");

    const MemoryPlan plan = plan_memory(config, recipe_);
    const std::int64_t available = available_bytes();
    ram_limit_ = recipe_.performance.activation_ram_limit_bytes > 0 ? recipe_.performance.activation_ram_limit_bytes : available / 8;
    const std::int64_t peak = plan.peak_memory(ram_limit_);
    log::info("memory plan: about ", human_bytes(static_cast<double>(peak)), " of ", human_bytes(static_cast<double>(available)), " available");
    if (device_.is_cpu() && peak > available) {
      fail(ErrorKind::kOutOfMemory, "pipeline.quantize", request_.model, ": needs about ", human_bytes(static_cast<double>(peak)), "; ",
           human_bytes(static_cast<double>(available)), " are available; lower block_ap.batch or calibration.tokens, or set "
           "performance.activation_ram_limit_bytes so that streams go to disk");
    }
    report_ = {{"report_version", kReportVersion},
               {"model", request_.model},
               {"model_holds", checkpoint_->describe()},
               {"scheme", quant::scheme_name(recipe_.weights.spec())},
               {"recipe", recipe::to_json(recipe_)},
               {"device", device_.str()},
               {"threads", omp_get_max_threads()},
               {"precision", {{"block_ap", nn::to_string(block_compute_.precision)}, {"e2e_qp", nn::to_string(e2e_compute_.precision)}}},
               {"job", job_}};
    parameters_ = model::count_parameters(config).total();
    packed_bytes_ = formats::hf_gptq_tensor_bytes(*checkpoint_, recipe_.weights.spec());
  }

  void check_length(const char* field, std::int64_t tokens) const {
    const std::int64_t longest = checkpoint_->config().max_position_embeddings;
    if (longest > 0 && tokens > longest) {
      fail(ErrorKind::kInvalidArgument, "pipeline.quantize", field, ": ", tokens, " tokens; the model's context is ", longest, "; lower it");
    }
  }
  bool needs_calibration() const {
    return recipe_.block_ap.enabled || recipe_.e2e_qp.enabled || recipe_.initialization.method == recipe::InitMethod::kClipSearchActivation;
  }

  // The report of an output directory that this very job made.
  std::optional<ordered_json> finished_report() const {
    const fs::path file = fs::path(request_.output) / "crumb_report.json";
    if (request_.mode == ResumeMode::kRestart || !fs::exists(file)) return std::nullopt;
    ordered_json found = io::parse_ordered_json(io::read_text_file(file), file.string());
    if (found.value("job", ordered_json()) == job_) {
      log::info(request_.output, ": holds the result of this job already; give --restart to make it again");
      // The process may have ended between the output's rename and the end of the run.
      remove_abandoned_output(output_);
      if (fs::exists(run_dir_ / "run.json") && io::parse_ordered_json(io::read_text_file(run_dir_ / "run.json"), run_dir_.string()) == job_) {
        RunDirectory(run_dir_, job_, ResumeMode::kAuto).remove();
      }
      return found;
    }
    if (!fs::exists(run_dir_ / "run.json")) log::info(request_.output, ": holds the result of another job and will be replaced when this one is done");
    return std::nullopt;
  }

  void prepare_data() {
    const auto teacher = [&] {
      return nn::make_language_model(std::make_shared<nn::CausalLm>(load_causal_lm(*checkpoint_, eval_compute_, device_, Residency::kAuto)));
    };
    if (needs_calibration()) {
      if (const auto event = run_->find("calibration")) {
        calibration_ = load_calibration(run_->verified_file(*event));
      } else {
        calibration_ = prepare_calibration(request_.calib_spec, recipe_, tokenizer_.get(), checkpoint_->config().vocab_size, teacher);
        save_calibration(run_->path() / "calibration.safetensors", calibration_);
        run_->record("calibration", run_->describe_file("calibration.safetensors"));
      }
      log::info("calibration ", request_.calib_spec, ": ", calibration_.train.rows, " windows of ", calibration_.train.columns, " tokens, ",
                calibration_.e2e.rows, " of ", calibration_.e2e.columns, " for E2E-QP; content hash ", calibration_.content_hash());
      report_["calibration"] = {{"source", request_.calib_spec}, {"content_hash", calibration_.content_hash()}};
    }
    if (!request_.eval_spec.empty()) {
      evaluation_ = prepare_evaluation(request_.eval_spec, tokenizer_.get(), checkpoint_->config().vocab_size, request_.eval_context, request_.eval_windows);
      log::info("evaluation ", request_.eval_spec, ": ", evaluation_.rows, " windows of ", evaluation_.columns, " tokens; content hash ",
                evaluation_.content_hash());
      report_["evaluation"] = {{"source", request_.eval_spec}, {"windows", evaluation_.rows}, {"context", evaluation_.columns},
                               {"content_hash", evaluation_.content_hash()}};
    }
    report_["stages"] = ordered_json::array();
  }

  ordered_json perplexity(nn::CausalLm lm) const {
    lm.compute = eval_compute_;
    const auto model = nn::make_language_model(std::make_shared<nn::CausalLm>(std::move(lm)));
    return eval::to_json(eval::perplexity(*model, evaluation_));
  }

  // Adds a row for a stage; `cost` is that of producing it, the evaluation's own when there is none.
  template <class MakeModel>
  void evaluate_stage(const std::string& stage, const MakeModel& make, const ordered_json& cost = nullptr) {
    ordered_json row;
    if (const auto event = run_->find("stage", {{"stage", stage}})) {
      row = event->at("row");
    } else {
      const Meter meter;
      const ordered_json evaluation = evaluation_.rows > 0 ? perplexity(make()) : ordered_json(nullptr);
      const std::int64_t bytes = stage == "fp" ? checkpoint_->tensor_bytes() : packed_bytes_;
      row = stage_row(stage, evaluation, bytes, parameters_, cost.is_object() ? cost : meter.finish());
      run_->record("stage", {{"stage", stage}, {"row", row}});
    }
    if (row["ppl"].is_number()) log::info("stage=", stage, " ppl=", fixed(row["ppl"].get<double>(), 3));
    report_["stages"].push_back(std::move(row));
  }

  // Every linear by min-max, nothing trained: the baseline of every table.
  nn::CausalLm rounded_to_nearest() const {
    nn::CausalLm lm = load_shell(*checkpoint_, eval_compute_, device_);
    for (std::int64_t i = 0; i < lm.config.num_hidden_layers; ++i) {
      throw_if_interrupted("pipeline.quantize");
      nn::DecoderBlock block = load_float_block(*checkpoint_, i, device_);
      methods::start_block(block, recipe_.weights.spec(), {recipe::InitMethod::kMinMax, 1, 1}, nullptr);
      apply_block_state(block, finish_block(block), device_, /*packed=*/true);
      lm.blocks.push_back(std::move(block));
    }
    return lm;
  }

  // ------------------------------------------------------------------------------------------------------------------ Block-AP

  static std::string block_file(std::int64_t i) { return cat("block_", std::string(5 - std::min<std::size_t>(5, std::to_string(i).size()), '0'), i, ".safetensors"); }

  // EfficientQAT Algorithm 1, lines 1-7: every block in order against its full-precision output.
  void quantize_blocks() {
    const model::ModelConfig& config = checkpoint_->config();
    const bool streams_needed = calibration_.train.rows > 0;
    const bool teacher_needed = recipe_.e2e_qp.enabled && recipe_.e2e_qp.loss == recipe::E2eLoss::kKl && !run_->find("e2e_done");
    const calib::StoreOptions options{store_dtype(recipe_.block_ap.store_dtype), run_->path(), ram_limit_};
    nn::CausalLm shell = load_shell(*checkpoint_, block_compute_, device_);
    const auto make_stream = [&](const data::TokenWindows& windows) { return embed_windows(shell.embedding, windows, options); };
    // X_fp and X_q for training and validation windows; the full-precision stream of E2E-QP's windows travels along.
    calib::ActivationStore full = make_stream(calibration_.train), quantized = make_stream(calibration_.train);
    calib::ActivationStore full_validation = make_stream(calibration_.validation), quantized_validation = make_stream(calibration_.validation);
    std::optional<calib::ActivationStore> teacher;
    if (teacher_needed) teacher = make_stream(calibration_.e2e);
    shell = {};
    const std::int64_t batch = recipe_.block_ap.batch;
    const nn::RopeTable rope = nn::make_rope_table(config, std::max(calibration_.train.columns, calibration_.e2e.columns), device_);

    ordered_json rows = ordered_json::array();
    double trained_seconds = 0;
    std::int64_t trained_blocks = 0;
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      throw_if_interrupted("pipeline.quantize");
      const Meter block_meter;
      nn::DecoderBlock block = load_float_block(*checkpoint_, i, device_);
      std::optional<methods::InputEnergies> energies;
      const auto done = run_->find("block", {{"block", i}});
      if (!done && recipe_.initialization.method == recipe::InitMethod::kClipSearchActivation) {
        energies = methods::collect_input_energies(block, quantized, batch, rope, block_compute_, device_);
      }
      if (streams_needed) {
        advance(full, block, batch, rope, block_compute_, device_);
        advance(full_validation, block, batch, rope, block_compute_, device_);
        if (teacher) advance(*teacher, block, recipe_.e2e_qp.batch, rope, block_compute_, device_);
      }
      double lr_factor = 1;
      efficientqat::BlockApResult result;
      formats::PackedBlock state;
      if (done) {
        state = load_block_state(run_->verified_file(*done), config, recipe_.weights.spec());
      } else {
        result = train(i, block, energies ? &*energies : nullptr, {quantized, full}, {quantized_validation, full_validation}, rope, lr_factor);
        state = finish_block(block);
        save_block_state(run_->path() / block_file(i), state);
      }
      // Go on with what the file holds, scales in binary16 included: later blocks see what the user will run.
      apply_block_state(block, state, device_, /*packed=*/false);
      state = {};
      if (streams_needed) {
        advance(quantized, block, batch, rope, block_compute_, device_);
        advance(quantized_validation, block, batch, rope, block_compute_, device_);
      }
      if (done) {
        rows.push_back(done->at("row"));
        continue;
      }
      std::optional<TokenStatistics> statistics;
      if (streams_needed) statistics = compare_streams(quantized, full, batch);
      ordered_json row = block_row(i, result, lr_factor, statistics ? &*statistics : nullptr);
      row.update(block_meter.finish());
      ordered_json event = run_->describe_file(block_file(i));
      event.update({{"block", i}, {"row", row}});
      run_->record("block", event);
      trained_seconds += block_meter.seconds();
      print_progress(i, row, trained_seconds / static_cast<double>(++trained_blocks));
      rows.push_back(std::move(row));
    }
    report_["block_ap"] = total_cost(rows);
    report_["blocks"] = std::move(rows);
    if (teacher) {  // what the head sees
      const at::NoGradGuard no_grad;
      const at::Tensor norm = tensor_from(checkpoint_->read_f32(model::kFinalNormName), {config.hidden_size}).to(device_);
      for (std::int64_t w = 0; w < teacher->windows(); ++w) {
        teacher->write(w, nn::rms_norm(teacher->read(w, 1).to(device_), norm, config.rms_norm_eps, e2e_compute_));
      }
      teacher_.emplace(std::move(*teacher));
    }
  }

  // Starts and trains one block. When the loss stops being finite the block is loaded again and both learning rates are halved.
  efficientqat::BlockApResult train(std::int64_t index, nn::DecoderBlock& block, const methods::InputEnergies* energies, const calib::BlockBatches& batches,
                                    const calib::BlockBatches& validation, const nn::RopeTable& rope, double& lr_factor) {
    for (int attempt = 0; attempt < kAttempts; ++attempt, lr_factor /= 2) {
      if (attempt > 0) block = load_float_block(*checkpoint_, index, device_);
      methods::start_block(block, recipe_.weights.spec(), recipe_.initialization, energies);
      if (!recipe_.block_ap.enabled) return {};
      efficientqat::BlockApResult result =
          efficientqat::train_block(block, batches, validation, rope, recipe_.block_ap, lr_factor, block_compute_, device_,
                                    [&](std::int64_t k, const efficientqat::BlockApStep& step) {
                                      metrics_->add({{"block", index}, {"step", k}, {"loss", step.loss}, {"gradient_norm", step.gradient_norm},
                                                     {"quant_lr", step.quant_lr}, {"weight_lr", step.weight_lr}});
                                      throw_if_interrupted("pipeline.quantize");
                                    });
      result.finite = result.finite && all_finite(block);  // the last update is followed by no loss
      if (result.finite) return result;
      log::warn("block ", index, ": the loss is not finite at step ", result.steps.size(), " with learning rates times ", lr_factor,
                attempt + 1 < kAttempts ? "; trying again with half of them" : "; giving up");
    }
    fail(ErrorKind::kNumerics, "pipeline.quantize", "block ", index, ": the loss was not finite in ", kAttempts,
         " attempts with ever lower learning rates; want finite losses; lower block_ap.weight_lr and block_ap.quant_lr, or check the weights with crumb inspect");
  }

  void print_progress(std::int64_t i, const ordered_json& row, double seconds_a_block) const {
    const std::int64_t count = checkpoint_->config().num_hidden_layers;
    log::info("block=", i + 1, "/", count, row.contains("first_loss") ? cat(" first_loss=", row["first_loss"].get<double>(), " last_loss=", row["last_loss"].get<double>()) : "",
              row.contains("stream_loss") ? cat(" stream_loss=", row["stream_loss"].get<double>()) : "", " seconds=", fixed(row["seconds"].get<double>(), 1),
              " left=", human_seconds(seconds_a_block * static_cast<double>(count - 1 - i)));
  }

  // Blocks from the run directory; `scales` of E2E-QP in block and role order replace theirs unless empty.
  formats::PackedBlock final_block(std::int64_t i, const std::vector<at::Tensor>& scales) const {
    const auto event = run_->find("block", {{"block", i}});
    if (!event) fail(ErrorKind::kCorrupt, "pipeline.quantize", run_->path().string(), ": block ", i, " is not in the journal; give --restart");
    formats::PackedBlock block = load_block_state(run_->verified_file(*event), checkpoint_->config(), recipe_.weights.spec());
    if (!scales.empty()) {
      for (std::size_t role = 0; role < block.linears.size(); ++role) {
        set_scales(block.linears[role], scales.at(static_cast<std::size_t>(i) * block.linears.size() + role));
      }
    }
    return block;
  }

  // Block-AP's result, packed.
  nn::CausalLm packed_model() const {
    nn::CausalLm lm = load_shell(*checkpoint_, e2e_compute_, device_);
    for (std::int64_t i = 0; i < lm.config.num_hidden_layers; ++i) {
      nn::DecoderBlock block = load_bias_only_block(*checkpoint_, i, device_);
      apply_block_state(block, final_block(i, {}), device_, /*packed=*/true);
      lm.blocks.push_back(std::move(block));
    }
    return lm;
  }

  // ------------------------------------------------------------------------------------------------------------------- E2E-QP

  void train_end_to_end() {
    if (!recipe_.e2e_qp.enabled) return;
    const std::int64_t steps = recipe_.e2e_qp.resolved_steps();
    if (const auto event = run_->find("e2e_done")) {
      final_scales_ = load_e2e_checkpoint(run_->verified_file(*event)).scales;
      report_["e2e_qp"] = event->at("result");
    } else {
      const Meter meter;
      nn::CausalLm lm = packed_model();
      efficientqat::E2eQp trainer(lm, recipe_.e2e_qp, recipe_.performance, steps);
      ordered_json losses = ordered_json::array(), norms = ordered_json::array(), earlier = ordered_json::array();
      if (const auto checkpoint = run_->find("e2e_checkpoint")) {
        trainer.restore(load_e2e_checkpoint(run_->verified_file(*checkpoint)));
        losses = checkpoint->at("losses");
        norms = checkpoint->at("gradient_norms");
        earlier.push_back(checkpoint->at("cost"));
        previous_checkpoint_ = checkpoint->at("file");
        log::info("E2E-QP: going on after step ", trainer.steps_taken(), "/", steps);
      }
      const auto cost = [&] {  // of all processes that worked on it
        ordered_json pieces = earlier;
        pieces.push_back(meter.finish());
        return total_cost(pieces);
      };
      double checkpoint_at = 0;
      while (trainer.steps_taken() < steps) {
        std::optional<Error> stopped;
        try {
          const efficientqat::E2eStep step = trainer.step(micro_batches(trainer.steps_taken()));
          losses.push_back(step.loss);
          norms.push_back(step.gradient_norm);
          metrics_->add({{"e2e_step", trainer.steps_taken()}, {"loss", step.loss}, {"gradient_norm", step.gradient_norm}, {"lr", step.lr}});
          log::info("e2e_step=", trainer.steps_taken(), "/", steps, " loss=", fixed(step.loss, 4), " gradient_norm=", fixed(step.gradient_norm, 3),
                    " lr=", step.lr, " left=", human_seconds(cost()["seconds"].get<double>() / static_cast<double>(losses.size()) * static_cast<double>(steps - trainer.steps_taken())));
        } catch (const Error& error) {
          if (error.kind() != ErrorKind::kInterrupted) throw;
          stopped = error;
        }
        const bool last = trainer.steps_taken() == steps;
        if (last || stopped || interrupted() || meter.seconds() - checkpoint_at > kCheckpointSeconds) {
          const std::string name = cat("e2e_", trainer.steps_taken(), ".safetensors");
          save_e2e_checkpoint(run_->path() / name, trainer.state());
          ordered_json event = run_->describe_file(name);
          event.update({{"step", trainer.steps_taken()}, {"losses", losses}, {"gradient_norms", norms}, {"cost", cost()}});
          run_->record("e2e_checkpoint", event);
          if (!previous_checkpoint_.empty() && previous_checkpoint_ != name) fs::remove(run_->path() / previous_checkpoint_);
          previous_checkpoint_ = name;
          checkpoint_at = meter.seconds();
          if (stopped) throw *stopped;
          if (!last) throw_if_interrupted("pipeline.quantize");
        }
      }
      trainer.finish();
      final_scales_ = trainer.state().scales;
      ordered_json result = {{"steps", steps}, {"loss", recipe::to_string(recipe_.e2e_qp.loss)}, {"losses", losses}, {"gradient_norms", norms}};
      result.update(cost());
      ordered_json done = *run_->find("e2e_checkpoint");
      done.erase("event");
      done["result"] = result;
      run_->record("e2e_done", done);
      report_["e2e_qp"] = std::move(result);
    }
    teacher_.reset();
  }

  // The micro-batches of optimizer step k: windows in their order, again from the first when they are used up.
  std::vector<efficientqat::E2eBatch> micro_batches(std::int64_t k) const {
    std::vector<efficientqat::E2eBatch> batches;
    const recipe::E2eQp& how = recipe_.e2e_qp;
    for (std::int64_t a = 0; a < how.accumulation; ++a) {
      std::vector<std::int32_t> ids;
      std::vector<at::Tensor> hidden;
      for (std::int64_t b = 0; b < how.batch; ++b) {
        const std::int64_t window = ((k * how.accumulation + a) * how.batch + b) % calibration_.e2e.rows;
        const auto row = calibration_.e2e.row(window);
        ids.insert(ids.end(), row.begin(), row.end());
        if (teacher_) hidden.push_back(teacher_->read(window, 1));
      }
      efficientqat::E2eBatch batch{nn::ids_tensor(ids, how.batch, calibration_.e2e.columns, device_), {}};
      if (teacher_) batch.teacher_hidden = at::cat(hidden).to(device_);
      batches.push_back(std::move(batch));
    }
    return batches;
  }

  // ------------------------------------------------------------------------------------------------------------------- output

  void write_output(const Meter& total) {
    remove_abandoned_output(output_);
    io::AtomicDirectory output(request_.output);
    formats::HfOutputOptions options;
    options.spec = recipe_.weights.spec();
    options.shard_bytes = recipe_.output.shard_bytes;
    if (checkpoint_->kind() == formats::CheckpointKind::kGguf && tokenizer_ != nullptr) {
      options.texts = {{"tokenizer.json", tokenizer_->to_tokenizer_json()}, {"tokenizer_config.json", tokenizer_->to_tokenizer_config_json()}};
    }
    const formats::HfOutputReport written =
        formats::write_hf_gptq(*checkpoint_, output.path(), options, [&](std::int64_t i) { return final_block(i, final_scales_); });
    report_["output"] = {{"tensor_bytes", written.tensor_bytes},
                         {"packed_linear_bytes", written.packed_linear_bytes},
                         {"file_bytes", written.file_bytes},
                         {"shards", written.shards},
                         {"bits_per_weight", 8.0 * static_cast<double>(written.tensor_bytes) / static_cast<double>(parameters_)},
                         {"bits_per_linear_weight", written.bits_per_linear_weight}};
    // The last figure is that of the files: they are opened again and evaluated as a user would.
    const std::string stage = recipe_.e2e_qp.enabled ? "e2e_qp" : recipe_.block_ap.enabled ? "written" : "start";
    const ordered_json cost = recipe_.e2e_qp.enabled     ? total_cost(ordered_json::array({report_["e2e_qp"]}))
                              : recipe_.block_ap.enabled ? ordered_json(nullptr)
                                                         : report_["block_ap"];
    evaluate_stage(stage, [&] { return load_causal_lm(*formats::Checkpoint::open(output.path()), eval_compute_, device_, Residency::kAuto); }, cost);
    for (auto& row : report_["stages"]) {
      if (row["stage"] == "block_ap") row.update(report_["block_ap"]);
    }
    report_["total"] = total.finish();
    report_["total"]["resumed"] = run_->resumed();
    io::write_text_atomically(output.path() / "README.md", model_card(report_));
    io::write_text_atomically(output.path() / "crumb_report.json", report_.dump(1) + "\n");
    output.commit();
  }

  void finish() {
    run_->remove();
    log::info("written: ", request_.output, ", ", human_bytes(report_["output"]["file_bytes"].get<double>()), ", ",
              fixed(report_["output"]["bits_per_linear_weight"].get<double>(), 2), " bits per block weight");
  }

  QuantizeRequest request_;
  const recipe::Recipe& recipe_;
  at::Device device_{at::kCPU};
  nn::Compute block_compute_, e2e_compute_, eval_compute_;
  std::unique_ptr<formats::Checkpoint> checkpoint_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  std::int64_t ram_limit_ = 0, parameters_ = 0, packed_bytes_ = 0;
  fs::path output_, run_dir_;  // absolute, and where the run keeps its pieces
  ordered_json job_, report_;
  RunDirectory* run_ = nullptr;
  std::optional<Metrics> metrics_;
  CalibrationData calibration_;
  data::TokenWindows evaluation_;
  std::optional<calib::ActivationStore> teacher_;  // E2E-QP's windows after the full-precision final norm
  std::vector<at::Tensor> final_scales_;
  std::string previous_checkpoint_;
};

}  // namespace

ordered_json quantize_model(const QuantizeRequest& request) {
  const fs::path run_dir = request.run_dir.empty() ? request.output + ".run" : request.run_dir;
  try {
    return Run(request).execute();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kInterrupted) throw;
    fail(ErrorKind::kInterrupted, "pipeline.quantize", request.output, ": stopped on request; finished blocks are kept in ", run_dir.string(),
         "; the same command goes on from there");
  }
}

}  // namespace crumb::pipeline
