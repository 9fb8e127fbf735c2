#include "pipeline/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "io/atomic_output.h"
#include "io/json.h"
#include "io/mapped_file.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail_io(const fs::path& path, std::string_view what) {
  fail(ErrorKind::kIo, "pipeline.run_directory", path.string(), ": cannot ", what, ": ", std::strerror(errno),
       "; want a writable folder with free space; choose another with --run-dir");
}

int lock_file(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) fail_io(path, "open the lock");
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const auto count = ::pread(descriptor, holder, sizeof holder - 1, 0);
    ::close(descriptor);
    fail(ErrorKind::kInvalidArgument, "pipeline.run_directory", path.parent_path().string(),
         ": another process", count > 0 ? cat(" (", holder, ")") : std::string(),
         " works in this run directory; wait for it, stop it, or give another --run-dir");
  }
  const std::string pid = cat("pid ", ::getpid());
  if (::ftruncate(descriptor, 0) != 0 || ::pwrite(descriptor, pid.data(), pid.size(), 0) < 0)
    fail_io(path, "write the lock");
  return descriptor;
}

// The first member of `expected` that `found` lacks or has otherwise, as a path.
std::string first_difference(const ordered_json& expected, const ordered_json& found, const std::string& at) {
  if (!expected.is_object() || !found.is_object())
    return expected == found ? "" : cat(at, ": this job ", expected.dump(), ", the run there ", found.dump());
  for (const auto& [key, value] : expected.items()) {
    const std::string path = at.empty() ? key : at + "." + key;
    if (!found.contains(key)) return path + ": not in the run there";
    if (const std::string inner = first_difference(value, found.at(key), path); !inner.empty()) return inner;
  }
  for (const auto& [key, value] : found.items()) {
    if (!expected.contains(key)) return (at.empty() ? key : at + "." + key) + ": only in the run there";
  }
  return "";
}

// Whether this room, or the streams, gave a file its name.
bool is_run_file(const fs::path& path) {
  std::string name = path.filename().string();
  if (const auto temporary = name.find(".crumb-tmp-"); name[0] == '.' && temporary != std::string::npos)
    name = name.substr(1, temporary - 1);
  const auto starts = [&](std::string_view with) { return name.rfind(with, 0) == 0; };
  const bool tensors = fs::path(name).extension() == ".safetensors" &&
                       (starts("block_") || starts("e2e_") || starts("calibration"));
  return tensors || name == "lock" || name == "run.json" || name == "journal.jsonl" ||
         name == "metrics.jsonl" || starts("activations-");
}

// The lock last: who holds it owns the folder.
void remove_run_files(const fs::path& folder, bool lock_too) {
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error))
    files.push_back(entry->path());
  for (const fs::path& file : files) {
    if (!error && is_run_file(file) && file.filename() != "lock") fs::remove(file, error);
  }
  if (!error && lock_too) fs::remove(folder / "lock", error);
  if (error) log::warn(folder.string(), ": could not be emptied: ", error.message());
}

void check_is_a_run(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder)) {
    fail(ErrorKind::kInvalidArgument, "pipeline.run_directory", folder.string(),
         ": is not a folder; want a new one; give another --run-dir");
  }
  if (fs::exists(folder / "run.json")) return;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!is_run_file(entry.path())) {
      fail(ErrorKind::kInvalidArgument, "pipeline.run_directory", folder.string(), ": holds '",
           entry.path().filename().string(),
           "' and no run; want a new or empty folder; give another --run-dir");
    }
  }
}

std::vector<ordered_json> read_journal(const fs::path& path) {
  std::vector<ordered_json> events;
  std::ifstream in(path, std::ios::binary);
  std::string line;
  std::int64_t good = 0;
  while (std::getline(in, line)) {
    if (in.eof()) break;  // no newline: the last line was torn
    ordered_json event = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (event.is_discarded() || !event.is_object() || !event.contains("event")) break;
    events.push_back(std::move(event));
    good += static_cast<std::int64_t>(line.size()) + 1;
  }
  in.close();
  std::error_code error;
  if (fs::exists(path) && static_cast<std::int64_t>(fs::file_size(path)) != good) {
    log::warn(path.string(), ": the end is damaged and is cut off; work that it described is done again");
    fs::resize_file(path, static_cast<std::uintmax_t>(good), error);
  }
  return events;
}

}  // namespace

