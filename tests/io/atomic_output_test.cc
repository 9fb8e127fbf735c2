#include "io/atomic_output.h"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <functional>
#include <limits>

#include "io/bytes.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::io {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_bytes;
using test::write_bytes;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Runs `body` in a child process and returns its exit status; a crash is -1.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(WriteFileAtomically, WritesAndReplaces) {
  const test::TempDir dir;
  write_text_atomically(dir / "f", "one");
  EXPECT_EQ(read_bytes(dir / "f"), "one");
  write_text_atomically(dir / "f", "");
  EXPECT_EQ(read_bytes(dir / "f"), "");
  const std::string large(3 << 20, 'x');
  write_text_atomically(dir / "f", large);
  EXPECT_EQ(read_bytes(dir / "f"), large);
  EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(WriteFileAtomically, NamesThePathItCannotWrite) {
  const test::TempDir dir;
  expect_error(ErrorKind::kIo, {"absent"}, [&] { write_text_atomically(dir.path() / "absent" / "f", "x"); });
  expect_error(ErrorKind::kIo, {"crumb-test", "folder"}, [&] { write_text_atomically(dir.path(), "x"); });
}

TEST(AtomicFile, IsInvisibleUntilCommitAndUsesTheAgreedName) {
  const test::TempDir dir;
  write_bytes(dir / "f", "old");
  {
    AtomicFile file(dir / "f");
    EXPECT_EQ(file.path(), dir / cat(".f.crumb-tmp-", ::getpid()));
    write_bytes(file.path(), "new");
    EXPECT_EQ(read_bytes(dir / "f"), "old");
  }  // no commit
  EXPECT_EQ(read_bytes(dir / "f"), "old");
  EXPECT_EQ(entries(dir.path()), 1u);
  AtomicFile file(dir / "f");
  write_bytes(file.path(), "new");
  file.commit();
  EXPECT_EQ(read_bytes(dir / "f"), "new");
}

// A limit on the size of files stands for any write that fails in the middle.
TEST(WriteFileAtomically, AFailedWriteLeavesTheOldFile) {
  const test::TempDir dir;
  write_bytes(dir / "f", "old");
  EXPECT_EQ(in_child([&] {
              std::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit{4096, 4096};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              try {
                write_text_atomically(dir / "f", std::string(100000, 'x'));
                return 1;
              } catch (const Error& error) {
                const bool named =
                    std::string(error.what()).find((dir / ".f.crumb-tmp").string()) != std::string::npos;
                return error.kind() == ErrorKind::kIo && named ? 0 : 2;
              }
            }),
            0);
  EXPECT_EQ(read_bytes(dir / "f"), "old");
  EXPECT_EQ(entries(dir.path()), 1u);
}

// A real full disk: a file system of 64 KiB in memory, seen by the child process alone.
TEST(WriteFileAtomically, AFullDiskLeavesTheOldFile) {
  const test::TempDir dir;
  constexpr int kCannotMount = 77;
  const int status = in_child([&]() -> int {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kCannotMount;
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kCannotMount;
    if (::mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=64k") != 0) return kCannotMount;
    write_text_atomically(dir / "f", "old");
    try {
      write_text_atomically(dir / "f", std::string(1 << 20, 'x'));
      return 1;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kIo) return 2;
      if (std::string(error.what()).find("No space left") == std::string::npos) return 3;
    }
    if (read_bytes(dir / "f") != "old" || entries(dir.path()) != 1) return 4;
    try {
      AtomicDirectory out(dir / "out");
      write_text_atomically(out.path() / "a", std::string(1 << 20, 'x'));
      return 5;
    } catch (const Error&) {
    }
    if (entries(dir.path()) != 1) return 6;
    try {
      check_free_space(dir / "out", 1 << 20);
      return 7;
    } catch (const Error&) {
    }
    return 0;
  });
  if (status == kCannotMount) GTEST_SKIP() << "mounting a small tmpfs is not permitted here";
  EXPECT_EQ(status, 0);
}

TEST(AtomicDirectory, AppearsWholeOnCommit) {
  const test::TempDir dir;
  AtomicDirectory out(dir / "out");
  EXPECT_EQ(out.path(), fs::path(dir / cat(".out.crumb-tmp-", ::getpid())));
  write_bytes(out.path() / "a", "1");
  fs::create_directories(out.path() / "sub" / "deep");
  write_bytes(out.path() / "sub" / "deep" / "b", "2");
  fs::create_symlink("nowhere", out.path() / "dangling");
  EXPECT_FALSE(fs::exists(dir / "out"));
  out.commit();
  EXPECT_EQ(read_bytes(dir / "out" / "a"), "1");
  EXPECT_EQ(read_bytes(dir / "out" / "sub" / "deep" / "b"), "2");
  EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(AtomicDirectory, ReplacesAnEarlierOneCompletely) {
  const test::TempDir dir;
  fs::create_directory(dir / "out");
  write_bytes(dir.path() / "out" / "stale", "old");
  AtomicDirectory out(dir.path() / "out" / "");  // a slash at the end is the same name
  write_bytes(out.path() / "fresh", "new");
  EXPECT_TRUE(fs::exists(dir.path() / "out" / "stale"));
  out.commit();
  EXPECT_EQ(read_bytes(dir / "out" / "fresh"), "new");
  EXPECT_FALSE(fs::exists(dir.path() / "out" / "stale"));
  EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(AtomicDirectory, WithoutCommitLeavesNothingAndKeepsTheEarlierOne) {
  const test::TempDir dir;
  fs::create_directory(dir / "out");
  write_bytes(dir / "out" / "a", "old");
  {
    AtomicDirectory out(dir / "out");
    write_bytes(out.path() / "a", "new");
  }
  EXPECT_EQ(read_bytes(dir / "out" / "a"), "old");
  EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(AtomicDirectory, AProcessKilledBeforeCommitLeavesTheEarlierOne) {
  const test::TempDir dir;
  fs::create_directory(dir / "out");
  write_bytes(dir / "out" / "a", "old");
  EXPECT_EQ(in_child([&]() -> int {
              AtomicDirectory out(dir / "out");
              write_bytes(out.path() / "a", "new");
              ::raise(SIGKILL);
              return 0;
            }),
            -1);
  EXPECT_EQ(read_bytes(dir / "out" / "a"), "old");
}

TEST(AtomicDirectory, FollowsALinkToADirectory) {
  const test::TempDir dir;
  fs::create_directories(dir / "disk" / fs::path("real"));
  fs::create_symlink(fs::path("disk") / "real", dir / "out");
  AtomicDirectory out(dir / "out");
  write_bytes(out.path() / "a", "new");
  out.commit();
  EXPECT_TRUE(fs::is_symlink(dir / "out"));
  EXPECT_EQ(read_bytes(dir / "disk" / "real" / "a"), "new");
}

TEST(AtomicDirectory, RefusesBadPlaces) {
  const test::TempDir dir;
  write_bytes(dir / "file", "x");
  expect_error(ErrorKind::kIo, {"absent"}, [&] { AtomicDirectory(dir / "absent" / "out"); });
  expect_error(ErrorKind::kIo, {"file", "not a folder"}, [&] { AtomicDirectory(dir / "file"); });
  expect_error(ErrorKind::kIo, {""}, [&] { AtomicDirectory(""); });
  expect_error(ErrorKind::kIo, {""}, [&] { AtomicDirectory("/"); });
  EXPECT_EQ(read_bytes(dir / "file"), "x");
}

TEST(CheckFreeSpace, ComparesWithTheFileSystem) {
  const test::TempDir dir;
  EXPECT_NO_THROW(check_free_space(dir / "not" / "yet" / "there", 0));
  expect_error(ErrorKind::kIo, {"out", "free", "TiB"},
               [&] { check_free_space(dir / "out", std::numeric_limits<std::int64_t>::max()); });
}

TEST(SyncPath, NamesWhatIsNotThere) {
  const test::TempDir dir;
  EXPECT_NO_THROW(sync_path(dir.path()));
  expect_error(ErrorKind::kIo, {"absent"}, [&] { sync_path(dir / "absent"); });
}

}  // namespace
}  // namespace crumb::io
