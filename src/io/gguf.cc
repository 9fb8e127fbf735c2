// Reading; typed look-ups are gguf_lookup.cc, writing is gguf_writer.cc.
#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace crumb::io {
namespace {

constexpr std::string_view kWhere = "io.gguf";
constexpr std::uint64_t kMaxCount =
    std::uint64_t{1} << 30;  // of a string's bytes or an array's elements, as the reference reader
constexpr std::size_t kMaxTensorNameBytes = 63, kMaxKeyBytes = 65535;
constexpr std::size_t kMinKeyValueBytes = 8 + 1 + 4 + 1, kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

enum ValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

std::size_t min_bytes(std::uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    default:
      return 8;  // a string's length, u64, i64, f64
  }
}

/// Reads forward through the header; every read is checked against the end of the file.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::filesystem::path& path) : bytes_(bytes), path_(path) {}

  template <class... Parts>
  [[noreturn]] void corrupt(const Parts&... parts) const {
    fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": ", parts...);
  }

  template <class T>
  T read(std::string_view what) {
    if (remaining() < sizeof(T)) {
      corrupt(what, ": the file ends at byte ", bytes_.size(), ", ", sizeof(T), " more are needed at ",
              position_, ". It may be cut short");
    }
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof value);
    position_ += sizeof value;
    return value;
  }

  std::string read_string(std::string_view what) {
    const auto length = read<std::uint64_t>(what);
    if (length > kMaxCount || length > remaining()) {
      corrupt(what, ": a string of ", length, " bytes at ", position_, ", but ", remaining(),
              " bytes remain. The file is damaged or cut short");
    }
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return text;
  }

  bool read_bool(std::string_view what) {
    const auto byte = read<std::uint8_t>(what);
    if (byte > 1) corrupt(what, ": a bool is ", +byte, "; expected 0 or 1");
    return byte == 1;
  }

  GgufValue read_value(std::uint32_t type, std::string_view what) {
    switch (type) {
      case kU8:
        return std::uint64_t{read<std::uint8_t>(what)};
      case kU16:
        return std::uint64_t{read<std::uint16_t>(what)};
      case kU32:
        return std::uint64_t{read<std::uint32_t>(what)};
      case kU64:
        return read<std::uint64_t>(what);
      case kI8:
        return std::int64_t{read<std::int8_t>(what)};
      case kI16:
        return std::int64_t{read<std::int16_t>(what)};
      case kI32:
        return std::int64_t{read<std::int32_t>(what)};
      case kI64:
        return read<std::int64_t>(what);
      case kF32:
        return static_cast<double>(read<float>(what));
      case kF64:
        return read<double>(what);
      case kBool:
        return read_bool(what);
      case kString:
        return read_string(what);
      case kArray:
        return read_array(what);
      default:
        corrupt(what, ": value type ", type, " is unknown; expected 0 to 12");
    }
  }

  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return bytes_.size() - position_; }

 private:
  GgufValue read_array(std::string_view what) {
    const auto type = read<std::uint32_t>(what);
    if (type == kArray) corrupt(what, ": an array of arrays; expected numbers, bools or strings");
    if (type > kF64) corrupt(what, ": array element type ", type, " is unknown; expected 0 to 12");
    const auto count = read<std::uint64_t>(what);
    if (count > kMaxCount || count > remaining() / min_bytes(type)) {
      corrupt(what, ": an array of ", count, " elements, but ", remaining(),
              " bytes remain. The file is damaged or cut short");
    }
    if (type == kString) {
      std::vector<std::string> texts;
      texts.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) texts.push_back(read_string(what));
      return texts;
    }
    if (type == kF32 || type == kF64) {
      std::vector<double> numbers;
      numbers.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) numbers.push_back(std::get<double>(read_value(type, what)));
      return numbers;
    }
    std::vector<std::int64_t> numbers;
    numbers.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      const GgufValue value = read_value(type, what);
      if (const auto* flag = std::get_if<bool>(&value)) {
        numbers.push_back(*flag ? 1 : 0);
      } else if (const auto* number = std::get_if<std::int64_t>(&value)) {
        numbers.push_back(*number);
      } else if (std::in_range<std::int64_t>(std::get<std::uint64_t>(value))) {
        numbers.push_back(static_cast<std::int64_t>(std::get<std::uint64_t>(value)));
      } else {
        corrupt(what, ": element ", i, " is ", std::get<std::uint64_t>(value), "; expected at most 2^63 - 1");
      }
    }
    return numbers;
  }

  std::span<const std::byte> bytes_;
  const std::filesystem::path& path_;
  std::uint64_t position_ = 0;
};

