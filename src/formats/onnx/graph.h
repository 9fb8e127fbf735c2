// A small builder of ONNX models with their tensors in a file beside them. docs/formats/onnx.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/dtype.h"

namespace crumb::formats {

/// ONNX's numbers for element types (TensorProto.DataType).
enum class OnnxType : int { kF32 = 1, kU8 = 2, kI32 = 6, kI64 = 7, kF16 = 10, kBF16 = 16 };
std::int64_t size_bytes(OnnxType type) noexcept;
/// Of float types; F32 for every other.
DType dtype_of(OnnxType type);

/// One graph. Nodes are added in the order in which they run; a node's first output has its name.
class OnnxGraph {
 public:
  using Attribute = std::pair<std::string, std::variant<std::int64_t, float, std::vector<std::int64_t>>>;
  /// A size, or the name of one that is known at run time only.
  using Dim = std::variant<std::int64_t, std::string>;

  explicit OnnxGraph(std::string_view name);
  ~OnnxGraph();
  OnnxGraph(const OnnxGraph&) = delete;
  OnnxGraph& operator=(const OnnxGraph&) = delete;

  void input(const std::string& name, OnnxType type, const std::vector<Dim>& shape);
  void output(const std::string& name, OnnxType type, const std::vector<Dim>& shape);
  /// Returns `name`. `more_outputs` follow it; an empty input is one that is left out.
  std::string node(std::string_view op, const std::string& name, const std::vector<std::string>& inputs,
                   const std::vector<Attribute>& attributes = {}, std::string_view domain = "",
                   const std::vector<std::string>& more_outputs = {});
  /// Values that lie in the model file itself: shapes, axes, scalars (no dims).
  std::string constant(const std::string& name, const std::vector<std::int64_t>& values, bool scalar = false);
  /// An input that may be left out, and is empty then: a dim of `shape` is 0.
  void empty_default(const std::string& name, OnnxType type, const std::vector<std::int64_t>& shape);
  /// A tensor of the data file. `produce` is called once, by save(), and gives its bytes.
  std::string tensor(const std::string& name, OnnxType type, std::vector<std::int64_t> dims,
                     std::function<std::vector<std::byte>()> produce);

  /// Bytes of all tensors of the data file, padding included.
  std::int64_t data_bytes() const;
  /// Writes `folder`/`file` and `folder`/`file`_data, one tensor in memory at a time; `done` is called after
  /// each with the bytes written so far. Throws Io; InvalidArgument when a tensor has another size than its
  /// dims promise.
  void save(const std::filesystem::path& folder, const std::string& file,
            const std::function<void(std::int64_t)>& done) const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace crumb::formats
