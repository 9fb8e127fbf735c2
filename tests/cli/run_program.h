// Runs the program as a user does and takes what it said.
#pragma once
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/temp_dir.h"

namespace crumb::test {

struct Ran {
  int exit_code = -1;  // -1: ended by a signal
  std::string out, err;
};

/// No shell in between. `program` defaults to the one built beside the tests; `input` is its standard input.
inline Ran run_program(std::vector<std::string> arguments, const std::string& stdout_path = "",
                       const std::string& program = CRUMB_BINARY, const std::string& input = "") {
  const TempDir folder;
  const std::string out = stdout_path.empty() ? (folder / "out").string() : stdout_path,
                    err = (folder / "err").string(), in = (folder / "in").string();
  std::ofstream(in, std::ios::binary) << input;
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& word : arguments) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(in.c_str(), O_RDONLY), 0);
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const auto text_of = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  };
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, stdout_path.empty() ? text_of(out) : "",
          text_of(err)};
}

}  // namespace crumb::test
