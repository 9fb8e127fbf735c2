#include "runtime/weight_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "io/atomic_output.h"
#include "io/file_writer.h"

namespace crumb::runtime {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little);
constexpr std::size_t kHeaderBytes = 4096, kPiece = std::size_t{4} << 20;
constexpr char kMagic[] = "CRUMBIMG";

std::string hash_of(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text.data(), text.size())));
}

std::string hash_in_pieces(std::span<const std::byte> bytes, ThreadPool& pool) {
  const std::size_t pieces = (bytes.size() + kPiece - 1) / kPiece;
  std::vector<std::string> hashes(pieces);
  pool.run(static_cast<std::int64_t>(pieces), [&](std::int64_t begin, std::int64_t end, int) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      hashes[i] = sha256_hex(bytes.subspan(i * kPiece, std::min(kPiece, bytes.size() - i * kPiece)));
  });
  std::string all;
  for (const std::string& hash : hashes) all += hash;
  return hash_of(all);
}

std::array<std::byte, kHeaderBytes> header_of(const std::string& key, std::size_t image_bytes,
                                              const std::string& image_hash) {
  std::array<std::byte, kHeaderBytes> header{};
  const std::uint64_t size = image_bytes;
  std::memcpy(header.data(), kMagic, 8);
  std::memcpy(header.data() + 8, &size, 8);
  std::memcpy(header.data() + 16, key.data(), 64);
  std::memcpy(header.data() + 80, image_hash.data(), 64);
  return header;
}

}  // namespace

std::string model_content_hash(const fs::path& model, ThreadPool& pool) {
  std::vector<fs::path> files;
  if (fs::is_directory(model)) {
    for (const auto& entry : fs::directory_iterator(model)) {
      const std::string extension = entry.path().extension().string();
      if (extension == ".safetensors" || extension == ".json") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(model);
  }
  std::string all;
  for (const fs::path& file : files) {
    const io::MappedFile mapped(file);
    all += cat(file.filename().string(), " ", mapped.bytes().size(), " ",
               hash_in_pieces(mapped.bytes(), pool), "\n");
  }
  return hash_of(all);
}

fs::path default_weight_cache(const fs::path& model) {
  if (fs::is_directory(model)) return model / "crumb-cache.bin";
  fs::path file = model;
  file += ".crumb-cache";
  return file;
}

void write_weight_cache(const fs::path& path, const std::string& key, std::span<const std::byte> image,
                        ThreadPool& pool) {
  const auto header = header_of(key, image.size(), hash_in_pieces(image, pool));
  io::check_free_space(path.parent_path().empty() ? fs::path(".") : path.parent_path(),
                       static_cast<std::int64_t>(header.size() + image.size()));
  io::AtomicFile file(path);
  {
    io::FileWriter writer(file.path());
    writer.write(header);
    writer.write(image);
    writer.close();
  }
  file.commit();
}

std::optional<io::MappedFile> open_weight_cache(const fs::path& path, const std::string& key,
                                                std::size_t image_bytes, ThreadPool& pool, std::string& why) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    why = "not there";
    return std::nullopt;
  }
  try {
    io::MappedFile file(path);
    const std::span<const std::byte> bytes = file.bytes();
    if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic, 8) != 0) {
      why = "no cache of weights";
    } else if (std::memcmp(bytes.data() + 16, key.data(), 64) != 0) {
      why = "made from another model, with other options or by another version";
    } else if (bytes.size() != kHeaderBytes + image_bytes) {
      why = cat("damaged: ", bytes.size(), " bytes instead of ", kHeaderBytes + image_bytes);
    } else {
      const auto wanted = header_of(key, image_bytes, hash_in_pieces(cached_image(file), pool));
      if (std::equal(wanted.begin(), wanted.end(), bytes.begin())) return file;
      why = "damaged: its checksum differs";
    }
  } catch (const Error& error) {
    why = error.what();
  }
  return std::nullopt;
}

std::span<const std::byte> cached_image(const io::MappedFile& file) {
  return file.bytes().subspan(kHeaderBytes);
}

}  // namespace crumb::runtime
