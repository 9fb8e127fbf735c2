// Reading; writing is safetensors_writer.cc.
#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "io/json.h"

namespace crumb::io {
namespace {

using nlohmann::json;
constexpr std::string_view kWhere = "io.safetensors";
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::size_t kMaxNameBytes = 4096, kMaxTensors = 1'000'000;

// dtypes that the format has and crumb only lists.
struct ForeignDType {
  std::string_view name;
  std::uint64_t bits;
};
constexpr ForeignDType kForeign[] = {{"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6},
                                     {"F8_E5M2", 8},     {"F8_E4M3", 8},     {"F8_E8M0", 8},
                                     {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"C64", 64}};

struct Entry {
  TensorInfo info;
  std::uint64_t begin, end;
  bool foreign;
};

// Everything the reader refuses is said with file and tensor in front.
struct Subject {
  const std::filesystem::path& path;
  std::string tensor;

  template <class... Parts>
  [[noreturn]] void corrupt(const Parts&... parts) const {
    fail(ErrorKind::kCorrupt, kWhere, path.string(), ": ",
         tensor.empty() ? "" : cat("tensor '", tensor, "': "), parts...);
  }
};

std::uint64_t unsigned_of(const json& value, const Subject& subject, std::string_view what) {
  // 1.0, 1e3 and -1 are numbers too, and numbers of more than 64 bits become floats: only plain non-negative
  // integers pass.
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    subject.corrupt(what, " has ", value.dump(-1, ' ', true), "; expected an integer from 0 to 2^63 - 1");
  }
  return value.get<std::uint64_t>();
}

Entry parse_entry(const std::string& name, const json& value, const Subject& subject) {
  if (!value.is_object()) subject.corrupt("is no JSON object; expected dtype, shape and data_offsets");
  for (const auto& [key, ignored] : value.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      subject.corrupt("unknown key '", key, "'; expected dtype, shape and data_offsets");
    }
  }
  const auto field = [&](const char* key) -> const json& {
    const auto found = value.find(key);
    if (found == value.end()) subject.corrupt("has no ", key, "; expected dtype, shape and data_offsets");
    return *found;
  };
  const json& dtype_json = field("dtype");
  if (!dtype_json.is_string())
    subject.corrupt("dtype is ", dtype_json.dump(-1, ' ', true), "; expected a string such as \"F16\"");
  const auto dtype_name = dtype_json.get<std::string>();
  const std::optional<DType> dtype = parse_dtype(dtype_name);
  std::uint64_t bits = 0;
  if (dtype) {
    bits = 8 * static_cast<std::uint64_t>(size_bytes(*dtype));
  } else {
    for (const ForeignDType& foreign : kForeign) {
      if (foreign.name == dtype_name) bits = foreign.bits;
    }
    if (bits == 0)
      subject.corrupt("dtype '", dtype_name,
                      "' is unknown; expected one of the format, such as F32, F16, BF16, I32 or U8");
  }

  Entry entry{{name, dtype.value_or(DType::kU8), {}, 0, 0}, 0, 0, !dtype};
  const json& shape = field("shape");
  if (!shape.is_array()) subject.corrupt("shape is no array; expected a list of sizes");
  std::uint64_t total_bits = bits;
  bool overflow = false;
  for (const json& dim : shape) {
    const std::uint64_t size = unsigned_of(dim, subject, "shape");
    overflow |= __builtin_mul_overflow(total_bits, size, &total_bits);
    entry.info.shape.push_back(static_cast<std::int64_t>(size));
  }
  if (overflow)
    subject.corrupt("shape ", shape_string(entry.info.shape),
                    ": its size in bits passes 2^64; the header is damaged");
  if (total_bits % 8 != 0) {
    subject.corrupt(dtype_name, " ", shape_string(entry.info.shape), " has ", total_bits,
                    " bits; expected whole bytes");
  }

