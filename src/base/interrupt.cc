#include "base/interrupt.h"

#include <unistd.h>
#include <csignal>

#include "base/error.h"

namespace crumb {
namespace {
volatile std::sig_atomic_t g_interrupted = 0, g_terminated = 0;

void on_signal(int signal) {
  if (signal == SIGTERM) g_terminated = 1;
  if (g_interrupted) _exit(130);
  g_interrupted = 1;
}
}  // namespace

void install_interrupt_handler() {
  struct sigaction action = {};
  action.sa_handler = &on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() noexcept {
  return g_interrupted != 0;
}
bool terminated() noexcept {
  return g_terminated != 0;
}
void set_interrupted(bool value) noexcept {
  g_interrupted = value ? 1 : 0;
}

void throw_if_interrupted(const char* where) {
  if (interrupted()) fail(ErrorKind::kInterrupted, where, "stopped by a signal; finished work is kept");
}

}  // namespace crumb
