#include "data/download.h"

#include <curl/curl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "io/atomic_output.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.download";

int stop_on_interrupt(void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return interrupted() ? 1 : 0;
}

// Removes a file unless it has been renamed away.
struct Temporary {
  std::filesystem::path path;
  ~Temporary() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

}  // namespace

std::string hub_address() {
  const char* set = std::getenv("HF_ENDPOINT");
  std::string address = set != nullptr && *set != '\0' ? set : "https://huggingface.co";
  while (address.ends_with('/')) address.pop_back();
  return address;
}

void download(const std::string& url, const std::filesystem::path& path,
              const std::function<void(const std::filesystem::path&)>& verify) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error)
    fail(ErrorKind::kIo, kWhere, path.parent_path().string(), ": cannot be made (", error.message(),
         "); want a folder for downloads; check permissions");

  const Temporary part{cat(path.string(), ".part", ::getpid())};
  std::FILE* file = std::fopen(part.path.c_str(), "wb");
  if (file == nullptr)
    fail(ErrorKind::kIo, kWhere, part.path.string(), ": cannot be written (", std::strerror(errno),
         "); check permissions and space");
  log::info("[data.download] ", url, " -> ", path.string());
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  char reason[CURL_ERROR_SIZE] = {};
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, file);
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, reason);
  curl_easy_setopt(curl.get(), CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 20L);
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_LIMIT, 1000L);
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_USERAGENT, "crumb");
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, stop_on_interrupt);
  const CURLcode status = curl_easy_perform(curl.get());
  const bool written = std::fclose(file) == 0;
  if (status == CURLE_ABORTED_BY_CALLBACK) throw_if_interrupted("data.download");
  if (status != CURLE_OK || !written) {
    const std::string why = status == CURLE_OK  ? std::strerror(errno)
                            : reason[0] != '\0' ? reason
                                                : curl_easy_strerror(status);
    fail(ErrorKind::kIo, kWhere, url, ": ", why,
         "; want the file's content; check the network and the free space");
  }
  verify(part.path);
  io::sync_path(part.path);
  std::filesystem::rename(part.path, path, error);
  if (error)
    fail(ErrorKind::kIo, kWhere, path.string(), ": cannot be renamed into place (", error.message(),
         "); check permissions");
  io::sync_path(path.parent_path());
}

}  // namespace crumb::data
