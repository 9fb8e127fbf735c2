// Writing; reading is gguf.cc.
#include <algorithm>
#include <bit>
#include <set>
#include <type_traits>

#include "base/error.h"
#include "io/atomic_output.h"
#include "io/file_writer.h"
#include "io/gguf.h"

namespace crumb::io {
namespace {

constexpr std::string_view kWhere = "io.write_gguf";
constexpr std::uint32_t kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10,
                        kI64 = 11;
/// Of one tensor and of all; leaves room for padding in 63 bits.
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 62;

class Buffer {
 public:
  template <class T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const auto bytes = std::as_bytes(std::span(&value, 1));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void put_string(std::string_view text) {
    put<std::uint64_t>(text.size());
    const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void pad(std::uint64_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

bool fits_i32(std::int64_t value) {
  return std::in_range<std::int32_t>(value);
}

struct PutValue {
  Buffer& out;

  void operator()(std::uint64_t value) const {
    if (std::in_range<std::uint32_t>(value)) {
      out.put(kU32);
      out.put(static_cast<std::uint32_t>(value));
    } else {
      out.put(kU64);
      out.put(value);
    }
  }
  void operator()(std::int64_t value) const {
    out.put(fits_i32(value) ? kI32 : kI64);
    put_int(value, fits_i32(value));
  }
  void operator()(double value) const {
    out.put(kF32);
    out.put(static_cast<float>(value));
  }
  void operator()(bool value) const {
    out.put(kBool);
    out.put<std::uint8_t>(value ? 1 : 0);
  }
  void operator()(const std::string& value) const {
    out.put(kString);
    out.put_string(value);
  }
  void operator()(const std::vector<std::int64_t>& values) const {
    const bool narrow = std::all_of(values.begin(), values.end(), fits_i32);
    array(narrow ? kI32 : kI64, values.size());
    for (const std::int64_t value : values) put_int(value, narrow);
  }
  void operator()(const std::vector<double>& values) const {
    array(kF32, values.size());
    for (const double value : values) out.put(static_cast<float>(value));
  }
  void operator()(const std::vector<std::string>& values) const {
    array(kString, values.size());
    for (const std::string& value : values) out.put_string(value);
  }

 private:
  void put_int(std::int64_t value, bool narrow) const {
    if (narrow) {
      out.put(static_cast<std::int32_t>(value));
    } else {
      out.put(value);
    }
  }
  void array(std::uint32_t type, std::size_t count) const {
    out.put(kArray);
    out.put(type);
    out.put<std::uint64_t>(count);
  }
};

void check_tensor(const GgufTensorToWrite& tensor) {
  std::int64_t elements = 1;
  bool good = !tensor.dims.empty() && tensor.dims.size() <= 4;
  for (const std::int64_t dim : tensor.dims)
    good = good && dim > 0 && !__builtin_mul_overflow(elements, dim, &elements);
  if (!good || tensor.size == 0 || tensor.size > kMostBytes) {
    fail(ErrorKind::kInvalidArgument, kWhere, "tensor '", tensor.name, "': dims ", shape_string(tensor.dims),
         " and ", tensor.size, " bytes; expected 1 to 4 positive sizes and their bytes");
  }
  if (tensor.name.empty() || tensor.name.size() > 63) {
    fail(ErrorKind::kInvalidArgument, kWhere, "tensor '", tensor.name, "': its name has ", tensor.name.size(),
         " bytes; expected 1 to 63");
  }
}

}  // namespace

GgufTensorToWrite::GgufTensorToWrite(std::string name_, std::vector<std::int64_t> dims_, std::uint32_t type_,
                                     std::uint64_t size_, std::function<std::vector<std::byte>()> produce_)
    : name(std::move(name_)),
      dims(std::move(dims_)),
      type(type_),
      size(size_),
      produce(std::move(produce_)) {}

GgufTensorToWrite::GgufTensorToWrite(std::string name_, std::vector<std::int64_t> dims_, std::uint32_t type_,
                                     std::vector<std::byte> bytes)
    : GgufTensorToWrite(std::move(name_), std::move(dims_), type_, bytes.size(), {}) {
  produce = [bytes = std::move(bytes)]() mutable { return std::move(bytes); };
}

void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufValue>>& metadata,
                std::vector<GgufTensorToWrite> tensors,
                const std::function<void(std::int64_t, std::int64_t)>& progress) {
  Buffer header;
  header.put(std::uint32_t{0x46554747u});  // "GGUF"
  header.put(std::uint32_t{3});
  header.put<std::uint64_t>(tensors.size());
  header.put<std::uint64_t>(metadata.size());
  std::uint64_t alignment = 32;
  std::set<std::string_view> seen;
  for (const auto& [key, value] : metadata) {
    if (key.empty() || !seen.insert(key).second) {
      fail(ErrorKind::kInvalidArgument, kWhere, "key '", key, "': ", key.empty() ? "is empty" : "given twice",
           "; expected a name, once");
    }
    if (key == "general.alignment") {
      const auto* number = std::get_if<std::uint64_t>(&value);
      if (number == nullptr || !std::has_single_bit(*number) || !std::in_range<std::uint32_t>(*number)) {
        fail(ErrorKind::kInvalidArgument, kWhere,
             "key 'general.alignment': expected an unsigned power of two of 32 bits");
      }
      alignment = *number;
    }
    header.put_string(key);
    std::visit(PutValue{header}, value);
  }
  seen.clear();
  std::uint64_t offset = 0, total = 0;
  for (const GgufTensorToWrite& tensor : tensors) {
    check_tensor(tensor);
    if (!seen.insert(tensor.name).second) {
      fail(ErrorKind::kInvalidArgument, kWhere, "tensor '", tensor.name, "': given twice; expected once");
    }
    header.put_string(tensor.name);
    header.put(static_cast<std::uint32_t>(tensor.dims.size()));
    for (const std::int64_t dim : tensor.dims) header.put(dim);
    header.put(tensor.type);
    header.put(offset);
    offset += (tensor.size + alignment - 1) / alignment * alignment;
    total += tensor.size;
    if (offset > kMostBytes)
      fail(ErrorKind::kInvalidArgument, kWhere, "tensor '", tensor.name, "': the tensors pass 2^62 bytes");
  }
  header.pad(alignment);
  check_free_space(path, static_cast<std::int64_t>(header.bytes().size() + offset));

  FileWriter writer(path);
  writer.write(header.bytes());
  std::uint64_t done = 0;
  for (GgufTensorToWrite& tensor : tensors) {
    const std::vector<std::byte> bytes = tensor.produce();
    if (bytes.size() != tensor.size) {
      fail(ErrorKind::kInvalidArgument, kWhere, path.string(), ": tensor '", tensor.name, "': produced ",
           bytes.size(), " bytes; expected ", tensor.size);
    }
    tensor.produce = nullptr;  // what it holds may be large
    writer.write(bytes);
    const std::vector<std::byte> padding((alignment - bytes.size() % alignment) % alignment);
    writer.write(padding);
    done += tensor.size;
    if (progress) progress(static_cast<std::int64_t>(done), static_cast<std::int64_t>(total));
  }
  writer.close();
}

}  // namespace crumb::io
