// The repacked weights as a file beside the model, mapped instead of made again.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "io/mapped_file.h"
#include "runtime/thread_pool.h"

namespace crumb::runtime {

/// SHA-256 over the names, sizes and contents of the files that a model's weights come from: a GGUF file, or
/// a directory's *.safetensors, *.json. Contents are hashed in pieces of 4 MiB by all threads.
std::string model_content_hash(const std::filesystem::path& model, ThreadPool& pool);

/// MODEL.gguf.crumb-cache, or crumb-cache.bin inside a directory.
std::filesystem::path default_weight_cache(const std::filesystem::path& model);

/// A file of 4096 bytes of header and then the image:
///
///   0   8   "CRUMBIMG"
///   8   8   bytes of the image, little-endian
///   16  64  key, hexadecimal
///   80  64  SHA-256 over the SHA-256 of each piece of 4 MiB of the image, hexadecimal
///   144     zeros
///
/// `key` says what the image was made from and how (content hash, plan, versions): another key is another
/// file.
void write_weight_cache(const std::filesystem::path& path, const std::string& key,
                        std::span<const std::byte> image, ThreadPool& pool);

/// The mapped file; nullopt, with the reason in `why`, when it is not there, belongs to another key or is
/// damaged in any byte. Never throws for what is in the file.
std::optional<io::MappedFile> open_weight_cache(const std::filesystem::path& path, const std::string& key,
                                                std::size_t image_bytes, ThreadPool& pool, std::string& why);
std::span<const std::byte> cached_image(const io::MappedFile& file);

}  // namespace crumb::runtime
