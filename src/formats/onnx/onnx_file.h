// An ONNX model opened for its tensors: those of the graph, and what the MatMulNBits nodes make of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/onnx/graph.h"
#include "formats/onnx/matmul_nbits.h"
#include "io/mapped_file.h"

namespace crumb::formats {

/// Checked when opened, throwing Corrupt with file and tensor: the messages parse, no name is there twice,
/// dims are positive or zero and their product fits, every tensor's bytes have the size that its dims promise
/// and lie inside their file. Throws Unsupported for data in files that are not beside the model.
class OnnxFile {
 public:
  struct Tensor {
    OnnxType type;
    std::vector<std::int64_t> dims;
    std::span<const std::byte> bytes;
  };

  /// `file` is the model; its data files lie in the same folder.
  explicit OnnxFile(const std::filesystem::path& file);

  /// Tensors of the types of OnnxType, by name; others are left out.
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;
  /// Attributes of each MatMulNBits node, by the name of its codes ("….qweight").
  const std::map<std::string, MatMulNBits, std::less<>>& products() const { return products_; }
  /// Bytes of all tensors.
  std::int64_t bytes() const;

 private:
  /// False where the bytes are no message.
  bool add_tensor(std::string_view message);
  bool add_node(std::string_view message);
  std::span<const std::byte> external(const std::string& name, const std::string& location,
                                      std::int64_t offset, std::int64_t length);
  template <class... What>
  [[noreturn]] void corrupt(const What&... what) const;

  std::filesystem::path path_;
  io::MappedFile model_;
  std::map<std::string, io::MappedFile> data_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, MatMulNBits, std::less<>> products_;
};

}  // namespace crumb::formats
