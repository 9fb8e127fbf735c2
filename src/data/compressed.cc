#include "data/compressed.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "base/error.h"
#include "io/mapped_file.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.read";
constexpr std::size_t kChunk = std::size_t{1} << 20;

std::string_view text_of(const io::MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

[[noreturn]] void fail_compressed(const std::filesystem::path& path, std::string_view format,
                                  std::string_view reason) {
  fail(ErrorKind::kCorrupt, kWhere, path.string(), ": ", reason, "; want a whole ", format,
       " file; get it again");
}

void read_gzip(const std::filesystem::path& path, const std::function<void(std::string_view)>& take) {
  const io::MappedFile file(path);
  const std::string_view bytes = text_of(file);
  if (!bytes.starts_with("\x1f\x8b")) fail_compressed(path, "gzip", "it does not begin as gzip does");
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
    fail(ErrorKind::kOutOfMemory, kWhere, path.string(), ": no memory to decompress; free some");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> guard(&stream, inflateEnd);
  std::vector<char> out(kChunk);
  std::size_t at = 0;
  while (at < bytes.size()) {  // a file may hold several members, one after the other
    int status = Z_OK;
    while (status != Z_STREAM_END) {
      if (stream.avail_in == 0) {
        const std::size_t part = std::min(bytes.size() - at, kChunk);
        if (part == 0) fail_compressed(path, "gzip", cat("it ends in the middle, at byte ", bytes.size()));
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + at));
        stream.avail_in = static_cast<uInt>(part);
        at += part;
      }
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(out.size());
      status = inflate(&stream, Z_NO_FLUSH);
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
        fail_compressed(path, "gzip",
                        cat("damaged near byte ", at - stream.avail_in, " (",
                            stream.msg == nullptr ? "zlib" : stream.msg, ")"));
      }
      take({out.data(), out.size() - stream.avail_out});
    }
    at -= stream.avail_in;
    stream.avail_in = 0;
    if (at < bytes.size()) {
      const std::string_view rest = bytes.substr(at);
      if (rest.find_first_not_of('\0') == std::string_view::npos) return;  // padding of tape archives
      if (!rest.starts_with("\x1f\x8b")) fail_compressed(path, "gzip", cat("other data follow at byte ", at));
      inflateReset(&stream);
    }
  }
}

void read_zstd(const std::filesystem::path& path, const std::function<void(std::string_view)>& take) {
  const io::MappedFile file(path);
  const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(),
                                                                             ZSTD_freeDStream);
  std::vector<char> out(kChunk);
  ZSTD_inBuffer in{file.bytes().data(), file.bytes().size(), 0};
  std::size_t left = 1;
  bool full = false;
  while (in.pos < in.size || full) {
    ZSTD_outBuffer buffer{out.data(), out.size(), 0};
    left = ZSTD_decompressStream(stream.get(), &buffer, &in);
    if (ZSTD_isError(left) != 0)
      fail_compressed(path, "zstd", cat("damaged near byte ", in.pos, " (", ZSTD_getErrorName(left), ")"));
    full = buffer.pos == buffer.size && left != 0;
    take({out.data(), buffer.pos});
  }
  if (left != 0) fail_compressed(path, "zstd", cat("it ends in the middle, at byte ", in.size));
}

std::uint32_t little(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = (value << 8) | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

}  // namespace

void read_chunks(const std::filesystem::path& path, const std::function<void(std::string_view)>& take,
                 std::filesystem::path name) {
  if (name.empty()) name = path;
  if (!std::filesystem::exists(path)) {
    fail(ErrorKind::kNotFound, kWhere, path.string(),
         ": not there; want a text, .jsonl, .gz or .zst file; check the path");
  }
  if (std::filesystem::is_directory(path)) {
    fail(ErrorKind::kInvalidArgument, kWhere, path.string(),
         ": is a folder; want a text, .jsonl, .gz or .zst file; name a file in it");
  }
  if (name.extension() == ".gz") return read_gzip(path, take);
  if (name.extension() == ".zst") return read_zstd(path, take);
  const io::MappedFile file(path);
  const std::string_view text = text_of(file);
  for (std::size_t at = 0; at < text.size(); at += kChunk) take(text.substr(at, kChunk));
}

std::string read_zip_member(const std::filesystem::path& archive, std::string_view name) {
  const io::MappedFile file(archive);
  const std::string_view bytes = text_of(file);
  constexpr std::string_view kEnd("PK\x05\x06", 4), kEntry("PK\x01\x02", 4), kLocal("PK\x03\x04", 4);
  const std::size_t end = bytes.rfind(kEnd);
  if (end == std::string_view::npos || end + 22 > bytes.size())
    fail_compressed(archive, "zip", "no end of its directory");
  const std::size_t entries = little(bytes, end + 10, 2);
  std::size_t at = little(bytes, end + 16, 4);
  for (std::size_t i = 0; i < entries; ++i) {
    if (at > bytes.size() || bytes.size() - at < 46 || bytes.substr(at, 4) != kEntry)
      fail_compressed(archive, "zip", "a damaged directory");
    const std::uint32_t flags = little(bytes, at + 8, 2), method = little(bytes, at + 10, 2),
                        crc = little(bytes, at + 16, 4);
    const std::size_t packed = little(bytes, at + 20, 4), size = little(bytes, at + 24, 4),
                      name_size = little(bytes, at + 28, 2);
    const std::size_t local = little(bytes, at + 42, 4);
    const std::size_t next = at + 46 + name_size + little(bytes, at + 30, 2) + little(bytes, at + 32, 2);
    if (next > bytes.size()) fail_compressed(archive, "zip", "a damaged directory");
    const std::string_view member = bytes.substr(at + 46, name_size);
    at = next;
    if (!member.ends_with(name)) continue;
    if ((flags & 1) != 0 || (method != 0 && method != 8) || packed == 0xFFFFFFFFu || size == 0xFFFFFFFFu) {
      fail(ErrorKind::kUnsupported, kWhere, archive.string(), ": member ", member,
           " is encrypted, zip64 or of method ", method, "; want stored or deflated; unpack it by hand");
    }
    if (local > bytes.size() || bytes.size() - local < 30 || bytes.substr(local, 4) != kLocal)
      fail_compressed(archive, "zip", "a damaged member");
    const std::size_t data = local + 30 + little(bytes, local + 26, 2) + little(bytes, local + 28, 2);
    if (data > bytes.size() || packed > bytes.size() - data)
      fail_compressed(archive, "zip", "a member passes its end");
    std::string out;
    if (method == 0) {
      out = bytes.substr(data, packed);
    } else {
      if (size / 1100 > packed) fail_compressed(archive, "zip", "a member claims more than deflate can hold");
      out.resize(size);
      z_stream stream{};
      if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        fail(ErrorKind::kOutOfMemory, kWhere, archive.string(), ": no memory to decompress; free some");
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + data));
      stream.avail_in = static_cast<uInt>(packed);
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(out.size());
      const int status = inflate(&stream, Z_FINISH);
      inflateEnd(&stream);
      if (status != Z_STREAM_END || stream.avail_out != 0)
        fail_compressed(archive, "zip", "a damaged member");
    }
    if (out.size() != size ||
        crc32(0, reinterpret_cast<const Bytef*>(out.data()), static_cast<uInt>(out.size())) != crc) {
      fail_compressed(archive, "zip", cat("member ", member, " has another CRC-32"));
    }
    return out;
  }
  fail(ErrorKind::kNotFound, kWhere, archive.string(), ": no member ", name, " among ", entries,
       "; get the archive again");
}

}  // namespace crumb::data