  const json& offsets = field("data_offsets");
  if (!offsets.is_array() || offsets.size() != 2)
    subject.corrupt("data_offsets is not a pair; expected [begin, end]");
  entry.begin = unsigned_of(offsets[0], subject, "data_offsets");
  entry.end = unsigned_of(offsets[1], subject, "data_offsets");
  if (entry.begin > entry.end || entry.end - entry.begin != total_bits / 8) {
    subject.corrupt("data_offsets [", entry.begin, ", ", entry.end, "] span ",
                    entry.begin > entry.end ? "a negative number of" : cat(entry.end - entry.begin),
                    " bytes; ", dtype_name, " ", shape_string(entry.info.shape), " needs ", total_bits / 8);
  }
  entry.info.offset = entry.begin;
  entry.info.size = entry.end - entry.begin;
  return entry;
}

// No overlaps, no holes, nothing behind the last tensor: every byte of the file belongs to exactly one thing.
void check_layout(const std::vector<Entry>& entries, std::uint64_t data_bytes,
                  const std::filesystem::path& path) {
  std::uint64_t end = 0;
  for (const Entry& entry : entries) {
    const Subject subject{path, entry.info.name};
    if (entry.end > data_bytes) {
      subject.corrupt("data_offsets [", entry.begin, ", ", entry.end, "] pass the end: the file has ",
                      data_bytes, " tensor bytes. It may be cut short; download or copy it again");
    }
    if (entry.begin < end)
      subject.corrupt("begins at byte ", entry.begin, " inside of another tensor; expected ", end);
    if (entry.begin > end) subject.corrupt("begins at byte ", entry.begin, " after a hole; expected ", end);
    end = entry.end;
  }
  if (end != data_bytes) {
    Subject{path, {}}.corrupt(data_bytes - end, " bytes follow the last tensor, which ends at ", end,
                              "; expected none");
  }
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// Calls visit(index, value) for each element of an integer or float dtype.
template <class Visit>
void for_each_element(std::span<const std::byte> bytes, DType dtype, const Visit& visit) {
  const std::size_t count = bytes.size() / static_cast<std::size_t>(size_bytes(dtype));
  const auto run = [&]<class Stored, class Convert>(Stored, const Convert& convert) {
    for (std::size_t i = 0; i < count; ++i)
      visit(i, convert(load<Stored>(bytes.data() + i * sizeof(Stored))));
  };
  const auto same = [](auto value) { return value; };
  switch (dtype) {
    case DType::kF64:
      return run(double{}, same);
    case DType::kF32:
      return run(float{}, same);
    case DType::kF16:
      return run(std::uint16_t{}, f16_to_float);
    case DType::kBF16:
      return run(std::uint16_t{}, bf16_to_float);
    case DType::kI64:
      return run(std::int64_t{}, same);
    case DType::kI32:
      return run(std::int32_t{}, same);
    case DType::kI16:
      return run(std::int16_t{}, same);
    case DType::kI8:
      return run(std::int8_t{}, same);
    case DType::kU64:
      return run(std::uint64_t{}, same);
    case DType::kU32:
      return run(std::uint32_t{}, same);
    case DType::kU16:
      return run(std::uint16_t{}, same);
    case DType::kU8:
    case DType::kBool:
      return run(std::uint8_t{}, same);
  }
}

template <class Out>
std::vector<Out> read_integers(const SafetensorsFile& file, std::string_view name) {
  const TensorInfo& tensor = file.at(name);
  if (is_float(tensor.dtype)) {
    fail(ErrorKind::kUnsupported, kWhere, file.path().string(), ": tensor '", name, "' is ",
         to_string(tensor.dtype), "; expected integers");
  }
  std::vector<Out> out(static_cast<std::size_t>(tensor.elements()));
  // U32 words are taken over bit for bit: packed codes are I32 in some files and U32 in others.
  const bool words = tensor.dtype == DType::kU32 && sizeof(Out) == 4;
  for_each_element(file.bytes(tensor), tensor.dtype, [&](std::size_t i, auto value) {
    if constexpr (std::is_integral_v<decltype(value)>) {
      if (!words && !std::in_range<Out>(value)) {
        fail(ErrorKind::kUnsupported, kWhere, file.path().string(), ": tensor '", name, "': element ", i,
             " is ", cat(+value), "; expected a number of ", 8 * sizeof(Out), " bits");
      }
      out[i] = static_cast<Out>(value);
    }
  });
  return out;
}

}  // namespace

std::int64_t TensorInfo::elements() const {
  return static_cast<std::int64_t>(size) / size_bytes(dtype);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const Subject file{this->path(), {}};
  const std::span<const std::byte> all = file_.bytes();
  if (all.size() < 8)
    file.corrupt(all.size(),
                 " bytes; a safetensors file begins with 8 bytes of header length. It may be cut short");
  const auto header_bytes = load<std::uint64_t>(all.data());
  if (header_bytes > kMaxHeaderBytes) {
    file.corrupt("header length ", header_bytes, "; expected at most ", kMaxHeaderBytes,
                 ". Is this a safetensors file?");
  }
  if (header_bytes > all.size() - 8) {
    file.corrupt("header length ", header_bytes, ", but only ", all.size() - 8,
                 " bytes follow. The file may be cut short");
  }
  data_begin_ = 8 + header_bytes;
  std::string_view text(reinterpret_cast<const char*>(all.data()) + 8, header_bytes);
  text = text.substr(0, text.find_last_not_of(' ') + 1);
  if (text.empty() || text.front() != '{' || text.back() != '}') {
    file.corrupt("the header is no JSON object: expected '{' first and '}' last, spaces after it at most");
  }
  const json header = parse_json(text, cat(this->path().string(), ": header"));
  if (header.size() > kMaxTensors) file.corrupt(header.size(), " tensors; expected at most ", kMaxTensors);

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name.size() > kMaxNameBytes) {
      file.corrupt("a tensor's name has ", name.size(), " bytes; expected at most ", kMaxNameBytes);
    }
    if (name != "__metadata__") {
      entries.push_back(parse_entry(name, value, Subject{this->path(), name}));
      continue;
    }
    if (!value.is_object()) file.corrupt("__metadata__ is no JSON object; expected strings by name");
    for (const auto& [key, text_value] : value.items()) {
      if (!text_value.is_string())
        file.corrupt("__metadata__ '", key, "' is no string; the format allows strings only");
      metadata_.emplace(key, text_value.get<std::string>());
    }
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_layout(entries, all.size() - data_begin_, this->path());
  for (Entry& entry : entries) {
    if (entry.foreign) {
      skipped_.push_back(entry.info.name);
      continue;
    }
    index_.emplace(entry.info.name, tensors_.size());
    tensors_.push_back(std::move(entry.info));
  }
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorInfo& SafetensorsFile::at(std::string_view name) const {
  if (const TensorInfo* tensor = find(name)) return *tensor;
  if (std::find(skipped_.begin(), skipped_.end(), name) != skipped_.end()) {
    fail(ErrorKind::kUnsupported, kWhere, path().string(), ": tensor '", name,
         "' has a dtype that crumb does not read; convert it to F16 or BF16");
  }
  std::vector<std::string> names;
  for (const TensorInfo& tensor : tensors_) names.push_back(tensor.name);
  const std::string near = nearest_word(name, names);
  fail(ErrorKind::kNotFound, kWhere, path().string(), ": no tensor '", name, "' among ", names.size(),
       near.empty() ? "" : cat("; the nearest is '", near, "'"));
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& tensor) const {
  return file_.bytes().subspan(data_begin_).subspan(tensor.offset, tensor.size);
}

void SafetensorsFile::read_f32(const TensorInfo& tensor, std::span<float> out) const {
  convert_to_f32(bytes(tensor), tensor.dtype, out);
}

std::vector<float> SafetensorsFile::read_f32(std::string_view name) const {
  const TensorInfo& tensor = at(name);
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  read_f32(tensor, out);
  return out;
}

std::vector<double> SafetensorsFile::read_f64(std::string_view name) const {
  const TensorInfo& tensor = at(name);
  std::vector<double> out(static_cast<std::size_t>(tensor.elements()));
  for_each_element(bytes(tensor), tensor.dtype,
                   [&](std::size_t i, auto value) { out[i] = static_cast<double>(value); });
  return out;
}

std::vector<std::int32_t> SafetensorsFile::read_i32(std::string_view name) const {
  return read_integers<std::int32_t>(*this, name);
}
std::vector<std::uint8_t> SafetensorsFile::read_u8(std::string_view name) const {
  return read_integers<std::uint8_t>(*this, name);
}

void convert_to_f32(std::span<const std::byte> bytes, DType dtype, std::span<float> out) {
  CRUMB_CHECK(bytes.size() == out.size() * static_cast<std::size_t>(size_bytes(dtype)));
  for_each_element(bytes, dtype, [&](std::size_t i, auto value) { out[i] = static_cast<float>(value); });
}

std::vector<std::byte> convert_from_f32(std::span<const float> values, DType dtype) {
  CRUMB_CHECK(is_float(dtype));
  std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(size_bytes(dtype)));
  const auto run = [&](const auto& convert) {
    std::byte* to = bytes.data();
    for (const float value : values) {
      const auto stored = convert(value);
      std::memcpy(to, &stored, sizeof stored);
      to += sizeof stored;
    }
  };
  switch (dtype) {
    case DType::kF64:
      run([](float value) { return static_cast<double>(value); });
      break;
    case DType::kF32:
      run([](float value) { return value; });
      break;
    case DType::kF16:
      run(float_to_f16);
      break;
    default:
      run(float_to_bf16);
      break;
  }
  return bytes;
}

}  // namespace crumb::io
