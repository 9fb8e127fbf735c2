#include "cli/client_check.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/rng.h"
#include "cli/first_logits.h"
#include "cli/model_loader.h"

namespace crumb::cli {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kTokens = 64;

/// Removed with what it holds.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "crumb-check-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
      fail(ErrorKind::kIo, "cli.export", name,
           ": cannot be created; set TMPDIR to a folder that can be written");
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

void check_with_client(const std::string& command, const std::string& model, const fs::path& output) {
  const ScratchFolder scratch;
  const fs::path reference = scratch.path() / "logits.safetensors";
  {
    ModelLoader loader;
    loader.engine = "cpu";
    loader.flags.exact = true;
    const OpenedModel loaded = loader.open(model);
    FirstLogits logits(*loaded.model);
    SplitMix64 random(1);
    std::vector<std::int32_t> ids(std::min(kTokens, static_cast<std::size_t>(loaded.model->max_context())));
    for (std::int32_t& id : ids)
      id = static_cast<std::int32_t>(random.next() % static_cast<std::uint64_t>(loaded.model->vocab_size()));
    logits.forward(ids, {});
    logits.write(reference);
  }
  const std::string line =
      cat(command, " ", quoted(output.string()), " --logits ", quoted(reference.string()), " 1>&2");
  const int status = std::system(line.c_str());
  if (status == 0) return;
  fail(ErrorKind::kCorrupt, "cli.export", output.string(), ": '", command, "' ended with ",
       status != -1 && WIFEXITED(status) ? cat("status ", WEXITSTATUS(status)) : std::string("no status"),
       "; expected 0. Its words are above; the output is kept");
}

}  // namespace crumb::cli
