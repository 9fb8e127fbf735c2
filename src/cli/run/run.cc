// crumb run: one prompt, one answer.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/run/engine.h"
#include "cli/sampler_options.h"
#include "data/stream_decoder.h"
#include "eval/generate.h"
#include "runtime/engine_language_model.h"

namespace crumb::cli {
namespace {

struct RunOptions {
  std::string model, prompt, system, chat_template;
  bool chat = false, json = false;
  eval::GenerateOptions generate;
  EngineFlags engine;
};

void write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

int run(RunOptions& options) {
  const LoadedEngine loaded = load_engine(options.model, options.engine);
  const data::Tokenizer& tokenizer = need_tokenizer(loaded, options.model, "run");
  std::vector<std::int32_t> prompt;
  if (options.chat) {
    const data::ChatTemplate chat = need_chat_template(options.model, options.chat_template, tokenizer);
    std::vector<data::ChatMessage> messages;
    if (!options.system.empty()) messages.push_back({"system", options.system});
    messages.push_back({"user", options.prompt});
    prompt = chat.encode(tokenizer, messages, true);
    options.generate.stop_ids = chat.stop_ids(tokenizer);
  } else {
    prompt = tokenizer.encode(options.prompt);
    options.generate.stop_ids = tokenizer.eos_ids();
  }
  runtime::EngineLanguageModel model(loaded.engine);
  data::StreamDecoder stream(tokenizer);
  if (!options.json && !options.chat) write(options.prompt);
  const eval::Generation result = eval::generate(model, prompt, options.generate, [&](std::int32_t token) {
    if (!options.json) write(stream.push(token));
    return true;
  });
  const auto count = static_cast<std::int64_t>(prompt.size());
  const double prompt_rate = rate(count, result.prompt_seconds),
               decode_rate = rate(result.steps, result.seconds - result.prompt_seconds);
  if (options.json) {
    const std::int64_t capacity = std::min(model.max_context(), count + options.generate.max_tokens);
    print_json({{"model", options.model},
                {"description", loaded.engine->describe()},
                {"prompt", options.prompt},
                {"text", tokenizer.decode(result.tokens)},
                {"tokens", result.tokens},
                {"prompt_tokens", count},
                {"stop", eval::to_string(result.stop)},
                {"seed", options.generate.sampler.seed},
                {"prompt_seconds", result.prompt_seconds},
                {"seconds", result.seconds},
                {"prompt_tokens_per_second", prompt_rate},
                {"decode_tokens_per_second", decode_rate},
                {"load", load_json(*loaded.engine)},
                {"memory", memory_json(*loaded.engine, runtime::kv_cache_bytes(
                                                           loaded.engine->config(),
                                                           *loaded.engine->options().kv_format, capacity))}});
  } else {
    write(stream.finish());
    print_line("");
  }
  log::info("run: prompt ", count, " tokens at ", fixed(prompt_rate, 1), "/s, ", result.tokens.size(),
            " new at ", fixed(decode_rate, 1), "/s, loaded in ", fixed(loaded.engine->report().seconds, 2),
            " s, stopped by ", eval::to_string(result.stop));
  return result.stop == eval::StopReason::kInterrupted ? exit_code(ErrorKind::kInterrupted) : 0;
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "continue a prompt on the fast engine, without torch");
  command->add_option("model", options->model, "packed directory, float model directory or .gguf")
      ->required();
  command->add_option("-p,--prompt", options->prompt, "text to continue; with --chat, what the user says")
      ->required();
  CLI::Option* chat = command->add_flag("--chat", options->chat,
                                        "put the prompt into the model's chat template and print the answer");
  command->add_option("--system", options->system, "system message")->needs(chat);
  command->add_option("--chat-template", options->chat_template, "Jinja file instead of the model's template")
      ->needs(chat);
  command->add_option("-n,--max-tokens", options->generate.max_tokens, "new tokens")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  add_sampler_options(*command, options->generate.sampler);
  add_engine_options(*command, options->engine);
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace crumb::cli