void check_dims(const GgufTensor& tensor, const Cursor& cursor) {
  std::int64_t elements = 1;
  bool good = true;
  for (const std::int64_t dim : tensor.dims)
    good = good && dim > 0 && !__builtin_mul_overflow(elements, dim, &elements);
  if (!good) {
    cursor.corrupt("tensor '", tensor.name, "': dims ", shape_string(tensor.dims),
                   "; expected positive sizes whose product fits in 63 bits");
  }
}

GgufTensor read_tensor(Cursor& cursor, std::uint64_t i) {
  GgufTensor tensor;
  tensor.name = cursor.read_string(cat("name of tensor ", i));
  if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes) {
    cursor.corrupt("tensor ", i, ": its name has ", tensor.name.size(), " bytes; expected 1 to ",
                   kMaxTensorNameBytes);
  }
  const std::string what = cat("tensor '", tensor.name, "'");
  const auto dim_count = cursor.read<std::uint32_t>(what);
  if (dim_count < 1 || dim_count > 4) cursor.corrupt(what, ": ", dim_count, " dims; expected 1 to 4");
  for (std::uint32_t d = 0; d < dim_count; ++d) tensor.dims.push_back(cursor.read<std::int64_t>(what));
  check_dims(tensor, cursor);
  tensor.type = cursor.read<std::uint32_t>(what);
  tensor.offset = cursor.read<std::uint64_t>(what);
  return tensor;
}