RunDirectory::RunDirectory(fs::path path, const ordered_json& job, ResumeMode mode) : path_(std::move(path)) {
  const fs::path job_file = path_ / "run.json", journal_file = path_ / "journal.jsonl";
  if (mode == ResumeMode::kResume && !fs::exists(job_file)) {
    fail(ErrorKind::kNotFound, "pipeline.run_directory", path_.string(),
         ": no run to go on with; leave --resume away to start one");
  }
  check_is_a_run(path_);
  std::error_code error;
  fs::create_directories(path_, error);
  if (error)
    fail(ErrorKind::kIo, "pipeline.run_directory", path_.string(), ": cannot make it: ", error.message(),
         "; choose another with --run-dir");
  lock_ = lock_file(path_ / "lock");
  try {
    if (mode == ResumeMode::kRestart) remove_run_files(path_, /*lock_too=*/false);
    events_ = read_journal(journal_file);
    resumed_ = !events_.empty();
    if (!events_.empty()) {
      const ordered_json found = io::parse_ordered_json(io::read_text_file(job_file), job_file.string());
      if (const std::string difference = first_difference(job, found, ""); !difference.empty()) {
        fail(ErrorKind::kInvalidArgument, "pipeline.run_directory", path_.string(),
             ": holds an unfinished run of another job (", difference,
             "); give --restart to forget it, or another --run-dir");
      }
    } else {  // nothing is lost: a first try that was refused does not stand in the way of the next
      io::write_text_atomically(job_file, job.dump(2) + "\n");
    }
    journal_ = ::open(journal_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (journal_ < 0) fail_io(journal_file, "open it");
    io::sync_path(path_);
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

RunDirectory::~RunDirectory() {
  if (journal_ >= 0) ::close(journal_);
  if (lock_ >= 0) ::close(lock_);
}

void RunDirectory::record(const std::string& name, ordered_json fields) {
  ordered_json event = {{"event", name}};
  event.update(fields);
  const std::string line = event.dump() + "\n";
  for (std::size_t written = 0; written < line.size();) {
    const auto count = ::write(journal_, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io(path_ / "journal.jsonl", "write to it");
    written += static_cast<std::size_t>(count);
  }
  if (::fdatasync(journal_) != 0) fail_io(path_ / "journal.jsonl", "sync it");
  events_.push_back(std::move(event));
}

std::optional<ordered_json> RunDirectory::find(const std::string& name, const ordered_json& match) const {
  for (auto event = events_.rbegin(); event != events_.rend(); ++event) {
    if (event->at("event") != name) continue;
    bool agrees = true;
    for (const auto& [key, value] : match.items())
      agrees = agrees && event->contains(key) && event->at(key) == value;
    if (agrees) return *event;
  }
  return std::nullopt;
}

ordered_json RunDirectory::describe_file(const std::string& name) const {
  return {{"file", name}, {"sha256", sha256_hex(io::MappedFile(path_ / name).bytes())}};
}

fs::path RunDirectory::verified_file(const ordered_json& event) const {
  const fs::path file = path_ / event.at("file").get<std::string>();
  if (!fs::exists(file) ||
      sha256_hex(io::MappedFile(file).bytes()) != event.at("sha256").get<std::string>()) {
    fail(ErrorKind::kCorrupt, "pipeline.run_directory", file.string(),
         ": missing or changed since it was written; want the file that the journal describes; "
         "give --restart to begin again");
  }
  return file;
}

void RunDirectory::remove() {
  remove_run_files(path_, /*lock_too=*/true);
  std::error_code ignored;
  fs::remove(path_, ignored);  // stays when the user keeps something in it
}

}  // namespace crumb::pipeline
