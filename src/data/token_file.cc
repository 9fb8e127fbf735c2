#include <algorithm>

#include "base/error.h"
#include "data/windows.h"
#include "io/safetensors.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.read_token_file";
constexpr std::string_view kEnding = ".safetensors";

// The only integer tensor, or the one named.
const io::TensorInfo& choose(const io::SafetensorsFile& file, const std::string& name) {
  if (!name.empty()) return file.at(name);
  const io::TensorInfo* only = nullptr;
  std::vector<std::string> names;
  for (const io::TensorInfo& tensor : file.tensors()) {
    if (is_float(tensor.dtype)) continue;
    only = &tensor;
    names.push_back(tensor.name);
  }
  if (names.size() != 1) {
    fail(ErrorKind::kInvalidArgument, kWhere, file.path().string(), ": holds ", names.size(),
         " integer tensors (", join(names, ", "), "); want one, or its name; write FILE:NAME");
  }
  return *only;
}

}  // namespace

TokenWindows read_token_file(const std::string& spec, std::int64_t length, std::int64_t vocab_size) {
  const std::size_t ending = spec.rfind(kEnding);
  const std::size_t after = ending == std::string::npos ? std::string::npos : ending + kEnding.size();
  if (ending == std::string::npos || (after < spec.size() && spec[after] != ':')) {
    fail(ErrorKind::kInvalidArgument, kWhere, spec,
         ": is not FILE.safetensors or FILE.safetensors:NAME; give one of these");
  }
  const std::string path = spec.substr(0, after);
  const io::SafetensorsFile file(path);
  const io::TensorInfo& tensor = choose(file, after + 1 < spec.size() ? spec.substr(after + 1) : "");
  const std::string subject = cat(path, ":", tensor.name);
  if (is_float(tensor.dtype) || tensor.dtype == DType::kBool || tensor.shape.empty() ||
      tensor.shape.size() > 2) {
    fail(ErrorKind::kInvalidArgument, kWhere, subject, ": is ", to_string(tensor.dtype), " ",
         shape_string(tensor.shape), "; want integers of one or two dimensions; name another tensor");
  }
  const std::vector<std::int32_t> ids = file.read_i32(tensor.name);
  const std::int64_t stored = tensor.shape.back();
  const std::int64_t columns = length > 0 ? length : stored;
  TokenWindows windows;
  windows.source = subject;
  windows.columns = columns;
  windows.rows = tensor.shape.size() == 2 ? tensor.shape[0] : columns > 0 ? stored / columns : 0;
  if (stored < columns || windows.rows == 0 || columns == 0) {
    fail(ErrorKind::kInvalidArgument, kWhere, subject, ": shape ", shape_string(tensor.shape),
         "; one window wants ", std::max<std::int64_t>(columns, 1),
         " tokens; give more tokens or shorter windows");
  }
  const std::int64_t stride = tensor.shape.size() == 2 ? stored : columns;
  windows.ids.reserve(static_cast<std::size_t>(windows.rows * columns));
  for (std::int64_t row = 0; row < windows.rows; ++row) {
    windows.ids.insert(windows.ids.end(), ids.begin() + row * stride, ids.begin() + row * stride + columns);
  }
  for (std::size_t i = 0; i < windows.ids.size(); ++i) {
    if (windows.ids[i] >= 0 && windows.ids[i] < vocab_size) continue;
    fail(ErrorKind::kInvalidArgument, kWhere, subject, ": token id ", windows.ids[i], " at row ",
         static_cast<std::int64_t>(i) / columns, ", column ", static_cast<std::int64_t>(i) % columns,
         "; the model's vocabulary has ids 0 to ", vocab_size - 1,
         "; the file was made with another tokenizer: make it again with this model's");
  }
  return windows;
}

}  // namespace crumb::data
