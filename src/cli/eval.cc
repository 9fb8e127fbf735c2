#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/log.h"
#include "base/memory_info.h"
#include "cli/command.h"
#include "cli/first_logits.h"
#include "cli/model_loader.h"
#include "data/text_source.h"
#include "eval/divergence.h"
#include "eval/perplexity.h"

namespace crumb::cli {
namespace {

struct EvalOptions {
  std::string model, text, tokens, reference, logits;
  std::int64_t context = 2048, windows = 0;
  bool context_given = false, json = false;
  ModelLoader load;
};

data::TokenWindows read_windows(const EvalOptions& options, const OpenedModel& loaded) {
  if (!options.tokens.empty()) {
    // A 2-D tensor has a window length of its own, which counts unless --context says otherwise.
    data::TokenWindows all = data::read_token_file(
        options.tokens, options.context_given ? options.context : 0, loaded.model->vocab_size());
    if (options.windows > 0 && options.windows < all.rows) return all.slice(0, options.windows, all.columns);
    return all;
  }
  return data::prepare_evaluation(options.text.empty() ? "wikitext2" : options.text, loaded.tokenizer.get(),
                                  loaded.model->vocab_size(), options.context, options.windows);
}

int evaluate(EvalOptions& options) {
  const OpenedModel loaded = options.load.open(options.model);
  const data::TokenWindows windows = read_windows(options, loaded);
  log::info("eval: ", loaded.description, "; ", windows.rows, " windows of ", windows.columns,
            " tokens, ids ", windows.content_hash().substr(0, 16));
  const eval::Progress progress = [](std::int64_t done, std::int64_t total) {
    if (done == total || done % std::max<std::int64_t>(total / 10, 1) == 0)
      log::info("eval: window ", done, " of ", total);
  };
  std::optional<FirstLogits> first;
  if (!options.logits.empty()) first.emplace(*loaded.model);
  model::LanguageModel& model = first ? *first : *loaded.model;
  nlohmann::ordered_json out;
  if (options.reference.empty()) {
    out = eval::to_json(eval::perplexity(model, windows, progress));
  } else {
    const OpenedModel reference = options.load.open(options.reference);
    out = eval::to_json(eval::divergence(model, *reference.model, windows, progress));
    out["reference"] = options.reference;
  }
  if (first) first->write(options.logits);
  out["model"] = options.model;
  out["description"] = loaded.description;
  out["source"] = windows.source;
  out["content_hash"] = windows.content_hash();
  out["peak_rss_bytes"] = peak_resident_bytes();
  if (options.json) {
    print_json(out);
    return 0;
  }
  std::string text = cat("perplexity ", fixed(out["ppl"].get<double>(), 4), " (nll ",
                         fixed(out["nll"].get<double>(), 5), ") over ", windows.rows, " windows of ",
                         windows.columns, " tokens, ", human_seconds(out["seconds"].get<double>()));
  if (!options.reference.empty()) {
    text += cat("\nagainst ", options.reference, ": mean KL ", fixed(out["kl_mean"].get<double>(), 5),
                ", 99th percentile ", fixed(out["kl_p99"].get<double>(), 4), ", same first choice ",
                fixed(100 * out["top1_agreement"].get<double>(), 2), " %, its perplexity ",
                fixed(out["reference_ppl"].get<double>(), 4));
  }
  print_line(text);
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command =
      app.add_subcommand("eval", "perplexity, and with --reference the divergence from another model");
  command->add_option("model", options->model, "model directory or .gguf")->required();
  CLI::Option* text = command->add_option(
      "--text", options->text, "text or JSONL file (.gz, .zst too), or wikitext2, c4; default: wikitext2");
  command->add_option("--tokens", options->tokens, "token ids: FILE.safetensors[:NAME]")->excludes(text);
  CLI::Option* context = command
                             ->add_option("--context", options->context,
                                          "tokens per window; default: 2048, or the token file's own")
                             ->check(CLI::Range(2, 1 << 24));
  command->add_option("--windows", options->windows, "at most so many windows; 0: all")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  command->add_option("--reference", options->reference, "compare with this model");
  command->add_option("--logits", options->logits,
                      "also write the first window's tokens and logits to this .safetensors file");
  options->load.add_options(*command);
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, context, &action] {
    options->context_given = context->count() > 0;
    action = [options] { return evaluate(*options); };
  });
}

}  // namespace crumb::cli
