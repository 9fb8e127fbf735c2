// crumb chat: a conversation, one line of standard input a message.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/run/engine.h"
#include "cli/run/line_reader.h"
#include "cli/sampler_options.h"
#include "data/stream_decoder.h"
#include "eval/generate.h"
#include "runtime/engine_language_model.h"

namespace crumb::cli {
namespace {

struct ChatOptions {
  std::string model, system, chat_template;
  std::int64_t context = 0;
  bool json = false;
  eval::GenerateOptions generate;
  EngineFlags engine;
};

constexpr std::int64_t kUsualContext = 8192;
constexpr const char* kHelp =
    "A line is a message. /clear begins a new conversation, /exit or Ctrl-D ends; Ctrl-C stops an answer, "
    "and at the prompt it ends.";

/// One sequence of the engine as a session.
class SequenceSession final : public model::Session {
 public:
  SequenceSession(runtime::Engine& engine, runtime::KvCache& sequence)
      : engine_(engine), sequence_(sequence) {}
  std::span<const float> append(std::span<const std::int32_t> tokens, std::int64_t) override {
    const runtime::StepInput input{&sequence_, tokens};
    return engine_.step({&input, 1});
  }
  std::int64_t length() const override { return sequence_.length(); }

 private:
  runtime::Engine& engine_;
  runtime::KvCache& sequence_;
};

class Chat {
 public:
  explicit Chat(ChatOptions& options)
      : options_(options),
        loaded_(load_engine(options.model, options.engine)),
        tokenizer_(need_tokenizer(loaded_, options.model, "chat")),
        template_(need_chat_template(options.model, options.chat_template, tokenizer_)),
        model_(loaded_.engine) {
    const std::int64_t limit = model_.max_context();
    if (options.context > limit) {
      fail(ErrorKind::kInvalidArgument, "cli.chat", "--context is ", options.context, "; ", options.model,
           " has ", limit, "; give that or less");
    }
    sequence_ =
        loaded_.engine->new_sequence(options.context > 0 ? options.context : std::min(limit, kUsualContext));
    options.generate.stop_ids = template_.stop_ids(tokenizer_);
    eval::Sampler check(options.generate.sampler);
    clear();
    if (!options_.system.empty())
      template_.render(messages_, false);  // a template that takes no system message says so now
  }

  int talk() {
    const bool terminal = isatty(STDIN_FILENO) != 0 && !options_.json;
    if (terminal) std::fprintf(stderr, "%s\n%s\n", loaded_.engine->describe().c_str(), kHelp);
    LineReader input;
    for (;;) {
      if (terminal) write("> ");
      const auto line = input.next();
      if (!line) {
        if (terminal) write("\n");
        return interrupted() ? exit_code(ErrorKind::kInterrupted) : 0;
      }
      if (*line == "/exit") return 0;
      if (*line == "/clear")
        clear();
      else if (*line == "/help")
        std::fprintf(stderr, "%s\n", kHelp);
      else if (!line->empty()) {
        try {
          answer(*line);
        } catch (const Error& error) {
          // At a terminal a message that cannot be answered is taken back; a script must not go on without
          // it.
          if (!terminal || error.kind() == ErrorKind::kIo) throw;
          if (error.kind() != ErrorKind::kInterrupted) std::fprintf(stderr, "error: %s\n", error.what());
          messages_.pop_back();
        }
        if (interrupted() && (terminated() || !terminal)) return exit_code(ErrorKind::kInterrupted);
        set_interrupted(false);
      }
    }
  }

 private:
  static void write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  void clear() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  }

  void answer(const std::string& line) {
    messages_.push_back({"user", line});
    const std::vector<std::int32_t> prompt = template_.encode(tokenizer_, messages_, true);
    const auto count = static_cast<std::int64_t>(prompt.size());
    if (count >= sequence_->capacity()) {
      fail(ErrorKind::kInvalidArgument, "cli.chat", "the conversation has ", count,
           " tokens; the context is ", sequence_->capacity(),
           "; begin a new one (/clear), or start with a larger --context");
    }
    const std::int64_t reused = sequence_->reuse_prefix(prompt);
    SequenceSession session(*loaded_.engine, *sequence_);
    data::StreamDecoder stream(tokenizer_);
    const eval::Generation result = eval::generate(model_, session, sequence_->capacity(), prompt,
                                                   options_.generate, [&](std::int32_t token) {
                                                     if (!options_.json) write(stream.push(token));
                                                     return true;
                                                   });
    const std::string text = tokenizer_.decode(result.tokens);
    messages_.push_back({"assistant", text});
    const double prompt_rate = rate(count - reused, result.prompt_seconds),
                 decode_rate = rate(result.steps, result.seconds - result.prompt_seconds);
    if (options_.json) {
      nlohmann::ordered_json out = {{"role", "assistant"},
                                    {"content", text},
                                    {"tokens", result.tokens},
                                    {"prompt_tokens", count},
                                    {"reused_tokens", reused},
                                    {"stop", eval::to_string(result.stop)},
                                    {"prompt_seconds", result.prompt_seconds},
                                    {"seconds", result.seconds},
                                    {"prompt_tokens_per_second", prompt_rate},
                                    {"decode_tokens_per_second", decode_rate},
                                    {"load", load_json(*loaded_.engine)},
                                    {"memory", memory_json(*loaded_.engine, sequence_->bytes())}};
      print_line(out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    } else {
      write(stream.finish());
      print_line("");
    }
    log::debug("chat: ", count - reused, " of ", count, " prompt tokens at ", fixed(prompt_rate, 1), "/s, ",
               result.tokens.size(), " new at ", fixed(decode_rate, 1), "/s");
  }

  ChatOptions& options_;
  LoadedEngine loaded_;
  const data::Tokenizer& tokenizer_;
  data::ChatTemplate template_;
  runtime::EngineLanguageModel model_;
  std::unique_ptr<runtime::KvCache> sequence_;
  std::vector<data::ChatMessage> messages_;
};

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<ChatOptions>();
  options->generate.max_tokens = 1024;
  CLI::App* command =
      app.add_subcommand("chat", "talk with a model in its chat template, on the fast engine");
  command->add_option("model", options->model, "packed directory, float model directory or .gguf")
      ->required();
  command->add_option("--system", options->system, "system message");
  command->add_option("--chat-template", options->chat_template,
                      "Jinja file instead of the model's template");
  command->add_option("-n,--max-tokens", options->generate.max_tokens, "longest answer, in tokens")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--context", options->context,
                   cat("tokens of the conversation; default: the model's limit, at most ", kUsualContext))
      ->check(CLI::Range(2, 1 << 24));
  add_sampler_options(*command, options->generate.sampler);
  add_engine_options(*command, options->engine);
  command->add_flag("--json", options->json, "one JSON object a line for each answer");
  command->callback([options, &action] { action = [options] { return Chat(*options).talk(); }; });
}

}  // namespace crumb::cli