std::uint64_t padded(std::uint64_t size, std::uint64_t alignment) {
  return size + (alignment - size % alignment) % alignment;
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path) {
  Cursor cursor(file_.bytes(), this->path());
  const auto magic = cursor.read<std::uint32_t>("magic");
  if (magic != 0x46554747u) cursor.corrupt("does not begin with the letters GGUF; expected a GGUF file");
  version_ = cursor.read<std::uint32_t>("version");
  if (version_ != 2 && version_ != 3) {
    const bool swapped = (version_ & 0xffffu) == 0 && version_ != 0;
    fail(ErrorKind::kUnsupported, kWhere, this->path().string(), ": version ",
         swapped ? cat(__builtin_bswap32(version_), " in big-endian order") : cat(version_),
         "; expected 2 or 3, little-endian. Convert the file with a current tool");
  }
  const auto tensor_count = cursor.read<std::uint64_t>("tensor count");
  const auto value_count = cursor.read<std::uint64_t>("metadata count");
  if (value_count > cursor.remaining() / kMinKeyValueBytes) {
    cursor.corrupt("metadata count ", value_count, ", but only ", cursor.remaining(), " bytes follow");
  }
  if (tensor_count > cursor.remaining() / kMinTensorBytes) {
    cursor.corrupt("tensor count ", tensor_count, ", but only ", cursor.remaining(), " bytes follow");
  }

  for (std::uint64_t i = 0; i < value_count; ++i) {
    std::string key = cursor.read_string(cat("key ", i));
    if (key.empty() || key.size() > kMaxKeyBytes) {
      cursor.corrupt("key ", i, " has ", key.size(), " bytes; expected 1 to ", kMaxKeyBytes);
    }
    const std::string what = cat("key '", key, "'");
    const auto type = cursor.read<std::uint32_t>(what);
    GgufValue value = cursor.read_value(type, what);
    if (key == "general.alignment") {
      const auto* number = std::get_if<std::uint64_t>(&value);
      if (type != kU32 || number == nullptr || !std::has_single_bit(*number)) {
        cursor.corrupt(what, ": expected a u32 that is a power of two");
      }
      alignment_ = *number;
    }
    if (!metadata_.emplace(std::move(key), std::move(value)).second)
      cursor.corrupt(what, ": is there twice; expected once");
  }
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    GgufTensor tensor = read_tensor(cursor, i);
    const bool in_order = i == 0 ? tensor.offset == 0 : tensor.offset > tensors_.back().offset;
    if (!in_order || tensor.offset % alignment_ != 0) {
      cursor.corrupt(
          "tensor '", tensor.name, "': offset ", tensor.offset,
          i == 0 ? cat("; expected 0")
                 : cat(" after ", tensors_.back().offset, "; expected a larger multiple of ", alignment_));
    }
    if (!index_.emplace(tensor.name, tensors_.size()).second) {
      cursor.corrupt("tensor '", tensor.name, "': is there twice; expected once");
    }
    tensors_.push_back(std::move(tensor));
  }

  data_begin_ = padded(cursor.position(), alignment_);
  const std::uint64_t size = file_.bytes().size();
  if (!tensors_.empty() && (data_begin_ > size || tensors_.back().offset >= size - data_begin_)) {
    cursor.corrupt("tensor '", tensors_.back().name, "': begins ", tensors_.back().offset,
                   " bytes into the data, past the end of the file (", size, " bytes). It may be cut short");
  }
  data_begin_ = std::min(data_begin_, size);  // a file without tensors may end without padding
  for (const std::byte byte : file_.bytes().subspan(cursor.position(), data_begin_ - cursor.position())) {
    if (byte != std::byte{0})
      cursor.corrupt("the padding after the tensor list is not zero; the counts may be damaged");
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void GgufFile::check_extents(const std::function<std::uint64_t(const GgufTensor&)>& tensor_bytes) const {
  const std::uint64_t data_bytes = file_.bytes().size() - data_begin_;
  std::uint64_t expected = 0, end = 0;
  for (const GgufTensor& tensor : tensors_) {
    const std::uint64_t size = tensor_bytes(tensor);
    if (tensor.offset != expected) {
      fail(ErrorKind::kCorrupt, kWhere, path().string(), ": tensor '", tensor.name, "': offset ",
           tensor.offset, "; expected ", expected, ", where the tensor before it ends");
    }
    if (size > data_bytes - std::min(tensor.offset, data_bytes)) {
      fail(ErrorKind::kCorrupt, kWhere, path().string(), ": tensor '", tensor.name, "': ", size,
           " bytes from offset ", tensor.offset, " pass the end of the data (", data_bytes,
           " bytes). The file may be cut short");
    }
    end = tensor.offset + size;
    expected = padded(end, alignment_);
  }
  if (data_bytes > expected) {
    fail(ErrorKind::kCorrupt, kWhere, path().string(), ": ", data_bytes - expected,
         " bytes follow the last tensor; expected none. The tensor count may be damaged");
  }
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& tensor, std::uint64_t size) const {
  const std::uint64_t data_bytes = file_.bytes().size() - data_begin_;
  if (tensor.offset > data_bytes || size > data_bytes - tensor.offset) {
    fail(ErrorKind::kCorrupt, kWhere, path().string(), ": tensor '", tensor.name, "': ", size,
         " bytes from offset ", tensor.offset, " pass the end of the data (", data_bytes,
         " bytes). The file may be cut short");
  }
  return file_.bytes().subspan(data_begin_ + tensor.offset, size);
}

}  // namespace crumb::io
