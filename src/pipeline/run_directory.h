// Where a run keeps what it has finished, so that the same command goes on after any interruption.
// docs/resume.md.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace crumb::pipeline {

enum class ResumeMode {
  kAuto,     // go on with a run of the same job if there is one, else start
  kResume,   // as kAuto, but throw NotFound when there is nothing to go on with
  kRestart,  // forget what is there
};

/// A folder with
///
///   lock           held (flock) by the process that works here
///   run.json       the job: everything that decides the result
///   journal.jsonl  one line per finished piece, fsynced; a torn last line (power loss) is ignored
///   other files    written whole before their journal line
class RunDirectory {
 public:
  /// `job` must equal the stored one when anything was finished there; otherwise InvalidArgument, naming the
  /// first key that differs. Throws InvalidArgument when another process holds the lock (with its process
  /// id), and when the folder holds something other than a run, which must not be written into or removed.
  RunDirectory(std::filesystem::path path, const nlohmann::ordered_json& job, ResumeMode mode);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Something had been finished when it was opened.
  bool resumed() const { return resumed_; }

  /// Appends {"event": name, …} and waits until it is on the disk.
  void record(const std::string& name, nlohmann::ordered_json fields);
  /// The last event of this name for which all of `match`'s members agree; nullopt when there is none.
  std::optional<nlohmann::ordered_json> find(const std::string& name,
                                             const nlohmann::ordered_json& match = {}) const;

  /// A file of this run, with its SHA-256 in the event's "sha256": checked; throws Corrupt with what to
  /// delete.
  std::filesystem::path verified_file(const nlohmann::ordered_json& event) const;
  /// {"file": name, "sha256": …} of a file already written under path().
  nlohmann::ordered_json describe_file(const std::string& name) const;

  /// Removes the run's files, and the folder when nothing else is in it; the run is over.
  void remove();

 private:
  std::filesystem::path path_;
  int lock_ = -1, journal_ = -1;
  bool resumed_ = false;
  std::vector<nlohmann::ordered_json> events_;
};

}  // namespace crumb::pipeline
