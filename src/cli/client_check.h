// Another program asked about an export.
#pragma once
#include <filesystem>
#include <string>

namespace crumb::cli {

/// Runs `COMMAND OUTPUT --logits FILE` in a shell, its output on standard error. FILE holds 64 token ids and
/// the logits that the model at `model` gives for them in f32 (FirstLogits::write). Throws Corrupt when
/// the command ends with a status other than 0.
void check_with_client(const std::string& command, const std::string& model,
                       const std::filesystem::path& output);

}  // namespace crumb::cli
